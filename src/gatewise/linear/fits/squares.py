"""least_squares, ridge: |y - X w - b|² (+ alpha |w|²) at its least, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.linear.fits import collinear
from gatewise.linear.fits.collinear import Spectrum, spectrum
from gatewise.linear.fits.data import Batches, Floats, batches_of, numbers, require_again
from gatewise.linear.fits.model import LinearModel
from gatewise.linear.fits.moments import Moments, moments_of
from gatewise.tables import counted

GRID = tuple(10.0**k for k in np.arange(-6, 4.01, 0.25))  # of alpha over rows, tried by ridge


def least_squares(
    X: Any,
    y: Any = None,
    *,
    collinear_columns: str = "refuse",
    feature_names: Sequence[str] = (),
) -> LinearModel:
    """min |y - X w - b|²: with standard errors, and with the gradient at the solution measured.

    X, y: a table and its target(s), (rows,) or (rows, targets); or X alone: batches (X, y), or the
    Moments of rows. collinear_columns: "refuse", or "least" for the solution of the least norm (of
    standardised coefficients), whose predictions are the same as those of any other. feature_names:
    of the columns of an array.
    Raises DataError for a constant target, fewer rows than features, collinear columns.
    """
    if collinear_columns not in ("refuse", "least"):
        raise DataError(f"collinear_columns must be 'refuse' or 'least', got {collinear_columns!r}")
    source = _source(X, y, feature_names)
    found = spectrum(source.moments)
    if collinear_columns == "refuse":
        _require_rows(source.moments)
        collinear.require_full_rank(found)
    rank = found.rank
    inverse = np.zeros_like(found.s)
    inverse[:rank] = 1 / found.s[:rank]
    return _model(source, found, inverse[:, None], 0.0, "least squares")


def ridge(
    X: Any,
    y: Any = None,
    *,
    alpha: float | str = 1.0,
    standardise: bool = False,
    feature_names: Sequence[str] = (),
) -> LinearModel:
    """min |y - X w - b|² + alpha |w|², the intercept b free: scikit-learn's Ridge(alpha).

    standardise: |w|² counts coefficients of columns scaled to standard deviation 1 instead.
    alpha: a number from 0, or "loo": the one with the least leave-one-out error, in closed form
    e_i / (1 - h_i), of columns scaled to deviation 1 (it needs the rows, not their Moments).
    Raises DataError for a constant target; collinear columns are no matter while alpha > 0.
    """
    source = _source(X, y, feature_names)
    found = spectrum(source.moments)
    if alpha == "loo":
        return best_ridge(source, found)
    number = penalty(alpha)
    if number == 0:
        return least_squares(X, y, feature_names=feature_names)
    if standardise:
        return _shrunk(source, found, number / source.moments.rows)
    return _raw(source, found, number)


def penalty(alpha: Any) -> float:
    """A number from 0."""
    try:
        number = float(alpha) if not isinstance(alpha, bool | str) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise DataError(f"alpha must be a number from 0, got {alpha!r}")
    return number


@dataclass(frozen=True, eq=False)
class Source:
    """Moments, and the rows again where they are at hand."""

    moments: Moments
    batches: Batches | None


def _source(X: Any, y: Any, names: Sequence[str] = ()) -> Source:
    if isinstance(X, Moments) and y is None:
        source = Source(X, None)
    else:
        batches = batches_of(X, y, names)
        source = Source(moments_of(batches), batches if batches.again else None)
    _require_spread(source.moments)
    return source


def _require_spread(m: Moments) -> None:
    p = m.features
    norm = np.sqrt((m.root[:, p:] ** 2).sum(0))
    flat = np.flatnonzero(norm <= 1e-13 * np.abs(m.mean[p:]) * np.sqrt(m.rows))
    if len(flat):
        which = "the target" if m.targets == 1 else f"target {int(flat[0])} of {m.targets}"
        raise DataError(
            f"{which} is {m.mean[p + flat[0]]:.6g} in all {counted(m.rows, 'row')}, so there is "
            "nothing to fit: give rows in which it differs"
        )


def _require_rows(m: Moments) -> None:
    if m.rows <= m.features:
        raise DataError(
            f"{counted(m.features, 'feature')} and only {counted(m.rows, 'row')}: many fits pass "
            "through all of them, so none is best; give more rows, or use ridge"
        )


def _shrunk(source: Source, found: Spectrum, per_row: float) -> LinearModel:
    """A penalty on coefficients of columns of deviation 1: norm² = rows deviation²."""
    filtered = (found.s / (found.s**2 + per_row))[:, None]
    return _model(source, found, filtered, per_row * source.moments.rows, "ridge")


def _raw(source: Source, found: Spectrum, alpha: float) -> LinearModel:
    """A penalty on coefficients as they are: the root with √alpha below it, in scaled columns."""
    m, kept, scale = source.moments, found.kept, found.scale[found.kept]
    root = m.root[:, kept] / scale
    below = np.diag(np.sqrt(alpha) / scale)
    right = np.vstack([m.root[:, m.features :], np.zeros((len(kept), m.targets))])
    scaled = np.linalg.lstsq(np.vstack([root, below]), right, rcond=None)[0]
    return _finished(source, found, scaled, alpha, np.full(len(kept), alpha), "ridge")


def _model(
    source: Source, found: Spectrum, filters: Floats, alpha: float, kind: Any
) -> LinearModel:
    """scaled coefficients v (filters * uᵀ y)."""
    m = source.moments
    scaled = found.vt.T @ (filters * (found.u.T @ m.root[:, m.features :]))
    penalties = alpha / m.rows * found.scale[found.kept] ** 2
    return _finished(source, found, scaled, alpha, penalties, kind)


def _finished(
    source: Source, found: Spectrum, scaled: Floats, alpha: float, penalties: Floats, kind: Any
) -> LinearModel:
    m, p = source.moments, source.moments.features
    slopes = np.zeros((m.targets, p))
    slopes[:, found.kept] = scaled.T / found.scale[found.kept]
    starts = m.mean[p:] - slopes @ m.mean[:p]
    exact = kind == "least squares" and found.rank == p and m.rows > p + 1
    errors, start_errors = _errors(found, slopes) if exact else (None, None)
    gradient = _gradient(source, slopes, starts)
    gradient[:, found.kept] -= penalties * slopes[:, found.kept]
    return LinearModel(
        kind,
        slopes,
        starts,
        m.names,
        m.rows,
        alpha,
        found.condition,
        _relative(found, gradient),
        errors=errors,
        intercept_errors=start_errors,
        notes=collinear.notes(found, alpha > 0),
    )


def _gradient(source: Source, slopes: Floats, starts: Floats) -> Floats:
    """(targets, features) centred columns times residuals, from the rows where they are at hand."""
    m, p = source.moments, source.moments.features
    if source.batches is None:
        return np.asarray((m.root[:, p:] - m.root[:, :p] @ slopes.T).T @ m.root[:, :p])
    total = np.zeros_like(slopes)
    for x, y, _ in source.batches:
        total += (numbers(y) - x @ slopes.T - starts).T @ (x - m.mean[:p])
    return total


def _relative(found: Spectrum, gradient: Floats) -> float:
    """Over the norms of column and centred target: a cosine, 0 at the solution."""
    m = found.moments
    size = np.sqrt((m.root[:, m.features :] ** 2).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.abs(gradient) / found.scale / size[:, None]
    return float(np.nanmax(np.where(found.scale > 0, parts, 0.0), initial=0.0))


def _errors(found: Spectrum, slopes: Floats) -> tuple[Floats, Floats]:
    """Standard errors σ √diag (XᵀX)⁻¹ of the slopes, and of the intercepts."""
    m, p, kept = found.moments, found.moments.features, found.kept
    rest = m.root[:, p:] - m.root[:, :p] @ slopes.T
    noise = np.sqrt((rest**2).sum(0) / (m.rows - p - 1))
    half = (found.vt.T / found.s) / found.scale[kept][:, None]  # half halfᵀ = (XᵀX)⁻¹
    slope = noise[:, None] * np.sqrt((half**2).sum(1))
    start = noise * np.sqrt(1 / m.rows + ((m.mean[:p] @ half) ** 2).sum())
    return np.asarray(slope), np.asarray(start)


# -- the strength of a ridge --


def best_ridge(source: Source, found: Spectrum) -> LinearModel:
    """The ridge (of standardised columns) with the least leave-one-out error."""
    if source.batches is None:
        raise DataError(
            'alpha="loo" leaves out each row in turn, so it needs the rows and not their Moments: '
            "give the table, or a number as alpha"
        )
    require_again(source.batches, 'alpha="loo"')
    errors = leave_one_out(source, found, GRID)
    return _shrunk(source, found, GRID[int(np.argmin(errors))])


def leave_one_out(source: Source, found: Spectrum, grid: tuple[float, ...]) -> Floats:
    """(grid,) mean squared leave-one-out error e_i / (1 - h_i) for each alpha over rows."""
    m, p, kept = source.moments, source.moments.features, found.kept
    shrink = found.s**2 / (found.s**2 + np.array(grid)[:, None])  # (grid, k)
    left = found.vt.T / np.where(found.s > found.tolerance, found.s, np.inf)
    loads = found.u.T @ m.root[:, p:]  # (k, targets)
    total = np.zeros(len(grid))
    assert source.batches is not None
    for x, y, _ in source.batches:
        u = ((x - m.mean[:p])[:, kept] / found.scale[kept]) @ left
        held = 1 / m.rows + u**2 @ shrink.T  # (rows, grid)
        said = np.einsum("nk,gk,kt->ngt", u, shrink, loads, optimize=True)
        away = (numbers(y) - m.mean[p:])[:, None] - said
        total += ((away / (1 - held)[:, :, None]) ** 2).sum((0, 2))
    return np.asarray(total / m.rows)
