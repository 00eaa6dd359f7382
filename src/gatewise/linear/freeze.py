"""freeze(network, pattern): the same Network with every gate replaced by its chosen branch."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Smooth, Winner, push
from gatewise.ir.network import INPUT, Network, Node, fixed_by_pattern, require_piecewise_affine
from gatewise.ir.pattern import Pattern


def freeze(network: Network, pattern: Pattern) -> Network:
    """The gate-free Network of P patterns at once: each Gate becomes the branch its code picks.

    A Product with a side that the pattern alone fixes (what a step gives: a DLGN's gate) becomes a
    scaling by it; so `collapse` has one case for a region's map and for a network that never had
    a gate. Raises NotPiecewiseAffine, naming the node that is neither.
    """
    require_piecewise_affine(network, "freezing a pattern")
    fixed = fixed_by_pattern(network)
    constants: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in network.nodes:
        frozen = _decided(node, pattern, constants, network)
        if node.name in fixed:
            constants[node.name] = _value(frozen, constants)
        nodes.append(frozen)
    return dataclasses.replace(network, nodes=tuple(nodes))


def _decided(node: Node, pattern: Pattern, constants: dict[str, Tensor], network: Network) -> Node:
    """The node with its branch chosen, or its fixed side put in; an Affine as it is."""
    kind = node.kind
    if isinstance(kind, Pieces | Winner):
        codes = pattern.codes(node.name, network.device)
        return dataclasses.replace(node, kind=kind.branch(codes))
    if isinstance(kind, Product):
        side = 0 if node.inputs[0] in constants else 1
        affine = kind.fix(side, constants[node.inputs[side]].squeeze(1))
        return dataclasses.replace(node, kind=affine, inputs=(node.inputs[1 - side],))
    if isinstance(kind, Smooth):
        xs = [constants[name].flatten(0, 1) for name in node.inputs]
        vanish = Vanish(node.shape, network.input_shape)
        flat = Affine(vanish, (), kind(*xs).unsqueeze(1), pullback=vanish.back, batched=True)
        return dataclasses.replace(node, kind=flat, inputs=(INPUT,))
    return node


def _value(frozen: Node, constants: dict[str, Tensor]) -> Tensor:
    """(P, 1, *shape): what the pattern fixes a frozen node's value to."""
    affine = frozen.kind
    assert isinstance(affine, Affine)
    known = [constants[name] for name in frozen.inputs if name in constants]
    if len(known) == len(frozen.inputs):
        return push(affine, known)
    assert affine.batched  # a step, or a curve of steps: only its bias is left
    zero = affine.weights[0] if affine.weights else affine.bias
    assert zero is not None
    return torch.zeros_like(zero) if affine.bias is None else affine.bias.expand_as(zero)


@dataclasses.dataclass(frozen=True)
class Vanish:
    """The zero map from the network's input to `shape`."""

    shape: Shape
    source: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:2], *self.shape)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """Its transpose: nothing flows back."""
        return (g.new_zeros(*g.shape[:2], *self.source),)
