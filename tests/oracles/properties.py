"""VNN-LIB properties as half-spaces, and whether an affine function on polygons meets them.

Slow and obvious; nothing under test is imported here. A specification says what is UNSAFE: it is a
disjunction of cases, each a box of inputs and a conjunction of half-spaces of outputs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np

TOKEN = re.compile(r"[()]|[^\s()]+")
VARIABLE = re.compile(r"([XY])_(\d+)")


@dataclass(frozen=True, eq=False)
class Case:
    """Unsafe: lower <= x <= upper and rows y <= bound, in every row."""

    lower: np.ndarray  # (inputs,)
    upper: np.ndarray
    rows: np.ndarray  # (conditions, outputs)
    bound: np.ndarray  # (conditions,)

    def margin(self, y: np.ndarray) -> np.ndarray:
        """(points,) of outputs (points, outputs): not negative where the output is unsafe."""
        return (self.bound - y @ self.rows.T).min(1)

    def holds(self, x: np.ndarray) -> np.ndarray:
        """(points,) Is x in the box?"""
        return ((x >= self.lower) & (x <= self.upper)).all(1)


def parsed(text: str) -> list:
    """S-expressions as nested lists of words; a comment runs from a semicolon to the line's end."""
    stack: list[list] = [[]]
    for token in TOKEN.findall(re.sub(r";[^\n]*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            if not stack:
                raise ValueError("a bracket is closed that was not opened")
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise ValueError(f"{len(stack) - 1} brackets are not closed")
    return stack[0]


def disjuncts(term: list) -> list[list]:
    """The disjunctive normal form of and, or, <=, >=: a list of lists of comparisons."""
    head, *rest = term
    if head in ("<=", ">="):
        return [[term]]
    if head == "or":
        return [part for r in rest for part in disjuncts(r)]
    if head == "and":
        joined: list[list] = [[]]
        for r in rest:
            joined = [a + b for a in joined for b in disjuncts(r)]
        return joined
    raise ValueError(f"not known: ({head} ...)")


def cases(text: str) -> list[Case]:
    """All unsafe cases of a specification."""
    terms = parsed(text)
    names = [t[1] for t in terms if t[0] in ("declare-const", "declare-fun")]
    size = {k: sum(n.startswith(k) for n in names) for k in "XY"}
    asserts = [t[1] for t in terms if t[0] == "assert"]
    return [_case(found, size) for found in disjuncts(["and", *asserts])]


def _case(comparisons: list, size: dict[str, int]) -> Case:
    """Bounds of inputs and rows of outputs; whatever else is said is refused."""
    lower, upper = np.full(size["X"], -np.inf), np.full(size["X"], np.inf)
    rows, bound = [], []
    for comparison in comparisons:
        row, most = _linear(comparison, size)
        x, y = row[: size["X"]], row[size["X"] :]
        if y.any() and not x.any():
            rows.append(y)
            bound.append(most)
        elif np.count_nonzero(x) == 1 and not y.any():
            (i,) = np.flatnonzero(x)
            upper[i] = min(upper[i], most) if x[i] > 0 else upper[i]
            lower[i] = max(lower[i], -most) if x[i] < 0 else lower[i]
        else:
            raise ValueError(f"neither a bound of an input nor a row of outputs: {comparison}")
    return Case(lower, upper, np.array(rows), np.array(bound))


def _linear(comparison: list, size: dict[str, int]) -> tuple[np.ndarray, float]:
    """(row, bound): the comparison is row (x, y) <= bound."""
    sign, *sides = comparison
    row, constant = np.zeros(size["X"] + size["Y"]), 0.0
    for side, way in zip(sides, (1, -1) if sign == "<=" else (-1, 1), strict=True):
        named = VARIABLE.fullmatch(side)
        if named is None:
            constant -= way * float(side)
        else:
            row[int(named[2]) + (size["X"] if named[1] == "Y" else 0)] += way
    return row, constant


@dataclass(frozen=True)
class Instance:
    """A line of instances.csv: a network, a specification and the answer known for it."""

    net: Path
    spec: Path
    answer: str  # sat: some input of the box is unsafe; unsat: none is
    counterexample: Path | None

    @property
    def name(self) -> str:
        net = re.sub(r"ACASXU_run2a_|_batch_2000", "", self.net.stem)
        return f"{net}-{self.spec.stem}"

    def cases(self) -> list[Case]:
        return cases(self.spec.read_text())


def instances(folder: Path) -> Iterator[Instance]:
    """Those whose network is in the folder and whose answer is known."""
    with (folder / "instances.csv").open(newline="") as stream:
        for line in csv.DictReader(stream):
            net, example = folder / line["onnx"], line["counterexample"]
            if net.exists() and line["answer"] in ("sat", "unsat"):
                spec = folder / "vnnlib" / line["vnnlib"]
                yield Instance(net, spec, line["answer"], folder / example if example else None)


def example(path: Path) -> np.ndarray:
    """The input of a counterexample file: ((X_0 1.5) ...)."""
    values = {n: float(v) for n, v in parsed(path.read_text())[0]}
    return np.array([values[f"X_{i}"] for i in range(sum(n.startswith("X") for n in values))])


def planes(case: Case) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(low, high) of slices of the box along two axes, low = high in the inputs that are held.

    First the slices through the box's centre, then those through its corners: all faces of two
    dimensions. None is chosen by what is known of the network.
    """
    pairs = list(combinations(range(len(case.lower)), 2))
    for held in [(0.5,), (0.0, 1.0)]:
        for free in pairs:
            for place in product(held, repeat=len(case.lower) - 2):
                at = np.insert(np.array(place), [free[0], free[1] - 1], 0.0)
                low = case.lower + at * (case.upper - case.lower)
                low, high = np.minimum(low, case.upper), np.minimum(low, case.upper)
                high[list(free)] = case.upper[list(free)]
                yield low, high


# -- polygons --


def clipped(corners: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The part of a convex polygon (k, columns), corners in order, where the value is not negative.

    value (k,) is at the corners; every column is affine on the polygon and is carried along.
    """
    parts = []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        if value[i] >= 0:
            parts.append(corners[i])
        if value[i] * value[j] < 0:
            t = value[i] / (value[i] - value[j])
            parts.append((1 - t) * corners[i] + t * corners[j])
    return np.array(parts).reshape(len(parts), corners.shape[1])


def in_order(points: np.ndarray) -> np.ndarray:
    """Indices of the corners (k, 2) of a convex polygon, around its middle."""
    away = points - points.mean(0)
    return np.argsort(np.arctan2(away[:, 1], away[:, 0]), kind="stable")


def unsafe_parts(
    ptr: np.ndarray, points: np.ndarray, values: np.ndarray, case: Case
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(region, corners (k, 2), outputs there) of the part of each polygon that is unsafe.

    Region r has the corners points[ptr[r]:ptr[r + 1]] (2-D, in any order) with the outputs values:
    on it the output is affine, so the unsafe part is a polygon, found by clipping. Only the outputs
    are looked at, so the polygons must lie in the case's box.
    """
    margin = case.bound - values @ case.rows.T
    best = np.maximum.reduceat(margin, ptr[:-1], axis=0)
    found = []
    for region in np.flatnonzero((best >= 0).all(1)):
        part = slice(ptr[region], ptr[region + 1])
        order = in_order(points[part])
        corners = np.hstack([points[part], values[part]])[order]
        for row, bound in zip(case.rows, case.bound, strict=True):
            corners = clipped(corners, bound - corners[:, 2:] @ row)
        if len(corners):
            found.append((int(region), corners[:, :2], corners[:, 2:]))
    return found


def witness(parts: list[tuple[int, np.ndarray, np.ndarray]], case: Case) -> tuple | None:
    """(point (2,), margin) of the middle that is furthest inside the unsafe half-spaces."""
    middles = [(p.mean(0), float(case.margin(y.mean(0)[None])[0])) for _, p, y in parts]
    return max(middles, key=lambda m: m[1], default=None)
