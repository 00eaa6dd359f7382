"""Ids and exact maps of every distinct pattern: Gatewise, an expert's own loop, and the floor.

    python benchmarks/census.py [--rows 100000 1000000] [--repeat 3] [--threads 2]

One process a case, both contenders in turn in it, medians of CPU and wall seconds, their ratio,
and the floor: the FLOPs of one forward and one backward pass over the measured GEMM rate. The peak
memory is of a process that runs only Gatewise, beyond the input and the answer. Aletheia 1.3.4
(needs Python 3.9) took 112 CPU s for 100,000 rows of the first net in float64, as published, on a
core whose floor for the job was 1.1 s: what carries over to another machine is the distance to it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn

import gatewise as gw

NETS = {"20-256-256-256-1": (20, 256, 256, 256, 1), "30-40-40-1": (30, 40, 40, 1)}
ALETHEIA_CPU_S, ALETHEIA_FLOOR_S = 112.0, 1.1


def module(sizes: tuple[int, ...], dtype: torch.dtype) -> nn.Sequential:
    """A ReLU MLP with torch's default initialisation, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def expert(net: nn.Sequential, X: torch.Tensor, batch: int = 4096):
    """Batched forward, packbits, unique, backward on the distinct patterns only."""
    packed = []
    with torch.no_grad():
        for rows in X.split(batch):
            masks, h = [], rows
            for layer in net:
                h = layer(h)
                if isinstance(layer, nn.ReLU):
                    masks.append(h > 0)
            packed.append(np.packbits(torch.cat(masks, 1).numpy(), axis=1))
    _, first, ids = np.unique(
        np.concatenate(packed), axis=0, return_index=True, return_inverse=True
    )
    weights, offsets = [], []
    for rows in X[torch.from_numpy(first)].split(batch):
        x = rows.clone().requires_grad_()
        y = net(x)
        (w,) = torch.autograd.grad(y.sum(), x)
        weights.append(w)
        offsets.append(y.detach()[:, 0] - (w * rows).sum(1))
    return ids, torch.cat(weights), torch.cat(offsets)


def ours(net: gw.Network, X: torch.Tensor):
    """The same answer: ids, W and b of every distinct pattern."""
    found = gw.census(net, X)
    weight, offset = found.maps.rows([0])
    return found.ids, weight[:, 0], offset[:, 0]


def clock(job, repeat: int) -> tuple[float, float]:
    """Median CPU and wall seconds after one warm-up."""
    job()
    cpu, wall = [], []
    for _ in range(repeat):
        c, w = time.process_time(), time.perf_counter()
        job()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return statistics.median(cpu), statistics.median(wall)


def gemm_rate(width: int, dtype: torch.dtype) -> float:
    """FLOP/s of (4096, width) x (width, width): the rate the floor is counted at."""
    a, b = torch.randn(4096, width, dtype=dtype), torch.randn(width, width, dtype=dtype)
    _, wall = clock(lambda: [a @ b for _ in range(20)], 5)
    return 20 * 2 * 4096 * width * width / wall


def case(name: str, rows: int, dtype: torch.dtype, repeat: int) -> dict[str, object]:
    """Both contenders and the floor on one net."""
    sizes = NETS[name]
    net = module(sizes, dtype)
    X = torch.randn(rows, sizes[0], dtype=dtype, generator=torch.Generator().manual_seed(1))
    network = gw.read(net).to(dtype)
    rate = gemm_rate(sizes[1], dtype)
    flops = 4 * rows * sum(a * b for a, b in pairwise(sizes))
    theirs, (cpu, wall) = (
        clock(lambda: expert(net, X), repeat),
        clock(lambda: ours(network, X), repeat),
    )
    ids, weight, offset = ours(network, X)
    y = (weight[ids] * X).sum(1) + offset[ids]
    with torch.no_grad():
        error = float((y - net(X)[:, 0]).abs().max())
    return {
        "net": name,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": rows,
        "clusters": len(weight),
        "ours_s": wall,
        "expert_s": theirs[1],
        "ratio": wall / theirs[1],
        "floor_s": flops / rate,
        "over_floor": wall * rate / flops,
        "ours_cpu_s": cpu,
        "expert_cpu_s": theirs[0],
        "largest_error": error,
    }


def memory(name: str, rows: int, dtype: torch.dtype) -> dict[str, object]:
    """Peak resident memory beyond the input and the answer, of this process."""
    sizes = NETS[name]
    network = gw.read(module(sizes, dtype)).to(dtype)
    ours(network, torch.randn(4096, sizes[0], dtype=dtype))  # libraries loaded, threads started
    X = torch.randn(rows, sizes[0], dtype=dtype)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ids, weight, offset = ours(network, X)
    answer = ids.nbytes + weight.nbytes + offset.nbytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "net": name,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": rows,
        "extra_MB": (peak - before - answer) / 1e6,
        "answer_MB": answer / 1e6,
        "input_MB": X.nbytes / 1e6,
    }


def main() -> None:
    """Run every case in a process of its own and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        job, name, dtype = args.one
        chosen = getattr(torch, dtype)
        run = memory if job == "memory" else case
        extra = () if job == "memory" else (args.repeat,)
        print(json.dumps(run(name, args.rows[0], chosen, *extra)))
        return
    print(f"torch {torch.__version__}, {args.threads} threads, median of {args.repeat}")
    print(
        f"{'net':18} {'dtype':8} {'rows':>9} {'clusters':>9} {'ours s':>8} {'expert s':>8} "
        f"{'ratio':>6} {'floor s':>8} {'x floor':>7} {'CPU s':>7} {'error':>8} {'extra MB':>9}"
    )
    for name in NETS:
        for dtype in ("float32", "float64"):
            for rows in args.rows:
                r = child("case", name, dtype, rows, args) | child(
                    "memory", name, dtype, rows, args
                )
                print(
                    f"{name:18} {dtype:8} {rows:9,} {r['clusters']:9,} {r['ours_s']:8.2f} "
                    f"{r['expert_s']:8.2f} {r['ratio']:6.2f} {r['floor_s']:8.2f} "
                    f"{r['over_floor']:7.2f} {r['ours_cpu_s']:7.2f} {r['largest_error']:8.1e} "
                    f"{r['extra_MB']:9.0f}",
                    flush=True,
                )
                if (name, dtype, rows) == ("20-256-256-256-1", "float64", 100_000):
                    print(
                        f"    Aletheia, published: {ALETHEIA_CPU_S:.0f} CPU s = "
                        f"{ALETHEIA_CPU_S / r['ours_cpu_s']:.0f} x ours; "
                        f"{ALETHEIA_CPU_S / ALETHEIA_FLOOR_S:.0f} x the floor of its machine, "
                        f"ours {r['ours_cpu_s'] * r['over_floor'] / r['ours_s']:.2f} x",
                        flush=True,
                    )


def child(job: str, name: str, dtype: str, rows: int, args: argparse.Namespace) -> dict:
    """One case in a fresh process."""
    command = [
        sys.executable,
        __file__,
        "--one",
        job,
        name,
        dtype,
        "--rows",
        str(rows),
        "--repeat",
        str(args.repeat),
        "--threads",
        str(args.threads),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
