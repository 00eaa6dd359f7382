"""Censuses of Parquet tables on disk, beside the forward pass over the same batches in memory.

Rows × 20 normal features, made by stream.py in a temporary folder, through a 20-40-40-1 net in
float64. "1,000 centres": rows lie closely about as many points, so there are few patterns.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

import gatewise as gw
from benchmarks import stream
from benchmarks.measure import Curve, Job, Setup, Way, risen
from gatewise.patterns.observe import default_batch

ROWS = {"quick": 100_000, "default": 1_000_000, "full": 20_000_000}
HELD = 131_072  # rows that lie in memory and are passed again and again


def table(rows: int, centres: int) -> tempfile.TemporaryDirectory:
    """A folder of Parquet files, deleted with what is returned."""
    place = tempfile.TemporaryDirectory(prefix="gatewise-stored-")
    stream.generate(Path(place.name), rows, 500_000, centres)
    return place


def reading(rows: int, centres: int, keep: bool = False) -> Setup:
    """The census of the files; with `keep` in a folder, with the cluster of every row."""
    place, net = table(rows, centres), stream.network()
    batches = torch.randn(HELD, stream.SIZES[0], dtype=torch.float64).split(default_batch(net))
    forward = Way("the forward pass", lambda: [net(x) for x in batches], rows / HELD)

    def ours() -> object:
        with tempfile.TemporaryDirectory() as out:
            where = {"out": Path(out) / "census"} if keep else {}
            found = gw.census(net, Path(place.name), **where)
            assert found.rows == rows
            return len(found), found.counts.sum()

    def right(answer) -> str:
        assert answer[1] == rows, answer
        return f"{answer[0]:,} patterns"

    small = torch.randn(30_000, stream.SIZES[0], dtype=torch.float64)
    return Setup(Way("gatewise", ours), [forward], check=right, warm=lambda: gw.census(net, small))


def jobs(size: str) -> list[Job]:
    n = ROWS[size]
    few = min(n, 2_000_000)
    found = [Job(f"{n:,} rows, nearly all differ", partial(reading, n, 0), repeat=3)]
    if size != "quick":
        words = f"{few:,} rows, every row's cluster written"
        found.append(Job(words, partial(reading, few, 0, True), repeat=3))
    return [*found, Job(f"{few:,} rows, 1,000 centres", partial(reading, few, 1000), repeat=3)]


def growth(size: str) -> list[Curve]:
    k = 1 if size == "quick" else 5
    sizes = [k * n for n in (100_000, 200_000, 400_000, 800_000)][: 3 if k == 1 else 4]

    def seconds(rows: int):
        place, net = table(rows, 1000), stream.network()
        return lambda: gw.census(net, Path(place.name))

    def megabytes(rows: int):
        return lambda: peak(rows)

    why = "patterns and one batch are held"
    return [
        Curve("stored table, rows", "rows N", sizes, seconds, 1.0, "every row passes once"),
        Curve("stored table, memory", "rows N", sizes, megabytes, 0.0, why, "value", "MB"),
    ]


def peak(rows: int) -> float:
    """MB by which a process of its own grows in the census of so many rows about 1,000 points."""
    with table(rows, 1000) as place, ProcessPoolExecutor(1, get_context("spawn")) as other:
        return other.submit(alone, place).result()


def alone(place: str) -> float:
    torch.set_num_threads(1)
    net = stream.network()
    gw.census(net, torch.randn(30_000, stream.SIZES[0], dtype=torch.float64))  # libraries loaded
    return risen(lambda: gw.census(net, Path(place)))[0]
