"""The dual view of a 784-512x4-10 net trained a little on MNIST: path kernels, tangents, paths.

The path kernel's naive peer: five torch products and Hadamard products of full matrices, gates
already float32. Its floor: as many words of gates as a symmetric kernel compares, at the rate of
the best of three microkernels that compare words in the level-1 cache and do nothing else, and half
of the inputs' product at torch's rate. Needs MNIST's idx files.
"""

from __future__ import annotations

import gzip
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numba import njit
from torch import nn

import gatewise as gw
from benchmarks.measure import Curve, Job, Setup, Way, copying, data_folder, perceptron, spent
from gatewise.dual.gating import gated, pattern_of
from gatewise.dual.kernels.gram import from_pattern, gram
from gatewise.dual.kernels.packed import unpack
from gatewise.dual.kernels.popcount import PAIR, STEPS, WIDE, lookup, popcount
from gatewise.dual.kernels.tiles import npk_to_file
from gatewise.dual.paths.strongest import strongest_paths
from gatewise.dual.tangents.empirical import tangent_kernel

SIZES = (784, 512, 512, 512, 512, 10)
LEVEL_1 = 16  # rows and words that stay in the cache
ROWS = {"quick": (1_000, 1_500), "default": (3_000, 5_000), "full": (5_000, 20_000)}


# -- the net and its rows --


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """MNIST's training rows in [0, 1] and their labels."""
    folder = data_folder("images", "mnist")
    read = [
        np.frombuffer(gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()), np.uint8)
        for name in ("images-idx3", "labels-idx1")
    ]
    x = torch.from_numpy(read[0][16:].reshape(-1, 784).copy()).float() / 255
    return x, torch.from_numpy(read[1][8:].copy()).long()


def setting(seen: int = 5_000) -> tuple[nn.Module, torch.Tensor]:
    """The net, trained on the first rows once, and all rows."""
    module = perceptron(SIZES, torch.float32).requires_grad_(True)
    x, y = images()
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for rows in torch.randperm(seen).split(128):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
        optimiser.step()
    return module.requires_grad_(False), x


# -- microkernels --


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


def counting(words: float) -> Way:
    """So many words of 64 gates compared, by the best microkernel."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**63, (n, 8), dtype=np.uint64) for n in (LEVEL_1, WIDE))
    table = np.bitwise_count(np.arange(16)[:, None] & np.arange(16)).astype(np.uint8)
    halves = rng.integers(0, 16, (LEVEL_1 * PAIR, STEPS), dtype=np.uint8) * np.uint8(16)
    cols = rng.integers(0, 16, (STEPS, WIDE), dtype=np.uint8)
    sums, turned = np.zeros((PAIR, WIDE), np.uint8), np.ascontiguousarray(b.T)
    long, done = np.zeros(WIDE, np.uint64), LEVEL_1 * WIDE * 8 * 2000
    ways = [
        Way("popcnt", lambda: by_scalar(a, b, 2000), words / done),
        Way("vectors", lambda: by_vector(a, turned, long, 2000), words / done),
        Way(
            "table",
            lambda: by_lookup(halves, cols, table, sums, 20_000),
            words / (PAIR * WIDE * STEPS * 4 / 64 * 20_000),
        ),
    ]
    for way in ways:
        way.run()
    best = min(ways, key=lambda way: spent(way.run)[0] * way.scale)
    return Way(f"{words:.1e} words of gates compared ({best.who})", best.run, best.scale)


# -- the kernel --


def packed_gates(net: gw.Network, x: torch.Tensor):
    whole = gated(net)
    return from_pattern(pattern_of(whole, x), whole.sites)


def numbers(gates) -> list[torch.Tensor]:
    """The gates as float32."""
    both = zip(gates.layers, gates.units, strict=True)
    return [torch.from_numpy(unpack(layer, units)).float() for layer, units in both]


def written_out(x: torch.Tensor | None, gates: list[torch.Tensor]) -> torch.Tensor:
    """Products of full matrices."""
    kernel = gates[0] @ gates[0].T if x is None else x @ x.T
    for g in gates[x is None :]:
        kernel = kernel * (g @ g.T)
    return kernel


def words_of(gates, n: int) -> float:
    return n * (n + 1) / 2 * sum(layer.shape[1] for layer in gates.layers)


def kernel(rows: int, dtype: str) -> Setup:
    """The whole kernel, gates given."""
    module, x = setting()
    x = x[:rows]
    gates = packed_gates(gw.read(module), x)
    dense, out = numbers(gates), torch.empty(rows, rows)
    half = Way("half of <x, x'>", lambda: torch.mm(x, x.T, out=out), (rows + 1) / (2 * rows))

    def right(found) -> str:
        want = written_out(x, dense).numpy()
        off = float((np.abs(found - want)[want > 0] / want[want > 0]).max())
        assert off < 1e-5, off
        return f"{off:.0e} from the naive one"

    return Setup(
        Way("gatewise", lambda: gram(gates, inputs=x, dtype=dtype)),
        [counting(words_of(gates, rows)), half],
        [Way("naive, float32", lambda: written_out(x, dense))],
        right,
    )


def int8(gates: list[torch.Tensor]) -> None:
    """torch._int_mm by chunks of the lower triangle."""
    n = len(gates[0])
    out = torch.ones(n, n)
    for g in gates:
        for start in range(0, n, 512):
            stop = min(start + 512, n)
            out[start:stop, :stop].mul_(torch._int_mm(g[start:stop], g[:stop].T))


def gates_alone(rows: int) -> Setup:
    """The gates' product, counted in every way."""
    module, x = setting()
    gates = packed_gates(gw.read(module), x[:rows])
    dense = numbers(gates)
    few = [g[: rows // 5].to(torch.int8) for g in dense]  # without VNNI it is too slow for all
    ways = {"float32 matrices, half": "matrix", "words": "word", "half-bytes by table": "table"}
    return Setup(
        Way("gatewise", lambda: gram(gates)),
        [counting(words_of(gates, rows))],
        [
            Way("float32 matrices", lambda: written_out(None, dense)),
            Way("int8 matrices, half", lambda: int8(few), 25.0),
            *(Way(f"ours by {k}", partial(gram, gates, method=m)) for k, m in ways.items()),
        ],
    )


def to_file(rows: int) -> Setup:
    """Gates decided, the kernel written to a file, which is deleted."""
    module, x = setting()
    net, x = gw.read(module), x[:rows]
    place = tempfile.TemporaryDirectory()
    path = Path(place.name) / "kernel.npy"

    def ours():
        assert place is not None  # the folder lasts as long as this does
        return npk_to_file(net, x, path)

    def right(done) -> str:
        last = slice(rows - 50, None)
        want = gram(packed_gates(net, x[last]), inputs=x[last], biases=[True] * (len(SIZES) - 1))
        off = float((np.abs(done.open()[last, last] - want) / want).max())
        assert off < 1e-5, off
        return f"{path.stat().st_size / 1e6:,.0f} MB"

    gates = packed_gates(net, x)
    some = x[:5000]
    half = Way("half of <x, x'>", lambda: some @ some.T, rows**2 / (2 * len(some) ** 2))
    forward = Way("the forward pass, float64", lambda: net(x))
    floor = [counting(words_of(gates, rows)), half, forward, copying(2 * 4 * rows**2)]
    return Setup(
        Way("gatewise", ours), floor, check=right, warm=lambda: npk_to_file(net, x[:300], path)
    )


# -- tangents and paths --


def tangent(rows: int) -> Setup:
    """The tangent kernel of one logit, beside jacobian contraction with torch.func."""
    module, x = setting()
    x, single = x[:rows], gw.read(module).to(torch.float32)
    parameters = {k: v.detach() for k, v in module.named_parameters()}

    def one(p, row):
        return torch.func.functional_call(module, p, (row[None],))[0, 0]

    def contraction() -> torch.Tensor:
        jacobian = torch.func.vmap(torch.func.jacrev(one), (None, 0))(parameters, x)
        return sum(j.flatten(1) @ j.flatten(1).T for j in jacobian.values())

    def right(found) -> str:
        want = contraction()
        values = torch.from_numpy(np.asarray(found.values)).reshape(want.shape)
        off = float((values - want).abs().max() / want.max())
        assert off < 1e-4, off
        return f"{off:.0e} apart"

    passes = Way("passes forward and back", lambda: back(module, x))
    return Setup(
        Way("gatewise", lambda: tangent_kernel(single, x, outputs=0)),
        [passes],
        [Way("torch.func", contraction)],
        right,
    )


def back(module: nn.Module, x: torch.Tensor) -> None:
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)


def strongest(k: int) -> Setup:
    """The k strongest paths of one row."""
    module, x = setting()
    net = gw.read(module)
    floor = Way("passes forward and back", lambda: back(module, x[:1]))
    return Setup(Way("gatewise", lambda: strongest_paths(net, x[:1], k)), [floor])


def jobs(size: str) -> list[Job]:
    rows, streamed = ROWS[size]
    few = 200 if size == "full" else 100
    return [
        Job(f"path kernel, {rows:,} rows, float32", partial(kernel, rows, "float32")),
        Job(f"path kernel, {rows:,} rows, float64", partial(kernel, rows, "float64")),
        Job(f"gates alone, {rows:,} rows", partial(gates_alone, rows)),
        Job(f"path kernel to a file, {streamed:,} rows", partial(to_file, streamed)),
        Job(f"tangent kernel of a logit, {few} rows", partial(tangent, few)),
        Job("the 1,000 strongest of 1e12 paths", partial(strongest, 1000)),
    ]


def counted(rows: int, *units: int):
    """The gates' product of layers of random gates."""
    net = gw.read(perceptron((32, *units, 1), torch.float32))
    gates = packed_gates(net, torch.randn(rows, 32, generator=torch.Generator().manual_seed(0)))
    return lambda: gram(gates, method="table")


def growth(size: str) -> list[Curve]:
    k = 1 if size == "quick" else 2
    return [
        Curve(
            "path kernel, rows",
            "rows N",
            [k * n for n in (1000, 1500, 2000, 3000)],
            lambda n: counted(n, 1024, 1024),
            2.0,
            "every pair of rows",
            beyond=[] if k == 1 else [250, 500, 1000],
            aside="conjecture: below, what a call costs whatever its rows weighs",
        ),
        Curve(
            "path kernel, units",
            "units",
            [1024 * k * n for n in (2, 4, 8, 16)],
            lambda h: counted(k * 500, h),
            1.0,
            "a word of 64 gates a pair",
            beyond=[] if k == 1 else [128, 256],
            aside="conjecture: below, what a pair costs whatever its gates weighs",
        ),
    ]
