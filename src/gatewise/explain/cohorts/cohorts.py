"""cohorts(exp): the fewest affine rules that say what the network says, each with its conditions.

On real networks nearly every row has a pattern, and so an affine map, of its own. Cohorts are few:
a rule each, fitted to the network where its conditions hold (docs/explanation/cohorts.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.cohorts.asked import generator, require
from gatewise.explain.cohorts.sample import Floats, Ids
from gatewise.explain.cohorts.scores import Fidelity, LocalMaps, Truth, truth
from gatewise.explain.cohorts.search import Fit, Search, search
from gatewise.explain.cohorts.words import Conjunction, assigned, described, formula, joined, placed
from gatewise.explain.inputs import inputs_of
from gatewise.explain.names import output_index
from gatewise.numeric import whole_number
from gatewise.tables import counted, is_table

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation

Measure = Literal["mean", "p99", "max", "decisions"]
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
DEFAULT_RULES, MOST_RULES = 8, 32
SHOWN = 12


@dataclass(frozen=True, eq=False)
class Cohorts:
    """Rules y = intercepts[k] + coefficients[k] . x where a conjunction of conditions[k] holds.

    Every input meets exactly one conjunction. Units are the network's inputs', the original ones
    through a Pipeline. Cohort 0 is the largest.
    ids (rows,): the cohort of each row of the explanation; sizes (cohorts,) of them;
    held (rows,): was the row held out; fidelity, one a cohort, and `overall`: on those rows only;
    margin (cohorts,): median distance of its rows to the walls of their regions, in deviations;
    curve: columns rules, conjunctions, conditions (a row needs, on average), mean, p99, max,
    decisions: what other numbers of rules reach on the held-out rows (no rule was fitted on them,
    but the number of rules may be chosen by them); and mean_followed ...: with each row under the
    rule that the network follows there, whatever the conditions.
    """

    explanation: Explanation
    output: int
    ids: Ids
    coefficients: Floats
    intercepts: Floats
    conditions: tuple[tuple[Conjunction, ...], ...]
    sizes: Ids
    held: NDArray[np.bool_]
    fidelity: tuple[Fidelity, ...]
    overall: Fidelity
    margin: Floats
    curve: dict[str, Floats]
    measure: Measure = "mean"

    def __len__(self) -> int:
        return len(self.intercepts)

    def assign(self, X: Any) -> Ids:
        """(rows,) the cohort of each row, by its conditions.

        An array holds the network's inputs, as `explanation.data` does; a table is prepared first.
        """
        return self._placed(self._inputs(X))

    def predict(self, X: Any) -> Floats:
        """(rows,) what the rule of each row's cohort says."""
        x = self._inputs(X)
        return said(self.coefficients, self.intercepts, self._placed(x), x)

    @property
    def conditions_per_row(self) -> Ids:
        """(rows,) how many conditions put each row of the explanation in its cohort."""
        return assigned(self.conditions, self.explanation.data)[1]

    @property
    def followed(self) -> Ids:
        """(rows,) the cohort whose rule is nearest the network's own map at each row.

        Exact gate information, no conditions: where it is not `ids`, the network follows the rule
        of another cohort (see `LocalMaps.followed` for the distance).
        """
        return _maps(self.explanation, self.output).followed(self.coefficients, self.intercepts)

    @property
    def output_name(self) -> str:
        """The output that the rules are of."""
        return self.explanation.output_names[self.output]

    def rule(self, cohort: int, top: int = 6) -> str:
        """The rule in words: the terms that move most, in original units."""
        e = self.explanation
        slopes, start = self.coefficients[cohort], float(self.intercepts[cohort])
        return f"{self.output_name} = {formula(slopes, start, e.feature_names, e.scale, top)}"

    def condition(self, cohort: int) -> str:
        """The conditions in words."""
        return joined(self.conditions[cohort])

    def table(self) -> dict[str, list[Any]]:
        """Columns, one entry a cohort; coefficients are columns named for the features."""
        found: dict[str, list[Any]] = {
            "cohort": list(range(len(self))),
            "condition": [self.condition(k) for k in range(len(self))],
            "rule": [self.rule(k) for k in range(len(self))],
            "rows": self.sizes.tolist(),
            "held_out": [f.rows for f in self.fidelity],
        }
        numbers = ("mean", "p99", "largest", "decisions", "accuracy", "network_accuracy")
        found |= {name: [getattr(f, name) for f in self.fidelity] for name in numbers}
        found |= {"margin": self.margin.tolist(), "intercept": self.intercepts.tolist()}
        columns = zip(self.explanation.feature_names, self.coefficients.T, strict=True)
        return found | {f"coefficient of {name}": c.tolist() for name, c in columns}

    def _placed(self, x: Floats) -> Ids:
        ids, _, met = placed(self.conditions, x)
        if (met != 1).any():
            raise DataError(
                f"row {int(np.flatnonzero(met != 1)[0])} is in no one cohort: the 0/1 columns of a "
                "category hold one 1 at most, so give rows as the network's training data are"
            )
        return ids

    def _inputs(self, X: Any) -> Floats:
        network = self.explanation.network
        if is_table(X):
            return inputs_of(network, X).values
        return network.rows(X).reshape(-1, network.inputs).double().cpu().numpy()

    def __repr__(self) -> str:
        e = self.explanation
        spread = float(e.output[:, self.output].std())
        part = f"; mean {self.overall.mean / spread:.1%} of its deviation" if spread else ""
        head = (
            f"Cohorts: {counted(len(self), 'rule')} for {self.output_name}, "
            f"{counted(len(e), 'row')}, {float(self.conditions_per_row.mean()):.1f} conditions a "
            f"row\n  on {counted(self.overall.rows, 'held-out row')}: {self._words(self.overall)}"
            f"{part}"
        )
        shown = [self._said(k) for k in range(min(len(self), SHOWN))]
        left = len(self) - len(shown)
        return "\n".join([head, *shown] + ([f"  and {left} more: see table()"] if left else []))

    def _words(self, f: Fidelity) -> str:
        """Of several outputs, a decision is this one against the rest."""
        many = self.explanation.network.outputs > 1
        return _words(f, f" on {self.output_name} against the rest" if many else "")

    def _said(self, k: int) -> str:
        share = self.sizes[k] / max(len(self.ids), 1)
        margin = "" if np.isnan(self.margin[k]) else f"; median margin {self.margin[k]:.2g} sd"
        return (
            f"  {k}. {self.condition(k)}: {counted(int(self.sizes[k]), 'row')} ({share:.1%})\n"
            f"     {self.rule(k)}\n     {self._words(self.fidelity[k])}{margin}"
        )


def _words(f: Fidelity, side: str) -> str:
    if not f.rows:
        return "no held-out row"
    text = f"mean |rule - network| {f.mean:.3g}, 99 % {f.p99:.3g}, largest {f.largest:.3g}"
    if not np.isnan(f.decisions):
        text += f"; equal decisions{side} {f.decisions:.1%}"
        if not np.isnan(f.accuracy):
            text += f"; right{side} {f.accuracy:.1%} (network {f.network_accuracy:.1%})"
    elif not np.isnan(f.accuracy):
        text += f"; from the target {f.accuracy:.3g} (network {f.network_accuracy:.3g})"
    return text


def cohorts(
    explanation: Explanation,
    *,
    output: int | str = 0,
    max_rules: int | None = None,
    max_error: float | None = None,
    measure: Measure = "mean",
    holdout: float = 0.25,
    conjunctions: int = 4,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cohorts:
    """The fewest affine rules that reproduce one output of a network within max_error.

    max_error bounds, on held-out rows, the mean |rule - network| (measure="mean"), its 99th
    percentile ("p99"), its largest ("max"), or the share of decisions that differ ("decisions");
    numbers of rules up to max_rules (32 by default) are tried, not each of them. With max_rules
    alone, that many (8 by default). output: position or name among the explained ones;
    holdout: the share of rows that no rule is fitted on; conjunctions: how many may share a rule,
    on average (1: a plain tree). The same seed gives the same cohorts.
    Raises DataError where max_error is out of reach, with the best that was reached.
    """
    require(explanation, max_error, measure, holdout)
    index = output_index(output, explanation.output_names, "the explanation has")
    if max_rules is None:
        max_rules = DEFAULT_RULES if max_error is None else MOST_RULES
    most = whole_number(max_rules, "max_rules")
    shares = [s for s in (1, 2, 4, 8) if s <= whole_number(conjunctions, "conjunctions")]
    rng = generator(seed)
    job = _job(explanation, index, holdout, rng)
    if measure == "decisions" and job.truth.level is None:
        raise DataError(
            "measure='decisions' needs an output that decides, and this one is a quantity: use "
            "'mean', 'p99' or 'max', or give target= with classes"
        )
    grown = search(job.ask, job.x[~job.held], job.parts, most, rng)
    steps = [k for k in SIZES if k < most] + [most]
    found: list[_Rules] = []
    for done, k in enumerate(steps):
        found.append(_rules(job, grown, k, shares))
        if progress is not None:
            progress("cohorts", done + 1, len(steps))
    return _cohorts(job, _pick(found, max_error, measure), found, measure)


# -- the work --


@dataclass(frozen=True, eq=False)
class _Job:
    explanation: Explanation
    output: int
    x: Floats
    held: NDArray[np.bool_]
    parts: tuple[tuple[int, ...], ...]
    ask: Callable[[Floats], Floats]
    truth: Truth
    maps: LocalMaps


@dataclass(frozen=True, eq=False)
class _Rules:
    """Rules before they are ordered by size."""

    slopes: Floats
    intercepts: Floats
    conditions: list[tuple[Conjunction, ...]]
    ids: Ids
    needed: Ids
    overall: Fidelity
    followed: Fidelity


def _maps(e: Explanation, output: int) -> LocalMaps:
    return LocalMaps(e.data, e.coefficients[e.ids, output], e.output[:, output])


def _job(e: Explanation, output: int, holdout: float, rng: np.random.Generator) -> _Job:
    place = e.outputs[output]
    every = e.census.output.double().cpu().numpy()
    held = np.zeros(len(e), bool)
    held[rng.permutation(len(e))[: max(1, round(len(e) * holdout))]] = True
    parts = tuple(g.members for g in e.groups)
    inside = {j for part in parts for j in part}
    parts += tuple((j,) for j in range(len(e.feature_names)) if j not in inside)
    known = truth(e.network, every, place, e.target)
    maps = _maps(e, output)
    return _Job(e, output, e.data, held, parts, _asker(e, place), known, maps)


def _asker(e: Explanation, place: int) -> Callable[[Floats], Floats]:
    def ask(x: Floats) -> Floats:
        rows = np.split(x, range(65_536, len(x), 65_536))
        return np.concatenate([e.network(r)[:, place].double().cpu().numpy() for r in rows])

    return ask


def _rules(job: _Job, grown: Search, count: int, shares: Sequence[int]) -> _Rules:
    """At most `count` rules, described and measured."""
    fit: Fit = grown.fit(count, shares)
    e = job.explanation
    levels = getattr(e.network.prepare, "levels", None)
    leaves = described(fit.rules, fit.cuts, e.feature_names, e.groups, levels)
    used = sorted({k for _, k in leaves})
    conditions = [tuple(c for c, k in leaves if k == rule) for rule in used]
    slopes, intercepts = fit.scaling.undo(fit.rules.beta[used])
    ids, needed = assigned(conditions, job.x)
    rows = np.flatnonzero(job.held)
    overall = job.truth.score(said(slopes, intercepts, ids[rows], job.x[rows]), rows)
    own = job.maps.followed(slopes, intercepts)[rows]
    followed = job.truth.score(said(slopes, intercepts, own, job.x[rows]), rows)
    return _Rules(slopes, intercepts, conditions, ids, needed, overall, followed)


def said(slopes: Floats, intercepts: Floats, ids: Ids, x: Floats) -> Floats:
    """(rows,) intercepts[ids] + slopes[ids] . x."""
    return np.asarray(intercepts[ids] + np.einsum("nf,nf->n", slopes[ids], x))


def _pick(found: list[_Rules], max_error: float | None, measure: str) -> _Rules:
    """The fewest rules within max_error, else the most there are."""
    if max_error is None:
        return found[-1]
    errors = [rules.overall.error(measure) for rules in found]
    good = [rules for rules, error in zip(found, errors, strict=True) if error <= max_error]
    if not good:
        k = int(np.argmin(errors))
        raise DataError(
            f"no {counted(len(found[-1].intercepts), 'rule')} or fewer reach max_error="
            f"{max_error:.6g} ({measure}) on held-out rows: the best is {errors[k]:.4g}, with "
            f"{counted(len(found[k].intercepts), 'rule')}; give a larger max_error or max_rules"
        )
    return good[0]


def _cohorts(job: _Job, chosen: _Rules, found: list[_Rules], measure: Measure) -> Cohorts:
    """In order of size; measured on the held-out rows of each."""
    count = len(chosen.intercepts)
    order = np.argsort(-np.bincount(chosen.ids, minlength=count), kind="stable")
    ids = np.argsort(order)[chosen.ids]
    slopes, intercepts = chosen.slopes[order], chosen.intercepts[order]
    mine = [np.flatnonzero(job.held & (ids == k)) for k in range(count)]
    scores = (job.truth.score(said(slopes, intercepts, ids[r], job.x[r]), r) for r in mine)
    return Cohorts(
        job.explanation,
        job.output,
        ids,
        slopes,
        intercepts,
        tuple(chosen.conditions[k] for k in order),
        np.bincount(ids, minlength=count),
        job.held,
        tuple(scores),
        chosen.overall,
        _margins(job.explanation, ids, count),
        _curve(found),
        measure,
    )


def _curve(found: list[_Rules]) -> dict[str, Floats]:
    columns = {
        "rules": [len(r.intercepts) for r in found],
        "conjunctions": [sum(map(len, r.conditions)) for r in found],
        "conditions": [r.needed.mean() for r in found],
    }
    for end, scores in (
        ("", [r.overall for r in found]),
        ("_followed", [r.followed for r in found]),
    ):
        for name, field in (("mean", "mean"), ("p99", "p99"), ("max", "largest")):
            columns[name + end] = [getattr(score, field) for score in scores]
        columns["decisions" + end] = [score.decisions for score in scores]
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def _margins(e: Explanation, ids: Ids, count: int) -> Floats:
    """(cohorts,) the median margin; nan where margins were not asked for, or no row is there."""
    if e.margin is None:
        return np.full(count, np.nan)
    margin = e.margin.scaled.double().cpu().numpy()
    return np.array(
        [np.median(margin[ids == k]) if (ids == k).any() else np.nan for k in range(count)]
    )
