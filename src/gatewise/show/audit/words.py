"""What the page of an audit says: key figures, and its tables as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from gatewise.auditing.audit import Audit, Line
from gatewise.auditing.bootstrap import Interval
from gatewise.auditing.gains import Gain
from gatewise.auditing.measures import Measure
from gatewise.auditing.verdict import figure, measured
from gatewise.errors import DataError
from gatewise.linear.fits.newton import EXACT
from gatewise.show.results import Table
from gatewise.show.say import Figure
from gatewise.show.words import MINUS, count, number, percent, plain

TERMS = 10  # of the linear model that are listed
ANSWERS = {
    "better": "network better",
    "worse": "network worse",
    "undecided": "undecided",
    "too few rows": "too few rows",
}


def rules_of(text: str) -> dict[str, tuple[int, ...]]:
    """The setting `rules` of an audit, from '1,2,4,8'; nothing where nothing is said."""
    if not text.strip():
        return {}
    parts = [part.strip() for part in text.split(",")]
    if parts == ["none"]:
        return {"rules": ()}
    if not all(part.isdecimal() for part in parts):
        raise DataError(f"--rules takes whole numbers, as in 1,2,4,8, or 'none'; got {text!r}")
    return {"rules": tuple(int(part) for part in parts)}


def verdict(a: Audit) -> str:
    """The finding, with every name on one line."""
    return re.sub(r"(?<!\w)-(?=[\d.])", MINUS, plain(a.verdict))


def figures(a: Audit) -> Iterator[Figure]:
    """The key figures of the page."""
    name = a.headline.name
    for key, title in (("network", "Network"), ("linear", "Linear model")):
        held = a[key].figures[name]
        yield Figure(title, _signed(held.value, False), f"{name}, {_between(held)}")
    yield Figure("Difference", _signed(a.ahead.value), _between(a.ahead, True))
    share = "" if not np.isfinite(a.affine_agrees) else (
        f", and {percent(a.affine_agrees)} of its decisions"
    )  # fmt: skip
    yield Figure(
        "One affine map", percent(max(a.affine_explains, 0.0)), f"of the network's variance{share}"
    )
    if a.uses:
        units = sum(use.units for use in a.uses)
        yield Figure("Never switch", percent(a.linear_units), f"of {count(units, 'unit')}")
        yield Figure("Regions in use", f"{a.regions:,}", f"as many as {number(a.effective)} equal")
    yield Figure("Test rows", f"{a.test_rows:,}", f"fitted on {count(a.fit_rows, 'row')}")


def _between(i: Interval, signed: bool = False) -> str:
    if not np.isfinite(i.low):
        return "no interval"
    return f"{_signed(i.low, signed)} to {_signed(i.high, signed)}"


def _signed(x: float, plus: bool = True) -> str:
    text = figure(x).replace("-", MINUS)
    return f"+{text}" if plus and x > 0 else text


def models_table(a: Audit) -> Table:
    """A row a model: every measure, and how far the network is ahead in the first one."""
    name = a.headline.name
    columns = ("", *(heading(m) for m in a.measures), f"Network ahead in {name}")
    return Table("Models", columns, tuple(_of_line(a, line) for line in a.lines))


def heading(m: Measure) -> str:
    """The name of a measure at the head of something."""
    return m.name[:1].upper() + m.name[1:]


def _of_line(a: Audit, line: Line) -> tuple[str, ...]:
    cells = [measured(line.figures[m.name].value, m.name).replace("-", MINUS) for m in a.measures]
    ahead = line.ahead[a.headline.name]
    last = "" if line.key == "network" else f"{_signed(ahead.value)} ({_between(ahead, True)})"
    return (line.name[:1].upper() + line.name[1:], *cells, last)


def cohorts_table(a: Audit) -> Table:
    """A row a cohort: its test rows, both models there, and the gain."""
    what = "right" if a.classes else "RMSE"
    columns = ("Cohort", "Test rows", f"Network, {what}", f"Linear, {what}", "Gain", "")
    return Table("Cohorts", columns, tuple(_of_gain(a, g) for g in ordered(a)))


def ordered(a: Audit) -> list[Gain]:
    """The cohorts, the largest gain first."""
    return sorted(a.gains, key=lambda g: -g.gain.value)


def _of_gain(a: Audit, g: Gain) -> tuple[str, ...]:
    said = percent if a.classes else number
    return (
        plain(g.condition),
        f"{g.rows:,}",
        said(g.network),
        said(g.linear),
        gained(g.gain),
        ANSWERS[g.answer],
    )


def gained(i: Interval) -> str:
    """Points of the target's variance, with the interval where there is one."""
    value = f"{100 * i.value:+.1f}"
    ends = "" if not np.isfinite(i.low) else f" ({100 * i.low:+.1f} to {100 * i.high:+.1f})"
    return f"{value}{ends}".replace("-", MINUS)


def cohorts_say(a: Audit) -> str:
    """How to read the gains, and how they are corrected."""
    many = len([g for g in a.gains if g.answer != "too few rows"])
    return (
        f"Gain: by how many points of the target's variance the network's squared error is below "
        f"the linear model's. The intervals hold for all {many} cohorts at once, at "
        f"{percent(a.level)}: looking at many cohorts finds a difference in one of them by chance, "
        f"so each interval is as wide as the largest deviation of all of them takes. Over all test "
        f"rows the gain is {gained(a.overall)}."
    )


def terms_table(a: Audit) -> Table:
    """The largest terms of the linear model, by what one deviation of the input moves."""
    m = a.linear
    scale = np.abs(m.coefficients).max(0) * a.input_scale
    order = [int(j) for j in np.argsort(-scale, kind="stable") if scale[j] > 0][:TERMS]
    many = len(m.intercepts) > 1
    heads = [_logit(a, k) for k in range(len(m.intercepts))] if many else ["Coefficient"]
    rows = [("Intercept", *(number(v) for v in m.intercepts))]
    rows += [(plain(a.names[j]), *(number(v) for v in m.coefficients[:, j])) for j in order]
    return Table("Terms of the linear model", ("Input", *heads), tuple(rows))


def _logit(a: Audit, k: int) -> str:
    return plain(a.classes[int(a.linear.classes[k])])


def linear_says(a: Audit) -> str:
    """What the linear model is, and how exactly it was found."""
    m = a.linear
    kind = "Newton" if m.coefficients.size + m.intercepts.size <= EXACT else "L-BFGS"
    way = "in closed form" if not m.steps else f"by {count(m.steps, f'{kind} step')}"
    target = plain(a.target_name) if a.target_name else "the target"
    what = f"{target} itself"
    if len(a.classes) == 2:
        what = f"the log odds of {plain(a.classes[1])}"
    elif a.classes:
        what = f"the logits of {target}"
    left = len(a.names) - min(TERMS, len(a.names))
    more = f" The {TERMS} largest of {len(a.names)} terms are shown." if left else ""
    return (
        f"{a['linear'].name[:1].upper()}{a['linear'].name[1:]}: {what} as a sum of inputs, fitted "
        f"{way}; {a.linear_how}. The gradient there is {number(m.residual, 1)}, the condition "
        f"number of the columns {number(m.condition)}.{more}"
    )


def own_says(a: Audit) -> str:
    """How much of the network one affine map says, and what its units do."""
    if not a.uses:
        return affine_says(a)
    return (
        f"{affine_says(a)} {_switching(a)} These rows use {count(a.regions, 'region')}, which "
        f"weigh as much as {number(a.effective)} of equal size would."
    )


def affine_says(a: Audit) -> str:
    """How much of the network one affine map says."""
    same = ""
    if np.isfinite(a.affine_agrees):
        same = f" and decides alike on {percent(a.affine_agrees)} of them"
    return (
        f"The one affine map that comes closest to the network explains "
        f"{percent(max(a.affine_explains, 0.0))} of the variance of its output on the test "
        f"rows{same}."
    )


def _switching(a: Audit) -> str:
    if a.linear_units == 0:
        return "Each of its units switches somewhere on the fitting rows."
    what = percent(a.linear_units)
    return f"{what} of its units never switch on the fitting rows, so that they are affine there."


def tables(a: Audit) -> Iterator[Table]:
    """What the command prints."""
    yield models_table(a)
    if len(a.gains) > 1:
        yield cohorts_table(a)


def closing(a: Audit) -> Iterator[str]:
    """Lines below the tables."""
    yield ""
    yield own_says(a)
    yield from (f"  note: {plain(note)}" for note in a.notes)
    yield f"took {a.seconds:.1f} s of CPU time"
