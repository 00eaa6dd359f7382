"""The census of a table on disk against the plain forward pass over the same batches in memory.

    python benchmarks/stream.py [--rows 2000000] [--threads 1] [--centres 0] [--keep-rows]

Rows x 20 normal features in Parquet, made in chunks in a temporary folder that is deleted after,
through a 20-40-40-1 ReLU net in float64. Three processes, one after another: the forward pass over
batches that lie in memory (the same numbers again and again), the same with reading, and the
census. Rates are rows per CPU second of the process, and per second by the clock; memory is the
peak of the process beyond what it held before its first row. A virtual machine may be lent its
memory only when it is first touched, at twenty times the cost of a page that it holds: some is
touched and given back before each job.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gatewise as gw
from gatewise.patterns.observe import default_batch
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.reading import blocks

SIZES = (20, 40, 40, 1)
GROUP = 131_072  # rows of a row group


def network() -> gw.Network:
    """A ReLU MLP with torch's default initialisation, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(SIZES):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return gw.read(nn.Sequential(*layers[:-1]).double(), torch.zeros(1, SIZES[0]).double())


def generate(folder: Path, rows: int, a_file: int, centres: int = 0) -> None:
    """Rows in files of `a_file`, one row group in memory at a time.

    centres: rows lie closely about so many points (few patterns); 0: anywhere (all differ).
    """
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    points = rng.standard_normal((SIZES[0], max(1, centres)))
    names = network().feature_names or [f"x{j}" for j in range(SIZES[0])]
    schema = pa.schema([(name, pa.float64()) for name in names])
    for i, start in enumerate(range(0, rows, a_file)):
        with parquet.ParquetWriter(
            folder / f"part-{i:05d}.parquet", schema, compression="none", use_dictionary=False
        ) as out:
            for at in range(start, min(rows, start + a_file), GROUP):
                n = min(GROUP, rows - at, start + a_file - at)
                columns = rng.standard_normal((SIZES[0], n))
                if centres:
                    columns = points[:, rng.integers(centres, size=n)] + 1e-3 * columns
                out.write_table(pa.table(list(columns), schema=schema))


def forward(folder: Path, rows: int) -> None:
    """f of the first batches of the table, held in memory, until so many rows were seen."""
    net = network()
    step = default_batch(net)
    whole = next(blocks(table_of(folder, net.feature_names, net.inputs))).values
    held = torch.from_numpy(whole).split(step)
    held = held[:-1] if len(held) > 1 else held
    done = 0
    with timed() as said:
        while done < rows:
            for x in held:
                net(x)
                done += len(x)
    said["rows"] = done
    print(json.dumps(said))


def reading(folder: Path, rows: int) -> None:
    """Every block, read ahead and dropped."""
    table = table_of(folder, network().feature_names, SIZES[0])
    with timed() as said:
        said["rows"] = sum(len(b) for b in blocks(table))
    print(json.dumps(said))


def census(folder: Path, rows: int, keep: bool = False) -> None:
    """The census of the files; with `keep` in a folder, with the cluster of every row."""
    net = network()
    with tempfile.TemporaryDirectory() as place:  # libraries, compiled kernels, threads
        generate(Path(place), 30_000, 30_000)
        gw.census(net, Path(place))
    with tempfile.TemporaryDirectory() as place, timed() as said:
        found = gw.census(net, folder, out=Path(place) / "out" if keep else None)
        said |= {"rows": found.rows, "clusters": len(found)}
        said["answer_MB"] = (found.counts.nbytes * 2 + found.pattern.bits.nbytes) / 1e6
    print(json.dumps(said))


class timed:
    """Seconds by the clock, CPU seconds, and growth of the peak memory of what is inside."""

    def __enter__(self) -> dict[str, float]:
        self.said: dict[str, float] = {}
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.begin = time.perf_counter(), time.process_time()
        return self.said

    def __exit__(self, *error: object) -> None:
        self.said["wall_s"] = time.perf_counter() - self.begin[0]
        self.said["cpu_s"] = time.process_time() - self.begin[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.said["extra_MB"] = (peak - self.peak) * 1024 / 1e6


JOBS = {"forward": forward, "reading": reading, "census": census}


def main() -> None:
    """Make the table, run the three jobs, print one table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rows-file", type=int, default=500_000)
    parser.add_argument("--centres", type=int, default=0, help="rows lie about so many points")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-rows", action="store_true", help="write every row's cluster, too")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.job:
        extra = {"keep": args.keep_rows} if args.job == "census" else {}
        JOBS[args.job](args.folder, args.rows, **extra)
        return
    with tempfile.TemporaryDirectory(prefix="gatewise-stream-") as place:
        generate(Path(place), args.rows, args.rows_file, args.centres)
        size = sum(p.stat().st_size for p in Path(place).iterdir()) / 1e6
        print(f"{args.rows:,} rows in {size:,.0f} MB of Parquet, {args.threads} threads")
        found = {job: child(job, place, args) for job in JOBS}
    report(found)


LENT = "import numpy as np; np.ones(1 << 28)"  # 2 GB


def child(job: str, place: str, args: argparse.Namespace) -> dict[str, float]:
    """One job in a fresh process."""
    numbers = ("--rows", str(args.rows), "--threads", str(args.threads))
    command = [sys.executable, __file__, "--job", job, "--folder", place, *numbers]
    command += ["--keep-rows"] if args.keep_rows else []
    subprocess.run([sys.executable, "-c", LENT], check=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, dict[str, float]]) -> None:
    """One line a job."""
    print(f"{'':8} {'CPU s':>8} {'wall s':>8} {'rows/CPU s':>11} {'rows/s':>11} {'extra MB':>9}")
    for job, r in found.items():
        print(
            f"{job:8} {r['cpu_s']:8.2f} {r['wall_s']:8.2f} {r['rows'] / r['cpu_s']:11,.0f} "
            f"{r['rows'] / r['wall_s']:11,.0f} {r['extra_MB']:9.0f}"
        )
    plain, ours = found["forward"], found["census"]
    for name, unit in (("cpu_s", "CPU"), ("wall_s", "clock")):
        ratio = (ours["rows"] / ours[name]) / (plain["rows"] / plain[name])
        print(f"rate against the forward pass, {unit}: {ratio:.2f}")
    print(f"{ours['clusters']:,} clusters: an answer of {ours['answer_MB']:.0f} MB")


if __name__ == "__main__":
    main()
