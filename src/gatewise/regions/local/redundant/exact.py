"""Rows of one region without rounding, in whole numbers: coefficients, or values at points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Winner
from gatewise.ir.network import Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.patterns.dyadic import Dyadic, Whole, dyadic, join
from gatewise.patterns.exact import Rational, branch, tables

AT_ONCE = 20_000_000  # products for one call, some seconds


def rows(exact: Rational, pattern: Pattern) -> Dyadic | None:
    """(m, d + 1): a, b of every row in the order of `Halfspaces`; None where it costs too much."""
    d = exact.network.inputs
    if exact.cost * (d + 1) > AT_ONCE:
        return None
    return _walk(exact, pattern, dyadic(np.eye(d, d + 1)), dyadic(np.arange(d + 1) == d))


def values(exact: Rational, pattern: Pattern, x: Tensor) -> Dyadic | None:
    """(m, k): every row at the points x (k, d)."""
    if exact.cost * len(x) > AT_ONCE:
        return None
    return _walk(exact, pattern, dyadic(x.numpy().T), dyadic(np.ones(len(x))))


def signs(numbers: Dyadic) -> NDArray[np.int8]:
    """+1, 0 or -1 for each number."""
    return np.asarray(numbers.compare(dyadic(np.zeros(numbers.whole.shape))))


def _walk(exact: Rational, pattern: Pattern, start: Dyadic, one: Dyadic) -> Dyadic:
    found: list[Dyadic] = [dyadic(np.zeros((0, start.whole.shape[1])))]

    def step(node: Node, xs: list[Dyadic]) -> Dyadic:
        z, kind = join(xs), node.kind
        if isinstance(kind, Affine):
            return exact.rows[node.name](z, one)
        assert isinstance(kind, Pieces | Winner)
        codes = pattern.codes(node.name).reshape(-1, 1).long().numpy()
        y = branch(kind, node.shape, z, codes, one)
        found.extend(
            _pieces(kind, node, z, codes, one)
            if isinstance(kind, Pieces)
            else _winner(kind, z, y, codes)
        )
        return y

    fold(exact.network, start, step)
    return join(found)


def _pieces(
    kind: Pieces, node: Node, z: Dyadic, codes: NDArray[np.int64], one: Dyadic
) -> list[Dyadic]:
    """sign (z - knot), a knot at a time."""
    knots, _, _ = tables(kind, node.shape)
    parts = []
    for k in range(len(kind.knots)):
        gap = z + _minus(knots[k][:, None] * one)
        sign = np.where(codes > k, 1, -1).astype(object)
        parts.append(Dyadic(gap.whole * sign, gap.scale))
    return parts


def _winner(kind: Winner, z: Dyadic, y: Dyadic, codes: NDArray[np.int64]) -> list[Dyadic]:
    """sign (winner - candidate), for the candidates that exist and are not the winner."""
    places = kind.index.reshape(-1, kind.branches).cpu().numpy()
    parts = []
    for m, place in enumerate(places.T):
        there = np.flatnonzero((place >= 0) & (codes[:, 0] != m))
        gap = y[there] + _minus(z[place[there]])
        parts.append(Dyadic(gap.whole * kind.sign, gap.scale))
    return parts


def _minus(numbers: Dyadic) -> Dyadic:
    return Dyadic(-numbers.whole, numbers.scale)


def primitive(numbers: Whole) -> list[tuple[int, ...]]:
    """Each row of whole numbers over its greatest common divisor: equal up to scale is equal."""
    return [tuple(v // (math.gcd(*row) or 1) for v in row) for row in numbers.tolist()]
