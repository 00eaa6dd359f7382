"""The dual view of a 784-512x4-10 net trained on MNIST: path kernels, tangent kernel, paths.

    python benchmarks/dual.py [gram] [methods] [stream] [tangent] [paths] [--threads 1] [--json]

CPU seconds (all threads together) after a warm-up, the smallest of several runs taken in turn, in
one process; wall seconds beside them. Needs MNIST's idx files in GATEWISE_DATA/images/mnist (or
../shared/data); without them the net is untrained and its rows are random, which is said.

gram     the kernel of N = 5,000 rows, float32. Naive: five torch products and Hadamard products of
         full matrices, gates already float32. The floor: as many words of gates as a symmetric
         kernel compares, at the best rate of three microkernels that compare words in the level-1
         cache and do nothing else, and half of the inputs' product at torch's rate (all columns,
         and only those that are not 0 in all rows, which are left out).
methods  the gates' product alone, counted in every way.
stream   20,000 x 20,000 to a file of 1.6 GB, which is deleted; resident memory apart from the file.
tangent  the tangent kernel of one logit, N = 200, and jacobian contraction with torch.func.
paths    the 1,000 strongest paths of one row.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import nn

import gatewise as gw
from gatewise.dual.gating import gated, pattern_of
from gatewise.dual.kernels.gram import from_pattern, gram
from gatewise.dual.kernels.packed import unpack
from gatewise.dual.kernels.popcount import PAIR, STEPS, WIDE, lookup, popcount

SIZES = (784, 512, 512, 512, 512, 10)
PARTS = ("gram", "methods", "stream", "tangent", "paths")
LEVEL_1 = 16  # rows and words that stay in the cache


# -- the net and its rows --


def images() -> tuple[torch.Tensor, torch.Tensor] | None:
    """MNIST's training rows in [0, 1] and their labels, or None."""
    root = Path(os.environ.get("GATEWISE_DATA") or Path(__file__).parents[2] / "shared/data")
    folder = root / "images" / "mnist"
    if not folder.is_dir():
        print(f"NO MNIST in {folder}: an untrained net and random rows instead", flush=True)
        return None
    read = [
        np.frombuffer(gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()), np.uint8)
        for name in ("images-idx3", "labels-idx1")
    ]
    x = torch.from_numpy(read[0][16:].reshape(-1, 784).copy()).float() / 255
    return x, torch.from_numpy(read[1][8:].copy()).long()


def setting(epochs: int) -> tuple[nn.Module, torch.Tensor]:
    """The net, trained with seed 0, and the rows."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(SIZES):
        layers += [nn.Linear(a, b), nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    data = images()
    if data is None:
        return module, torch.rand(20000, 784)
    x, y = data
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        right = (module(x[:10000]).argmax(1) == y[:10000]).float().mean()
    print(f"trained {epochs} epochs: {100 * right:.1f} % of 10,000 training rows", flush=True)
    return module, x


# -- timing --


def best(work: dict[str, Callable[[], Any]], repeat: int) -> dict[str, tuple[float, float]]:
    """(CPU, wall) seconds of each, the smallest CPU time of `repeat` rounds after a warm-up."""
    took = {name: (np.inf, np.inf) for name in work}
    for turn in range(repeat + 1):
        for name, run in work.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            if turn:
                took[name] = min(took[name], spent)
    return took


@njit(nogil=True)
def by_scalar(a, b, times):
    """Words compared one by one: and, popcnt, add."""
    total = np.uint64(0)
    for _ in range(times):
        for i in range(len(a)):
            for j in range(len(b)):
                for w in range(a.shape[1]):
                    total += popcount(a[i, w] & b[j, w])
    return total


@njit(nogil=True)
def by_vector(a, b, sums, times):
    """One word of a row against a line of columns: what LLVM makes of popcount."""
    for _ in range(times):
        for i in range(len(a)):
            for j in range(b.shape[1]):
                s = np.uint64(0)
                for w in range(8):
                    s += popcount(a[i, w] & b[w, j])
                sums[j] += s


@njit(nogil=True)
def by_lookup(rows, cols, table, sums, times):
    """Half-bytes by table."""
    for t in range(times):
        row = np.uint64(rows.ctypes.data) + np.uint64((t % LEVEL_1) * PAIR * STEPS)
        lookup(
            row,
            np.uint64(STEPS),
            np.uint64(table.ctypes.data),
            np.uint64(cols.ctypes.data),
            np.uint64(STEPS),
            np.uint64(sums.ctypes.data),
        )


def rates(repeat: int) -> dict[str, float]:
    """Nanoseconds a word of 64 gates, data in the level-1 cache, of each microkernel."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**63, (n, 8), dtype=np.uint64) for n in (LEVEL_1, WIDE))
    table = np.bitwise_count(np.arange(16)[:, None] & np.arange(16)).astype(np.uint8)
    halves = rng.integers(0, 16, (LEVEL_1 * PAIR, STEPS), dtype=np.uint8) * np.uint8(16)
    cols = rng.integers(0, 16, (STEPS, WIDE), dtype=np.uint8)
    sums, turned = np.zeros((PAIR, WIDE), np.uint8), np.ascontiguousarray(b.T)
    long = np.zeros(WIDE, np.uint64)
    times = 2000
    took = best(
        {
            "popcnt": lambda: by_scalar(a, b, times),
            "vectors of words": lambda: by_vector(a, turned, long, times),
            "vpshufb by table": lambda: by_lookup(halves, cols, table, sums, 10 * times),
        },
        2 * repeat,
    )
    pairs = LEVEL_1 * WIDE * 8 * times
    words = {"vpshufb by table": PAIR * WIDE * STEPS * 4 / 64 * 10 * times}
    return {name: 1e9 * cpu / words.get(name, pairs) for name, (cpu, _) in took.items()}


# -- parts --


def naive(x: torch.Tensor, gates: list[torch.Tensor]) -> torch.Tensor:
    kernel = x @ x.T
    for g in gates:
        kernel = kernel * (g @ g.T)
    return kernel


def packed_gates(net: gw.Network, x: torch.Tensor):
    whole = gated(net)
    return from_pattern(pattern_of(whole, x), whole.sites)


def numbers(gates) -> list[torch.Tensor]:
    """The gates as float32."""
    both = zip(gates.layers, gates.units, strict=True)
    return [torch.from_numpy(unpack(layer, units)).float() for layer, units in both]


def part_gram(net: gw.Network, x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    x = x[: options.rows]
    n, d = x.shape
    gates = packed_gates(net, x)
    dense = numbers(gates)
    found, want = gram(gates, inputs=x), naive(x, dense).numpy()
    wrong = float((np.abs(found - want)[want > 0] / want[want > 0]).max())
    out = torch.empty(n, n)
    took = best(
        {
            "ours": lambda: gram(gates, inputs=x),
            "naive": lambda: naive(x, dense),
            "ours with biases": lambda: gram(gates, inputs=x, biases=[True] * (len(dense) + 1)),
            "ours float64": lambda: gram(gates, inputs=x, dtype="float64"),
            "product": lambda: torch.mm(x, x.T, out=out),
        },
        options.repeat,
    )
    rate = rates(options.repeat)
    words = n * (n + 1) / 2 * sum(layer.shape[1] for layer in gates.layers)
    live = int((x != 0).any(0).sum())
    count, half = words * min(rate.values()) / 1e9, took["product"][0] * (n + 1) / (2 * n)
    floor, strict = count + half, count + half * live / d
    ours, plain = took["ours"][0], took["naive"][0]
    return {
        "rows": n,
        "differs": wrong,
        **{f"{k}_cpu": v[0] for k, v in took.items()},
        **{f"{k}_wall": v[1] for k, v in took.items()},
        **{f"{k}_ns_word": v for k, v in rate.items()},
        "gflops": 2 * n * n * d / took["product"][0] / 1e9,
        "count_floor": count,
        "product_floor": half,
        "floor": floor,
        "floor_live_columns": strict,
        "ours/naive": ours / plain,
        "ours/floor": ours / floor,
        "ours/floor_live_columns": ours / strict,
    }


def int8(gates: list[torch.Tensor]) -> torch.Tensor:
    """torch._int_mm by chunks of the lower triangle."""
    n = len(gates[0])
    out = torch.ones(n, n)
    for g in gates:
        for start in range(0, n, 512):
            stop = min(start + 512, n)
            out[start:stop, :stop].mul_(torch._int_mm(g[start:stop], g[:stop].T))
    return out


def part_methods(net: gw.Network, x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    gates = packed_gates(net, x[: options.rows])
    dense = numbers(gates)
    small = [g.to(torch.int8) for g in dense]

    def full() -> torch.Tensor:
        out = dense[0] @ dense[0].T
        for g in dense[1:]:
            out *= g @ g.T
        return out

    took = best(
        {
            "full float32 matrices": full,
            "float32 matrices, lower triangle": lambda: gram(gates, method="matrix"),
            "words": lambda: gram(gates, method="word"),
            "half-bytes by table": lambda: gram(gates, method="table"),
        },
        options.repeat,
    )
    few = [g[:1000] for g in small]  # without VNNI it is too slow for all rows
    once = best({"int8 matrices of 1,000 rows, lower triangle": lambda: int8(few)}, 1)
    return {"rows": options.rows} | {k: v[0] for k, v in (took | once).items()}


class Watch(threading.Thread):
    """The largest resident memory that is not a file's, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done = self.now(), threading.Event()
        self.before = self.peak

    @staticmethod
    def now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.now())


def part_stream(net: gw.Network, x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    from gatewise.dual.kernels.tiles import npk_to_file

    x = x[: options.stream_rows]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "kernel.npy"
        npk_to_file(net, x[:300], path)
        watch = Watch()
        watch.start()
        cpu, wall = time.process_time(), time.perf_counter()
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        done = npk_to_file(net, x, path)
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - system
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        watch.done.set()
        watch.join()
        rows = slice(len(x) - 50, None)
        want = gram(packed_gates(net, x[rows]), inputs=x[rows], biases=[True] * (len(SIZES) - 1))
        differs = float((np.abs(done.open()[rows, rows] - want) / want).max())
        size = path.stat().st_size
    return {
        "rows": len(x),
        "file_MB": size / 1e6,
        "cpu": cpu,
        "of_it_system": system,
        "wall": wall,
        "extra_MB": watch.peak - watch.before,
        "differs": differs,
    }


def part_tangent(
    net: gw.Network, x: torch.Tensor, options: argparse.Namespace, module: nn.Module
) -> dict[str, Any]:
    from gatewise.dual.tangents.empirical import tangent_kernel

    x, single = x[:200], net.to(torch.float32)
    parameters = {k: v.detach() for k, v in module.named_parameters()}

    def one(p, row):
        return torch.func.functional_call(module, p, (row[None],))[0, 0]

    def contraction() -> torch.Tensor:
        jacobian = torch.func.vmap(torch.func.jacrev(one), (None, 0))(parameters, x)
        return sum(j.flatten(1) @ j.flatten(1).T for j in jacobian.values())

    found, want = tangent_kernel(single, x, outputs=0), contraction()
    values = np.asarray(found.values)
    differs = float((torch.from_numpy(values).reshape(want.shape) - want).abs().max() / want.max())
    took = best(
        {"ours": lambda: tangent_kernel(single, x, outputs=0), "torch.func": contraction},
        options.repeat,
    )
    ours, func = took["ours"][0], took["torch.func"][0]
    return {"rows": 200, "ours": ours, "torch.func": func, "times": func / ours, "differs": differs}


def part_paths(net: gw.Network, x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    from gatewise.dual.paths.strongest import strongest_paths

    took = best({"ours": lambda: strongest_paths(net, x[:1], 1000)}, 1)
    return {"k": 1000, "cpu": took["ours"][0], "wall": took["ours"][1]}


def show(part: str, row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"part": part, **row}), flush=True)
        return
    print(part, flush=True)
    for name, value in row.items():
        print(f"    {name:42} {value:>12,.4g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--stream-rows", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="where the streamed file goes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    torch.set_num_threads(options.threads)
    module, x = setting(options.epochs)
    net = gw.read(module)
    for part in parts:
        more = (module,) if part == "tangent" else ()
        show(part, globals()[f"part_{part}"](net, x, options, *more), options.json)


if __name__ == "__main__":
    main()
