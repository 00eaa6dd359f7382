"""The arithmetic of a census over many machines, in closed form.

Four stages. *Map*: a piece of rows is read, decided, grouped and spilled as one sorted run; a core
takes the next piece when it is free. *Own runs*: each machine merges its runs into one.
*Reduction*: the machines' tables become one, pairwise in a tree, or by ranges of the hash, each
machine one range. *Answer*: patterns are ranked and written, every machine learns the numbers of
its own and writes those of its rows.

A task takes its mean time times a lognormal factor of mean 1 (stragglers). A machine dies at a
constant rate; what ran on it begins again after `restart`, what was finished lies in shared
storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

NORMAL = NormalDist()
EULER = 0.5772156649015329
PARTS = 64  # of a merge: ranges of the hash, each of them kept when it is done


@dataclass(frozen=True)
class Rates:
    """Measured, a core: CPU seconds a row (or distinct pattern), bytes a row (or pattern)."""

    read: float  # s a row: decoding Parquet into rows of float64
    decide: float  # s a row: the forward pass, every gate decided and packed
    group: float  # s a row: sorted by hash, distinct patterns counted
    spill: float  # s a distinct pattern of a run: written
    merge: float  # s a pattern that goes into a merge, in memory
    final: float  # s a distinct pattern: ranked and written
    ids: float  # s a row: its cluster's number
    row_bytes: float  # of Parquet
    pattern_bytes: float  # of a run: bits, count, first row
    id_bytes: float  # of a row's place in its run, spilled
    disk: float  # bytes/s written and flushed, a machine
    start: float  # s until a new process is ready


@dataclass(frozen=True)
class Cluster:
    """Stated, not measured."""

    machines: int
    cores: int = 16
    net: float = 1.25e9  # bytes/s in and as many out, a machine: 10 Gbit/s
    memory: float = 64e9
    dispatch: float = 1e-4  # s a task at the one scheduler
    message: float = 1e-3  # s a message costs its sender, beside its bytes
    sigma: float = 0.3  # of the logarithm of a task's time
    deaths: float = 1 / 86_400  # a machine, a second: one a day
    restart: float = 30.0  # s until a dead machine is replaced
    smallest: int = 1 << 17  # rows of a piece
    largest: int = 1 << 21

    @property
    def workers(self) -> int:
        return self.machines * self.cores


@dataclass(frozen=True)
class Growth:
    """D(n): distinct patterns of n rows. K n^beta, at most n; or n draws from `kinds` patterns."""

    name: str
    k: float = 1.0
    beta: float = 1.0
    kinds: float | None = None

    def __call__(self, n: float) -> float:
        if self.kinds is not None:
            return -self.kinds * math.expm1(-n / self.kinds)
        return min(n, self.k * n**self.beta)


@dataclass(frozen=True)
class Job:
    """A census: so many rows, patterns that grow so, these rates, that cluster."""

    rows: float
    growth: Growth
    rates: Rates
    cluster: Cluster

    @property
    def piece(self) -> int:
        """Rows of a task: 16 tasks a core, within what a run may be."""
        c = self.cluster
        return int(min(max(self.rows / (16 * c.workers), c.smallest), c.largest))

    @property
    def tasks(self) -> int:
        return math.ceil(self.rows / self.piece)

    @property
    def share(self) -> float:
        """Rows a machine."""
        return self.rows / self.cluster.machines

    def map_costs(self) -> dict[str, float]:
        """Seconds a piece takes if one thing alone limited the machine's cores, all at work."""
        r, c, n = self.rates, self.cluster, self.piece
        spilled = self.growth(n)
        written = spilled * r.pattern_bytes + n * r.id_bytes
        return {
            "cores": n * (r.read + r.decide + r.group) + spilled * r.spill,
            "network": n * r.row_bytes * c.cores / c.net,
            "disk": written * c.cores / r.disk,
        }

    @property
    def task(self) -> float:
        """Mean seconds of a piece: what limits it."""
        return max(self.map_costs().values())

    def own_runs(self, rows: float) -> float:
        """Mean seconds to merge the runs of a machine's rows, on all cores or at the disk."""
        r, c = self.rates, self.cluster
        runs = rows / self.piece
        if runs <= 1:
            return 0.0
        patterns, kept = runs * self.growth(self.piece), self.growth(rows)
        cpu = (patterns * r.merge + kept * r.spill) / c.cores
        return max(cpu, (patterns + kept) * r.pattern_bytes / r.disk)

    def pair(self, own: float, other: float) -> float:
        """Mean seconds to receive the table of so many rows, and to merge it with one's own."""
        r, c = self.rates, self.cluster
        mine, theirs = self.growth(own), self.growth(other)
        return theirs * r.pattern_bytes / c.net + (mine + theirs) * r.merge / c.cores

    @property
    def rounds(self) -> list[tuple[int, float, float]]:
        """Of a tree: pairs at once, and the rows of the larger pairs' two halves."""
        found, m, half = [], self.cluster.machines, 1
        while half < m:
            other = half if m >= 2 * half else m - half
            found.append((max(1, m // (2 * half)), half * self.share, other * self.share))
            half *= 2
        return found

    def ranges(self, rows: float) -> tuple[float, float]:
        """Seconds to send one range of a machine's table, and to merge those of all machines."""
        r, c = self.rates, self.cluster
        patterns = self.growth(rows)
        part = patterns / c.machines * r.pattern_bytes / c.net + c.message
        return part, patterns * r.merge / c.cores

    def answer(self, rows: float, tree: bool) -> float:
        """Mean seconds until the patterns are ranked and written, their numbers (8 bytes each) are
        back at a machine, and the number of each of its rows is written."""
        r, c = self.rates, self.cluster
        ranked = self.growth(self.rows) / (1 if tree else c.machines) * r.final / c.cores
        sent = [other for _, _, other in self.rounds] if tree else [rows] * (c.machines > 1)
        back = sum(map(self.growth, sent)) * 8 / c.net
        return ranked + back + max(rows * r.ids / c.cores, 2 * rows * r.id_bytes / r.disk)


def slowest(of: float, sigma: float) -> float:
    """About the mean of the largest of so many lognormal factors of mean 1 (Gumbel's quantile)."""
    if of <= 1 or sigma == 0:
        return 1.0
    return math.exp(sigma * NORMAL.inv_cdf(1 - math.exp(-EULER) / of) - sigma**2 / 2)


def retried(seconds: float, cluster: Cluster, parts: int = 1) -> float:
    """Mean time of work that begins again at its last part when its machine dies.

    One part: (1/l + R)(e^(l d) - 1), with deaths at the rate l and R until there is a new machine.
    """
    rate, each = cluster.deaths, seconds / parts
    if rate == 0:
        return seconds
    return parts * (1 / rate + cluster.restart) * math.expm1(min(rate * each, 700.0))


def together(seconds: float, cluster: Cluster, at_once: float) -> float:
    """Mean time until the last of so many machines has done such work, in PARTS parts."""
    late = seconds * slowest(at_once, cluster.sigma)
    usual = retried(late, cluster, PARTS) - late
    any_dies = -math.expm1(-cluster.deaths * at_once * seconds)
    return late + max(usual, any_dies * (seconds + cluster.restart - late))


def last_residual(workers: int, sigma: float) -> float:
    """How long the last of all workers is still busy when no task is left, in mean task times.

    Renewal theory: P(left > x) = E[(X - x)+] of a lognormal X of mean 1, Black and Scholes' call.
    """

    def left(x: float) -> float:
        d = (-math.log(x) + sigma**2 / 2) / sigma
        return NORMAL.cdf(d) - x * NORMAL.cdf(d - sigma)

    low, high, wanted = 1e-9, 50.0, math.exp(-EULER) / workers
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > wanted else (low, middle)
    return low


def mapped(job: Job) -> float:
    """Seconds of the map, from the start of its processes to its last piece."""
    c, tasks = job.cluster, job.tasks
    mean = retried(job.task, c)
    queue = tasks * c.dispatch
    if tasks <= c.workers:
        return job.rates.start + max(queue, c.dispatch) + mean * slowest(tasks, c.sigma)
    if c.sigma == 0:
        return job.rates.start + max(math.ceil(tasks / c.workers) * mean, queue + mean)
    even = tasks * mean / c.workers
    tail = last_residual(c.workers, c.sigma) - (1 + math.expm1(c.sigma**2)) / 2
    return job.rates.start + max(even + tail * mean, queue + mean)


def reduced(job: Job, tree: bool) -> float:
    """Seconds of the reduction; all machines begin together."""
    c = job.cluster
    if c.machines == 1:
        return 0.0
    if tree:
        return sum(together(job.pair(a, b), c, count) for count, a, b in job.rounds)
    part, merge = job.ranges(job.share)
    return (c.machines - 1) * part + together(merge, c, c.machines)


def stages(job: Job, tree: bool) -> dict[str, float]:
    """Mean seconds of every stage, and of all."""
    c = job.cluster
    found = {
        "map": mapped(job),
        "own runs": together(job.own_runs(job.share), c, c.machines),
        "reduction": reduced(job, tree),
        "answer": together(job.answer(job.share, tree), c, c.machines),
    }
    return found | {"total": sum(found.values())}


def on_ray(job: Job) -> dict[str, float]:
    """Mean seconds as engine="ray" shares the work out today, without luck.

    The runs of all pieces go to at most 64 reducers, in memory, where a pattern is merged about
    twice; one process gathers the answer, ranks it and writes every row's number.
    """
    r, c = job.rates, job.cluster
    reducers, spread = min(PARTS, c.workers), min(PARTS, c.machines)
    patterns, kept = job.tasks * job.growth(job.piece), job.growth(job.rows)
    sent = patterns * r.pattern_bytes / (c.net * spread) if c.machines > 1 else 0.0
    gather = kept * r.pattern_bytes / c.net if c.machines > 1 else 0.0
    found = {
        "map": mapped(job),
        "reduction": max(sent, 2 * patterns * r.merge / reducers),
        "gathered": gather + kept * r.final,
        "rows written": max(job.rows * r.ids, job.rows * r.id_bytes / r.disk),
    }
    return found | {"total": sum(found.values())}


def useful(job: Job, tree: bool) -> int:
    """Machines, a power of two, from which twice as many are not 1.25 times as quick."""
    machines = 1
    while machines < 1 << 20:
        here, twice = (
            stages(replace(job, cluster=replace(job.cluster, machines=m)), tree)["total"]
            for m in (machines, 2 * machines)
        )
        if here < 1.25 * twice:
            break
        machines *= 2
    return machines
