"""freeze(network, pattern): the same Network with every gate replaced by its chosen branch."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Winner
from gatewise.ir.network import INPUT, Network, Node, fixed_by_pattern, require_piecewise_affine
from gatewise.ir.pattern import Pattern


def freeze(network: Network, pattern: Pattern) -> Network:
    """The gate-free Network of P patterns at once: each Gate becomes the branch its code picks.

    A value that the pattern alone fixes (what a step gives) becomes a constant, and a Product
    with such a side a scaling by it; so `collapse` has one case for a region's map and for a
    network that never had a gate. Raises NotPiecewiseAffine, naming the node that is neither.
    """
    require_piecewise_affine(network, "freezing a pattern")
    fixed = fixed_by_pattern(network)
    constants: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in network.nodes:
        if node.name in fixed:
            constants[node.name] = _constant(node, pattern, constants, network.device)
            kind = _constant_map(node.shape, constants[node.name])
            nodes.append(dataclasses.replace(node, kind=kind, inputs=(INPUT,)))
        else:
            nodes.append(_decided(node, pattern, constants, network.device))
    return dataclasses.replace(network, nodes=tuple(nodes))


def _decided(
    node: Node, pattern: Pattern, constants: dict[str, Tensor], device: torch.device
) -> Node:
    """The node with its branch chosen, or its fixed side put in."""
    kind = node.kind
    if isinstance(kind, Pieces | Winner):
        return dataclasses.replace(node, kind=kind.branch(pattern.codes(node.name).to(device)))
    if isinstance(kind, Product):
        side = 0 if node.inputs[0] in constants else 1
        affine = kind.fix(side, constants[node.inputs[side]])
        return dataclasses.replace(node, kind=affine, inputs=(node.inputs[1 - side],))
    return node


def _constant(
    node: Node, pattern: Pattern, constants: dict[str, Tensor], device: torch.device
) -> Tensor:
    """(P, *shape): the value that the pattern fixes."""
    if isinstance(node.kind, Pieces) and node.kind.constant:
        branch = node.kind.branch(pattern.codes(node.name).to(device))
        slope = branch.weights[0]
        return (torch.zeros_like(slope) if branch.bias is None else branch.bias).squeeze(1)
    return node.kind(*(constants[name] for name in node.inputs))


def _constant_map(shape: Shape, value: Tensor) -> Affine:
    """y = 0 x + value, batched."""
    vanish = Vanish(shape)
    return Affine(vanish, (), value.unsqueeze(1), pullback=vanish.back, batched=True)


@dataclasses.dataclass(frozen=True)
class Vanish:
    """The zero map from anything to `shape`."""

    shape: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:2], *self.shape)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """Its transpose: nothing flows back (a zero that broadcasts against any input)."""
        return (g.new_zeros(*g.shape[:2], 1),)
