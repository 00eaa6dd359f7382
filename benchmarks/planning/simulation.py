"""The same census event by event: who takes which piece when, who is slow, who dies, who waits.

Exact about these assumptions, and no others: one scheduler gives out pieces, one at a time; a core
that is free takes the next; a machine's cores, network and disk are shared evenly by its cores, all
at work; outside the map a machine's luck lasts a stage (a slow one is slow throughout); no piece is
begun twice unless its machine died; a machine begins to merge its own runs when its last piece is
done; a sender sends one message at a time, a receiver takes one at a time.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.planning.model import PARTS, Job

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Seconds at which each stage ended for the last machine, and how many pieces were lost."""

    map: float
    own_runs: float
    reduction: float
    total: float
    lost: int


def simulate(job: Job, seed: int = 0) -> dict[bool, Outcome]:
    """One run of the whole census, and its end with a tree (True) or with ranges (False)."""
    rng = np.random.default_rng(seed)
    ready, pieces, lost = _map(job, rng)
    rows = pieces * (job.rows / pieces.sum())
    mapped = float(ready.max())
    ready = ready + _work(job, [job.own_runs(n) for n in rows], rng)
    found = {}
    for tree, reduce in ((True, _tree), (False, _ranges)):
        reduced = reduce(job, ready, rng)
        answered = reduced + _work(job, [job.answer(n, tree) for n in rows], rng).max()
        found[tree] = Outcome(mapped, float(ready.max()), reduced, float(answered), lost)
    return found


def _factors(job: Job, count: int, rng: np.random.Generator) -> Times:
    """Lognormal, mean 1."""
    sigma = job.cluster.sigma
    return np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)


def _work(job: Job, means: list[float], rng: np.random.Generator) -> Times:
    """What work of these mean times takes, one a machine; a death costs the part it was at.

    A part of length d is lost a geometric number of times, each time after an exponential time
    that is cut off at d.
    """
    c, took = job.cluster, np.array(means) * _factors(job, len(means), rng)
    if not c.deaths:
        return took
    part = took / PARTS
    losses = rng.negative_binomial(PARTS, np.exp(-c.deaths * part))
    which = np.repeat(np.arange(len(took)), losses)
    lost = -np.log1p(rng.random(len(which)) * np.expm1(-c.deaths * part[which])) / c.deaths
    return took + np.bincount(which, lost + c.restart, len(took))


class _Deaths:
    """When each machine dies next."""

    def __init__(self, job: Job, rng: np.random.Generator) -> None:
        self.rate, self.rng = job.cluster.deaths, rng
        count = job.cluster.machines
        self.next = rng.exponential(1 / self.rate, count) if self.rate else np.full(count, math.inf)

    def after(self, machine: int, time: float) -> float:
        while self.next[machine] <= time:
            self.next[machine] += self.rng.exponential(1 / self.rate)
        return float(self.next[machine])


def _map(job: Job, rng: np.random.Generator) -> tuple[Times, Times, int]:
    """When each machine's last piece was done, how many it did, and how many deaths took away.

    Events are (time, core) of a core that is free, and (time, -1) of a piece given back.
    """
    c = job.cluster
    deaths = _Deaths(job, rng)
    took = iter(())
    done, count = np.full(c.machines, float(job.rates.start)), np.zeros(c.machines)
    events = [(job.rates.start, core) for core in range(c.workers)]
    waiting, idle, lost, scheduler = job.tasks, [], 0, job.rates.start
    while events:
        now, core = heapq.heappop(events)
        if core < 0:
            waiting += 1
            if not idle:
                continue
            core = idle.pop()
        if not waiting:
            idle.append(core)
            continue
        waiting -= 1
        scheduler = max(now, scheduler) + c.dispatch
        factor = next(took, None)
        if factor is None:
            took = iter(_factors(job, 4096, rng).tolist())
            factor = next(took)
        machine, end = core // c.cores, scheduler + job.task * factor
        dies = deaths.after(machine, scheduler)
        if dies < end:
            lost += 1
            heapq.heappush(events, (dies, -1))
            heapq.heappush(events, (dies + c.restart, core))
        else:
            count[machine] += 1
            done[machine] = max(done[machine], end)
            heapq.heappush(events, (end, core))
    return done, count, lost


def _tree(job: Job, ready: Times, rng: np.random.Generator) -> float:
    """Round by round each second table goes to the one before it, when both are there."""
    at, rows, step = ready.copy(), np.full(len(ready), job.share), 1
    while step < len(at):
        heads = np.arange(0, len(at) - step, 2 * step)
        begin = np.maximum(at[heads], at[heads + step])
        pairs = zip(rows[heads], rows[heads + step], strict=True)
        at[heads] = begin + _work(job, [job.pair(a, b) for a, b in pairs], rng)
        rows[heads] += rows[heads + step]
        step *= 2
    return float(at[0])


def _ranges(job: Job, ready: Times, rng: np.random.Generator) -> float:
    """Machine i sends to i + 1, i + 2, ... in turn; who has all parts of its range merges them."""
    m = len(ready)
    if m == 1:
        return float(ready[0])
    part, merge = job.ranges(job.share)
    sends, takes, own = ready.copy(), np.zeros(m), np.arange(m)
    for k in range(1, m):
        to = (own + k) % m
        end = np.maximum(sends, takes[to]) + part
        sends, takes[to] = end, end
    return float((np.maximum(takes, ready) + _work(job, [merge] * m, rng)).max())
