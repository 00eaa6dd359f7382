"""Cohorts as the page shows them: a table, a card each, and the curve of rules against fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.cohorts.scores import Fidelity
from gatewise.explain.cohorts.words import Condition
from gatewise.show import facts
from gatewise.show.facts import TERMS, Term, ranked
from gatewise.show.words import count, number, percent, plain

ROWS, CARDS, WAYS = 200, 60, 12  # in the table, as cards, conjunctions written out
Ids = NDArray[np.int64]


class Column(NamedTuple):
    """A heading and the style of its cells."""

    name: str
    kind: str


class Cell(NamedTuple):
    """What is shown, and the number it is sorted by; or several lines; or terms of a rule."""

    text: str
    sort: float | str = ""
    lines: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Card:
    """One cohort: its conditions as words, its rule, what is known of it."""

    id: int
    summary: tuple[str, ...]
    ways: tuple[tuple[str, ...], ...]
    more_ways: int
    intercept: float
    terms: tuple[Term, ...]
    more: int
    rest: float
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class View:
    """All of it; ids (rows,) for the page of rows, points: the curve for its chart."""

    count: int
    ids: Ids
    title: str
    says: str
    output: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str
    cards: tuple[Card, ...]
    points: dict[str, Any]
    rules: dict[str, Any]


def view(c: Cohorts) -> View:
    """Cohorts, ready for the page."""
    cards = tuple(_card(c, k) for k in range(min(len(c), CARDS)))
    shown = range(min(len(c), ROWS))
    left = len(c) - len(cards)
    return View(
        len(c),
        c.ids,
        f"{count(len(c), 'rule')} for {count(len(c.explanation), 'row')}",
        _says(c),
        plain(c.output_name),
        tuple(_columns(c)),
        tuple(_row(c, k, cards[k] if k < len(cards) else _card(c, k)) for k in shown),
        f"{count(left, 'more cohort')} without a card: cohorts.parquet has them." if left else "",
        cards,
        points(c),
        {
            "output": c.output,
            "intercepts": c.intercepts.tolist(),
            "coefficients": c.coefficients.tolist(),
        },
    )


def _says(c: Cohorts) -> str:
    f, e = c.overall, c.explanation
    spread = float(e.output[:, c.output].std())
    part = f", {percent(f.mean / spread)} of the output's deviation" if spread else ""
    same = f" They decide as the network does on {percent(f.decisions)} of these rows."
    same = same if _is(f.decisions) else ""
    need = float(c.conditions_per_row.mean())
    return (
        f"Affine rules that stand in for the network, each where its conditions hold; a row meets "
        f"{number(need, 2)} conditions on average. On {count(f.rows, 'row')} that no rule was "
        f"fitted on, rule and network differ by {number(f.mean)} on average{part}; by "
        f"{number(f.p99)} at the 99th percentile, {number(f.largest)} at most.{same}"
    )


def _is(x: float) -> bool:
    return not np.isnan(x)


def _margins(c: Cohorts) -> bool:
    return bool((~np.isnan(c.margin)).any())


def _columns(c: Cohorts) -> list[Column]:
    found = [
        Column("Cohort", "n"),
        Column("Rows", "n"),
        Column("When", "drivers unsorted"),
        Column("Strongest features", "drivers unsorted minor"),
        Column("Mean error", "n"),
        Column("99 %", "n minor"),
        Column("Largest", "n minor"),
    ]
    found += [Column(f"Same decision{_rest(c)}", "n wrap")] * _is(c.overall.decisions)
    found += [Column(_accuracy(c), "n wrap minor")] * _is(c.overall.accuracy)
    return [*found, *([Column("Median margin", "n wrap minor")] * _margins(c))]


def _accuracy(c: Cohorts) -> str:
    quantity = not _is(c.overall.decisions)
    return "From the target" if quantity else f"Right{_rest(c)}"


def _rest(c: Cohorts) -> str:
    """Of several outputs, a decision is this one's: is it the largest or not?"""
    return " (against the rest)" if c.explanation.network.outputs > 1 else ""


def _row(c: Cohorts, k: int, card: Card) -> tuple[Cell, ...]:
    f = c.fidelity[k]
    left = len(c.conditions[k]) - 1
    lines = (card.ways[0] or ("always",)) + ((f"or {count(left, 'other way')}",) if left else ())
    cells = [
        Cell(str(k), k),
        Cell(f"{int(c.sizes[k]):,}", int(c.sizes[k])),
        Cell("", "", lines),
        Cell("", "", (), card.terms[:3]),
        *(Cell(number(x), _sort(x)) for x in (f.mean, f.p99, f.largest)),
    ]
    cells += [Cell(percent(f.decisions), _sort(f.decisions))] * _is(c.overall.decisions)
    cells += [Cell(_right(c, f.accuracy), _sort(f.accuracy))] * _is(c.overall.accuracy)
    far = float(c.margin[k])
    return (*cells, *([Cell(number(far), _sort(far))] * _margins(c)))


def _sort(x: float) -> float | str:
    return float(x) if np.isfinite(x) else ""


def _right(c: Cohorts, x: float) -> str:
    return percent(x) if _is(c.overall.decisions) else number(x)


def _card(c: Cohorts, k: int) -> Card:
    terms, more, rest = _terms(c, k)
    ways = tuple(tuple(_said(one) for one in way) for way in c.conditions[k])
    f, n = c.fidelity[k], int(c.sizes[k])
    summary = [f"{count(n, 'row')}, {percent(n / max(1, len(c.ids)))}"]
    summary += [f"mean error {number(f.mean)}"] if f.rows else []
    return Card(
        k,
        tuple(summary),
        ways[:WAYS],
        len(ways) - len(ways[:WAYS]),
        float(c.intercepts[k]),
        terms,
        more,
        rest,
        tuple(_facts(c, k, f)),
    )


def _said(condition: Condition) -> str:
    text = plain(str(condition))
    return text.replace(" <= ", " ≤ ") if condition.op == "<=" else text


def _terms(c: Cohorts, k: int) -> tuple[tuple[Term, ...], int, float]:
    """The largest terms, how many more there are, and their share of the importance."""
    e, w = c.explanation, c.coefficients[k]
    effect = w * facts.scale(e)
    total = float(np.abs(effect).sum()) or 1.0
    order = ranked(effect, w)
    order = order[w[order] != 0]
    shown = tuple(
        Term(e.feature_names[j], float(w[j]), float(effect[j]), float(abs(effect[j]) / total), 0.0)
        for j in order[:TERMS]
    )
    return shown, len(order) - len(shown), float(np.abs(effect[order[TERMS:]]).sum() / total)


def _facts(c: Cohorts, k: int, f: Fidelity) -> list[tuple[str, str]]:
    found = [("Fidelity", "No row was held out here.")]
    if f.rows:
        found = [
            (
                "Fidelity",
                f"On {count(f.rows, 'held-out row')} rule and network differ by {number(f.mean)} "
                f"on average, {number(f.p99)} at the 99th percentile, {number(f.largest)} at most.",
            )
        ]
    if _is(f.decisions):
        found.append((f"Same decision{_rest(c)}", f"{percent(f.decisions)} of them."))
    if _is(f.accuracy):
        mine, theirs = _right(c, f.accuracy), _right(c, f.network_accuracy)
        found.append((_accuracy(c), f"The rule {mine}, the network {theirs}."))
    if _is(c.margin[k]):
        unit = facts.unit(c.explanation)
        found.append(("Margin", f"Its rows' median: {number(float(c.margin[k]))} {unit}s."))
    return found


def points(c: Cohorts) -> dict[str, Any]:
    """The curve for its chart: rules, mean error, share of equal decisions, the point chosen."""
    rules, error, same = (np.asarray(c.curve[name]) for name in ("rules", "mean", "decisions"))
    # Two sizes asked for may have come to the same number of rules: the better one stands.
    best = {int(r): i for i, r in sorted(enumerate(rules), key=lambda p: -error[p[0]])}
    order = [best[r] for r in sorted(best)]
    return {
        "rules": [int(rules[i]) for i in order],
        "error": [float(error[i]) for i in order],
        "same": [float(same[i]) for i in order] if not np.isnan(same).any() else None,
        "chosen": len(c),
        "label": "mean |rule − network|",
        "log": bool(rules.max() > 20 * rules.min()),
    }
