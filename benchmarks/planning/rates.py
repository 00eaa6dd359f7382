"""What a core does a second, measured by small runs of the real code, one after another."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from torch import nn

import gatewise as gw
from gatewise.patterns.observe import default_batch
from gatewise.patterns.streaming import census as streaming
from gatewise.patterns.streaming import runs
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.reading import blocks
from gatewise.patterns.streaming.watch import Watch
from gatewise.tables.writing import flush

SIZES = (20, 40, 40, 1)
KINDS = 1_000  # points that rows lie about, where few patterns are wanted
IMPORTS = "import pyarrow.parquet, torch, gatewise.patterns.streaming.census"


@dataclass(frozen=True)
class Whole:
    """CPU seconds of a census until its last row and after it; clusters; bytes kept a row."""

    map: float
    rest: float
    clusters: int
    id_bytes: float


def network() -> gw.Network:
    """A ReLU MLP with torch's default initialisation, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(SIZES):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return gw.read(nn.Sequential(*layers[:-1]).double(), torch.zeros(1, SIZES[0]).double())


def measured(rows: int) -> dict[str, float]:
    """The fields of `model.Rates`, by whole runs and their differences, and by single steps.

    Files of normal rows, where nearly every row has a pattern of its own, and of rows about KINDS
    points; a quarter of the rows makes a run. What the map costs with few patterns, less reading,
    is deciding and grouping; what it costs more with many is spilling; what comes after the last
    row is the merge of four runs, the ranking and the rows' numbers.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="gatewise-plan-") as place, _runs_of(rows // 4):
        many, few = (generate(Path(place) / name, rows, k) for name, k in (("a", 0), ("b", KINDS)))
        found = _steps(many, rows)
        found |= _differences(_census(many), _census(few), found, rows)
        found |= _disk(Path(place)) | {"start": _start()}
    return found


def _differences(many: Whole, few: Whole, step: dict[str, float], rows: int) -> dict[str, float]:
    """What two censuses tell: of many patterns and of few."""
    more = many.clusters - few.clusters
    counted = few.map / rows - step["read"]
    decide = min(step["decide"], 0.95 * counted)
    final = max(0.0, (many.rest - few.rest) / more - step["merge"])
    return {
        "decide": decide,
        "group": counted - decide,
        "spill": max(0.0, (many.map - few.map) / more),
        "final": final,
        "ids": max(0.0, few.rest / rows),
        "id_bytes": many.id_bytes,
        "census": (many.map + many.rest) / rows,
        "census_few": (few.map + few.rest) / rows,
    }


@contextmanager
def _runs_of(rows: int):
    """Runs of so many rows, for the length of the measurement."""
    usual, streaming.SEGMENT_ROWS = streaming.SEGMENT_ROWS, rows
    try:
        yield
    finally:
        streaming.SEGMENT_ROWS = usual


def generate(folder: Path, rows: int, kinds: int) -> Path:
    """Four files of Parquet, uncompressed."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    points = rng.standard_normal((SIZES[0], max(1, kinds)))
    for i in range(4):
        x = rng.standard_normal((SIZES[0], rows // 4))
        if kinds:
            x = points[:, rng.integers(kinds, size=rows // 4)] + 1e-6 * x
        table = pa.table({f"x{j}": column for j, column in enumerate(x)})
        pa.parquet.write_table(
            table, folder / f"{i}.parquet", 131_072, compression="none", use_dictionary=False
        )
    return folder


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of this process, the least of some runs."""
    taken = []
    for _ in range(times):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return min(taken)


def _steps(folder: Path, rows: int) -> dict[str, float]:
    """Seconds a row of reading, of deciding, of the bare forward pass; a pattern of merging."""
    net = network()
    table = table_of(folder, net.feature_names or [f"x{j}" for j in range(SIZES[0])], SIZES[0])
    block, watch = next(blocks(table)), Watch(net, "raise", None)
    batches = torch.from_numpy(block.values).split(default_batch(net))
    bits = watch(block, "").bits
    bits = np.concatenate([bits ^ bits[i] for i in range(1 + rows // 4 // len(bits))])[: rows // 4]
    ones, places = np.ones(len(bits), np.int64), np.arange(len(bits))
    halves = [
        runs.merged([runs.Run(bits[part], ones[part], places[part])])[0]
        for part in np.array_split(places, 2)
    ]
    return {
        "read": seconds(lambda: [len(b) for b in blocks(table)]) / rows,
        "decide": seconds(lambda: watch(block, "")) / len(block),
        "forward": seconds(lambda: [net(x) for x in batches]) / len(block),
        "merge": seconds(lambda: runs.merged(halves)) / sum(map(len, halves)),
        "row_bytes": sum(p.stat().st_size for p in folder.iterdir()) / rows,
        "pattern_bytes": runs.as_table(halves[0]).nbytes / len(halves[0]),
    }


def _census(folder: Path) -> Whole:
    """A census with the cluster of every row, in CPU seconds; the least of three."""
    taken = []
    for again in range(3):
        out, at = folder.with_name(f"{folder.name}{again}"), [0.0]
        begin = time.process_time()
        found = gw.census(
            network(),
            folder,
            out=out,
            progress=lambda *told, at=at: at.__setitem__(0, time.process_time()),
        )
        end, size = time.process_time(), (out / "rows.parquet").stat().st_size
        taken.append(Whole(at[0] - begin, end - at[0], len(found), size / found.rows))
        shutil.rmtree(out)
    return min(taken, key=lambda t: t.map + t.rest)


def _disk(place: Path) -> dict[str, float]:
    """Bytes a second, by the clock, written and flushed: the best of three times 256 MB."""
    block, best = os.urandom(1 << 20), 0.0
    for _ in range(3):
        begin = time.perf_counter()
        with (place / "block").open("wb") as file:
            for _ in range(256):
                file.write(block)
        flush(place / "block")
        best = max(best, (256 << 20) / (time.perf_counter() - begin))
    return {"disk": best}


def _start() -> float:
    """CPU seconds until a process has imported what a census needs, the best of two."""
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)
