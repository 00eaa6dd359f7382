"""The penalty of a logistic or multinomial fit by leave-one-out, without fitting anew for each row;
of one of many unknowns by rows held out.

One Newton step from the whole fit leaves row i out: with A_i = Z_i H⁻¹ Z_iᵀ, Λ_i the curvature and
g_i = p_i - y_i of the row, its scores become η_i + A_i (1 - Λ_i A_i)⁻¹ g_i (Rad and Maleki 2020).
Exact for least squares; for classes good to the square of a row's influence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.linear.fits.classes import Data, data_of, fit
from gatewise.linear.fits.data import Floats, Ids, codes
from gatewise.linear.fits.newton import EXACT, Problem, chances

GRID = tuple(10.0**k for k in np.arange(4, -3.01, -0.5))  # of columns of deviation 1
FLAT = 1e-3  # of a loss: no difference
HELD = 0.2  # of the rows, where leaving each out takes too long
ROUGH = 1e-4  # of the gradient, a row: as exact as losses are compared


def best_alpha(data: Data, outputs: int) -> float:
    """The penalty of standardised columns, by approximate leave-one-out log loss.

    The strongest that comes within a thousandth of the least: with rare levels as columns the loss
    is flat towards 0.
    """
    size = outputs * (data.moments.features + 1)
    if size > EXACT:
        raise DataError(
            f'alpha="loo" solves with a Hessian of {size} unknowns, and {EXACT} is the most: give '
            "a number as alpha"
        )
    losses, start = [], None
    for alpha in GRID:
        _, problem, found = fit(data, alpha, True, outputs, start)
        start = found.theta
        losses.append(leave_one_out(problem, start))
    return _strongest(losses)


def _strongest(losses: list[float]) -> float:
    """Of a grid from the strongest on, the first whose loss is near the least."""
    near = np.array(losses) <= (1 + FLAT) * min(losses)
    return float(GRID[int(near.argmax())])


def best_alpha_held(x: Floats, y: NDArray[Any], outputs: int, seed: int = 0) -> float:
    """The penalty of standardised columns, by the log loss of a fifth of the rows, drawn by seed.

    Each fit begins where that of the next stronger penalty ended; two losses in a row above the
    least end the search.
    """
    held = np.random.default_rng(seed).permutation(len(x)) < HELD * len(x)
    data = data_of(x[~held], y[~held])
    outputs = min(outputs, len(data.classes))
    known = held & np.isin(y, data.classes)
    if not known.any():
        raise DataError("no row that is held out is of a class that others have")
    truth = codes(y[known], data.classes)
    losses, start = list[float](), None
    for alpha in GRID:
        model, _, found = fit(data, alpha, True, outputs, start, ROUGH)
        start = found.theta
        losses.append(float(_losses(model.scores(x[known]), truth).mean()))
        if min(losses[-2:]) > min(losses):
            break
    return _strongest(losses)


def leave_one_out(problem: Problem, theta: Floats) -> float:
    """Mean log loss of each row under the fit to all others, to one Newton step."""
    k, m = problem.shape
    inverse = np.linalg.inv(problem.hessian(theta).reshape(k * m, k * m)).reshape(k, m, k, m)
    total = 0.0
    for z, y in problem.rows():
        scores = z @ theta.T
        blocks = np.empty((len(z), k, k))
        for a in range(k):
            for b in range(k):
                blocks[:, a, b] = ((z @ inverse[a, :, b]) * z).sum(1)
        total += float(_losses(_without(scores, y, blocks), y).sum())
    return float(total / problem.count)


def _without(scores: Floats, y: Ids, blocks: Floats) -> Floats:
    """The scores of each row with it left out."""
    p = chances(scores)
    k = p.shape[1]
    if k == 1:
        curved = (p * (1 - p))[:, :, None]
        excess = p - y[:, None]
    else:
        curved = p[:, :, None] * (np.eye(k) - p[:, None])
        excess = p - (y[:, None] == np.arange(k))
    inner = np.eye(k) - curved @ blocks
    return np.asarray(scores + (blocks @ np.linalg.solve(inner, excess[:, :, None]))[:, :, 0])


def _losses(scores: Floats, y: Ids) -> Floats:
    """(rows,) -log of the chance of the truth."""
    if scores.shape[1] == 1:
        return np.asarray(np.logaddexp(0, np.where(y == 1, -1, 1) * scores[:, 0]))
    return np.asarray(np.logaddexp.reduce(scores, 1) - scores[np.arange(len(y)), y])
