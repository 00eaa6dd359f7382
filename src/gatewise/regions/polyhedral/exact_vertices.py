"""sharpened(complex): vertices that floats place badly, placed in integers.

Where rows are nearly parallel (a unit that is another one times a rounded factor), or the box is
far from zero, k rows solved in floats give a point that may be far off, though the signs around it
are proven. The rows themselves are rational, and so is the point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.stages import plan
from gatewise.regions.polyhedral.levels import places

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

SHARP = 2.0**-14  # of the box: what is known better is left as it is
MOST = 5_000  # vertices solved, the worst first; what is left keeps its error

Row = tuple[int, ...]


def sharpened(complex: Complex) -> Complex:
    """The complex with each vertex of an error above SHARP of the box within an ulp of the truth.

    Left as it is where signs are undecided (then a vertex may lie on fewer rows than are said), or
    where the network has no integer form.
    """
    where, k = complex.slice, complex.dimension
    if k == 0 or complex.undecided:
        return complex
    blunt = np.flatnonzero(complex.error > SHARP * float((where.high - where.low).max()))
    decide = Signs(plan(complex.network, where)) if len(blunt) else None
    if decide is None or decide.exact is None:
        return complex
    vertices, error = complex.vertices.copy(), complex.error.copy()
    blunt = blunt[np.argsort(-error[blunt], kind="stable")[:MOST]]
    place, cell = places(complex, blunt)
    for i in np.argsort(cell, kind="stable"):
        at = _solved(_rows(complex, decide, int(place[i]), int(cell[i])), k)
        if at is not None:
            v = blunt[i]
            vertices[v] = at
            error[v] = np.spacing(np.abs(vertices[v]).max())
    return dataclasses.replace(complex, vertices=vertices, error=error)


def _rows(complex: Complex, decide: Signs, place: int, cell: int) -> Iterable[Row]:
    """The facets' rows that meet at a vertex, in integers."""
    start, bits = int(complex.cells.facet_ptr[cell]), complex.pattern.bits[cell : cell + 1]
    for w, word in enumerate(complex.cells.mask[place].tolist()):
        for b in range(64):
            if word >> b & 1:
                row = decide.row(bits, int(complex.who[start + 64 * w + b]))
                if row is not None:
                    yield row


def _solved(rows: Iterable[Row], k: int) -> list[float] | None:
    """The one point where the rows vanish, each coordinate the nearest float; None if not one."""
    basis: dict[int, list[Fraction]] = {}  # by the column that row alone has
    for row in rows:
        rest = [Fraction(c) for c in row]
        for column, known in basis.items():
            rest = _less(rest, known, column)
        lead = next((c for c in range(k) if rest[c]), None)
        if lead is None:
            continue
        rest = [c / rest[lead] for c in rest]
        basis = {c: _less(known, rest, lead) for c, known in basis.items()} | {lead: rest}
        if len(basis) == k:
            return [float(-basis[c][k]) for c in range(k)]
    return None


def _less(row: list[Fraction], known: list[Fraction], column: int) -> list[Fraction]:
    factor = row[column]
    return [a - factor * b for a, b in zip(row, known, strict=True)] if factor else row
