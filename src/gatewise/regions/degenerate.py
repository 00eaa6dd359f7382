"""Rows of a region that are identically zero: ties that hold on the whole of it.

Two equal units, or one that cancels, leave a row 0.x + 0 >= 0: true everywhere, and undecidable in
floats, whose bound is never zero. Over the rationals its coefficients are zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Shape, Winner
from gatewise.ir.network import Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.patterns.exact import Rational, tables

Form = Mapping[int, Fraction]  # coefficient of each input; -1 is the constant
CONSTANT = -1
AT_ONCE = 3_000_000  # rational multiplications for one call: regions beyond it stay undecided


def affordable(exact: Rational) -> int:
    """How many regions' rows can be looked at in one call."""
    return AT_ONCE // (exact.cost * (exact.network.inputs + 1))


def zero_rows(exact: Rational, pattern: Pattern) -> dict[str, Tensor]:
    """For each gate (rows a unit, 1, 1, *shape) bool: is the row zero on the pattern's region?"""
    found: dict[str, Tensor] = {}

    def step(node: Node, xs: list[list[Form]]) -> list[Form]:
        forms = [form for part in xs for form in part]
        if isinstance(node.kind, Affine):
            return [_combine(forms, row, c) for row, c in exact.rows[node.name]]
        codes = pattern.codes(node.name).flatten().int().tolist()
        assert isinstance(node.kind, Pieces | Winner)
        gate = _pieces if isinstance(node.kind, Pieces) else _winner
        values, zero = gate(node.kind, node.shape, forms, codes)  # type: ignore[arg-type]
        found[node.name] = torch.tensor(zero).reshape(-1, 1, 1, *node.shape)
        return values

    start: list[Form] = [{j: Fraction(1)} for j in range(exact.network.inputs)]
    fold(exact.network, start, step)
    return found


def _combine(forms: list[Form], row: list[tuple[int, Fraction]], constant: Fraction) -> Form:
    """sum p form_j + constant, without its zeros."""
    total = {CONSTANT: constant}
    for j, p in row:
        for key, value in forms[j].items():
            total[key] = total.get(key, Fraction(0)) + p * value
    return {key: value for key, value in total.items() if value}


def _pieces(
    kind: Pieces, shape: Shape, z: list[Form], codes: list[int]
) -> tuple[list[Form], list[list[bool]]]:
    knots, slopes, offsets = tables(kind, shape)
    zero = [
        [not _combine([v], [(0, Fraction(1))], -Fraction(t)) for v, t in zip(z, row, strict=True)]
        for row in knots
    ]
    values = [
        _combine([v], [(0, Fraction(slopes[c][i]))], Fraction(offsets[c][i]))
        for i, (v, c) in enumerate(zip(z, codes, strict=True))
    ]
    return values, zero


def _winner(
    kind: Winner, shape: Shape, z: list[Form], codes: list[int]
) -> tuple[list[Form], list[list[bool]]]:
    groups = kind.index.reshape(-1, kind.branches).tolist()
    best = [z[group[c]] for group, c in zip(groups, codes, strict=True)]
    zero = [
        [group[m] >= 0 and z[group[m]] == b for group, b in zip(groups, best, strict=True)]
        for m in range(kind.branches)
    ]
    return best, zero
