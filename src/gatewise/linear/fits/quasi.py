"""L-BFGS for a logistic or multinomial regression of more unknowns than a Hessian is formed for.

In coordinates φ, θ = φ Cᵀ, where C Cᵀ is the inverse of the Hessian of one class at equal chances:
there the penalty and near collinear columns cost few steps. Strong Wolfe search (Nocedal and Wright
2006, chapters 3 and 7); it ends where no entry of the gradient is above `goal` a row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gatewise.linear.fits.data import Floats
from gatewise.linear.fits.newton import Found, Problem

GOAL = 1e-7  # of the gradient, a row
ENOUGH = 1e-4  # of it, where rounding or the last round ends the search earlier
ROUNDS, STEPS, MEMORY = 60, 25, 20


def minimise(
    problem: Problem,
    start: Floats | None = None,
    watch: Callable[[Floats, Floats], None] | None = None,
    goal: float = GOAL,
) -> Found:
    """The least of f from θ = 0 or `start`; watch(θ, way) may raise after some steps."""
    assert problem.root is not None
    root = torch.from_numpy(problem.root)
    first = np.zeros(problem.shape) if start is None else start
    inverse = np.linalg.inv(problem.root).T
    phi = torch.from_numpy(first @ inverse).requires_grad_()
    search = torch.optim.LBFGS([phi], max_iter=STEPS, history_size=MEMORY, tolerance_grad=0,
                               tolerance_change=0, line_search_fn="strong_wolfe")  # fmt: skip

    def said() -> float:
        value, gradient = problem.both((phi.detach() @ root.T).numpy())
        phi.grad = torch.from_numpy(gradient) @ root
        return value

    theta, value, away = first, np.inf, np.inf
    for _ in range(ROUNDS):
        search.step(said)
        before, theta = theta, (phi.detach() @ root.T).numpy()
        last, (value, gradient) = value, problem.both(theta)
        away = float(np.abs(gradient).max()) / problem.count
        if watch is not None:  # first: the gradient vanishes towards infinity too
            watch(theta, theta - before)
        if away <= goal or not value < last:
            break
    steps = int(search.state[phi].get("n_iter", 0))
    return Found(theta, away, steps, theta - before, away <= max(goal, ENOUGH))
