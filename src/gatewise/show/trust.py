"""The evaluation as the page of trust shows it: a table, best method of a line marked by words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gatewise.show.words import count, number, plain

ROUNDING = 1e-12


@dataclass(frozen=True)
class Cell:
    """What is shown, what it is sorted by, and whether it is the best of its line."""

    text: str
    sort: float | str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One measure: its name, what it means, where from, a cell a method."""

    name: str
    says: str
    source: str
    better: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """The measures under one of the three words."""

    word: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Trust:
    """An Evaluation, ready for the page."""

    says: str
    methods: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def trust(evaluation: Any) -> Trust:
    """The table of an Evaluation (explain/evaluation), measures grouped by word."""
    methods = tuple(plain(m) for m in evaluation.methods)
    words = list(dict.fromkeys(m.word for m in evaluation.measures))
    groups = tuple(
        Group(plain(w), tuple(_line(m) for m in evaluation.measures if m.word == w)) for w in words
    )
    peers = f", beside {count(len(methods) - 1, 'other method')}" if len(methods) > 1 else ""
    says = (
        f"{count(len(evaluation.measures), 'measure')} of the literature on "
        f"{count(evaluation.rows, 'row')}, output {plain(evaluation.output)}{peers}. In bold: the "
        "best of a line. What is worse for an exact rule is printed too."
    )
    return Trust(says, methods, groups, tuple(plain(n) for n in evaluation.notes))


def _line(measure: Any) -> Line:
    values = [v for v in measure.values if v is not None]
    best = None
    if len(values) > 1 and measure.better in ("lower", "higher"):
        best = min(values) if measure.better == "lower" else max(values)
    cells = tuple(
        Cell("–") if v is None else Cell(number(v), float(v), _is(v, best)) for v in measure.values
    )
    name = plain(measure.name)
    return Line(
        name[:1].upper() + name[1:],
        plain(measure.definition),
        plain(measure.source) if measure.source else "",
        measure.better,
        cells,
    )


def _is(value: float, best: float | None) -> bool:
    """The best of a line; what differs by rounding alone is as good."""
    return best is not None and abs(value - best) <= ROUNDING
