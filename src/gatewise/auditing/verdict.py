"""The verdict of an audit in plain sentences, and its tables as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gatewise.auditing.bootstrap import Interval
from gatewise.auditing.gains import Gain
from gatewise.tables import counted

if TYPE_CHECKING:
    from gatewise.auditing.audit import Audit, Line

HEADS = {
    "better": "The network is better than {linear}",
    "worse": "The network is worse than {linear}",
    "equal": "The network is no better than {linear}",
    "undecided": "Whether the network is better than {linear} is undecided",
}


def verdict(a: Audit) -> str:
    """Better or not, and by how much; where; and what a single affine map of its own gets."""
    return " ".join([_head(a), *_where(a), *_own(a)])


def _head(a: Audit) -> str:
    name = a.headline.name
    one, other = (a[key].figures[name] for key in ("network", "linear"))
    ahead = a.ahead
    said = HEADS[a.answer].format(linear=a["linear"].name)
    if a.answer == "undecided":
        said += f" on {counted(a.test_rows, 'test row')}"
    text = (
        f"{said}: {name} {figure(one.value)} vs {figure(other.value)}, difference {spanned(ahead)}."
    )
    if a.answer == "better" and ahead.value < a.headline.margin:
        text += f" That is less than {a.headline.margin:g}."
    return text


def _where(a: Audit) -> Iterator[str]:
    """In which cohorts, beyond doubt."""
    if len(a.gains) < 2:
        return
    good = sorted((g for g in a.gains if g.answer == "better"), key=lambda g: -g.gain.value)
    bad = sorted((g for g in a.gains if g.answer == "worse"), key=lambda g: g.gain.value)
    of = f"of {len(a.gains)} cohorts"
    if good:
        yield f"It earns its keep in {len(good)} {of}, {_places(good)}."
    if bad:
        yield f"It is worse in {len(bad)} {of}, {_places(bad)}."
    if not good and not bad:
        yield f"In none of its {len(a.gains)} cohorts is either better beyond doubt."


def _places(found: list[Gain]) -> str:
    return f"{'most ' if len(found) > 1 else ''}where {_cohort(found[0])}"


def _cohort(g: Gain) -> str:
    return f"{g.condition} ({points(g.gain)} of the variance on {counted(g.rows, 'row')})"


def _own(a: Audit) -> Iterator[str]:
    """How much of the network is one affine map, or a few."""
    name = a.headline.name
    own = a["affine"]
    text = f"Its own best affine map gets {figure(own.figures[name].value)}"
    few = [line for line in a.lines if line.key == "cohorts" and line.rules > 1]
    if few:
        last = few[-1]
        text += f", its {last.rules} rules {figure(last.figures[name].value)}"
    yield f"{text}."


def figure(x: float) -> str:
    """Three digits behind the point, or four in all for what is large."""
    if not np.isfinite(x):
        return "–"
    text = f"{x:.3f}" if abs(x) < 100 else f"{x:,.0f}" if abs(x) < 1e9 else f"{x:.3g}"
    return text if text != "-0.000" else "0.000"


def measured(x: float, name: str) -> str:
    """`figure`, or four digits of an RMSE, whose unit is the target's."""
    return f"{x:.4g}" if name == "RMSE" and np.isfinite(x) and abs(x) < 1e4 else figure(x)


def spanned(i: Interval) -> str:
    """'0.002 [-0.004, 0.008]'."""
    return f"{figure(i.value)} [{figure(i.low)}, {figure(i.high)}]"


def points(i: Interval) -> str:
    """A gain in percent of the variance, with its interval."""
    if not np.isfinite(i.low):
        return f"{100 * i.value:+.1f} %"
    return f"{100 * i.value:+.1f} % [{100 * i.low:+.1f}, {100 * i.high:+.1f}]"


def lines(a: Audit) -> Iterator[str]:
    """The table of the models, and what was counted, as text."""
    names = [m.name for m in a.measures]
    wide = max(len(line.name) for line in a.lines) + 2
    yield f"  {'':{wide}}" + "".join(f"{n:>14}" for n in names) + f"   network ahead ({names[0]})"
    for line in a.lines:
        yield "  " + _row(line, names, wide)
    units = sum(use.units for use in a.uses)
    if units:
        yield (
            f"  {a.linear_units:.0%} of {counted(units, 'unit')} never switch; {a.regions:,} "
            f"regions in use, as many as {a.effective:,.0f} equal ones"
        )
    yield f"  fitted on {a.fit_rows:,} rows, tested on {a.test_rows:,}; {a.linear_how}"
    yield from (f"  note: {note}" for note in a.notes)


def _row(line: Line, names: list[str], wide: int) -> str:
    cells = "".join(f"{measured(line.figures[n].value, n):>14}" for n in names)
    ahead = "" if line.key == "network" else spanned(line.ahead[names[0]])
    return f"{line.name:{wide}}{cells}   {ahead}"
