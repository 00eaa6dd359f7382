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
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.reading import blocks

ROWS = {"quick": 100_000, "default": 2_000_000, "full": 20_000_000}
FEW = {"quick": 100_000, "default": 500_000, "full": 2_000_000}  # of the other jobs
HELD = 131_072  # rows that lie in memory and are passed again and again
PASSES = 8  # of them a sample, at most


def table(rows: int, centres: int) -> tempfile.TemporaryDirectory:
    """A folder of Parquet files, deleted with what is returned."""
    place = tempfile.TemporaryDirectory(prefix="gatewise-stored-")
    stream.generate(Path(place.name), rows, 500_000, centres)
    return place


def counting(rows: int, centres: int, keep: bool = False) -> Setup:
    """The census of the files; with `keep` in a folder, with the cluster of every row."""
    place, net = table(rows, centres), stream.network()
    batches = torch.randn(HELD, stream.SIZES[0], dtype=torch.float64).split(default_batch(net))
    passes = max(1, min(PASSES, rows // HELD))
    forward = Way(
        "the forward pass over the same batches in memory",
        lambda: [net(x) for _ in range(passes) for x in batches],
        rows / HELD / passes,
    )

    def ours() -> object:
        with tempfile.TemporaryDirectory() as out:
            where = {"out": Path(out) / "census"} if keep else {}
            found = gw.census(net, Path(place.name), **where)
            assert found.rows == rows
            return len(found), found.counts.sum()

    def reading() -> None:
        files = table_of(Path(place.name), net.feature_names, net.inputs)
        assert sum(len(block) for block in blocks(files)) == rows

    def right(answer) -> str:
        assert answer[1] == rows, answer
        return f"{answer[0]:,} patterns"

    small = table(30_000, 0)  # loads the compiled kernels
    return Setup(
        Way("gatewise", ours),
        [forward],
        [Way("reading, a part of ours", reading)],
        right,
        lambda: gw.census(net, Path(small.name)),
    )


def jobs(size: str) -> list[Job]:
    many, few = ROWS[size], FEW[size]
    name = f"census of a stored table, {many:,} rows"
    rate = "of the rate of the forward pass over the same batches in memory"
    found = [Job(name, partial(counting, many, 0), headline=rate)]
    if size != "quick":
        words = f"{few:,} rows, every row's cluster written"
        found.append(Job(words, partial(counting, few, 0, True), repeat=3))
    return [*found, Job(f"{few:,} rows, 1,000 centres", partial(counting, few, 1000), repeat=3)]


def growth(size: str) -> list[Curve]:
    k, few = (1, []) if size == "quick" else (10, [100_000, 300_000])
    sizes = [k * n for n in (100_000, 200_000, 400_000)]

    def seconds(rows: int):
        place, net = table(rows, 1000), stream.network()
        return lambda: gw.census(net, Path(place.name))

    def megabytes(rows: int):
        return lambda: peak(rows)

    why, held = "every row passes once", "patterns and one batch are held"
    return [
        Curve("stored table, rows", "rows N", sizes, seconds, 1.0, why, beyond=few),
        Curve("stored table, memory", "rows N", sizes, megabytes, 0.0, held, "value", "MB",
              beyond=few[:1]),
    ]  # fmt: skip


def peak(rows: int) -> float:
    """MB by which a process of its own grows in the census of so many rows about 1,000 points."""
    with table(rows, 1000) as place, ProcessPoolExecutor(1, get_context("spawn")) as other:
        return other.submit(alone, place).result()


def alone(place: str) -> float:
    torch.set_num_threads(1)
    net = stream.network()
    gw.census(net, torch.randn(30_000, stream.SIZES[0], dtype=torch.float64))  # libraries loaded
    return risen(lambda: gw.census(net, Path(place)))[0]
