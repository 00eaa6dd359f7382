"""The Builder: what an entry of the table adds its nodes to while a model is being read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Affine, Kind, Pieces, Product, Rule, Shape, Smooth, Taps, Winner
from gatewise.ir.network import INPUT, Network, Node, checked


@dataclass(frozen=True)
class Ref:
    """A computed value while reading: its node's name and the shape of one row of it."""

    name: str
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)


Operand = Ref | Tensor | float | int | bool | None


class Builder:
    """Collects nodes in order. `at` names the node being read; everything is float64 here."""

    def __init__(self, input_shape: Shape) -> None:
        self.input = Ref(INPUT, input_shape)
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self.path, self.layer = "", ""
        self.opset, self.outputs = 0, 0  # of an ONNX file; of the node being read, where known
        self._names: set[str] = {INPUT}

    def at(self, path: str, layer: str) -> None:
        """What is read next: its path in the model and its name in the table."""
        self.path, self.layer = path, layer

    def refuse(self, why: str) -> UnsupportedLayer:
        """The error that names where reading stopped: `raise b.refuse(...)`."""
        return UnsupportedLayer(f"node '{self.path}' ({self.layer}): {why}")

    def add(self, kind: Kind, *inputs: Ref) -> Ref:
        """Append a node; the shape of its value is found by evaluating it once on zeros."""
        zeros = [torch.zeros(1, *ref.shape, dtype=torch.float64) for ref in inputs]
        shape = tuple(kind(*zeros).shape[1:])
        name = self._unique(self.path or self.layer or "node")
        self.nodes.append(Node(name, self.layer, kind, tuple(r.name for r in inputs), shape))
        return Ref(name, shape)

    def affine(
        self,
        rule: Rule,
        *inputs: Ref,
        weights: Sequence[Tensor] = (),
        bias: Tensor | None = None,
        terms: int = 0,
        terms_back: int | None = None,
        pullback: Callable[..., tuple[Tensor, ...]] | None = None,
        direct: Rule | None = None,
        taps: Taps | None = None,
    ) -> Ref:
        """Append an Affine node (see `Affine` for the meaning of each argument)."""
        back = terms if terms_back is None else terms_back
        kind = Affine(rule, tuple(weights), bias, terms, back, pullback, direct, taps=taps)
        return self.add(kind, *inputs)

    def finish(self, output: Ref, **more: object) -> Network:
        """The frozen Network, without the nodes its output does not depend on."""
        needed = {output.name}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(n for n in self.nodes if n.name in needed)
        network = Network(nodes, self.input.shape, output.name, notes=tuple(self.notes))
        return checked(dataclasses.replace(network, **more))  # type: ignore[arg-type]

    def _unique(self, name: str) -> str:
        count, unique = 2, name
        while unique in self._names:
            unique, count = f"{name}#{count}", count + 1
        self._names.add(unique)
        return unique


def constant(value: Operand) -> Tensor:
    """A copy of a constant operand, float64 (integers stay integers: they are positions)."""
    # through numpy, since torch would round a Python number to float32
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    tensor = tensor.detach().clone()  # a model trained on must not change what was read
    return tensor.double() if tensor.is_floating_point() or tensor.ndim == 0 else tensor


__all__ = [
    "Affine",
    "Builder",
    "Operand",
    "Pieces",
    "Product",
    "Ref",
    "Smooth",
    "Winner",
    "constant",
]
