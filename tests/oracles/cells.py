"""All cells of a ReLU perceptron in a box, by splitting in rational numbers: slow and obvious.

A cell is a convex polytope held by its vertices (Fractions), each with the set of all rows that it
makes an equality. A unit splits a cell where it is positive at one vertex and negative at another;
a unit that vanishes at every vertex of a cell is off there. Nothing is rounded, so no cell is lost
and none is invented, however the rows lie. Any number of inputs; about 250 cells a
second of 2-32-32-1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

import numpy as np

Point = tuple[Fraction, ...]
Row = tuple[Point, Fraction]  # g, h: the function g x + h
Layers = Sequence[tuple[Sequence[Sequence], Sequence]]  # (W, b) of each linear layer, last = output


@dataclass(frozen=True)
class Polytope:
    """Full-dimensional: vertices, and for each the numbers of all the rows that are zero there."""

    vertices: tuple[Point, ...]
    tight: tuple[frozenset[int], ...]

    def split(self, row: Row, name: int) -> tuple[Polytope, Polytope]:
        """(row <= 0, row >= 0), where the row has both signs."""
        value = [at(row, v) for v in self.vertices]
        cuts = [self._cut(u, v, value, name) for u, v in self.edges() if value[u] * value[v] < 0]
        return self._side(value, -1, cuts, name), self._side(value, 1, cuts, name)

    def _cut(self, u: int, v: int, value: list[Fraction], name: int) -> tuple[Point, frozenset]:
        """The point of an edge where the row is zero: tight are the edge's rows and the new one."""
        t = value[u] / (value[u] - value[v])
        ends = zip(self.vertices[u], self.vertices[v], strict=True)
        place = tuple(a + t * (b - a) for a, b in ends)
        return place, (self.tight[u] & self.tight[v]) | {name}

    def _side(self, value: list[Fraction], sign: int, cuts: list, name: int) -> Polytope:
        old = [
            (v, s | {name} if z == 0 else s)
            for v, s, z in zip(self.vertices, self.tight, value, strict=True)
            if z * sign >= 0
        ]
        vertices, tight = zip(*old, *cuts, strict=True)
        return Polytope(vertices, tight)

    def edges(self) -> list[tuple[int, int]]:
        """Pairs of vertices that span an edge: no third is tight wherever both of them are."""
        found, need = [], len(self.vertices[0]) - 1
        for u, v in combinations(range(len(self.vertices)), 2):
            both = self.tight[u] & self.tight[v]
            if len(both) >= need and sum(both <= s for s in self.tight) == 2:
                found.append((u, v))
        return found

    def facets(self) -> list[frozenset[Point]]:
        """The vertices of each facet."""
        faces = {
            frozenset(v for v, s in zip(self.vertices, self.tight, strict=True) if row in s)
            for row in frozenset().union(*self.tight)
        }
        return [f for f in faces if flat_dimension(f) == len(self.vertices[0]) - 1]

    def volume(self) -> Fraction:
        """Exact: of simplices that share no interior."""
        rows = dict(zip(self.vertices, self.tight, strict=True))
        size = len(self.vertices[0])
        pieces = triangles(frozenset(rows), rows, size)
        return sum(
            (abs(determinant([difference(v, s[0]) for v in s[1:]])) for s in pieces), Fraction(0)
        ) / math.factorial(size)

    def interior(self) -> Point:
        """The mean of the vertices, which is inside."""
        count = len(self.vertices)
        return tuple(sum(c, Fraction(0)) / count for c in zip(*self.vertices, strict=True))


@dataclass(frozen=True)
class Cell:
    """Where every unit keeps its branch: `pattern` is 1 where a unit is on, layer after layer."""

    pattern: tuple[int, ...]
    body: Polytope
    weight: tuple[Point, ...]  # the outputs there: weight x + offset
    offset: Point

    def contains(self, x: Sequence) -> bool:
        """Is x in the closed cell? By the rows of its facets, from the centre's side."""
        x, inside = rational(x), self.body.interior()
        for facet in self.body.facets():
            normal, level = plane(facet)
            here, there = (dot(normal, p) + level for p in (x, inside))
            if here * there < 0:
                return False
        return True


def cells(layers: Layers, lower: Sequence, upper: Sequence) -> list[Cell]:
    """Every cell with an interior in the closed box, whose sides must have a length."""
    d, found = len(lower), []
    body = cuboid(rational(lower), rational(upper))
    unit = tuple(tuple(Fraction(i == j) for j in range(d)) for i in range(d))
    _descend(list(layers), 0, (), body, (unit, (Fraction(0),) * d), found)
    return found


def _descend(layers: list, depth: int, pattern: tuple, body: Polytope, given: tuple, found) -> None:
    """Split a cell, on which the layers above are `given`, by this layer; go on in each part."""
    w, b = layers[depth]
    rows = through([rational(r) for r in w], rational(b), *given)
    if depth == len(layers) - 1:
        found.append(Cell(pattern, body, tuple(g for g, _ in rows), tuple(h for _, h in rows)))
        return
    d, parts = len(body.vertices[0]), [(body, ())]
    for k, row in enumerate(rows):
        name = 2 * d + len(pattern) + k
        parts = [(p, (*bits, s)) for part, bits in parts for p, s in branches(part, row, name)]
    nothing = ((Fraction(0),) * d, Fraction(0))
    for part, bits in parts:
        kept = [row if s else nothing for row, s in zip(rows, bits, strict=True)]
        after = tuple(g for g, _ in kept), tuple(h for _, h in kept)
        _descend(layers, depth + 1, pattern + bits, part, after, found)


def branches(body: Polytope, row: Row, name: int) -> list[tuple[Polytope, int]]:
    """The parts of a cell on which a unit keeps its branch: off first."""
    value = [at(row, v) for v in body.vertices]
    if max(value) <= 0:
        return [(body, 0)]
    if min(value) >= 0:
        return [(body, 1)]
    low, high = body.split(row, name)
    return [(low, 0), (high, 1)]


def neighbours(found: Sequence[Cell]) -> set[tuple[int, int]]:
    """Pairs i < j of cells that share a facet. Cells meet in whole faces, so facets are equal."""
    owners: dict[frozenset[Point], list[int]] = {}
    for k, cell in enumerate(found):
        for facet in cell.body.facets():
            owners.setdefault(facet, []).append(k)
    if any(len(o) > 2 for o in owners.values()):
        raise AssertionError("a facet of three cells: these are not the cells of one network")
    return {(o[0], o[1]) for o in owners.values() if len(o) == 2}


# -- what to split --


def layers_of(model) -> list[tuple[np.ndarray, np.ndarray]]:
    """(W, b) of every Linear of a Sequential of Linear and ReLU by turns, in float64."""
    linear = list(model)[::2]
    if [type(m).__name__ for m in model] != (["Linear", "ReLU"] * len(linear))[:-1]:
        raise ValueError("Linear, ReLU, ..., Linear is all that is known here")
    return [
        (
            m.weight.detach().double().numpy(),
            np.zeros(m.out_features) if m.bias is None else m.bias.detach().double().numpy(),
        )
        for m in linear
    ]


def on_slice(layers: Layers, origin: Sequence, directions: Sequence[Sequence]) -> list:
    """The network of t, x = origin + t directions (k, d): exact, with rational first weights."""
    w, b = layers[0]
    ways = [rational(v) for v in directions]
    home = rational(origin)
    first = [tuple(dot(rational(row), way) for way in ways) for row in w]
    return [
        (first, [dot(rational(r), home) + c for r, c in zip(w, rational(b), strict=True)]),
        *layers[1:],
    ]


def cuboid(lower: Point, upper: Point) -> Polytope:
    """The box: row 2 i is x_i = lower, row 2 i + 1 is x_i = upper."""
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        raise ValueError("every side of the box must have a length")
    corners = list(product((0, 1), repeat=len(lower)))
    return Polytope(
        tuple(tuple((lower, upper)[s][i] for i, s in enumerate(c)) for c in corners),
        tuple(frozenset(2 * i + s for i, s in enumerate(c)) for c in corners),
    )


# -- rational algebra --


def rational(values: Iterable) -> Point:
    """The very numbers: a float is a fraction of two integers."""
    return tuple(v if isinstance(v, Fraction) else Fraction(float(v)) for v in values)


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def at(row: Row, x: Point) -> Fraction:
    return dot(row[0], x) + row[1]


def difference(a: Point, b: Point) -> Point:
    return tuple(p - q for p, q in zip(a, b, strict=True))


def through(w: list[Point], b: Point, weight: Sequence[Point], offset: Point) -> list[Row]:
    """The rows of w (weight x + offset) + b."""
    columns = list(zip(*weight, strict=True))
    return [
        (tuple(dot(row, c) for c in columns), dot(row, offset) + k)
        for row, k in zip(w, b, strict=True)
    ]


def eliminated(rows: Iterable[Point]) -> list[list[Fraction]]:
    """A basis of the span of the rows, in echelon form with ones."""
    basis: list[list[Fraction]] = []
    for row in rows:
        rest = list(row)
        for known in basis:
            pivot = next(i for i, c in enumerate(known) if c)
            rest = [a - rest[pivot] * c for a, c in zip(rest, known, strict=True)]
        lead = next((c for c in rest if c), None)
        if lead is not None:
            basis.append([c / lead for c in rest])
    return basis


def flat_dimension(points: Iterable[Point]) -> int:
    """Of the smallest flat that holds the points."""
    first, *rest = points
    return len(eliminated(difference(p, first) for p in rest))


def determinant(rows: list[Point]) -> Fraction:
    """By Gauss."""
    rows, value = [list(r) for r in rows], Fraction(1)
    for k in range(len(rows)):
        swap = next((i for i in range(k, len(rows)) if rows[i][k]), None)
        if swap is None:
            return Fraction(0)
        if swap != k:
            rows[k], rows[swap], value = rows[swap], rows[k], -value
        value *= rows[k][k]
        for i in range(k + 1, len(rows)):
            part = rows[i][k] / rows[k][k]
            rows[i] = [a - part * c for a, c in zip(rows[i], rows[k], strict=True)]
    return value


def plane(points: frozenset[Point]) -> tuple[Point, Fraction]:
    """normal, level: normal x + level = 0 on the points, which span a hyperplane."""
    first, *rest = points
    basis = eliminated(difference(p, first) for p in rest)
    size = len(first)
    normal = [
        determinant([tuple(c for j, c in enumerate(r) if j != k) for r in basis]) * (-1) ** k
        for k in range(size)
    ]
    return tuple(normal), -dot(normal, first)


def triangles(face: frozenset[Point], rows: dict, size: int) -> list[tuple[Point, ...]]:
    """Simplices that make up a face of that dimension: from one vertex to the facets without it."""
    if size == 0:
        return [tuple(face)]
    apex = min(face)
    tight = frozenset().union(*map(rows.get, face))
    parts = {frozenset(v for v in face if r in rows[v]) for r in tight}
    return [
        (apex, *simplex)
        for part in sorted(parts, key=sorted)
        if part and apex not in part and flat_dimension(part) == size - 1
        for simplex in triangles(part, rows, size - 1)
    ]
