"""Newton's method for penalised logistic and multinomial regression, a batch of rows at a time.

f(θ) = Σ -log p(y_i) + ½ Σ ridge_j θ_kj² in standardised columns z, an intercept last. One row of θ
is the log odds of the second of two classes; more are one logit a class, which stay centred over
classes. For Hessians that are small; `quasi` has what to do with others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gatewise.linear.fits.data import Floats, Ids
from gatewise.linear.fits.model import probabilities

EXACT = 1200  # unknowns of a Hessian that is formed and solved
STEPS = 200
DONE = 1e-18  # of f: the Newton decrement after which one step more is below rounding
HALVINGS = 40

Rows = Callable[[], Iterator[tuple[Floats, Ids]]]


@dataclass(frozen=True, eq=False)
class Problem:
    """rows(): batches of z (rows, columns), the ones last, and codes; outputs: rows of θ.

    root: C of `quasi`; None where the Hessian is small, and solved.
    """

    rows: Rows
    count: int
    ridge: Floats
    outputs: int
    root: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.outputs, len(self.ridge)

    def value(self, theta: Floats) -> float:
        """f(θ)."""
        total = 0.5 * float((self.ridge * theta**2).sum())
        return total + sum(_loss(z @ theta.T, y) for z, y in self.rows())

    def gradient(self, theta: Floats) -> Floats:
        """∇f, shaped like θ."""
        return self.both(theta)[1]

    def both(self, theta: Floats) -> tuple[float, Floats]:
        """f(θ) and ∇f, in one pass."""
        total, slope = 0.5 * float((self.ridge * theta**2).sum()), self.ridge * theta
        for z, y in self.rows():
            scores = z @ theta.T
            total += _loss(scores, y)
            slope = slope + _excess(scores, y).T @ z
        return total, np.asarray(slope)

    def hessian(self, theta: Floats) -> Floats:
        """(outputs, columns, outputs, columns); definite: a shift of all logits counts too."""
        k, m = self.shape
        total = np.zeros((k, m, k, m))
        for z, _ in self.rows():
            p = chances(z @ theta.T)
            for a in range(k):
                for b in range(a, k):
                    weight = p[:, a] * ((a == b) - p[:, b])
                    block = z.T @ (weight[:, None] * z)
                    total[a, :, b] += block
                    if a != b:
                        total[b, :, a] += block.T
        for a in range(k):
            total[a, :, a] += np.diag(self.ridge)
        if k > 1:
            total += self._shift()[None, :, None] * np.eye(m)[None, :, None, :]
        return total

    def _shift(self) -> Floats:
        """(columns, 1) what a shift of all logits is worth: of the size of the rest."""
        return np.full((len(self.ridge), 1), self.count / self.outputs**2)


@dataclass(frozen=True, eq=False)
class Found:
    """θ, the gradient there over the rows, Newton steps, the last step, and did it settle?"""

    theta: Floats
    residual: float
    steps: int
    last: Floats
    settled: bool


def minimise(
    problem: Problem,
    start: Floats | None = None,
    watch: Callable[[Floats, Floats], None] | None = None,
) -> Found:
    """The least of f from θ = 0 or `start`; watch(θ, step) may raise on the way."""
    theta = np.zeros(problem.shape) if start is None else start.copy()
    value, step, last = problem.value(theta), np.zeros(problem.shape), False
    count = 0
    while count < STEPS:
        count += 1
        gradient = problem.gradient(theta)
        step = -solve(problem, theta, gradient)
        decrement = -float((gradient * step).sum())
        if watch is not None:
            watch(theta, step)
        last = decrement <= DONE * max(value, 1e-300)
        theta, after, moved = _along(problem, theta, step, value, decrement)
        if last or not moved:
            break
        value = after
    residual = float(np.abs(problem.gradient(theta)).max()) / problem.count
    return Found(theta, residual, count, step, last or residual < 1e-10)


def _along(
    problem: Problem, theta: Floats, step: Floats, value: float, decrement: float
) -> tuple[Floats, float, bool]:
    """θ moved by the step, or by a half, a quarter ... of it, until f falls enough."""
    room = 1e-13 * abs(value)  # near the end f changes by less than it rounds
    for halving in range(HALVINGS):
        part = 0.5**halving
        there = theta + part * step
        after = problem.value(there)
        if after <= value - 1e-4 * part * decrement + room:
            return there, after, True
    return theta, value, False


def solve(problem: Problem, theta: Floats, gradient: Floats) -> Floats:
    """The Hessian's inverse times the gradient."""
    size = gradient.size
    whole = problem.hessian(theta).reshape(size, size)
    scale = np.sqrt(np.maximum(whole.diagonal(), 1e-300))
    flat = gradient.reshape(-1) / scale
    scaled = whole / scale / scale[:, None]
    try:
        found = np.linalg.solve(scaled, flat)
    except np.linalg.LinAlgError:
        found = np.linalg.lstsq(scaled, flat, rcond=None)[0]
    return np.asarray((found / scale).reshape(gradient.shape))


def chances(scores: Floats) -> Floats:
    """(rows, outputs) of yes, of one column of log odds; else of every class."""
    return probabilities(scores)[:, -scores.shape[1] :]


def _loss(scores: Floats, y: Ids) -> float:
    if scores.shape[1] == 1:
        return float(np.logaddexp(0, np.where(y == 1, -1, 1) * scores[:, 0]).sum())
    top = scores.max(1)
    whole = top + np.log(np.exp(scores - top[:, None]).sum(1))
    return float((whole - scores[np.arange(len(y)), y]).sum())


def _excess(scores: Floats, y: Ids) -> Floats:
    """(rows, outputs) chance minus truth."""
    p = chances(scores)
    if p.shape[1] == 1:
        return p - y[:, None]
    p[np.arange(len(y)), y] -= 1
    return p
