"""What an explanation costs beside a plain forward and backward pass, and beside Captum's steps.

    python benchmarks/explain.py [--rows 100000] [--path-rows 2000] [--repeat 5] [--threads 1]

HELOC's rows (the real table, standardised), drawn again and moved by a twentieth of a deviation to
100,000, and two nets trained on it a little. One process a net; contenders in turn in it, so that
both meet the same machine; medians of CPU seconds (and of wall seconds).

explain: every row's rule, values, certificate and margin, and its cohort (of eight rules that were
found on the real table). Plain: net(X).sum() and its gradient, all rows at once, as a user
writes it, and in batches of 4,096, which is faster. Gatewise computes in float64 always.
path: exact integrated gradients against Captum's with 50 steps, same rows, same baseline.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gatewise as gw
from gatewise.explain.integrated import integrated_gradients

NETS = {"21-32-32-1": (21, 32, 32, 1), "21-64-64-64-1": (21, 64, 64, 64, 1)}
DATA = Path(os.environ.get("GATEWISE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def table(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HELOC standardised, its target, and `rows` rows like it."""
    whole = np.loadtxt(DATA / "tabular" / "heloc" / "heloc.csv", delimiter=",", skiprows=1)
    x, y = whole[:, :-1], whole[:, -1]
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(0)
    drawn = x[rng.integers(0, len(x), rows)]
    return x, y, drawn + rng.normal(size=drawn.shape) / 20


def trained(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> nn.Sequential:
    """Three epochs of Adam in float32, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    rows, truth = torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(3):
        for part in torch.randperm(len(rows)).split(128):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(net(rows[part]), truth[part]).backward()
            optimiser.step()
    return net.requires_grad_(False)


def plain(net: nn.Sequential, x: torch.Tensor, batch: int) -> None:
    """Outputs and input gradients."""
    for rows in x.split(batch):
        leaf = rows.clone().requires_grad_()
        torch.autograd.grad(net(leaf).sum(), leaf)


def in_turn(jobs: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Median CPU and wall seconds of each job, the jobs run one after another, again and again."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for round_ in range(repeat + 1):
        for name, job in jobs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            job()
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            if round_:  # the first round warms up
                taken[name].append(spent)
    return {n: tuple(map(statistics.median, zip(*t, strict=True))) for n, t in taken.items()}


def explaining(name: str, rows: int, repeat: int) -> dict[str, object]:
    """gw.explain beside plain passes."""
    x, y, big = table(rows)
    net = trained(NETS[name], x, y)
    read, double = gw.read(net), trained(NETS[name], x, y).double()
    single, wide = torch.from_numpy(big).float(), torch.from_numpy(big)
    found = gw.cohorts(gw.explain(read, x), max_rules=8)

    def ours(margin: bool = True) -> None:
        e = gw.explain(read, big, margin=margin)
        assert e.values.shape == (rows, 21, 1)
        assert found.assign(big).shape == (rows,)

    jobs = {
        "plain float32": lambda: plain(net, single, rows),
        "plain float64": lambda: plain(double, wide, rows),
        "plain float64, batches": lambda: plain(double, wide, 4096),
        "explain": ours,
        "explain, no margin": lambda: ours(False),
    }
    return {"net": name, "rows": rows, "seconds": in_turn(jobs, repeat)}


def path(name: str, rows: int, repeat: int) -> dict[str, object]:
    """Exact integrated gradients beside Captum's."""
    from captum.attr import IntegratedGradients

    x, y, big = table(rows)
    net = trained(NETS[name], x, y)
    read, double = gw.read(net), trained(NETS[name], x, y).double()
    gaps = {}

    def captum(net: nn.Sequential, key: str) -> None:
        dtype = next(net.parameters()).dtype
        inputs = torch.from_numpy(big).to(dtype)
        _, delta = IntegratedGradients(net).attribute(
            inputs, torch.zeros(1, 21, dtype=dtype), n_steps=50, return_convergence_delta=True
        )
        gaps[key] = float(delta.abs().max())

    def ours() -> None:
        gaps["exact"] = integrated_gradients(read, big, np.zeros(21)).max_error

    jobs = {
        "Captum float32": lambda: captum(net, "Captum float32"),
        "Captum float64": lambda: captum(double, "Captum float64"),
        "exact": ours,
    }
    return {"net": name, "rows": rows, "seconds": in_turn(jobs, repeat), "gaps": gaps}


def memory(name: str, rows: int, repeat: int) -> dict[str, object]:
    """Peak resident memory of one explanation beyond the input and the answer."""
    x, y, big = table(rows)
    read = gw.read(trained(NETS[name], x, y))
    gw.explain(read, big[:2000])  # libraries loaded, threads started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    e = gw.explain(read, big)
    answer = (
        sum(
            v.nbytes
            for v in (e.coefficients, e.intercepts, e.error, e.bound, e.ids, e.census.counts)
        )
        + e.census.pattern.bits.nbytes
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"extra_MB": (peak - before - answer) / 1e6, "answer_MB": answer / 1e6}


JOBS = {"explain": explaining, "path": path, "memory": memory}


def child(job: str, name: str, rows: int, args: argparse.Namespace) -> dict:
    """One case in a fresh process."""
    command = [sys.executable, __file__, "--one", job, name, "--rows", str(rows)]
    command += ["--repeat", str(args.repeat), "--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(found: dict, ours: str) -> None:
    """A line a contender: CPU and wall seconds, and how ours compares."""
    mine = found["seconds"][ours]
    print(f"{found['net']}, {found['rows']:,} rows")
    for name, (cpu, wall) in found["seconds"].items():
        gap = found.get("gaps", {}).get(name)
        end = f"   completeness error {gap:.1e}" if gap is not None else ""
        print(
            f"  {name:24} CPU {cpu:7.3f} s  wall {wall:7.3f} s   "
            f"{ours} takes {mine[0] / cpu:6.2f} x its CPU, {mine[1] / wall:6.2f} x its time{end}"
        )


def main() -> None:
    """Every case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--path-rows", type=int, default=2_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(JOBS[args.one[0]](args.one[1], args.rows, args.repeat)))
        return
    print(f"torch {torch.__version__}, {args.threads} threads, median of {args.repeat}")
    for name in NETS:
        show(child("explain", name, args.rows, args), "explain")
        room = child("memory", name, args.rows, args)
        print(f"  memory: {room['extra_MB']:.0f} MB beyond an answer of {room['answer_MB']:.0f} MB")
        show(child("path", name, args.path_rows, args), "exact")


if __name__ == "__main__":
    main()
