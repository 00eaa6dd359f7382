"""Times a job beside its floor and its peers, and how a cost grows: one process each.

A benchmark's file says what is run (`Job`, `Curve`), and this one how it is timed: after a first
run, ours, the floor and the peers in turn, round after round, so that all meet the same machine;
medians of the rounds, and of each round's ratios. Memory is how far the resident size rises above
what it was before one run of ours, the answer included.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("quick", "default", "full")
BUDGET = {"quick": 0.6, "default": 2.0, "full": 60.0}  # seconds a job's rounds may take
LEAST = 0.03  # seconds of a sample: what is shorter is run several times
NEAR, ERRORS = 0.15, 2  # a slope holds that is so near what is expected, or within so many errors

Run = Callable[[], object]


class Unavailable(Exception):
    """The job cannot run here: no such device, no such data."""


@dataclass(frozen=True, eq=False)
class Way:
    """One way to do the job: `run` does 1/scale of it."""

    who: str
    run: Run
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Setup:
    """What a job times, its inputs made."""

    ours: Way
    floor: Sequence[Way] = ()  # added up
    peers: Sequence[Way] = ()
    check: Callable[[object], str | None] | None = None  # raises on a wrong answer; a short note
    warm: Run | None = None  # a small run that loads libraries; else ours is run once more
    memory: Callable[[], float] | None = None  # MB, in place of resident memory


@dataclass(frozen=True, eq=False)
class Job:
    """A line of the table; `build` is called in a process of its own."""

    name: str
    build: Callable[[], Setup]
    threads: int = 1
    repeat: int = 5  # rounds, at most
    clock: str = "cpu"  # what ratios are of; "wall" for a device
    headline: str = ""  # what floor / ours is, where the page is to begin with it


@dataclass(frozen=True, eq=False)
class Curve:
    """A cost against a size: seconds of `make(n)()`, or, with measure="value", what it returns.

    The line is fitted to `sizes`; `beyond` are measured and shown as well, so that a reader sees
    what the choice of a range does. `aside` says why they are apart, measured or conjectured.
    """

    name: str
    size: str  # what grows, as on an axis: "rows N"
    sizes: Sequence[float]
    make: Callable[[float], Run]
    expected: float
    why: str
    measure: str = "cpu"  # or "wall", "value"
    unit: str = "s"
    size_of: Callable[[object], float] | None = None  # the size is told by what is returned
    threads: int = 1
    repeat: int = 5
    beyond: Sequence[float] = ()
    aside: str = ""


@dataclass
class Taken:
    """Seconds of one way."""

    who: str
    cpu: float | None = None
    wall: float | None = None
    ratio: float | None = None  # ours over the floor; a peer over ours
    scaled: bool = False
    failed: str | None = None


@dataclass
class Figures:
    """A line of the table, measured."""

    file: str
    name: str
    ours: Taken | None = None
    floor: Taken | None = None
    peers: list[Taken] = field(default_factory=list)
    MB: float | None = None
    rounds: int = 0
    threads: int = 1
    clock: str = "cpu"
    process: float | None = None  # CPU seconds of its process, all told
    took: float | None = None  # seconds by the clock
    note: str = ""
    headline: str = ""
    failed: str | None = None  # why there is no figure


@dataclass
class Slope:
    """A curve, measured: its points, and the line through their logarithms."""

    file: str
    name: str
    size: str
    expected: float
    why: str
    unit: str = "s"
    at: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    slope: float | None = None
    error: float | None = None  # standard error of the slope
    beyond_at: list[float] = field(default_factory=list)  # measured, not fitted
    beyond_cost: list[float] = field(default_factory=list)
    wide: float | None = None  # the slope of all points
    aside: str = ""
    process: float | None = None
    took: float | None = None
    failed: str | None = None

    @property
    def near(self) -> bool:
        """Within NEAR of what is expected."""
        return self.slope is not None and abs(self.slope - self.expected) <= NEAR

    @property
    def holds(self) -> bool:
        """Near, or within ERRORS standard errors."""
        if self.slope is None or self.near:
            return self.near
        return self.error is not None and abs(self.slope - self.expected) <= ERRORS * self.error


# ---------------------------------------------------------------- floors


def gemm(flops: float, width: int, dtype: torch.dtype = torch.float64, rows: int = 4096) -> Way:
    """The FLOPs at the rate of (rows, width) x (width, width)."""
    a, b = torch.randn(rows, width, dtype=dtype), torch.randn(width, width, dtype=dtype)
    out = torch.empty(rows, width, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    scale = flops / (2 * rows * width**2)
    return Way(f"{short(flops)}FLOP as {name} products", lambda: torch.mm(a, b, out=out), scale)


def copying(count: float, block: int = 64 << 20) -> Way:
    """The bytes, read and written together, at the rate of a large copy."""
    source, target = np.ones(block, np.uint8), np.ones(block, np.uint8)
    scale = count / (2 * block)
    return Way(f"{short(count)}B moved", lambda: np.copyto(target, source), scale)


def short(number: float) -> str:
    """2.3e9 is `2.3 G`."""
    step = max(0, min(4, int(math.log10(number) // 3))) if number >= 1 else 0
    return f"{number / 1000**step:.3g} {' kMGT'[step].strip()}"


# ---------------------------------------------------------------- seconds


def spent(run: Run, times: int = 1) -> tuple[float, float]:
    """CPU seconds (of all threads) and wall seconds of one of so many runs."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        run()
    return (time.process_time() - cpu) / times, (time.perf_counter() - wall) / times


class Contender:
    """A way and its samples. What one run shows to be slow is run no more than once or twice."""

    def __init__(self, way: Way, limit: float, first: tuple[float, float] | None = None) -> None:
        self.way, self.samples = way, []
        if first is None:
            first = spent(way.run)
            if first[1] < 4 * max(limit, 1):  # a first run loads and compiles: it is no sample
                first = spent(way.run)
        self.once = first[1] > limit
        if self.once:
            self.samples = [first]
        self.times = max(1, math.ceil(LEAST / max(first[1], 1e-9)))
        self.lasts = 0.0 if self.once else first[1] * self.times

    def turn(self) -> None:
        """One sample more."""
        if not self.once:
            self.samples.append(spent(self.way.run, self.times))

    def seconds(self, clock: str) -> np.ndarray:
        """Of every sample."""
        return np.array(self.samples)[:, int(clock == "wall")] * self.way.scale

    def taken(self, ratio: float | None = None) -> Taken:
        cpu, wall = (float(np.median(self.seconds(c))) for c in ("cpu", "wall"))
        return Taken(self.way.who, cpu, wall, ratio, self.way.scale != 1)


def in_turn(contenders: Sequence[Contender], repeat: int, budget: float) -> int:
    """Samples of all, round after round, while the budget lasts; the number of rounds."""
    lasts = sum(c.lasts for c in contenders)
    rounds = max(1, min(repeat, int(budget / max(lasts, 1e-9))))
    for _ in range(rounds):
        for contender in contenders:
            contender.turn()
    return rounds


def ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Median of a/b round by round; of one sample against many, of the medians."""
    if len(a) == len(b):
        return float(np.median(a / b))
    return float(np.median(a) / np.median(b))


# ---------------------------------------------------------------- memory


def resident(key: str) -> float:
    """VmRSS, or VmHWM, its peak, of this process in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(v for v in lines if v.startswith(key)).split()[1]) * 1024 / 1e6


def tidy() -> None:
    """Garbage collected, and free memory given back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def risen(run: Run) -> tuple[float, tuple[float, float]]:
    """By how many MB the resident size rose while it ran, and its seconds."""
    tidy()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    seconds = spent(run)
    return max(0.0, resident("VmHWM") - before), seconds


# ---------------------------------------------------------------- a job, a curve


def measured(file: str, job: Job, size: str) -> Figures:
    """The figures of a job, in this process. What fails is said in them."""
    torch.set_num_threads(job.threads)
    out = Figures(file, job.name, threads=job.threads, clock=job.clock, headline=job.headline)
    try:
        setup = job.build()
        (setup.warm or setup.ours.run)()
        answer: list[object] = []
        out.MB, first = risen(lambda: answer.append(setup.ours.run()))
        if setup.memory is not None:
            out.MB = setup.memory()
        out.note = (setup.check(answer[0]) or "") if setup.check else ""
        answer.clear()
        timed(out, setup, job, BUDGET[size] * (3 if job.headline else 1), first)
    except Exception as error:  # noqa: BLE001  # any failure is a line of the table
        out.failed = said(error)
    out.process = time.process_time()
    return out


def timed(out: Figures, setup: Setup, job: Job, budget: float, first: tuple[float, float]) -> None:
    """Fill in the seconds and the ratios."""
    ours = Contender(setup.ours, budget, first)
    floor = [Contender(way, budget) for way in setup.floor]
    peers = []
    for way in setup.peers:
        try:
            peers.append(Contender(way, budget / 2))
        except Exception as error:  # noqa: BLE001  # a peer may do anything
            out.peers.append(Taken(way.who, failed=said(error)))
    out.rounds = in_turn([ours, *floor, *peers], job.repeat, budget)
    mine = ours.seconds(job.clock)
    out.ours = ours.taken()
    if floor:
        over = ratio(mine, sum(f.seconds(job.clock) for f in floor))
        parts = [f.taken(over) for f in floor]
        cpu, wall = sum(p.cpu for p in parts), sum(p.wall for p in parts)
        out.floor = Taken(" + ".join(p.who for p in parts), cpu, wall, over)
    out.peers = [p.taken(ratio(p.seconds(job.clock), mine)) for p in peers] + out.peers


def fitted(file: str, curve: Curve, size: str) -> Slope:
    """The points of a curve and its slope, in this process."""
    torch.set_num_threads(curve.threads)
    out = Slope(file, **about(curve))
    try:
        sizes = sorted({*curve.sizes, *curve.beyond})
        runs = [curve.make(n) for n in sizes]
        at = [float(n) for n in sizes]
        if curve.size_of is not None:
            at = [float(curve.size_of(run())) for run in runs]
        points(out, at, costs(runs, curve, BUDGET[size]), [n in curve.sizes for n in sizes])
    except Exception as error:  # noqa: BLE001  # any failure is a line of the table
        out.failed = said(error)
    out.process = time.process_time()
    return out


def about(curve: Curve) -> dict[str, Any]:
    """What a Slope says whether it was measured or not."""
    names = ("name", "size", "expected", "why", "unit", "aside")
    return {name: getattr(curve, name) for name in names}


def points(out: Slope, at: list[float], cost: list[float], inside: list[bool]) -> None:
    """Fill in the points, the line through those inside the range, and the slope of all."""
    out.at, out.cost = list(compress(at, inside)), list(compress(cost, inside))
    outside = [not own for own in inside]
    out.beyond_at, out.beyond_cost = list(compress(at, outside)), list(compress(cost, outside))
    out.slope, out.error = line(np.log(out.at), np.log(out.cost))
    if out.beyond_at:
        out.wide, _ = line(np.log(at), np.log(cost))


def costs(runs: list[Run], curve: Curve, budget: float) -> list[float]:
    """A number a size."""
    if curve.measure == "value":
        return [float(run()) for run in runs]
    runs[0]()
    contenders = [Contender(Way("", run), budget, spent(run)) for run in runs]
    in_turn(contenders, curve.repeat, budget)
    return [float(np.median(c.seconds(curve.measure))) for c in contenders]


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float | None]:
    """Least squares: the slope and its standard error (none of two points)."""
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    left = y - slope * x
    free = len(x) - 2
    return slope, math.sqrt(float(left @ left) / free / float(x @ x)) if free else None


def said(error: BaseException) -> str:
    """An error in one short line."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, Unavailable):
        return f"not here: {lines[0]}"
    return f"{type(error).__name__}: {lines[0][:160]}"


# ---------------------------------------------------------------- what many benchmarks begin with


def perceptron(sizes: Sequence[int], dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A ReLU MLP with torch's default initialisation, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(dtype).requires_grad_(False)


def weights(sizes: Sequence[int]) -> int:
    """Products of one row through a perceptron."""
    return sum(a * b for a, b in pairwise(sizes))


def data_folder(*parts: str) -> Path:
    """A folder or file of the shared data: in GATEWISE_DATA, or ../shared/data."""
    root = Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")
    path = root.joinpath(*parts)
    if not path.exists():
        raise Unavailable(f"no {'/'.join(parts)} in the data folder")
    return path
