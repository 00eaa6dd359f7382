"""What is compared: the network, the best linear model, its own affine maps, few rules.

Each is fitted on the fitting rows and says scores for the test rows, shaped as the network's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.auditing.measures import squared
from gatewise.auditing.nearest import affine_map, explained, spread
from gatewise.auditing.rows import Part, Question
from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts, cohorts
from gatewise.explain.explanation import Explanation
from gatewise.given.labels import winners
from gatewise.linear.fits.classes import data_of, fit
from gatewise.linear.fits.model import LinearModel
from gatewise.linear.fits.newton import EXACT
from gatewise.linear.fits.squares import ridge
from gatewise.linear.fits.strength import best_alpha, best_alpha_held
from gatewise.tables import counted

Floats = NDArray[np.float64]
Key = Literal["network", "linear", "affine", "regional", "cohorts"]
STRENGTH_ROWS = 4000  # evenly spaced, that choose the penalty of a logistic regression
THIN = 10  # rows an input, below which plain least squares says little of other rows
MAPS = 64  # of the largest clusters, tried on all rows
MAP_ROWS = 4000  # they are tried on, evenly spaced
ROWS_EACH = 50  # test rows of a cohort that is looked at, on average
REGIONAL = "the map of one of its regions, everywhere"
NEAR = 1e-6  # of the gradient, a row: where a fit of many unknowns ends
UNCHOSEN = 1.0  # penalty where rows are too few to choose one


@dataclass(frozen=True, eq=False)
class Contender:
    """scores (test rows, outputs); rules: affine maps in use; how: it was made."""

    key: Key
    name: str
    rules: int
    how: str
    scores: Floats


def linear_model(q: Question) -> tuple[LinearModel, str]:
    """The best linear model of the target, and how its penalty was chosen."""
    x, values = q.fit.x, q.fit.truth.values
    if not q.classes:
        found = ridge(x, values, alpha="loo", feature_names=q.names)
        return found, f"penalty {found.alpha:.3g}, by leave-one-out in closed form"
    alpha, how = _strength(q)
    data = data_of(x, values, "an audit", q.names)
    outputs = 1 if len(q.classes) == 2 else len(data.classes)
    return fit(data, alpha, True, outputs, goal=NEAR)[0], how


def _strength(q: Question) -> tuple[float, str]:
    rows = spread(len(q.fit), STRENGTH_ROWS)
    x, values = q.fit.x[rows], q.fit.truth.values[rows]
    outputs = 1 if len(q.classes) == 2 else len(np.unique(values))
    large = outputs * (x.shape[1] + 1) > EXACT
    try:
        if large:
            alpha = best_alpha_held(x, values, outputs)
        else:
            alpha = best_alpha(data_of(x, values), outputs)
    except DataError as why:
        return UNCHOSEN, f"penalty {UNCHOSEN:g}, not chosen ({why})"
    by = "a fifth of the rows held out" if large else "leave-one-out"
    part = "" if len(rows) == len(q.fit) else f" on {len(rows):,} rows"
    return alpha, f"penalty {alpha:.3g}, by {by}{part}"


def said(model: LinearModel, q: Question, x: Floats) -> Floats:
    """Scores of a linear model; a class it never saw gets the least chance of all by far."""
    found = x @ model.coefficients.T + model.intercepts
    if len(q.classes) <= 2:
        return np.asarray(found)
    whole = np.repeat(found.min(1, keepdims=True) - 30, len(q.classes), 1)
    whole[:, [int(k) for k in model.classes]] = found
    return whole


def linear_name(q: Question) -> str:
    """What the linear model is called."""
    if not q.classes:
        return "a ridge regression"
    return "a logistic regression" if len(q.classes) == 2 else "a multinomial regression"


def affine(q: Question) -> Contender:
    """The one affine map nearest to the network's outputs on the fitting rows."""
    thin = len(q.fit) < THIN * q.fit.x.shape[1]
    slopes, starts = affine_map(q.fit.x, q.fit.scores, thin)
    scores = q.test.x @ slopes.T + starts
    by = ", with a penalty by leave-one-out" if thin else ""
    how = f"least squares to the network's outputs{by}"
    return Contender("affine", "its own best affine map", 1, how, scores)


def regional(q: Question) -> Iterator[Contender]:
    """Of the maps of the largest clusters, the one that is best everywhere on the fitting rows."""
    found = best_region(q)
    if found is not None:
        slopes, starts, how = found
        scores = q.test.x @ slopes.T + starts
        yield Contender("regional", REGIONAL, 1, how, scores)


def best_region(q: Question) -> tuple[Floats, Floats, str] | None:
    """Slopes and intercepts of that map, and which it is; None where there are no two regions."""
    e = q.explanation
    if e is None or e.clusters < 2:
        return None
    count = min(MAPS, e.clusters)
    rows = spread(len(q.fit), MAP_ROWS)
    part = q.fit.take(rows)
    slopes, starts = e.coefficients[:count], e.intercepts[:count]
    errors = [
        float(squared(part.truth, part.x @ w.T + b).mean())
        for w, b in zip(slopes, starts, strict=True)
    ]
    best = int(np.argmin(errors))
    how = f"cluster {best}, the best of the {counted(count, 'largest cluster')} on fitting rows"
    return slopes[best], starts[best], how


def rules(
    q: Question, counts: Sequence[int], seed: int, notes: list[str]
) -> tuple[list[Contender], Cohorts | None]:
    """The network in k rules, for each k; and cohorts to look at one by one.

    Those are leaves of a plain tree, so that each has one short condition, and few enough to hold
    some `ROWS_EACH` test rows on average.
    """
    e, found = q.explanation, list[Contender]()
    if e is None or not counts:
        return found, None
    shown = max(1, min(max(counts), len(q.test) // ROWS_EACH))
    try:
        if len(q.classes) <= 2:
            found = _few(q, e, sorted(set(counts)), seed)
        places = cohorts(e, output=_output(q), max_rules=shown, conjunctions=1, seed=seed)
        places.assign(q.test.x)
        if len(q.classes) > 2:
            notes.append(_of_one_output(q, e))
    except DataError as why:
        notes.append(f"no cohorts: {why}")
        return found, None
    return found, places


def _few(q: Question, e: Explanation, counts: Sequence[int], seed: int) -> list[Contender]:
    found: list[Contender] = []
    for k in counts:
        here = cohorts(e, max_rules=k, seed=seed)
        if not found or found[-1].rules < len(here):
            name = f"its rules, {len(here)}" if len(here) > 1 else "its rules, one"
            scores = here.predict(q.test.x)[:, None]
            found.append(Contender("cohorts", name, len(here), "cohorts of the network", scores))
    return found


def _output(q: Question) -> int:
    """Whose cohorts: the one there is, or that of the commonest class."""
    if len(q.classes) <= 2:
        return 0
    return int(np.bincount(q.fit.truth.values.astype(np.int64)).argmax())


def _of_one_output(q: Question, e: Explanation) -> str:
    name = e.output_names[_output(q)]
    return f"cohorts are of one output ('{name}' here), so few rules are not compared"


def network(q: Question) -> Contender:
    """The network itself."""
    e = q.explanation
    regions = 0 if e is None else e.clusters
    return Contender("network", "the network", regions, "as it is", q.test.scores)


def agreement(q: Question, scores: Floats) -> tuple[float, float]:
    """Of scores with the network's on the test rows: share of variance explained, of decisions."""
    share = explained(q.test.scores, scores)
    return share, _same(q.test, scores) if q.classes else float("nan")


def _same(part: Part, scores: Floats) -> float:
    return float((winners(part.scores) == winners(scores)).mean())
