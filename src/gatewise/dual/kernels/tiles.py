"""A neural path kernel larger than memory, written tile by tile to a .npy file.

Only tiles are in memory: TILE x TILE numbers, and of every row its gates (a bit each, and half a
byte in the layout of the kernels) and its inputs. The file is written under a hidden name, and gets
its own when it is whole: a stopped run leaves no file that looks finished.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Chain, Gated, gated, pattern_of, value_input
from gatewise.dual.kernels.gram import mirror, relative_error
from gatewise.dual.kernels.packed import from_pattern
from gatewise.dual.kernels.panels import Corner, Floats, prepare
from gatewise.dual.kernels.path_kernel import npk, rounding
from gatewise.dual.kernels.sides import Scale
from gatewise.errors import OutputError
from gatewise.given.rows import sides_of
from gatewise.numeric import as_float_dtype, unit_roundoff
from gatewise.tables.writing import whole_file

TILE = 1024  # rows a side of a tile: a row of one is a page of a file of float32
SMALL = 256  # the same where every pair of rows is a recursion of its own
BATCH = 2048  # rows whose gates are decided together
PAD = 32  # columns: rows a power of two apart would share a few lines of the cache
STRIPE = 64  # rows turned together: their columns stay in the cache

HEADER = 128  # bytes of a .npy file before its numbers


@dataclass(frozen=True, eq=False)
class KernelFile:
    """A kernel in a .npy file: `open()` maps it into memory, read-only.

    error: a bound on |values - exact| / H(|x|, |x'|) of a raw or normalised kernel.
    """

    path: Path
    shape: tuple[int, int]
    dtype: str
    scale: Scale
    error: float

    def open(self) -> NDArray[Any]:
        """The kernel, read from the file where it is looked at."""
        return np.asanyarray(np.load(self.path, mmap_mode="r", allow_pickle=False))

    def __str__(self) -> str:
        rows, columns = self.shape
        return (
            f"neural path kernel of {rows} x {columns} rows ({self.scale}, {self.dtype}, "
            f"{self.path.stat().st_size:,} bytes) in '{self.path}'\n"
            f"{rounding(self.scale, self.error)}"
        )


def npk_to_file(
    net: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    X2: Any = None,
    scale: Scale = "raw",
    dtype: torch.dtype | str = "float32",
    inputs: bool = True,
    biases: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> KernelFile:
    """`npk(net, X, X2)` into a .npy file, for kernels that memory does not hold.

    progress(done, all): called after each tile. Raises OutputError, with the bytes needed, where
    the disk has no room for them; all space is taken before the first tile is computed.
    """
    options: dict[str, Any] = {"scale": scale, "inputs": inputs, "biases": biases}
    job = _job(gated(net), X, X2, as_float_dtype(dtype), **options)
    target = Path(path)
    with whole_file(target) as draft:
        answer = _room(draft, target, job)
        _stream(answer, job, progress)
    return KernelFile(target, job.shape, str(job.dtype), scale, job.error)


# -- tiles of a kernel --


@dataclass(frozen=True, eq=False)
class Job:
    """A kernel by tiles: fill(tile, (i, j), 0, n) computes tile[:, :n], from entry (i, j) on."""

    shape: tuple[int, int]
    symmetric: bool
    dtype: np.dtype[Any]
    tile: int
    fill: Callable[[Floats, Corner, int, int], None]
    error: float

    def corners(self) -> list[Corner]:
        """The first entry of each tile, tiles above the diagonal of a symmetric kernel left out."""
        rows, columns = (range(0, n, self.tile) for n in self.shape)
        return [(i, j) for i in rows for j in columns if j <= i or not self.symmetric]


def _job(whole: Gated, X: Any, X2: Any, kind: torch.dtype, **options: Any) -> Job:
    exact = whole.network.to(torch.float64)
    sides = sides_of(exact, X, X2)
    if whole.layers is None:
        return _recursion(whole, sides, kind, options)
    return _chain(whole, whole.layers, sides, kind, **options)


def _chain(
    whole: Gated,
    chain: Chain,
    sides: list[Tensor],
    kind: torch.dtype,
    *,
    scale: Scale,
    inputs: bool,
    biases: bool,
) -> Job:
    """A plain chain: gates and inputs of all rows, then the plan of `gram`."""
    seen = inputs and chain.constant_input is None
    gates = [from_pattern(pattern_of(whole, v, BATCH), chain.sites) for v in sides]
    work = torch.float64 if scale == "log" else kind
    rows: list[Tensor | None] = [_values(whole, v, work) if seen else None for v in sides]
    if not chain.sites and not seen:  # neither gates nor inputs tell how many rows there are
        rows = [torch.ones(len(v), 1, dtype=work) for v in sides]
    starts = [biases and b is not None for b in chain.biases]
    more = (gates[1], rows[0], rows[1]) if len(sides) > 1 else (None, rows[0], None)
    plan = prepare(gates[0], *more, biases=starts, scale=scale, dtype=kind)
    shape = len(sides[0]), len(sides[-1])
    error = relative_error(chain.widths[0], len(chain.sites), kind)
    return Job(shape, plan.symmetric, plan.numpy, TILE, plan.fill, error)


def _values(whole: Gated, rows: Tensor, kind: torch.dtype) -> Tensor:
    """What the first weight layer multiplies."""
    return torch.cat([value_input(whole, part).cpu().to(kind) for part in rows.split(BATCH)])


def _recursion(
    whole: Gated, sides: list[Tensor], kind: torch.dtype, options: dict[str, Any]
) -> Job:
    """Any other network: `npk` of one tile after the other."""
    one, two = sides[0], sides[-1]

    def fill(tile: Floats, corner: Corner, begin: int, end: int) -> None:
        rows = one[corner[0] : corner[0] + len(tile)]
        columns = two[corner[1] + begin : corner[1] + end]
        inside = one is two and corner[0] == corner[1]
        tile[:, begin:end] = npk(whole, rows, None if inside else columns, **options).values

    shape, number = (len(one), len(two)), np.dtype(str(kind).removeprefix("torch."))
    error = npk(whole, one[:1], **options).error + unit_roundoff(kind)
    return Job(shape, one is two, number, SMALL, fill, error)


# -- the file --


def _room(draft: Path, target: Path, job: Job) -> np.memmap[Any, Any]:
    """The file at its full size, mapped; refused where the disk has no room for all of it."""
    needed = job.shape[0] * job.shape[1] * job.dtype.itemsize
    free = shutil.disk_usage(draft.parent).free
    if free < needed + HEADER:
        raise _full(target, job, needed + HEADER, f"{free:,} are free")
    answer = open_memmap(draft, mode="w+", dtype=job.dtype, shape=job.shape)
    try:
        _take(draft)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(target, job, needed + HEADER, os.strerror(error.errno).lower()) from error
    return answer


def _take(draft: Path) -> None:
    """Take the space now: a mapped write that finds no room on the disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        with draft.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, draft.stat().st_size)


def _full(target: Path, job: Job, needed: int, fact: str) -> OutputError:
    rows, columns = job.shape
    return OutputError(
        f"could not write '{target}': a kernel of {rows} x {columns} {job.dtype} needs {needed:,} "
        f"bytes, and {fact} there; nothing was left behind; choose another place or fewer rows"
    )


def _stream(
    answer: np.memmap[Any, Any], job: Job, progress: Callable[[int, int], None] | None
) -> None:
    """Every tile in turn, and its mirror image; pages that are done are given back."""
    corners = job.corners()
    size = min(job.tile, job.shape[0]), min(job.tile, job.shape[1]) + PAD
    room = torch.empty(size, dtype=getattr(torch, str(job.dtype))).numpy()  # on a cache line
    for done, (i, j) in enumerate(corners, 1):
        tile = room[: min(job.tile, job.shape[0] - i)]
        width = min(job.tile, job.shape[1] - j)
        job.fill(tile, (i, j), 0, width)
        if job.symmetric and i == j:
            mirror(tile, 0, width)
        answer[i : i + len(tile), j : j + width] = tile[:, :width]
        if job.symmetric and i > j:
            _turned(answer, tile, (j, i), width)
        if done == len(corners) or corners[done][0] != i:
            _give_back(answer)
        if progress is not None:
            progress(done, len(corners))


def _turned(answer: Floats, tile: Floats, corner: Corner, width: int) -> None:
    """The transpose of tile[:, :width] into the answer from `corner` on."""
    here = answer[:, corner[1] : corner[1] + len(tile)]
    for k in range(0, width, STRIPE):
        stop = min(k + STRIPE, width)
        here[corner[0] + k : corner[0] + stop] = tile[:, k:stop].T


def _give_back(answer: np.memmap[Any, Any]) -> None:
    """Let the system write the pages and forget them, so that they do not count as ours."""
    held = getattr(answer, "_mmap", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)
