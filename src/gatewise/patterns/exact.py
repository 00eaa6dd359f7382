"""Patterns in rational arithmetic, for the few rows that float64 leaves undecided.

Floats are dyadic rationals, so the network of float weights has an exact value at a row of floats:
every unit is then decided, ties included. The cost is a rational multiplication per weight, so
this is for rows in doubt, not for data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Kind, Pieces, Shape, Winner, pull
from gatewise.ir.network import INPUT, Network, Node, fold
from gatewise.ir.pattern import Layout, Packer, layout, row_bytes

BUDGET = 300_000  # rational multiplications a row: about a second
AT_ONCE = 300_000  # and for one call of `settle`: what is left stays undecided
ENTRIES = 4_000_000  # of one node's matrix, read off whole

Exact = list[Fraction]
Row = list[tuple[int, Fraction]]


@dataclass(frozen=True, eq=False)
class Rational:
    """A network with every Affine read off as sparse rows of rationals: (row, bias) an output."""

    network: Network
    rows: Mapping[str, list[tuple[Row, Fraction]]]

    @property
    def cost(self) -> int:
        """Multiplications that one input takes."""
        return 1 + sum(len(row) for node in self.rows.values() for row, _ in node)


def rational(network: Network) -> Rational | None:
    """The network over the rationals, or None: a node has no exact value, or they are too many.

    A sum that rounds with no weight of its own has none (a mean: 1/3 is no float), nor has a rule
    that multiplies two weights (their product is rounded when the rule is read off).
    """
    network = network.to(device="cpu")
    shapes = {n.name: n.shape for n in network.nodes} | {INPUT: network.input_shape}
    rows: dict[str, list[tuple[Row, Fraction]]] = {}
    for node in network.nodes:
        kind = node.kind
        if isinstance(kind, Affine):
            inputs = [shapes[name] for name in node.inputs]
            entries = math.prod(node.shape) * sum(math.prod(s) for s in inputs)
            if not _readable(kind) or entries > ENTRIES:
                return None
            rows[node.name] = _sparse(kind, node.shape, inputs)
        elif not isinstance(kind, Pieces | Winner):
            return None
    exact = Rational(network, rows)
    return exact if exact.cost <= BUDGET else None


def _readable(kind: Affine) -> bool:
    """The transpose gives the rows of L without rounding."""
    weights = [w for w in kind.weights if w.is_floating_point()]
    if kind.terms and not weights:
        return False
    return sum(not _powers_of_two(w) for w in weights) <= 1


def _powers_of_two(w: Tensor) -> bool:
    return bool(((w == 0) | (torch.frexp(w.double()).mantissa.abs() == 0.5)).all())


def _sparse(kind: Affine, shape: Shape, inputs: list[Shape]) -> list[tuple[Row, Fraction]]:
    """L and c, the rows of L read off its transpose."""
    size = math.prod(shape)
    unit = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape)
    matrix = torch.cat([part.reshape(size, -1) for part in pull(kind, unit, inputs)], 1)
    rows: list[Row] = [[] for _ in range(size)]
    places = matrix.nonzero()
    for (i, j), value in zip(places.tolist(), matrix[tuple(places.T)].tolist(), strict=True):
        rows[i].append((j, Fraction(value)))
    bias = [0.0] * size if kind.bias is None else kind.bias.expand(shape).flatten().tolist()
    return [(row, Fraction(c)) for row, c in zip(rows, bias, strict=True)]


def settle(network: Network, x: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Packed patterns of the rows of x (rows, *input_shape), and which rows have been decided.

    Equal rows are decided once; rows beyond the budget, and networks with no exact value, are not.
    """
    fields = layout(network)
    bits = np.zeros((len(x), row_bytes(fields)), np.uint8)
    done = np.zeros(len(x), bool)
    exact = rational(network) if len(x) else None
    if exact is None:
        return bits, done
    distinct, inverse = torch.unique(x.cpu(), dim=0, return_inverse=True)
    for k, row in enumerate(distinct[: AT_ONCE // exact.cost]):
        same = (inverse == k).numpy()
        bits[same], done[same] = _packed(exact, fields, row), True
    return bits, done


def _packed(exact: Rational, fields: Layout, row: Tensor) -> NDArray[np.uint8]:
    packer = Packer(fields, 1)
    for name, codes in exact_codes(exact, row).items():
        packer.put(name, codes)
    return np.asarray(packer.bits[0])


def exact_codes(exact: Rational, row: Tensor) -> dict[str, Tensor]:
    """The code of every gate at one row (*input_shape), decided without rounding."""
    codes: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Exact]) -> Exact:
        x = [value for part in xs for value in part]
        if isinstance(node.kind, Affine):
            rows = exact.rows[node.name]
            return [sum((p * x[j] for j, p in row if x[j]), c) for row, c in rows]
        values, found = _gate(node.kind, node.shape, x)
        codes[node.name] = torch.tensor(found).reshape(1, *node.shape)
        return values

    fold(exact.network, [Fraction(v) for v in row.flatten().tolist()], step)
    return codes


def _gate(kind: Kind, shape: Shape, z: Exact) -> tuple[Exact, list[int]]:
    if isinstance(kind, Pieces):
        return _pieces(kind, shape, z)
    assert isinstance(kind, Winner)
    groups = kind.index.reshape(-1, kind.branches).tolist()
    found = [_winner(z, group, kind.sign) for group in groups]
    return [z[group[c]] for group, c in zip(groups, found, strict=True)], found


def _winner(z: Exact, group: list[int], sign: int) -> int:
    """The first best candidate of a group; -1 is no candidate."""
    there = [c for c, place in enumerate(group) if place >= 0]
    return max(there, key=lambda c: (sign * z[group[c]], -c))


def _pieces(kind: Pieces, shape: Shape, z: Exact) -> tuple[Exact, list[int]]:
    knots, slopes, offsets = tables(kind, shape)
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


def tables(kind: Pieces, shape: Shape) -> tuple[list[list[float]], ...]:
    """knots, slopes and offsets, a list a row, each with a number a unit."""
    return tuple(
        [row.expand(shape).flatten().tolist() for row in table]
        for table in (kind.knots, kind.slopes, kind.offsets)
    )
