"""A frozen Network of named nodes, and the two walks every analysis is a step of."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from gatewise.errors import InternalError, NotPiecewiseAffine, WrongShape
from gatewise.ir.kinds import (
    Affine,
    Kind,
    Pieces,
    Product,
    Shape,
    Smooth,
    Winner,
    kind_name,
    map_tensors,
    settings,
    tensors,
)
from gatewise.numeric import as_device, as_float_dtype, as_tensor, require_float32

T = TypeVar("T")
INPUT = "input"
Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a network: `kind` applied to the values named in `inputs`.

    name: unique, the module path or ONNX node it came from; layer: its name in the table;
    shape: of one row of its value (a source's own leading 1 is kept as part of it).
    """

    name: str
    layer: str
    kind: Kind
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Network:
    """f: (rows, *input_shape) -> (rows, outputs), as nodes in topological order.

    head: what was set aside from the end (a softmax, say), so that f gives logits;
    notes: everything the reader did that a user must know;
    prepare: from a raw table to the network's input, where the model had non-affine columns;
    task: what the outputs are for, None where nobody said; classes: the labels that they tell
    apart, one an output (the largest wins), or of one output (no, yes): yes above 0.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    output: str
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    head: tuple[Node, ...] = ()
    notes: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    prepare: Callable[[Any], Any] | None = None
    task: Task | None = None
    classes: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """Number of features d: the size of one flattened input."""
        return math.prod(self.input_shape)

    @property
    def output_shape(self) -> Shape:
        return self.input_shape if self.output == INPUT else self.node(self.output).shape

    @property
    def outputs(self) -> int:
        """Number of outputs: the size of one flattened output."""
        return math.prod(self.output_shape)

    @property
    def gates(self) -> tuple[Node, ...]:
        """The nodes that choose a branch, in order."""
        return tuple(n for n in self.nodes if isinstance(n.kind, Pieces | Winner))

    @property
    def parameters(self) -> int:
        """Count of numbers in weights and biases (of Affine and Smooth nodes)."""
        kinds = (n.kind for n in self.nodes if isinstance(n.kind, Affine | Smooth))
        return sum(t.numel() for kind in kinds for t in tensors(kind) if t.is_floating_point())

    @property
    def patterns(self) -> int:
        """P: how many patterns the network was frozen to (1 for one that was not)."""
        return max((len(t) for n in self.nodes for t in _batched(n.kind)), default=1)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(n for n in self.nodes if n.name == name)

    def shape(self, name: str) -> Shape:
        """The shape of one row of a named value."""
        return self.input_shape if name == INPUT else self.node(name).shape

    def __call__(self, X: Any) -> Tensor:
        """f(X): (rows, outputs), without the head; X is (rows, inputs) or (rows, *input_shape)."""
        return forward(self, self.rows(X)).reshape(-1, self.outputs)

    def predict(self, X: Any) -> Tensor:
        """What the source computes, head included: (rows, outputs)."""
        whole = with_head(self)
        return whole(X)

    def rows(self, X: Any, device: torch.device | None = None) -> Tensor:
        """X as a (rows, *input_shape) tensor of the network's dtype, on its device or another."""
        x = as_tensor(X, self.dtype, device or self.device)
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.inputs:
            raise WrongShape(
                f"the network takes rows of {self.inputs} inputs, shape (rows, {self.inputs})"
                f"{_or_shape(self.input_shape)}; got shape {tuple(x.shape)}"
            )
        return x.reshape(-1, *self.input_shape)

    def to(self, dtype: torch.dtype | str | None = None, device: Any = None) -> Network:
        """A copy in another float type or on another device; self when nothing changes.

        The device is the one that analyses of this network work on.
        """
        dtype = self.dtype if dtype is None else as_float_dtype(dtype)
        device = self.device if device is None else as_device(device)
        if (dtype, device) == (self.dtype, self.device):
            return self
        if dtype == torch.float32:
            require_float32(device, any(n.layer.startswith("Conv") for n in self.nodes))
        return dataclasses.replace(
            self,
            nodes=tuple(_cast(n, dtype, device) for n in self.nodes),
            head=tuple(_cast(n, dtype, device) for n in self.head),
            dtype=dtype,
            device=device,
        )

    def __repr__(self) -> str:
        kinds = [kind_name(n.kind) for n in self.nodes]
        count = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        units = sum(math.prod(n.shape) for n in self.gates)
        size = " -> ".join(
            f"{n} {what}{'s' * (n != 1)}"
            for n, what in ((self.inputs, "input"), (self.outputs, "output"))
        )
        return f"Network({size}; {count}; {units} gate units)"


def _or_shape(shape: Shape) -> str:
    return "" if len(shape) == 1 else f" or (rows, {', '.join(map(str, shape))})"


def _cast(node: Node, dtype: torch.dtype, device: torch.device) -> Node:
    def change(t: Tensor) -> Tensor:
        return t.to(device, dtype) if t.is_floating_point() else t.to(device)

    return dataclasses.replace(node, kind=map_tensors(node.kind, change))


def _batched(kind: Kind) -> list[Tensor]:
    return tensors(kind) if isinstance(kind, Affine) and kind.batched else []


def with_head(network: Network) -> Network:
    """The network with what was set aside from its end put back."""
    if not network.head:
        return network
    nodes = network.nodes + network.head
    return dataclasses.replace(network, nodes=nodes, output=nodes[-1].name, head=())


# -- the walks --


def fold(
    network: Network, start: T, step: Callable[[Node, list[T]], T], *, keep: Iterable[str] = ()
) -> dict[str, T]:
    """values[node] = step(node, values of its inputs), in order; start is the input's value.

    Each value is dropped after its last use, so memory holds only what is still needed; the
    result has the output's value and those named in `keep`.
    """
    kept = {network.output, *keep}
    values: dict[str, T] = {INPUT: start}
    last = {name: n.name for n in network.nodes for name in n.inputs}
    for node in network.nodes:
        values[node.name] = step(node, [values[name] for name in node.inputs])
        for name in {*node.inputs, node.name} - kept:
            if last.get(name, node.name) == node.name:
                values.pop(name)
    return {name: values[name] for name in kept}


def fold_back(
    network: Network,
    seed: T,
    step: Callable[[Node, T], Iterable[T]],
    add: Callable[[T, T], T] = lambda a, b: a + b,  # type: ignore[operator]
) -> T | None:
    """The walk from the output to the input: step(node, g) gives one g for each of its inputs.

    Returns what reaches the input, or None where nothing does (a constant network).
    """
    grads: dict[str, T] = {network.output: seed}
    for node in reversed(network.nodes):
        if node.name not in grads:
            continue
        for name, part in zip(node.inputs, step(node, grads.pop(node.name)), strict=True):
            grads[name] = add(grads[name], part) if name in grads else part
    return grads.get(INPUT)


def forward(network: Network, x: Tensor) -> Tensor:
    """The value of the output node at x (rows, *input_shape)."""
    return fold(network, x, lambda node, xs: node.kind(*xs))[network.output]


# -- what can be said without data --


def fixed_by_pattern(network: Network) -> set[str]:
    """Names of the values that a pattern alone determines (behind steps: DLGN gates, say)."""
    fixed: set[str] = set()
    for node in network.nodes:
        step = isinstance(node.kind, Pieces) and node.kind.constant
        if step or all(name in fixed for name in node.inputs):
            fixed.add(node.name)
    return fixed


def breaker(network: Network) -> Node | None:
    """The first node that is not affine once the pattern is fixed, or None: piecewise affine."""
    fixed = fixed_by_pattern(network)
    for node in network.nodes:
        if node.name in fixed or isinstance(node.kind, Affine | Pieces | Winner):
            continue
        if isinstance(node.kind, Product) and any(name in fixed for name in node.inputs):
            continue
        return node
    return None


def require_piecewise_affine(network: Network, task: str) -> None:
    """Raise NotPiecewiseAffine, naming the node, unless the network has regions."""
    node = breaker(network)
    if node is not None:
        raise NotPiecewiseAffine(
            f"{task} needs a piecewise-affine network, but node '{node.name}' is "
            f"{node.layer}, a {kind_name(node.kind)}: its output is curved, so no pattern makes it "
            f"affine. `gatewise inspect` lists such nodes."
        )


def fingerprint(network: Network) -> str:
    """sha256 over structure, settings and tensors: two networks that agree compute the same."""
    digest = hashlib.sha256()
    for node in network.nodes + network.head:
        structure = (node.name, node.layer, node.inputs, node.shape, settings(node.kind))
        digest.update(repr(structure).encode())
        for tensor in tensors(node.kind):
            digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def checked(network: Network) -> Network:
    """The network itself, once its names are unique and its order topological."""
    seen = {INPUT}
    for node in network.nodes + network.head:
        if node.name in seen or not seen.issuperset(node.inputs):
            raise InternalError(f"node '{node.name}' is out of order or named twice")
        seen.add(node.name)
    return network
