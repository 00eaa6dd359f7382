"""Rows of a region that are identically zero: ties that hold on the whole of it.

Two equal units, or one that cancels, leave a row 0.x + 0 >= 0: true everywhere, and undecidable in
floats, whose bound is never zero. In exact arithmetic its coefficients are zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Shape, Winner
from gatewise.ir.network import Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.patterns.dyadic import Dyadic, dyadic, join
from gatewise.patterns.exact import Rational, branch, tables

AT_ONCE = 10_000_000  # products for one call: regions beyond it stay undecided


def affordable(exact: Rational) -> int:
    """How many regions' rows can be looked at in one call: about ten seconds' worth."""
    return AT_ONCE // (exact.cost * (exact.network.inputs + 1))


def zero_rows(exact: Rational, pattern: Pattern) -> dict[str, Tensor]:
    """For each gate (rows a unit, 1, 1, *shape) bool: is the row zero on the pattern's region?

    Each value is its coefficients on the inputs and, in the last column, its constant.
    """
    found: dict[str, Tensor] = {}
    d = exact.network.inputs
    one = dyadic(np.arange(d + 1) == d)

    def step(node: Node, xs: list[Dyadic]) -> Dyadic:
        z, kind = join(xs), node.kind
        if isinstance(kind, Affine):
            return exact.rows[node.name](z, one)
        assert isinstance(kind, Pieces | Winner)
        codes = pattern.codes(node.name).reshape(-1, 1).long().numpy()
        y = branch(kind, node.shape, z, codes, one)
        zero = (
            _on_knots(kind, node.shape, z, one) if isinstance(kind, Pieces) else _equal(kind, z, y)
        )
        found[node.name] = torch.from_numpy(zero).reshape(-1, 1, 1, *node.shape)
        return y

    fold(exact.network, dyadic(np.eye(d, d + 1)), step)
    return found


def _on_knots(kind: Pieces, shape: Shape, z: Dyadic, one: Dyadic) -> NDArray[np.bool_]:
    """(K, units): is z the constant of the knot?"""
    knots, _, _ = tables(kind, shape)
    return np.stack([_same(z, knots[k][:, None] * one) for k in range(len(kind.knots))])


def _equal(kind: Winner, z: Dyadic, y: Dyadic) -> NDArray[np.bool_]:
    """(candidates, units): is the candidate the winner y everywhere?"""
    places = kind.index.reshape(-1, kind.branches).cpu().numpy().T
    return np.stack([_same(z[place], y) & (place >= 0) for place in places])


def _same(a: Dyadic, b: Dyadic) -> NDArray[np.bool_]:
    return np.asarray((a.compare(b) == 0).all(1))
