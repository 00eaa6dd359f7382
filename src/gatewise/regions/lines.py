"""trace(network, x, direction): f along lines, exactly: affine between knots that are all found.

A network of gates is piecewise affine along a line too. Each value is held at its own knots; at a
gate the places where a unit changes its branch are put in between (the zero of a line, so no step
size), and the walk goes on. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from gatewise.errors import DataError, NotPiecewiseAffine, WrongShape
from gatewise.ir.kinds import Pieces
from gatewise.ir.network import (
    Network,
    forward,
    require_piecewise_affine,
)
from gatewise.linear.affine_map import node_size
from gatewise.regions.curves import walk, walk_back, walk_there
from gatewise.regions.grids import Curve, Grid, whole

CHUNK_BYTES = 1 << 21  # of one value at the widest node: what fits the caches with its fellows
FIRST_ROWS = 64  # lines in the first chunk, which says how many knots a line has


@dataclass(frozen=True, eq=False)
class Trace:
    """f(x + t direction) for some lines; line i has the knots ptr[i] to ptr[i+1].

    t (knots,) increases along a line, values (knots, outputs) are f there, and between two knots f
    is affine. before, after (rows, outputs): the slope beyond the first and the last knot where
    that end is infinite, else None. error (rows,): the largest measured |values - f| at a knot.
    """

    ptr: Tensor
    t: Tensor
    values: Tensor
    before: Tensor | None
    after: Tensor | None
    error: Tensor

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __repr__(self) -> str:
        most = int(self.ptr.diff().max()) if len(self) else 0
        return (
            f"Trace({len(self)} lines, {len(self.t)} knots, at most {most} a line; "
            f"measured error {float(self.error.max()) if len(self) else 0:.2g})"
        )

    def __getitem__(self, line: int) -> tuple[Tensor, Tensor]:
        """The knots (K,) and values (K, outputs) of one line."""
        line = range(len(self))[line]
        part = slice(*self.ptr[line : line + 2].tolist())
        return self.t[part], self.values[part]

    @property
    def row(self) -> Tensor:
        """(knots,) the line of each knot."""
        return torch.repeat_interleave(self.ptr.diff())

    @property
    def slopes(self) -> Tensor:
        """(knots, outputs) of the piece to the right of each knot; nan where there is none."""
        gap, rise = self.t.diff(), self.values.diff(dim=0)
        slope = torch.cat([rise / gap[:, None], rise.new_full((1, rise.shape[1]), torch.nan)])
        slope[self.ptr[1:] - 1] = torch.nan if self.after is None else self.after
        return slope

    @property
    def bends(self) -> Tensor:
        """(knots,) True where an output changes its slope (by over 1e-9 of the line's largest).

        At other knots a unit changes its branch and no output of those traced shows it.
        """
        slope = self.slopes
        left = torch.cat([slope[:1], slope[:-1]])
        left[self.ptr[:-1]] = torch.nan if self.before is None else self.before
        steep = slope.abs().amax(1).nan_to_num(0)
        most = steep.new_zeros(len(self)).scatter_reduce_(0, self.row, steep, "amax")
        # nan at an end: neither above nor below
        return ((slope - left).abs() > 1e-9 * most[self.row, None]).any(1)

    def at(self, t: Any) -> Tensor:
        """(lines, outputs) the values at t: one number, or one a line; of a single line, any many.

        Raises DataError where t is not between the ends of its line, unless that end is infinite.
        """
        line, t = self._places(t)
        if len(self) == 1:
            held = torch.searchsorted(self.t, t, right=True)
        else:
            below = (self.t <= t[self.row]).long()
            held = torch.zeros_like(self.ptr[1:]).index_add_(0, self.row, below)
        first, last = self.ptr[:-1][line], self.ptr[1:][line] - 1
        left = first + (held - 1).clamp(min=0)
        right = torch.minimum(left + 1, last)
        run = self.t[right] - self.t[left]
        part = torch.where(run > 0, (t - self.t[left]) / run, 0.0)[:, None]
        value = (1 - part) * self.values[left] + part * self.values[right]
        for slopes, knot, way in ((self.before, first, -1), (self.after, last, 1)):
            away = t - self.t[knot]
            beyond = away * way > 0
            slope = self.values.new_full(value.shape, torch.nan) if slopes is None else slopes[line]
            outside = beyond & slope.isnan().any(1)
            if bool(outside.any()):
                raise _beyond(t, self.t[knot], int(outside.nonzero()[0]))
            value = torch.where(beyond[:, None], self.values[knot] + away[:, None] * slope, value)
        return value

    def _places(self, given: Any) -> tuple[Tensor, Tensor]:
        """The lines (places,) that are asked about, and t on each."""
        t = _numbers("t", given, self.t).reshape(-1)
        if not bool(t.isfinite().all()):
            raise DataError("t holds NaN or infinity: a place on a line is a finite number")
        single = len(self) == 1
        if not single and t.numel() not in (1, len(self)):
            raise WrongShape(
                f"t has {t.numel()} numbers for {len(self)} lines: give one number, or one a line"
            )
        line = torch.arange(len(self), device=t.device)
        return (torch.zeros_like(t, dtype=torch.long), t) if single else (line, t.expand(len(self)))


def _beyond(t: Tensor, end: Tensor, k: int) -> DataError:
    return DataError(
        f"t = {float(t[k]):g} is beyond {float(end[k]):g}, where the line ends: trace it further "
        "with start= and stop=, which may be infinite"
    )


def trace(
    network: Network,
    x: Tensor,
    direction: Tensor,
    start: float | Tensor = 0.0,
    stop: float | Tensor = 1.0,
    outputs: Sequence[int] | None = None,
) -> Trace:
    """f along x + t direction, start <= t <= stop: one line a row of x, direction (rows, inputs).

    One row on either side is repeated; start and stop are numbers or one a line, and may be
    infinite. Computed in float64 whatever the network's dtype. Memory: a chunk of lines and the
    answer. Where two units change at one place there is one knot; a knot need not bend an output.
    """
    network = _continuous(network, "tracing a line")
    x, direction = _lines(network, x, direction)
    a, b = _span(start, stop, x)
    chosen = list(range(network.outputs)) if outputs is None else list(outputs)

    def work(part: slice) -> tuple[int, _Part]:
        grid, home, way = whole(a[part], b[part]), x[part], direction[part]
        end = walk(network, home, way, grid)
        value = end.value.reshape(len(end.grid), -1)[:, chosen]
        error = _errors(network, home, way, Curve(end.grid, value), chosen)
        return len(end.grid), _Part(end.grid, value, error)

    return _joined(_chunked(network, len(x), work), len(x), len(chosen), x)


def mean_slopes(network: Network, x: Tensor, direction: Tensor, outputs: Sequence[int]) -> Tensor:
    """(rows, k, inputs) the gradients of k outputs averaged over 0 <= t <= 1, by their pieces.

    The integral of the cotangent over the pieces on which a gate keeps its branches is summed up
    before it goes through the layer before that gate, so the finest grid is met once.
    """
    network = _continuous(network, "averaging slopes along a line")
    x, direction = _lines(network, x, direction)
    zero = x.new_zeros(len(x))

    def work(part: slice) -> tuple[int, Tensor]:
        start = whole(zero[part], zero[part] + 1)
        end, record = walk_there(network, x[part], direction[part], start)
        return len(end), walk_back(network, start, end, record, outputs)

    parts = _chunked(network, len(x), work)
    return torch.cat([x.new_zeros(0, len(outputs), network.inputs), *parts])


# -- chunks, checks --


@dataclass(frozen=True, eq=False)
class _Part:
    grid: Grid
    value: Tensor
    error: Tensor


T = TypeVar("T")


def _chunked(network: Network, rows: int, work: Callable[[slice], tuple[int, T]]) -> list[T]:
    """The results of successive chunks of lines, each as large as the knots so far allow."""
    widest = max([network.inputs, *(node_size(n.shape) for n in network.nodes)])
    parts: list[T] = []
    start, step = 0, max(1, min(FIRST_ROWS, CHUNK_BYTES // (16 * widest)))
    while start < rows:
        stop = min(start + step, rows)
        knots, result = work(slice(start, stop))
        parts.append(result)
        step = max(1, CHUNK_BYTES * (stop - start) // (8 * widest * knots))
        start = stop
    return parts


def _joined(parts: list[_Part], rows: int, outputs: int, x: Tensor) -> Trace:
    """The parts as one Trace: slopes at the ends of rays are set apart from the knots."""
    none, starts = x.new_zeros(0), torch.tensor([0, *(len(p.error) for p in parts)]).cumsum(0)
    values = torch.cat([x.new_zeros(0, outputs), *(p.value for p in parts)])
    t = torch.cat([none, *(p.grid.t for p in parts)])
    row = torch.cat([none.long(), *(p.grid.row + s for p, s in zip(parts, starts, strict=False))])
    low, high = t == -torch.inf, t == torch.inf
    kept = ~(low | high)
    ptr = torch.bincount(row[kept], minlength=rows).cumsum(0)
    empty, error = (
        x.new_full((rows, outputs), torch.nan),
        torch.cat([none, *(p.error for p in parts)]),
    )
    before = empty.index_copy(0, row[low], -values[low]) if low.any() else None
    after = empty.index_copy(0, row[high], values[high]) if high.any() else None
    ptr = torch.cat([ptr.new_zeros(1), ptr])
    return Trace(ptr, t[kept], values[kept], before, after, error)


def _errors(
    network: Network, x: Tensor, direction: Tensor, traced: Curve, outputs: list[int]
) -> Tensor:
    """(rows,) the largest |value - f(x + t direction)| over the finite knots of each line."""
    kept = ~traced.grid.rays
    row, t = traced.grid.row[kept], traced.grid.t[kept]
    points = x[row] + t[:, None] * direction[row]
    y = forward(network, points.reshape(-1, *network.input_shape)).reshape(len(points), -1)
    gap = (y[:, outputs] - traced.value[kept]).abs().amax(1) if outputs else t * 0
    return x.new_zeros(len(x)).scatter_reduce_(0, row, gap, "amax")


def _continuous(network: Network, task: str) -> Network:
    """The network in float64; refused by name where a gate jumps: a curve has no value there."""
    require_piecewise_affine(network, task)
    network = network.to(torch.float64)
    for node in network.gates:
        if isinstance(node.kind, Pieces) and _jumps(node.kind):
            raise NotPiecewiseAffine(
                f"{task} needs a continuous network, but node '{node.name}' is {node.layer}, which "
                f"jumps at its threshold: a jump has no slope, so slopes would not add up"
            )
    return network


def _jumps(kind: Pieces) -> bool:
    """Do two branches differ at the knot between them by more than float32 weights explain?"""
    for k, knot in enumerate(kind.knots):
        low, high = (kind.slopes[i] * knot + kind.offsets[i] for i in (k, k + 1))
        if bool(((low - high).abs() > 1e-6 * (1 + low.abs() + knot.abs())).any()):
            return True
    return False


def _lines(network: Network, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """x and direction as (rows, inputs) in float64, a single row repeated."""
    flat = []
    for name, rows in (("x", x), ("direction", direction)):
        rows = torch.as_tensor(rows, dtype=torch.float64, device=network.device)
        rows = rows.flatten(1) if rows.ndim > 1 else rows.reshape(1, -1)
        if rows.shape[1] != network.inputs:
            raise WrongShape(
                f"{name} must have rows of {network.inputs} numbers, one for each input of the "
                f"network, got shape {tuple(rows.shape)}"
            )
        if not bool(rows.isfinite().all()):
            raise DataError(f"{name} holds NaN or infinity: a line needs finite numbers")
        flat.append(rows)
    n = max(map(len, flat))
    if any(len(f) not in (1, n) for f in flat):
        raise WrongShape(
            f"x has {len(flat[0])} rows and direction {len(flat[1])}: give as many of each, or one"
        )
    a, b = (f.expand(n, -1) for f in flat)
    return a, b


def _span(start: float | Tensor, stop: float | Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """start and stop of every line."""
    ends = [_numbers(name, v, x) for name, v in (("start", start), ("stop", stop))]
    if any(v.numel() not in (1, len(x)) for v in ends):
        raise WrongShape(f"start and stop must be one number, or one for each of {len(x)} lines")
    a, b = (v.reshape(-1).expand(len(x)) for v in ends)
    if not bool((a <= b).all()):  # nan is not
        raise DataError("start must not be beyond stop, and neither may be NaN, on any line")
    return a, b


def _numbers(name: str, given: Any, like: Tensor) -> Tensor:
    """A number, or several, as a tensor of the kind of another."""
    try:
        return torch.as_tensor(given, dtype=like.dtype, device=like.device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{name} must be a number, or one for each line, got a {type(given).__name__}"
        ) from None
