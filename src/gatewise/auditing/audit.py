"""audit(model, X, y): does a network beat a linear model on rows it never saw, by how much, where?

Beside the network stand the best linear model of the target, the network's own best affine map, one
of its regional maps used everywhere, and the network in few rules. All are measured on the same
test rows, with paired bootstrap intervals.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.auditing import models
from gatewise.auditing.bootstrap import Draws, Interval, interval, resampled
from gatewise.auditing.gains import Gain, gains
from gatewise.auditing.measures import Measure, Truth, figures, squared
from gatewise.auditing.models import Contender, Key
from gatewise.auditing.rows import (
    FEWEST,
    Question,
    of_explanation,
    of_tables,
    rows_of,
    second_rows,
    thinned,
)
from gatewise.auditing.units import GateUse, effective_rules, gate_uses, linear_share
from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.compute import Tell, deviation, quiet
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import OnBadRows, split_target
from gatewise.ir.network import Network
from gatewise.linear.fits.model import LinearModel
from gatewise.numeric import whole_number

Floats = NDArray[np.float64]
RULES = (1, 2, 4, 8)
HOLDOUT = 0.25
JOBS = 4


@dataclass(frozen=True)
class Line:
    """One model on the test rows: each measure, and by how much the network is better in it."""

    key: Key
    name: str
    rules: int
    how: str
    figures: dict[str, Interval]
    ahead: dict[str, Interval]


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` finds; every figure is of the test rows, and every interval at `level`.

    input_scale: the deviation of each input; lines: the network, the linear model, its own affine
    maps, its rules; measures: the first is what the verdict is about; gains: the network against
    the linear model, cohort by cohort, with intervals that hold for all cohorts at once; overall:
    the gain of all rows. affine_explains, affine_agrees: of the variance of the network's output,
    and of its decisions (nan: none), what its best affine map gets on the test rows. uses: units
    by what they do on the fitting rows; regions, effective: rules in use there, and their
    perplexity (nan where there are no regions).
    """

    target_name: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    input_scale: Floats
    fit_rows: int
    test_rows: int
    held_out: bool
    measures: tuple[Measure, ...]
    lines: tuple[Line, ...]
    linear: LinearModel
    linear_how: str
    gains: tuple[Gain, ...]
    overall: Interval
    cohorts: Cohorts | None
    affine_explains: float
    affine_agrees: float
    uses: tuple[GateUse, ...]
    regions: int
    effective: float
    level: float
    repeats: int
    seed: int
    notes: tuple[str, ...]
    seconds: float

    def __getitem__(self, key: str) -> Line:
        """The first line of that key: network, linear, affine, regional or cohorts."""
        found = {line.key: line for line in reversed(self.lines)}
        if key not in found:
            raise KeyError(f"no line {key!r}; there are {', '.join(found)}")
        return found[key]

    @property
    def headline(self) -> Measure:
        """The measure that the verdict is about."""
        return self.measures[0]

    @property
    def ahead(self) -> Interval:
        """The network's headline figure minus the linear model's."""
        return self["linear"].ahead[self.headline.name]

    @property
    def answer(self) -> str:
        """better, worse, equal (within the measure's margin), or undecided."""
        gap = self.ahead
        if gap.settled:
            return "better" if gap.settled > 0 else "worse"
        near = max(abs(gap.low), abs(gap.high)) <= self.headline.margin
        return "equal" if near else "undecided"

    @property
    def linear_units(self) -> float:
        """The share of units that never switch on the fitting rows; nan for none."""
        return linear_share(self.uses)

    @property
    def verdict(self) -> str:
        """The finding in a few plain sentences."""
        from gatewise.auditing.verdict import verdict

        return verdict(self)

    def table(self) -> dict[str, list[Any]]:
        """Columns, one entry a model: each measure with its interval, and the network's lead."""
        found: dict[str, list[Any]] = {
            name: [getattr(line, name) for line in self.lines]
            for name in ("key", "name", "rules", "how")
        }
        for measure in self.measures:
            for what, prefix in (("figures", ""), ("ahead", "network ahead, ")):
                held = [getattr(line, what)[measure.name] for line in self.lines]
                for end, text in (("value", ""), ("low", " low"), ("high", " high")):
                    found[f"{prefix}{measure.name}{text}"] = [getattr(i, end) for i in held]
        return found

    def cohort_table(self) -> dict[str, list[Any]]:
        """Columns, one entry a cohort."""
        names = ("cohort", "condition", "rows", "share", "network", "linear", "answer")
        found: dict[str, list[Any]] = {n: [getattr(g, n) for g in self.gains] for n in names}
        for end in ("value", "low", "high"):
            name = "gain" if end == "value" else f"gain {end}"
            found[name] = [getattr(g.gain, end) for g in self.gains]
        return found

    def __repr__(self) -> str:
        from gatewise.auditing.verdict import lines

        return "\n".join(["Audit: " + self.verdict, *lines(self)])


def audit(
    model: Network | Explanation,
    X: Any = None,
    y: Any = None,
    *,
    test: Any = None,
    rules: Sequence[int] = RULES,
    holdout: float | None = None,
    level: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
    rows: int | None = None,
    on_bad_rows: OnBadRows = "raise",
    progress: Tell | None = None,
) -> Audit:
    """A network against the best linear model, on rows that neither should have seen.

    model: a Network with X and y (the name of a column of X, or one value a row), or an
    Explanation, which holds its rows and its target. test: a second table that holds y's column,
    or a pair (X_test, y_test); without it a share `holdout` (0.25) of the rows is split off by the
    seed, and a note says that the network may have been trained on them. rules: numbers of cohorts
    that are compared, the largest looked at one by one; () for none. rows: to fit linear models on,
    and to test on, at most: evenly spaced ones.
    Raises DataError, in one sentence, for a target that is constant or cannot be matched to the
    network's outputs.
    """
    began, tell = time.process_time(), progress or quiet
    counts = counts_of(rules)
    how = Draws(whole_number(repeats, "repeats", 100), level, whole_number(seed, "seed", 0))
    most = None if rows is None else whole_number(rows, "rows", FEWEST)
    share = share_of(holdout, test)
    require_share(level, "level")
    tell("audit", 0, JOBS)
    q = _question(model, X, y, test, share, how.seed, on_bad_rows)
    found = _audit(q if most is None else thinned(q, most), counts, how, tell)
    return dataclasses.replace(found, seconds=time.process_time() - began)


def _used(e: Explanation | None) -> dict[str, Any]:
    """What units do on the fitting rows, and the regions in use there."""
    if e is None:
        return {"uses": (), "regions": 0, "effective": float("nan")}
    return {"uses": gate_uses(e), "regions": e.clusters, "effective": effective_rules(e)}


def _audit(q: Question, counts: list[int], how: Draws, tell: Tell) -> Audit:
    """The audit of a question, its seconds still to be filled in."""
    tell("audit", 1, JOBS)
    linear, strength = models.linear_model(q)
    scores = models.said(linear, q, q.test.x)
    first = Contender("linear", models.linear_name(q), 1, strength, scores)
    affine = models.affine(q)
    tell("audit", 2, JOBS)
    notes = list(q.notes)
    few, places = models.rules(q, counts, how.seed, notes)
    tell("audit", 3, JOBS)
    contenders = [models.network(q), first, affine, *models.regional(q), *few]
    lines, overall = _measured(q, contenders, how)
    where = () if places is None else gains(q.test, scores, places, how)
    tell("audit", 4, JOBS)
    explains, agrees = models.agreement(q, affine.scores)
    return Audit(
        target_name=q.target_name,
        classes=q.classes,
        names=q.names,
        input_scale=deviation(q.fit.x),
        fit_rows=len(q.fit),
        test_rows=len(q.test),
        held_out=q.held_out,
        measures=q.test.truth.measures,
        lines=lines,
        linear=linear,
        linear_how=strength,
        gains=where,
        overall=overall,
        cohorts=places,
        affine_explains=explains,
        affine_agrees=agrees,
        **_used(q.explanation),
        level=how.level,
        repeats=how.count,
        seed=how.seed,
        notes=tuple(notes),
        seconds=0.0,
    )


def counts_of(rules: Any) -> list[int]:
    """Numbers of cohorts, as whole numbers."""
    if not isinstance(rules, Sequence | np.ndarray) or isinstance(rules, str):
        raise DataError(f"rules must be a list of whole numbers, as (1, 2, 4, 8), got {rules!r}")
    return [whole_number(k, "rules") for k in rules]


def share_of(holdout: Any, test: Any) -> float:
    """The share of rows that are test rows, where no others are given."""
    if holdout is None:
        return HOLDOUT
    require_share(holdout, "holdout")
    if test is not None:
        raise DataError(
            "holdout splits test rows off the table, and test= gives them: leave out one of the two"
        )
    return float(holdout)


def require_share(value: Any, name: str) -> None:
    """A number between 0 and 1."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not good or not 0 < value < 1:
        raise DataError(f"{name} must be a share between 0 and 1, got {value!r}")


def _question(
    model: Any, X: Any, y: Any, test: Any, holdout: float, seed: int, on_bad_rows: OnBadRows
) -> Question:
    if isinstance(model, Explanation):
        return _of_explanation(model, X, y, test, holdout, seed, on_bad_rows)
    if X is None:
        raise DataError("an audit of a network needs rows: give X, a table, and y, its target")
    here = rows_of(model, X, y, on_bad_rows)
    there = None if test is None else second_rows(model, here.matrix, _second(test, y), on_bad_rows)
    return of_tables(model, here, there, holdout, seed)


def _of_explanation(
    e: Explanation, X: Any, y: Any, test: Any, holdout: float, seed: int, on_bad_rows: OnBadRows
) -> Question:
    if X is not None:
        raise DataError(
            "the explanation holds its rows: leave out X, or give the network instead of it"
        )
    if y is not None:
        given = split_target(e.data, list(y) if not isinstance(y, str) else y)[1]
        e = dataclasses.replace(e, target=given, target_name="target")
    there = None
    if test is not None:
        pair = _second(test, e.target_name or None)
        there = second_rows(e.network, e.matrix, pair, on_bad_rows)
    return of_explanation(e, there, holdout, seed)


def _second(test: Any, y: Any) -> tuple[Any, Any]:
    """The test table and its target: a pair, or a table that holds the column named y."""
    if isinstance(test, tuple):
        if len(test) != 2:
            raise DataError(f"test is a tuple of {len(test)}: give a table, or (X_test, y_test)")
        return test
    if not isinstance(y, str):
        raise DataError("test is a table, and y is no name of a column: give test=(X_test, y_test)")
    return test, y


# -- the figures --


def _measured(
    q: Question, contenders: list[Contender], how: Draws
) -> tuple[tuple[Line, ...], Interval]:
    """A line a contender, and the gain over all rows; all under the same draws."""
    truth, rows = q.test.truth, len(q.test)
    saved = _saved(truth, contenders[1].scores, contenders[0].scores)

    def every(weights: Floats) -> dict[str, Floats]:
        found = {"gain": weights @ saved / weights.sum(1)}
        for i, c in enumerate(contenders):
            each = figures(truth, c.scores, weights)
            found |= {f"{i} {name}": values for name, values in each.items()}
        return found

    value = {name: float(v[0]) for name, v in every(np.ones((1, rows))).items()}
    drawn = resampled(rows, how, every)
    names = [m.name for m in truth.measures]
    sign = {m.name: 1 if m.high else -1 for m in truth.measures}
    lines = []
    for i, c in enumerate(contenders):
        held = {n: interval(value[f"{i} {n}"], drawn[f"{i} {n}"], how.level) for n in names}
        ahead = {
            n: interval(
                sign[n] * (value[f"0 {n}"] - value[f"{i} {n}"]),
                sign[n] * (drawn[f"0 {n}"] - drawn[f"{i} {n}"]),
                how.level,
            )
            for n in names
        }
        lines.append(Line(c.key, c.name, c.rules, c.how, held, ahead))
    return tuple(lines), interval(value["gain"], drawn["gain"], how.level)


def _saved(truth: Truth, linear: Floats, network: Floats) -> Floats:
    return np.asarray((squared(truth, linear) - squared(truth, network)) / truth.spread)
