"""Conditions on inputs, in words: `age <= 30`, `sex is female`, `port is not S or C`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InternalError
from gatewise.explain.cohorts.merge import Rules
from gatewise.explain.cohorts.sample import Floats, Ids
from gatewise.explain.groups import Group
from gatewise.tables import counted

PLACED = 16_384  # rows at a time: their columns fit a cache
Box = dict[int, tuple[int, int]]  # feature: the first and the last code inside


@dataclass(frozen=True)
class Condition:
    """A test of one feature, or of one category, that a row passes or not.

    op "<=" or ">": x[feature] against the threshold. op "is": one of `columns` (the 0/1 columns
    of a category) is above the threshold; "is not": none is. levels: the levels that pass.
    feature: the first column tested; name: of the feature or the category.
    """

    feature: int
    name: str
    op: str
    threshold: float
    levels: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    text: str = ""

    def holds(self, x: Floats) -> NDArray[np.bool_]:
        """(rows,) which rows pass."""
        tests = [x[:, j] > self.threshold for j in self.columns or (self.feature,)]
        above = np.logical_or.reduce(tests)
        return np.asarray(~above if self.op in ("<=", "is not") else above)

    def __str__(self) -> str:
        return self.text or f"{self.name} {self.op} {self.threshold:.15g}"


Conjunction = tuple[Condition, ...]


def described(
    rules: Rules,
    cuts: Sequence[Floats],
    names: Sequence[str],
    groups: Sequence[Group],
    levels: Mapping[str, tuple[str, ...]] | None = None,
) -> list[tuple[Conjunction, int]]:
    """Every leaf as the conditions on the way to it, and the number of its rule.

    Leaves of one rule that make one box are said as one. levels: of inputs (by name) that number
    categories, what 0, 1, 2, ... stand for.
    """
    owner = {j: g for g in groups if g.levels for j in g.members if len(cuts[j]) == 1}
    last = [len(c) for c in cuts]
    every = [
        (box, k) for box, k in _boxes(rules, 0, {}, last) if all(a <= b for a, b in box.values())
    ]
    return [
        (_conjunction(box, cuts, names, owner, levels or {}), rule)
        for rule in sorted({k for _, k in every})
        for box in together([box for box, k in every if k == rule], last)
    ]


def _boxes(rules: Rules, node: int, box: Box, last: Sequence[int]) -> list[tuple[Box, int]]:
    """The leaves under a node."""
    tree = rules.tree
    if tree.feature[node] < 0:
        return [(box, int(rules.label[node]))]
    f, c = int(tree.feature[node]), int(tree.cut[node])
    low, high = box.get(f, (0, last[f]))
    left = _boxes(rules, int(tree.left[node]), box | {f: (low, min(c, high))}, last)
    right = _boxes(rules, int(tree.right[node]), box | {f: (max(c + 1, low), high)}, last)
    return left + right


def together(boxes: list[Box], last: Sequence[int]) -> list[Box]:
    """The same points in fewer boxes: two that differ in one side, and touch there, are one."""
    for i, one in enumerate(boxes):
        for k in range(i + 1, len(boxes)):
            both = _union(one, boxes[k], last)
            if both is not None:
                rest = [b for m, b in enumerate(boxes) if m not in (i, k)]
                return together([*rest[:i], both, *rest[i:]], last)
    return boxes


def _union(one: Box, other: Box, last: Sequence[int]) -> Box | None:
    sides = {f: (one.get(f, (0, last[f])), other.get(f, (0, last[f]))) for f in one | other}
    differ = [f for f, (mine, its) in sides.items() if mine != its]
    if len(differ) != 1:
        return None
    (a, b), (c, d) = sorted(sides[differ[0]])
    return {f: mine for f, (mine, _) in sides.items()} | {differ[0]: (a, d)} if c == b + 1 else None


def _conjunction(
    box: Box,
    cuts: Sequence[Floats],
    names: Sequence[str],
    owner: dict[int, Group],
    levels: Mapping[str, tuple[str, ...]],
) -> Conjunction:
    """The sides of a box, those of one category in one condition, as they first come."""
    said: dict[str, Condition] = {}
    for f, (low, high) in box.items():
        cut, ends = cuts[f], (low > 0, high < len(cuts[f]))
        if f in owner and any(ends):
            group = owner[f]
            sides = [(j, box[j][0] > 0) for j in group.members if box.get(j, (0, 1)) != (0, 1)]
            said.setdefault(f"group {group.name}", _category(sides, group, cuts))
            continue
        own = levels.get(names[f], ())
        if ends[0]:
            said[f"{f} >"] = _side(f, names[f], ">", float(cut[low - 1]), own)
        if ends[1]:
            said[f"{f} <="] = _side(f, names[f], "<=", float(cut[high]), own)
    return tuple(said.values())


def _side(f: int, name: str, op: str, threshold: float, levels: tuple[str, ...]) -> Condition:
    """A side of a box; of numbered categories, those that pass are said by name."""
    passed = tuple(v for k, v in enumerate(levels) if (k > threshold) == (op == ">"))
    if not passed or len(passed) == len(levels):  # a number that is no category's, too
        return Condition(f, name, op, threshold)
    text = f"{name.rpartition(' (')[0] or name} is {' or '.join(passed)}"
    return Condition(f, name, op, threshold, passed, text=text)


def _category(sides: Sequence[tuple[int, bool]], group: Group, cuts: Sequence[Floats]) -> Condition:
    """One level that a row must have, else those it must not have; sides: (column, is it 1)."""
    level = dict(zip(group.members, group.levels, strict=True))
    threshold = float(cuts[sides[0][0]][0])
    wanted = [f for f, one in sides if one]
    if wanted:
        f = wanted[-1]
        text = f"{group.name} is {level[f]}"
        return Condition(f, group.name, "is", threshold, (level[f],), (f,), text)
    out = tuple(sorted(f for f, _ in sides))
    left = tuple(level[j] for j in group.members if j not in out)
    left += () if group.dropped is None else (group.dropped,)
    one = f"{group.name} is {left[0]}" if len(left) == 1 else ""
    text = one or f"{group.name} is not {' or '.join(level[j] for j in out)}"
    return Condition(out[0], group.name, "is not", threshold, left, out, text)


def assigned(conditions: Sequence[tuple[Conjunction, ...]], x: Floats) -> tuple[Ids, Ids]:
    """(rows,) the cohort whose conditions a row meets, and how many conditions that took."""
    ids, needed, met = placed(conditions, x)
    if (met != 1).any():
        row = int(np.flatnonzero(met != 1)[0])
        raise InternalError(
            f"row {row} meets {counted(int(met[row]), 'conjunction')} of the cohorts, not one: "
            "please report this"
        )
    return ids, needed


def placed(conditions: Sequence[tuple[Conjunction, ...]], x: Floats) -> tuple[Ids, Ids, Ids]:
    """(rows,) the same as `assigned`, cohort -1 where none, and how many conjunctions are met."""
    parts = [_placed(conditions, x[i : i + PLACED]) for i in range(0, len(x), PLACED)]
    ids, needed, met = np.concatenate(parts, 1) if parts else np.zeros((3, 0), np.int64)
    return ids, needed, met


def _placed(conditions: Sequence[tuple[Conjunction, ...]], x: Floats) -> Ids:
    """(3, rows); a test is a pass over a column, so columns lie in one piece."""
    ids, needed, met = found = np.zeros((3, len(x)), np.int32)
    ids[:] = -1
    columns = np.asfortranarray(x)
    seen: dict[object, NDArray[np.bool_]] = {}  # conjunctions share most of their conditions
    for k, conjunctions in enumerate(conditions):
        for conjunction in conjunctions:
            rows = np.ones(len(x), bool)
            for c in conjunction:
                test = (c.feature, c.columns, c.op, c.threshold)
                rows &= seen[test] if test in seen else seen.setdefault(test, c.holds(columns))
            np.copyto(ids, k, where=rows)
            np.copyto(needed, len(conjunction), where=rows)
            met += rows
    return found.astype(np.int64)


def joined(conjunctions: Sequence[Conjunction]) -> str:
    """'a and b, or c'; 'all rows' where nothing is asked."""
    texts = [" and ".join(map(str, conditions)) for conditions in conjunctions]
    return ", or ".join(texts) if all(texts) else "all rows"


def formula(
    slopes: Floats, intercept: float, names: Sequence[str], scale: Floats, top: int = 6
) -> str:
    """'1.2 - 0.3 age + ...': the terms that move most over the data, how many are left out."""
    order = np.argsort(-np.abs(slopes) * scale, kind="stable")
    order = order[np.abs(slopes * scale)[order] > 0]
    text = f"{intercept:.4g}"
    for j in order[:top]:
        text += f" {'-' if slopes[j] < 0 else '+'} {abs(slopes[j]):.4g} {names[j]}"
    left = len(order) - top
    return text if left <= 0 else f"{text} + {left} smaller {'term' if left == 1 else 'terms'}"
