"""Patterns in rational arithmetic, for the few rows that float64 leaves undecided.

Floats are dyadic rationals, so the network of float weights has an exact value at a row of floats:
every unit is then decided, ties included. The cost is a rational multiplication per weight, so
this is for rows in doubt, not for data.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Kind, Pieces, Shape, Winner, pull
from gatewise.ir.network import INPUT, Network, Node, fold
from gatewise.numeric import exact_dot

BUDGET = 300_000  # rational multiplications a row: about a second

Exact = list[Fraction]


def affordable(network: Network) -> bool:
    """True where every node has an exact value and a row costs at most BUDGET multiplications.

    A sum that rounds with no weight of its own (a mean: 1/3 is no float) has none here.
    """
    cost = 0
    for node in network.nodes:
        kind = node.kind
        if isinstance(kind, Affine):
            if kind.terms and not kind.weights:
                return False
            cost += math.prod(node.shape) * max(1, kind.terms)
        elif not isinstance(kind, Pieces | Winner):
            return False
    return cost <= BUDGET


def exact_codes(network: Network, row: Tensor) -> dict[str, Tensor]:
    """The code of every gate at one row (*input_shape), decided without rounding."""
    shapes = {n.name: n.shape for n in network.nodes} | {INPUT: network.input_shape}
    codes: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Exact]) -> Exact:
        if isinstance(node.kind, Affine):
            return _affine(node.kind, node.shape, xs, [shapes[name] for name in node.inputs])
        values, found = _gate(node.kind, node.shape, xs)
        codes[node.name] = torch.tensor(found).reshape(1, *node.shape)
        return values

    fold(network, [Fraction(v) for v in row.flatten().tolist()], step)
    return codes


def _affine(kind: Affine, shape: Shape, xs: list[Exact], shapes: list[Shape]) -> Exact:
    """L x + c, the rows of L read off its transpose."""
    size = math.prod(shape)
    unit = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape)
    parts = [part.reshape(size, -1) for part in pull(kind, unit, shapes)]
    rows = torch.cat(parts, 1).tolist()
    x = [value for part in xs for value in part]
    bias = [0.0] * size if kind.bias is None else kind.bias.expand(shape).flatten().tolist()
    return [exact_dot(row, x, c) for row, c in zip(rows, bias, strict=True)]


def _gate(kind: Kind, shape: Shape, xs: list[Exact]) -> tuple[Exact, list[int]]:
    if isinstance(kind, Pieces):
        return _pieces(kind, shape, xs[0])
    assert isinstance(kind, Winner)
    z = [value for part in xs for value in part]
    groups = kind.index.reshape(-1, kind.branches).tolist()
    found = [_winner(z, group, kind.sign) for group in groups]
    return [z[group[c]] for group, c in zip(groups, found, strict=True)], found


def _winner(z: Exact, group: list[int], sign: int) -> int:
    """The first best candidate of a group; -1 is no candidate."""
    there = [c for c, place in enumerate(group) if place >= 0]
    return max(there, key=lambda c: (sign * z[group[c]], -c))


def _pieces(kind: Pieces, shape: Shape, z: Exact) -> tuple[Exact, list[int]]:
    knots, slopes, offsets = (
        [row.expand(shape).flatten().tolist() for row in table]
        for table in (kind.knots, kind.slopes, kind.offsets)
    )
    above = [
        [v >= t if closed else v > t for v, t in zip(z, row, strict=True)]
        for row, closed in zip(knots, kind.closed, strict=True)
    ]
    codes = [sum(column) for column in zip(*above, strict=True)]
    values = [
        Fraction(slopes[c][i]) * v + Fraction(offsets[c][i])
        for i, (c, v) in enumerate(zip(codes, z, strict=True))
    ]
    return values, codes
