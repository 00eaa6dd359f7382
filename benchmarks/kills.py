"""A census killed with SIGKILL at random times, again and again: nothing lost, nothing doubled.

    python benchmarks/kills.py [--kills 50] [--rows 100000] [--seed 0] [--engine ray]

The table lies in Parquet, Arrow and CSV files; one has an empty row group, rows hold NaN, one file
breaks off in its middle and one is none. A census left alone gives the bytes that every census has
to end with that was killed, however often, and called again; and the census of the same rows in
memory gives its answer. Each census is a process of its own (a copy of this one, which starts no
threads; with an engine a new one, whose driver is killed). Most kills come while rows
are counted or merged, a tenth before. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import torch
from torch import nn

import gatewise as gw
from gatewise.patterns.streaming import census as streaming
from gatewise.patterns.streaming import reading

WIDTHS = (6, 12, 12, 1)
SKIP = {"on_bad_rows": "skip", "on_bad_files": "skip"}


def jobs(size: str) -> list:
    """None: nothing is timed here."""
    return []


def network() -> gw.Network:
    """A ReLU net with torch's default initialisation, seed 0."""
    torch.manual_seed(0)
    a, b, c, d = WIDTHS
    layers = nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d)
    return gw.read(nn.Sequential(*layers).double(), torch.zeros(1, a).double())


def rows_of(count: int) -> np.ndarray:
    """(count, 6) normal numbers; every 997th row holds a NaN."""
    x = np.random.default_rng(0).standard_normal((count, WIDTHS[0]))
    x[::997, 2] = np.nan
    return x


def generate(folder: Path, count: int) -> None:
    """The rows in six files, and two that break: at the start, and in the middle."""
    folder.mkdir()
    parts = [table(x) for x in np.array_split(rows_of(count), 6)]
    for i in (0, 2, 5):
        pa.parquet.write_table(parts[i], folder / f"part-{i}.parquet", row_group_size=count // 60)
    with pa.parquet.ParquetWriter(folder / "part-1.parquet", parts[1].schema) as out:
        for part in (parts[1][:100], parts[1][:0], parts[1][100:]):
            out.write_table(part)
    pa.feather.write_feather(parts[3], folder / "part-3.arrow", chunksize=7_000)
    pa.csv.write_csv(parts[4], folder / "part-4.csv")
    (folder / "part-6.parquet").write_text("no table")
    raw = bytearray((folder / "part-5.parquet").read_bytes())
    raw[len(raw) // 2 : len(raw) * 3 // 4] = b"\xff" * (len(raw) * 3 // 4 - len(raw) // 2)
    (folder / "part-7.parquet").write_bytes(raw)


def table(x: np.ndarray) -> pa.Table:
    return pa.table({f"x{j}": column for j, column in enumerate(x.T)})


def short_runs() -> None:
    """Many checkpoints, many reads; one thread, for a copy of a process has no others."""
    torch.set_num_threads(1)
    streaming.SEGMENT_ROWS = int(os.environ["KILLS_RUN_ROWS"])
    reading.BLOCK_BYTES = 3_000 * 8 * WIDTHS[0]


def census(data: Path, out: Path, engine: str) -> None:
    """The census, in runs of a thirtieth of the rows."""
    short_runs()
    more = {"engine": engine} if engine else {}
    ready = data.with_name("ready")  # libraries are loaded, kernels compiled, rows come
    gw.census(
        network(),
        data,
        out=out,
        progress=lambda *told: ready.exists() or ready.touch(),
        **SKIP,
        **more,
    )


def check(data: Path, out: Path, count: int) -> None:
    """The census in the folder is that of the rows in memory, whole file or half."""
    short_runs()
    x = rows_of(count)
    found = gw.census(network(), data, out=out, **SKIP)
    (none, half) = sorted(found.broken, key=lambda b: b.file)
    whole = np.concatenate([x, np.array_split(x, 6)[5][: half.row]])
    kept = ~np.isnan(whole).any(1)
    expected = gw.census(network(), whole[kept])
    ids = np.concatenate(list(found.ids()))
    assert none.row == 0 < half.row, found.broken
    assert found.rows == len(whole) and found.skipped == (~kept).sum()
    assert np.array_equal(found.counts, expected.counts)
    assert np.array_equal(ids[kept], expected.ids) and (ids[~kept] == -1).all()


@dataclass
class Forked:
    """A copy of this process at work."""

    work: Callable[[], None]

    def start(self) -> None:
        self.process = multiprocessing.get_context("fork").Process(target=self.work)
        self.process.start()

    def kill(self) -> None:
        self.process.kill()

    def alive(self) -> bool:
        return self.process.is_alive()

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode or 0


@dataclass
class Started:
    """A new process: engines do not outlive a copy."""

    command: list[str]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        return self.process.wait()


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


def phase(out: Path) -> str:
    """How far a census had come when it was killed."""
    if (out / "meta.json").exists():
        return "done"
    work = out / ".unfinished"
    if not list(work.glob("run-*.parquet")):
        return "before the first run"
    return "merging" if (work / "merged.parquet").exists() else "between runs"


def main() -> None:
    """Kill, call again, compare; then say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="", help="ray: the census's engine= (none: no engine)")
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("KILLS_RUN_ROWS", str(max(1, args.rows // 30)))
    if args.work:
        census(*args.work, args.engine)
        return
    with tempfile.TemporaryDirectory(prefix="gatewise-kills-") as place:
        raise SystemExit(run(Path(place), args))


def run(place: Path, args: argparse.Namespace) -> int:
    data, out, alone = place / "data", place / "out", place / "alone"

    def worker(at: Path) -> Forked | Started:
        if not args.engine:
            return Forked(lambda: census(data, at, ""))
        command = [sys.executable, __file__, "--engine", args.engine, "--work", str(data), str(at)]
        return Started(command)

    ended(Forked(lambda: generate(data, args.rows)))
    begin = time.perf_counter()
    ended(worker(alone))
    length = time.perf_counter() - begin
    rest = time.time() - (place / "ready").stat().st_mtime  # since its first rows
    ended(Forked(lambda: check(data, alone, args.rows)))
    bytes_alone, rng = contents(alone), np.random.default_rng(args.seed)
    seen: Counter[str] = Counter()
    finished = same = 0
    while seen.total() < args.kills or not finished:
        child = worker(out)
        (place / "ready").unlink(missing_ok=True)
        child.start()
        if rng.random() < 0.9:  # most while rows are counted or merged
            while child.alive() and not (place / "ready").exists():
                time.sleep(0.002)
        time.sleep(rng.uniform(0, rest))
        child.kill()
        code = child.wait()
        if code == -signal.SIGKILL:
            seen[phase(out)] += 1
            print(f"kill {seen.total()}: {phase(out)}", file=sys.stderr, flush=True)
        elif code:
            raise SystemExit(f"a census called again ended with {code}")
        if seen.total() < args.kills and not (out / "meta.json").exists():
            continue
        ended(worker(out))  # the last call, which nobody kills
        finished, same = finished + 1, same + (contents(out) == bytes_alone)
        for path in out.iterdir():
            path.unlink()
    return report(args, length, seen, finished, same)


def ended(child: Forked | Started) -> None:
    """Let it work to its end."""
    child.start()
    if child.wait():
        raise SystemExit("a census that nobody killed failed")


def report(args: argparse.Namespace, length: float, seen: Counter, finished: int, same: int) -> int:
    where = ", ".join(f"{n} {name}" for name, n in seen.most_common())
    print(f"{args.rows:,} rows, {length:.2f} s left alone, engine {args.engine or 'none'}")
    print(f"{seen.total()} kills: {where}")
    print(f"{finished} censuses came to their end; {same} with every byte as if left alone")
    return int(same < finished)


if __name__ == "__main__":
    main()
