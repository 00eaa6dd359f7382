"""A constant input's first weights: unit, position and number of each entry of a masked constant.

A value network that sees no input holds V_1 * 1, folded, as one number an entry. The numbers of a
channel that are the same at many positions (a convolution's inside, or everywhere with circular
padding) are one weight used there; where zero padding took a part the numbers are others, and so
are the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.dual.gating import Gated
from gatewise.ir.kinds import Affine
from gatewise.ir.network import INPUT, Node

SAME = 64 * torch.finfo(torch.float32).eps  # relative: sums of equal numbers in another order


@dataclass(frozen=True, eq=False)
class Beginning:
    """unit, place (entries,): of each entry; kind (places,): places of one kind share weights."""

    unit: Tensor
    place: Tensor
    kind: Tensor

    @property
    def kinds(self) -> int:
        """Weights of a unit."""
        return int(self.kind.max()) + 1

    @property
    def number(self) -> Tensor:
        """(entries,): which weight an entry is, unit * kinds + kind."""
        return self.unit * self.kinds + self.kind[self.place]


def beginning(whole: Gated, node: Node, weight: Tensor) -> Beginning:
    """Where paths start at a constant, or at a bias: one unit a number, if nothing tells more."""
    table = _positions(whole, node) if weight.numel() == math.prod(node.shape) else None
    if table is None or table.shape[1] == 1:
        return _one_a_number(weight, node)
    unit, place = (torch.empty(table.numel(), dtype=torch.long) for _ in range(2))
    unit[table] = torch.arange(len(table))[:, None].expand_as(table)
    place[table] = torch.arange(table.shape[1]).expand_as(table)
    return Beginning(unit, place, _alike(weight.reshape(-1)[table]))


def spread_index(weight: Tensor, node: Node) -> Tensor:
    """For each entry of the node's value, which number of the weight it is multiplied by."""
    index = torch.arange(weight.numel()).reshape(weight.shape)
    return index.expand(node.shape).reshape(-1)


def _one_a_number(weight: Tensor, node: Node) -> Beginning:
    unit = spread_index(weight, node)
    places = max(1, len(unit) // max(1, weight.numel()))
    order = torch.argsort(unit, stable=True)
    place = torch.empty_like(unit)
    place[order] = torch.arange(len(unit)) % places
    return Beginning(unit, place, torch.zeros(places, dtype=torch.long))


def _positions(whole: Gated, node: Node) -> Tensor | None:
    """Entries by unit and position, as the weight layer before the constant's mask has them."""
    site, network = whole.site(node.name), whole.network
    name = INPUT if site is None else site.gate
    while name != INPUT:
        before = network.node(name)
        kind = before.kind
        if math.prod(before.shape) != math.prod(node.shape):
            return None
        if isinstance(kind, Affine) and kind.taps is not None:
            entries = torch.arange(math.prod(before.shape)).reshape(1, *before.shape)
            return kind.taps.units(entries)[0]
        name = before.inputs[0]
    return None


def _alike(numbers: Tensor) -> Tensor:
    """The kind of each column of (units, positions): columns that are equal up to rounding."""
    kind = torch.full((numbers.shape[1],), -1)
    slack = SAME * float(numbers.abs().max())
    while bool((kind < 0).any()):
        first = int((kind < 0).nonzero()[0])
        same = ((numbers - numbers[:, first : first + 1]).abs() <= slack).all(0)
        kind[same & (kind < 0)] = int(kind.max()) + 1
    return kind
