"""Full-batch gradient descent on thousands of linear chains, x rates, at once.

The data enter through second moments alone, so a step costs the same for ten rows and a billion.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import ModelError, WrongShape
from gatewise.models.checks import is_number, whole
from gatewise.models.study.chains import Chains
from gatewise.models.study.engines import engine
from gatewise.models.study.modes import Modes
from gatewise.models.study.moments import Bowl, Moments
from gatewise.models.study.steps import Rule, StepName

Floats = NDArray[np.float64]
VERDICTS = ("converged", "unfinished", "plateau", "diverged")
RECORDED = ("deviation", "train", "test", "gradient", "learnt")
CHUNK_BYTES = 4 << 20  # of weights and what a step keeps beside them: the caches
ARRIVED = 1e-3  # of var(y): as near to the least loss as that is converged


@dataclass(frozen=True, eq=False)
class Descent:
    """What happened to T trials at K learning rates; everything recorded is (R, K, T).

    steps (R,): when it was recorded; rates (K,); deviation: D = |M - M*| + |C - C*|, summed;
    train, test: mean squared error (test None without test data); gradient: its norm; learnt: how
    many modes of the optimum the chain has (see `Modes`), of modes (T,) that it can have.
    verdicts (K, T): converged, unfinished, plateau or diverged (see `_verdicts`). start and end
    hold K T chains, rate by rate; bowl: the loss that each went down.
    """

    steps: NDArray[np.int64]
    rates: Floats
    deviation: Floats
    train: Floats
    test: Floats | None
    gradient: Floats
    learnt: NDArray[np.int64]
    modes: NDArray[np.int64]
    verdicts: NDArray[np.str_]
    start: Chains
    end: Chains
    bowl: Bowl

    @property
    def escape(self) -> Floats:
        """(K, T) the first recorded step from which on every mode is learnt; infinity: never."""
        missing = self.learnt < self.modes
        last = len(self.steps) - missing[::-1].argmax(0)  # one past the last with a mode missing
        after = np.append(self.steps.astype(float), np.inf)
        return np.asarray(np.where(missing.any(0), after[last], float(self.steps[0])))

    def mean(self, name: str, step: int = -1) -> tuple[Floats, Floats]:
        """(mean, its standard error) over the trials, (K,) each, of what is recorded."""
        held = getattr(self, name, None)
        if name not in RECORDED or held is None:
            there = [n for n in RECORDED if getattr(self, n) is not None]
            raise ModelError(f"there is no record {name!r}: choose one of {', '.join(there)}")
        values = held[step]
        with np.errstate(all="ignore"):  # a single trial has no error; a diverged one no mean
            return values.mean(1), sample_deviation(values) / np.sqrt(values.shape[1])

    def __str__(self) -> str:
        lines = []
        for k, rate in enumerate(self.rates):
            D, error = (float(v[k]) for v in self.mean("deviation"))
            counts = ", ".join(
                f"{(self.verdicts[k] == name).mean():.1%} {name}" for name in VERDICTS
            )
            lines.append(
                f"rate {rate:g}, {self.steps[-1]} steps: D {D:.4f} ± {error:.4f}; {counts}"
            )
        return "\n".join(lines)


def descend(
    start: Chains,
    moments: Moments,
    *,
    lr: float | Sequence[float] = 1e-3,
    steps: int = 10_000,
    optimizer: StepName = "gd",
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    record: Sequence[int] | None = None,
    test: Moments | None = None,
) -> Descent:
    """Train one chain a trial, from `start`, on the mean squared error, at every rate of `lr`.

    optimizer: "gd", "momentum" or "adam", as torch.optim does them. record: the steps to look at,
    0 and the last are always among them; None: 60 of them, evenly on a log scale. Moments of one
    trial serve all chains. All in float64. Where columns are collinear M* is the least one of the
    many, and D need not vanish.
    Raises ModelError for settings, WrongShape where chains and data do not fit. A run that blows
    up ends no other: its verdict is "diverged".
    """
    rates = _rates(lr)
    rule = Rule(optimizer, momentum, betas)
    at = _record(record, steps)
    trials = _fit(start, moments, test)
    bias = start.biases is not None
    bowl, held = (_cases(data, bias, trials * len(rates)) for data in (moments, test or moments))
    begun = start.repeat(trials // len(start) * len(rates))
    modes = Modes.of(bowl, min(start.sizes))
    rate = torch.tensor(rates, dtype=torch.float64).repeat_interleave(trials)
    ends, seen = [], []
    for part in _chunks(len(begun), sum(t[0].numel() for t in begun.tensors())):
        watch = Watch(bowl[part], held[part], modes[part])
        ends.append(_run(begun[part], rate[part], rule, at, watch))
        seen.append(watch.table())
    end = start.like([torch.cat(parts) for parts in zip(*(e.tensors() for e in ends), strict=True)])
    values = np.concatenate(seen, 2).reshape(5, len(at), len(rates), trials)
    return Descent(
        steps=at,
        rates=np.array(rates),
        deviation=values[0],
        train=values[1],
        test=None if test is None else values[2],
        gradient=values[3],
        learnt=values[4].astype(np.int64),
        modes=modes.count[:trials].numpy(),
        verdicts=_verdicts(values[:, -1], modes, bowl, end),
        start=begun,
        end=end,
        bowl=bowl,
    )


def sample_deviation(values: Floats) -> Floats:
    """(K,) over the last axis; NaN of one number."""
    spread = values - values.mean(-1, keepdims=True)
    return np.asarray(np.sqrt(np.square(spread).sum(-1) / np.float64(values.shape[-1] - 1)))


class Watch:
    """Collects what is recorded of some cases: five rows a look."""

    def __init__(self, bowl: Bowl, test: Bowl, modes: Modes) -> None:
        self.bowl, self.test, self.modes = bowl, test, modes
        self.target = modes.target(bowl)
        self.seen: list[Tensor] = []

    def look(self, chains: Chains, gradient: Tensor) -> None:
        """D, train and test error, |gradient|, modes learnt: (5, B)."""
        M, C = chains.map()
        error, held = (b.excess(M, C) + b.least for b in (self.bowl, self.test))
        learnt = self.modes.learnt(M).sum(1).to(torch.float64)
        row = [self.target.deviation(M, C), error, held, gradient, learnt]
        self.seen.append(torch.stack(row))

    def table(self) -> Floats:
        """(5, R, B)."""
        return np.asarray(torch.stack(self.seen, 1).numpy())


def _run(start: Chains, rate: Tensor, rule: Rule, at: NDArray[np.int64], watch: Watch) -> Chains:
    """Every step of some cases; their chains at the end."""
    moving = engine(start, watch.bowl)
    step = rule.stepper(moving.values, moving.per_case(rate))
    taken = 0
    for stop in at:
        for _ in range(taken, stop):
            moving.differentiate()
            step(moving.values, moving.grad)
        taken = int(stop)
        moving.differentiate()
        watch.look(moving.chains(), moving.sizes())
    return moving.chains()


def _verdicts(last: Floats, modes: Modes, bowl: Bowl, end: Chains) -> NDArray[np.str_]:
    """Of each case, by what was recorded last.

    converged: within 0.001 of the best R^2; plateau: a mode is missing; unfinished: none is, and
    there is some way left; diverged: not finite, or a thousand times worse than a constant.
    """
    train, learnt = last[1], last[4]
    least, size, count = (
        t.numpy().reshape(train.shape) for t in (modes.target(bowl).least, bowl.size, modes.count)
    )
    finite = torch.stack([t.flatten(1).isfinite().all(1) for t in end.tensors()]).all(0)
    lost = ~finite.numpy().reshape(train.shape) | ~(train <= 1e3 * size)
    near = train - least <= ARRIVED * size
    verdict = np.where(learnt < count, "plateau", "unfinished")
    return np.where(lost, "diverged", np.where(near, "converged", verdict))


def _chunks(count: int, parameters: int) -> list[slice]:
    """Cases side by side: weights, gradient, and half as much again beside them, fit the cache."""
    size = max(64, CHUNK_BYTES // (8 * 4 * max(1, parameters)))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _rates(lr: float | Sequence[float]) -> list[float]:
    given: list[Any] = list(lr) if isinstance(lr, Sequence | np.ndarray) else [lr]
    if not given or not all(is_number(r) and r > 0 for r in given):
        raise ModelError(f"learning rates are positive, and `lr` is {lr!r}: 1e-3 is usual")
    return [float(r) for r in given]


def _record(record: Sequence[int] | None, steps: int) -> NDArray[np.int64]:
    if not whole(steps, 1):
        raise ModelError(f"`steps` is a whole number from 1, and it is {steps!r}")
    if record is None:
        return np.unique(np.round(np.geomspace(1, steps + 1, 60)).astype(np.int64) - 1)
    try:
        asked = sorted({0, steps, *(operator.index(r) for r in record)})
    except TypeError:
        asked = [-1]
    if asked[0] < 0 or asked[-1] > steps:
        raise ModelError(f"`record` is whole numbers from 0 to `steps` = {steps}, got {record!r}")
    return np.array(asked, np.int64)


def _fit(start: Chains, moments: Moments, test: Moments | None) -> int:
    """The trials, once chains and data are known to go together."""
    for name, value, kind in (("start", start, Chains), ("moments", moments, Moments),
                              ("test", test, Moments | None)):  # fmt: skip
        if not isinstance(value, kind):
            raise ModelError(
                f"`start` is Chains.draw(..), `moments` and `test` are Moments.of(X, y); `{name}` "
                f"is a {type(value).__name__}"
            )
    trials = max(len(start), len(moments))
    for data in (moments, test):
        if data is None:
            continue
        if (data.inputs, data.outputs) != (start.sizes[0], start.sizes[-1]):
            raise WrongShape(
                f"the chains take {start.sizes[0]} inputs to {start.sizes[-1]} outputs, and the "
                f"data have {data.inputs} and {data.outputs}"
            )
        if len(data) not in (1, trials) or len(start) not in (1, trials):
            raise WrongShape(
                f"there are {len(start)} chains and {len(data)} trials: give one of each, or as "
                f"many chains as trials"
            )
    return trials


def _cases(data: Moments, bias: bool, count: int) -> Bowl:
    """The loss of every case: the trials, rate by rate."""
    bowl = data.bowl(bias)
    return bowl.repeat(count // len(bowl))
