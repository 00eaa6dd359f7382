"""The sentences and key figures of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gatewise.explain.explanation import Explanation
from gatewise.show import facts
from gatewise.show.truth import Fit, Target
from gatewise.show.words import MINUS, count, number, percent, plain
from gatewise.tables import listed


class Figure(NamedTuple):
    """A key figure: what it is, its value, and what to know about it."""

    name: str
    value: str
    note: str = ""


def verdict(e: Explanation) -> str:
    """One network, in two or three plain sentences."""
    n, c = len(e), e.clusters
    if c == 1:
        where = "The one row falls" if n == 1 else f"All {count(n, 'row')} fall"
        first = f"{where} in one region: there the network is exactly one affine rule."
    elif c == n:
        first = (
            f"Each of the {count(n, 'row')} falls in a region of its own; in each, "
            "the network is exactly one affine rule."
        )
    else:
        first = (
            f"{count(n, 'row')} fall in {count(c, 'region')}; in each, "
            "the network is exactly one affine rule."
        )
        first += f" The largest cluster holds {percent(float(e.share[0]))} of the rows."
    return f"{first} {_reach(e)}".strip()


def _reach(e: Explanation) -> str:
    far = facts.margins(e)
    if far is None:
        return ""
    middle = facts.quantile(far, 0.5)
    if np.isinf(far.min()):
        return "No wall limits it: it holds for every input." if e.clusters == 1 else ""
    if np.isinf(middle):
        return "For most rows no wall limits it."
    who = "For this row" if len(e) == 1 else "For half of the rows"
    return (
        f"{who} a change of {number(middle)} {facts.unit(e)}s or less, in the right direction, "
        "is enough to meet another rule."
    )


def figures(e: Explanation, top: int, fit: Fit | None) -> list[Figure]:
    """The key figures, in the order they are shown."""
    return [*_sizes(e, top), *_margins(e), *_exactness(e), *([_metric(fit)] if fit else [])]


def _sizes(e: Explanation, top: int) -> Iterator[Figure]:
    yield Figure("Rows", f"{len(e):,}", f"{len(e.matrix.skipped):,} skipped")
    single = facts.alone(e)
    yield Figure("Clusters", f"{e.clusters:,}", f"{single:,} of a single row")
    if e.clusters > top:
        name = f"In the {top:,} largest" if top > 1 else "In the largest"
        yield Figure(name, percent(float(e.share[:top].sum())), "of the rows")


def _margins(e: Explanation) -> Iterator[Figure]:
    far = facts.margins(e)
    if far is not None:
        middle, near = (number(facts.quantile(far, q)) for q in (0.5, 0.05))
        yield Figure("Median margin", middle, f"{facts.unit(e)}s")
        yield Figure("5 % margin", near, "a twentieth of the rows are closer")


def _exactness(e: Explanation) -> Iterator[Figure]:
    yield Figure(
        "Largest error", number(e.max_error, 2), f"rounding allows {number(e.max_bound, 2)}"
    )
    yield Figure("Undecided rows", f"{len(e.undecided):,}", "a unit on its knot, within rounding")


def _metric(fit: Fit) -> Figure:
    value = percent(fit.value) if fit.name == "Accuracy" else number(fit.value)
    also = f"; {count(fit.unknown, 'row')} without a target left out" if fit.unknown else ""
    return Figure(fit.name, value, fit.how + also)


def skipped(e: Explanation) -> str:
    """Which rows were left out, or nothing."""
    rows = e.matrix.skipped
    if not rows:
        return ""
    return (
        f"{count(len(rows), 'row')} with NaN or infinity left out (counted from 0): {listed(rows)}."
    )


def locality(e: Explanation) -> str:
    """What to keep in mind when most rows are alone in their cluster; else nothing."""
    single = facts.alone(e)
    if 2 * single <= len(e) or len(e) == 1:
        return ""
    part = f"{single:,} of {count(len(e), 'row')} ({percent(single / len(e))})"
    return (
        f"{f'All {single:,} rows' if single == len(e) else part} are alone in their "
        "cluster: a rule here explains one row. It is exact, and holds as far as that row's "
        "margin, but it is no summary of the network. For that, see how much each slope varies "
        "between regions, on the page Features, and the cohorts."
    )


def target_name(e: Explanation, target: Target | None) -> str:
    """The heading of the target's column: '' where there is none."""
    if target is None:
        return ""
    name = plain(e.target_name) if e.target_name else "target"
    return f"Mean {name}" if target.measured else f"Commonest {name}"


def signed(x: float) -> tuple[str, str]:
    """The operator and the size of a term: ('+', '0.5') or ('−', '0.5')."""
    return (MINUS if x < 0 else "+"), number(abs(x))


def read(e: Explanation) -> str:
    """What the network is, in one or two sentences."""
    from gatewise.show.inspect import verdict as kind

    n = e.network
    head = f" It ends in {plain(n.head[0].layer)}, which is set aside." if n.head else ""
    return (
        f"{count(n.inputs, 'input')}, {count(n.outputs, 'output')}, "
        f"{count(n.parameters, 'parameter')}; {kind(n)}.{head}"
    )


def certificate(e: Explanation, page: float | None) -> str:
    """How exact the rules are, and the network in this page."""
    text = (
        f"On {count(len(e), 'row')} the rules and the network differ by at most "
        f"{number(e.max_error, 2)}; rounding in {str(e.network.dtype).removeprefix('torch.')} "
        f"allows {number(e.max_bound, 2)}. "
    )
    unsure = len(e.undecided)
    text += (
        "Every gate was decided beyond rounding."
        if not unsure
        else f"{count(unsure, 'row')} lie so near a wall that rounding decides a gate."
    )
    if page is not None:
        text += f" The network in this page differs from the model by at most {number(page, 2)}."
    return text


def agreement(error: float, rows: int) -> str:
    """That the page computes what the model does."""
    return f"On {count(rows, 'row')} it differs from the model by at most {number(error, 2)}."


def rows_embedded(e: Explanation, rows: int) -> str:
    """Which rows the page holds; a sample is never silent."""
    if rows == len(e):
        return f"All {count(rows, 'row')} are in this page, counted from 0 as in the data."
    return (
        f"{rows:,} of {count(len(e), 'row')} are in this page: the first rows of the largest "
        "clusters, and others evenly spaced in order of the output. rows.parquet holds them all."
    )
