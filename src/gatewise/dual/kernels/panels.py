"""A kernel of pairs of rows as a recipe that fills any tile of it: prepared once, then applied.

    k_0 = <x, x'> ;  k_l = (k_{l-1} + b_l(x) b'_l(x')) * o_l(x, x') * c_l(x) c'_l(x')

and one step more without gates. Every scale is a choice of the factors b and c (`sides`).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.kernels.packed import (
    Gates,
    grouped,
    packed,
    side_by_side,
    unpack,
    without_dead,
)
from gatewise.dual.kernels.sides import (
    Scale,
    Side,
    require_inputs,
    require_range,
    require_units,
    side,
    starts_of,
)
from gatewise.errors import DataError
from gatewise.numeric import as_float_dtype

Method = Literal["table", "word", "matrix"]
Floats = NDArray[Any]
Corner = tuple[int, int]
BLOCK = 256  # rows: 256 x 128 float32 stay in the level-2 cache between two layers


class Step(Protocol):
    """Something done to panel[:, begin:end], whose entry (0, 0) is entry `corner` of the whole."""

    def __call__(self, panel: Floats, corner: Corner, begin: int, end: int) -> None: ...


@dataclass(frozen=True, eq=False)
class Plan:
    """A kernel (N, N'), ready to be computed tile by tile: every step in turn.

    symmetric: the two sides are the same rows. log: log sqrt K(x, x) of both sides for scale
    "log", else None. method: how gates are counted.
    """

    shape: tuple[int, int]
    symmetric: bool
    dtype: torch.dtype
    steps: tuple[Step, ...]
    log: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    method: Method

    def fill(self, panel: Floats, corner: Corner, begin: int, end: int) -> None:
        """Compute panel[:, begin:end]; panel is C-contiguous, begin and corner[1] are multiples
        of 128."""
        work = panel if self.log is None else np.empty((len(panel), end))
        for step in self.steps:
            step(work, corner, begin, end)
        if self.log is not None:
            here = corner[0], corner[1] + begin
            panel[:, begin:end] = _logarithm(work[:, begin:], self.log, here)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of the answer."""
        return np.dtype(str(self.dtype).removeprefix("torch."))


def _logarithm(cosine: Floats, log: tuple[Floats, Floats], corner: Corner) -> Floats:
    """log |K| from the cosine and the halves of the logarithms of K(x, x)."""
    with np.errstate(divide="ignore"):
        np.log(np.abs(cosine, out=cosine), out=cosine)
    cosine += log[0][corner[0] :][: len(cosine), None]
    cosine += log[1][corner[1] :][: cosine.shape[1]]
    return cosine


# -- steps --


@dataclass(frozen=True, eq=False)
class Inputs:
    """k_0 = <x, x'>, or 1."""

    x: Tensor | None
    x2: Tensor | None

    def __call__(self, panel: Floats, corner: Corner, begin: int, end: int) -> None:
        out = torch.from_numpy(panel)[:, begin:end]
        if self.x is None or self.x2 is None:
            out.fill_(1)
        else:
            rows = self.x[corner[0] : corner[0] + len(panel)]
            torch.mm(rows, self.x2[corner[1] + begin : corner[1] + end].T, out=out)


@dataclass(frozen=True, eq=False)
class Counted:
    """Packed layers, one after the other, by a kernel of `popcount`; columns shared by threads."""

    product: Callable[..., None]
    rows: NDArray[Any]
    cols: NDArray[Any]
    starts: NDArray[np.int64]
    f: Floats
    f2: Floats

    def __call__(self, panel: Floats, corner: Corner, begin: int, end: int) -> None:
        def part(span: tuple[int, int]) -> None:
            for r in range(0, len(panel), BLOCK):
                here = panel[r : r + BLOCK], self.rows, self.cols, (corner[0] + r, corner[1])
                self.product(*here, span, self.starts, self.f, self.f2)

        wide = self.cols.shape[2]
        threads = torch.get_num_threads()
        share = max(1, -(-(end - begin) // (wide * threads))) * wide
        spans = [(at, min(at + share, end)) for at in range(begin, end, share)]
        if len(spans) == 1:
            part(spans[0])
        elif spans:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(part, spans))


@dataclass(frozen=True, eq=False)
class Multiplied:
    """One layer by a matrix product of its gates as numbers; None: the last step, without gates."""

    g: Tensor | None
    g2: Tensor | None
    f: Tensor
    f2: Tensor

    def __call__(self, panel: Floats, corner: Corner, begin: int, end: int) -> None:
        out = torch.from_numpy(panel)[:, begin:end]
        rows = slice(corner[0], corner[0] + len(panel))
        cols = slice(corner[1] + begin, corner[1] + end)
        (b, c), (b2, c2) = self.f[:, rows], self.f2[:, cols]
        out.addr_(b, b2)
        if self.g is not None and self.g2 is not None:
            out.mul_(self.g[rows] @ self.g2[cols].T)
        out.mul_(c[:, None]).mul_(c2)


# -- preparation --


@dataclass(frozen=True, eq=False)
class Both:
    """The two sides of a kernel of type `dtype`, computed in `work`; symmetric: of one set of rows.

    log: is it the logarithm of the cosine that they make?
    """

    left: Side
    right: Side
    dtype: torch.dtype
    work: torch.dtype
    symmetric: bool
    log: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(N, N')."""
        return self.left.rows, self.right.rows

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of the answer."""
        return np.dtype(str(self.dtype).removeprefix("torch."))


def both(
    gates: Gates,
    gates2: Gates | None = None,
    inputs: Any = None,
    inputs2: Any = None,
    *,
    biases: Sequence[bool] | None = None,
    scale: Scale = "raw",
    dtype: torch.dtype | str = "float32",
) -> Both:
    """The sides of a kernel; what `gram` says of its arguments holds here."""
    if scale not in get_args(Scale):
        raise DataError(f"scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")
    kind = as_float_dtype(dtype)
    work = torch.float64 if scale == "log" else kind
    symmetric = gates2 is None and inputs2 is None
    given = starts_of(gates, biases)
    other = gates if gates2 is None else gates2
    require_units(gates, other)
    left = right = side(gates, inputs, given, scale, work, first=True)
    if scale == "normalised" or not symmetric:
        second = inputs if symmetric else inputs2
        right = side(other, second, given, scale, work, first=False)
    require_inputs(left, right)
    if scale == "raw":
        require_range(left, right, work)
    return Both(left, right, kind, work, symmetric, scale == "log")


def prepare(
    gates: Gates,
    gates2: Gates | None = None,
    inputs: Any = None,
    inputs2: Any = None,
    *,
    biases: Sequence[bool] | None = None,
    scale: Scale = "raw",
    dtype: torch.dtype | str = "float32",
    method: Method | None = None,
) -> Plan:
    """The plan of a kernel; what `gram` says of its arguments holds here."""
    sides = both(gates, gates2, inputs, inputs2, biases=biases, scale=scale, dtype=dtype)
    left, right, method = sides.left, sides.right, method or best_method()
    steps: tuple[Step, ...] = ()
    if left.rows and right.rows:
        steps = (_inputs(left, right), *_steps(left, right, sides.work, method))
    log = (left.log, right.log) if sides.log else None
    return Plan(sides.shape, sides.symmetric, sides.dtype, steps, log, method)


@cache
def best_method() -> Method:
    """How to count: by table with AVX2, else by words; by matrix without Numba.

    Measured on one core with AVX2, 784-512x4-10, 5,000 rows: half-bytes by table 0.08 s, words
    0.13 s, float32 matrices 0.70 s; the order does not hang on width or rows, so neither does this.
    """
    if find_spec("numba") is None:
        return "matrix"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "word"
    from llvmlite.binding import get_host_cpu_features

    return "table" if get_host_cpu_features().get("avx2") else "word"


def _inputs(left: Side, right: Side) -> Inputs:
    """The start, without the columns that are 0 in all rows of a side."""
    if left.x is None or right.x is None:
        return Inputs(None, None)
    live = (left.x != 0).any(0) & (right.x != 0).any(0)
    if bool(live.all()):
        return Inputs(left.x, right.x)
    x = left.x[:, live]
    return Inputs(x, x if right.x is left.x else right.x[:, live])


def _steps(left: Side, right: Side, work: torch.dtype, method: Method) -> tuple[Step, ...]:
    """Runs of packed layers counted together, the others by matrix; a last step if it does any."""
    f, f2 = left.factors.copy(), right.factors.copy()
    last = len(left.gates.units)
    if last and not f[0, last].any():  # without a last bias the last factor joins the last layer
        for one in (f, f2):
            one[1, last - 1] *= one[1, last]
            one[1, last] = 1
    gates, gates2 = without_dead(left.gates, right.gates)
    both = zip(gates.layers, gates2.layers, strict=True)
    counted = [method != "matrix" and packed(a) and packed(b) for a, b in both]
    steps: list[Step] = []
    for compact, group in groupby(range(last), key=counted.__getitem__):
        which = list(group)
        if compact:
            part, part2 = (_contiguous(one[:, which], work) for one in (f, f2))
            a = gates.only(*which)
            b = a if gates2 is gates else gates2.only(*which)
            steps.append(_counted(a, b, part, part2, method))
        else:
            steps += [_multiplied(gates, gates2, n, f, f2, work) for n in which]
    if f[0, last].any() or (f[1, last] != 1).any() or (f2[1, last] != 1).any():
        own, other = (torch.from_numpy(one[:, last]).to(work) for one in (f, f2))
        steps.append(Multiplied(None, None, own, other))
    return tuple(steps)


def _contiguous(numbers: Floats, kind: torch.dtype) -> Floats:
    return np.ascontiguousarray(numbers, dtype=str(kind).removeprefix("torch."))


def _multiplied(
    gates: Gates, gates2: Gates, n: int, f: Floats, f2: Floats, kind: torch.dtype
) -> Multiplied:
    """The step of layer n by a matrix product."""
    g = _numbers(gates, n, kind)
    g2 = g if gates2 is gates else _numbers(gates2, n, kind)
    own, other = (torch.from_numpy(one[:, n]).to(kind) for one in (f, f2))
    return Multiplied(g, g2, own, other)


def _numbers(gates: Gates, n: int, kind: torch.dtype) -> Tensor:
    layer = gates.layers[n]
    held = unpack(layer, gates.units[n]) if packed(layer) else layer
    return torch.from_numpy(held).to(kind)


def _counted(gates: Gates, gates2: Gates, f: Floats, f2: Floats, method: Method) -> Counted:
    """The step of packed layers, their codes laid out as the kernels want them."""
    from gatewise.dual.kernels import popcount

    table = method == "table"
    codes, starts = side_by_side(gates, table)
    other = codes if gates2 is gates else side_by_side(gates2, table)[0]
    rows = np.pad(codes << 4 if table else codes, ((0, 1), (0, 0)))  # rows are counted in pairs
    product = popcount.product_by_table if table else popcount.product_by_word
    return Counted(product, rows, grouped(other, popcount.WIDE), starts, f, f2)
