"""logistic, multinomial: the linear model of classes: Σ -log p(y_i | x_i) + ½ alpha |w|².

scikit-learn's LogisticRegression(C=1/alpha), the intercepts free. Without a penalty it is maximum
likelihood, which has no finite answer where a hyperplane parts the classes: that is found and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, Diverged
from gatewise.given.labels import column_of
from gatewise.linear.fits import collinear, newton, quasi
from gatewise.linear.fits.collinear import Spectrum, spectrum
from gatewise.linear.fits.data import Batches, Floats, Ids, batches_of, codes, require_again
from gatewise.linear.fits.model import LinearModel
from gatewise.linear.fits.moments import Moments, of_rows
from gatewise.linear.fits.newton import Found, Problem
from gatewise.linear.fits.squares import penalty
from gatewise.tables import counted, listed

SUSPECT = 12  # Newton steps after which a direction along which f only falls is looked for


def logistic(
    X: Any,
    y: Any = None,
    *,
    alpha: float | str = 1.0,
    standardise: bool = False,
    feature_names: Sequence[str] = (),
) -> LinearModel:
    """Two classes: log odds = X w + b, Σ log(1 + e^∓score) + ½ alpha |w|² at its least.

    X, y: a table and its labels (text or numbers; the second in order is "yes"), or batches (X, y)
    that can be gone through again. standardise: |w|² counts coefficients of columns of deviation 1.
    alpha 0: with standard errors, from the inverse Hessian; "loo": the strongest penalty (of
    standardised columns) within a thousandth of the least leave-one-out log loss, each row left out
    by one Newton step.
    Raises DataError for one class or more than two; without a penalty for collinear columns, fewer
    rows than features, and classes that a hyperplane parts.
    """
    data = data_of(X, y, "logistic", feature_names)
    if len(data.classes) > 2:
        raise DataError(
            f"logistic tells two classes apart, and y holds {len(data.classes)} "
            f"({listed(data.classes.tolist())}): use multinomial"
        )
    return _fitted(data, alpha, standardise, 1)


def multinomial(
    X: Any,
    y: Any = None,
    *,
    alpha: float | str = 1.0,
    standardise: bool = False,
    feature_names: Sequence[str] = (),
) -> LinearModel:
    """Classes: logits = X Wᵀ + b, -Σ log softmax at the true class + ½ alpha |W|² at its least.

    One row of coefficients a class, also of two; the intercepts (and without a penalty the
    coefficients) sum to 0 over classes. The rest as for `logistic`.
    """
    data = data_of(X, y, "multinomial", feature_names)
    return _fitted(data, alpha, standardise, len(data.classes))


def _fitted(data: Data, alpha: float | str, standardise: bool, outputs: int) -> LinearModel:
    if alpha == "loo":
        from gatewise.linear.fits.strength import best_alpha  # which needs this file

        return fit(data, best_alpha(data, outputs), True, outputs)[0]
    return fit(data, penalty(alpha), standardise, outputs)[0]


@dataclass(frozen=True, eq=False)
class Data:
    """Batches, the moments of their columns, and the classes in order with their sizes."""

    batches: Batches
    found: Spectrum
    classes: NDArray[Any]
    sizes: Ids

    @property
    def moments(self) -> Moments:
        return self.found.moments

    @property
    def deviation(self) -> Floats:
        """(features,) standard deviations, 1 for constant columns."""
        spread = self.found.scale / np.sqrt(self.moments.rows)
        return np.asarray(np.where(spread > 0, spread, 1.0))


def data_of(X: Any, y: Any, what: str = "logistic", names: Sequence[str] = ()) -> Data:
    """One pass over the rows: moments of the columns, and the classes."""
    batches = batches_of(X, y, names)
    require_again(batches, what)
    whole: Moments | None = None
    seen: Counter[Any] = Counter()
    for x, given, columns in batches:
        part = of_rows(x, np.zeros((len(x), 0)), columns)
        whole = part if whole is None else whole.merge(part)
        seen.update(column_of(given, len(given)).tolist())
    assert whole is not None  # no batch at all is refused by `batches_of`
    classes = np.array(sorted(seen)) if len({type(v) is str for v in seen}) == 1 else None
    if classes is None:
        raise DataError("some batches hold labels as text and others as numbers: give one kind")
    if len(classes) < 2:
        raise DataError(
            f"all {whole.rows} labels are {classes.tolist()[0]!r}, so nothing is told apart: "
            "give rows of at least two classes"
        )
    sizes = np.array([seen[v] for v in classes.tolist()])
    return Data(batches, spectrum(whole), classes, sizes)


def fit(
    data: Data,
    alpha: float,
    standardise: bool,
    outputs: int,
    start: Floats | None = None,
    goal: float = quasi.GOAL,
) -> tuple[LinearModel, Problem, Found]:
    """The model, and what it was found by; start: θ of an earlier fit; goal: see `quasi`."""
    if alpha == 0:
        _require_unique(data)
    problem = problem_of(data, alpha, standardise, outputs)
    watch = None if alpha else _Watch(problem, data, outputs)
    if problem.root is None:
        way, found = "Newton's method", newton.minimise(problem, start, watch)
    else:
        way, found = "L-BFGS", quasi.minimise(problem, start, watch, goal)
    if not found.settled:
        raise Diverged(
            f"{way} did not settle in {counted(found.steps, 'step')}: the gradient is "
            f"{found.residual:.2g} a row. Standardise the columns, or give a larger alpha"
        )
    return _model(data, problem, found, alpha), problem, found


def problem_of(data: Data, alpha: float, standardise: bool, outputs: int) -> Problem:
    """In columns of mean 0 and deviation 1, with the penalty that alpha is of the raw ones."""
    mean, deviation = data.moments.mean, data.deviation

    known: list[Ids] = []  # labels are looked up once

    def rows() -> Iterator[tuple[Floats, Ids]]:
        for place, (x, y, _) in enumerate(data.batches):
            if place == len(known):
                known.append(codes(y, data.classes))
            z = np.empty((len(x), x.shape[1] + 1))
            np.subtract(x, mean, out=z[:, :-1])
            z[:, :-1] /= deviation
            z[:, -1] = 1
            yield z, known[place]

    each = np.full(len(mean), alpha) if standardise else alpha / deviation**2
    constant = data.found.scale == 0  # 0 + rounding: nothing may hang on it
    each = np.where(constant, max(alpha, 1.0) * data.moments.rows, each)
    ridge = np.append(each, 0.0)
    large = outputs * len(ridge) > newton.EXACT
    root = _root(data, ridge, max(outputs, 2)) if large else None
    return Problem(rows, data.moments.rows, ridge, outputs, root)


def _root(data: Data, ridge: Floats, classes: int) -> Floats:
    """C of `quasi`: C Cᵀ the inverse of ZᵀZ (k - 1) / k² + the penalty."""
    root = data.moments.root / data.deviation
    whole = np.zeros((len(ridge), len(ridge)))
    whole[:-1, :-1] = root.T @ root
    whole[-1, -1] = data.moments.rows
    size, way = np.linalg.eigh((classes - 1) / classes**2 * whole + np.diag(ridge))
    return np.asarray(way / np.sqrt(np.maximum(size, 1e-12 * size.max())))


def _require_unique(data: Data) -> None:
    m = data.moments
    if m.rows <= m.features:
        raise DataError(
            f"{counted(m.features, 'feature')} and only {counted(m.rows, 'row')}: a hyperplane "
            "parts any labels of these; give more rows, or a penalty alpha > 0"
        )
    collinear.require_full_rank(data.found)


def _model(data: Data, problem: Problem, found: Found, alpha: float) -> LinearModel:
    """Back in raw units."""
    m, deviation = data.moments, data.deviation
    theta = found.theta - (found.theta.mean(0) if problem.outputs > 1 else 0)
    slopes = np.where(data.found.scale > 0, theta[:, :-1] / deviation, 0.0)
    starts = theta[:, -1] - slopes @ m.mean
    exact = alpha == 0 and problem.outputs == 1 and problem.root is None
    errors, start_errors = _errors(data, problem, found) if exact else (None, None)
    return LinearModel(
        "logistic" if problem.outputs == 1 else "multinomial",
        slopes,
        starts,
        m.names,
        m.rows,
        alpha,
        data.found.condition,
        found.residual,
        found.steps,
        tuple(data.classes.tolist()),
        errors,
        start_errors,
        collinear.notes(data.found, alpha > 0),
    )


def _errors(data: Data, problem: Problem, found: Found) -> tuple[Floats, Floats]:
    """√diag of the inverse Hessian, carried over to raw units."""
    size = found.theta.size
    inverse = np.linalg.inv(problem.hessian(found.theta).reshape(size, size))
    slope = np.sqrt(inverse.diagonal()[:-1]) / data.deviation
    way = np.append(-data.moments.mean / data.deviation, 1.0)
    return slope[None], np.sqrt([way @ inverse @ way])


# -- classes that a hyperplane parts --


class _Watch:
    """Looks, on the way, for a direction along which the likelihood only grows (a builder)."""

    def __init__(self, problem: Problem, data: Data, outputs: int) -> None:
        self.problem, self.data, self.outputs, self.steps = problem, data, outputs, 0

    def __call__(self, theta: Floats, step: Floats) -> None:
        self.steps += 1
        if theta.any() and self._least(theta)[0] > 0:
            raise self._parted(theta, "all")
        if self.steps > SUSPECT:
            least, most = self._least(step)
            if most > 0 and least >= -1e-6 * most:
                raise self._parted(step, "some")

    def _least(self, theta: Floats) -> tuple[float, float]:
        """Smallest and largest margin: by how much the true class is ahead of each other one."""
        low, high = np.inf, -np.inf
        for z, y in self.problem.rows():
            scores = z @ theta.T
            if self.outputs == 1:
                margins = np.where(y == 1, 1, -1)[:, None] * scores
            else:
                rows = np.arange(len(y))
                margins = scores[rows, y][:, None] - scores
                margins[rows, y] = margins[rows].max(1)
            low, high = min(low, float(margins.min())), max(high, float(margins.max()))
        return low, high

    def _parted(self, theta: Floats, which: str) -> DataError:
        size = np.abs(theta[:, :-1]).max(0)
        order = [j for j in np.argsort(-size, kind="stable") if size[j] > 0.1 * size.max()][:5]
        names = listed([f"'{self.data.moments.names[j]}'" for j in order])
        what = "all rows" if which == "all" else "some rows and touches the others"
        kind = "perfectly" if which == "all" else "partly"
        return DataError(
            f"the classes are {kind} separable: a hyperplane (mostly of {names}) parts them on "
            f"{what}, so the coefficients of maximum likelihood are infinite; give a penalty "
            "alpha > 0"
        )
