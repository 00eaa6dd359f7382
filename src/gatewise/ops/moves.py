"""Moving values: rules that copy entries to other places and round nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.ir.kinds import Shape
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import axis, number, position

# -- rules --


@dataclass(frozen=True)
class Rearrange:
    """x as `split`, its axes in `order` (None: as they are), and read off as `target`."""

    source: Shape
    split: Shape
    order: tuple[int, ...] | None
    target: Shape

    def __call__(self, x: Tensor) -> Tensor:
        if self.order is not None:
            x = x.reshape(len(x), *self.split).permute(0, *(a + 1 for a in self.order))
        return x.reshape(len(x), *self.target)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """The same moves the other way."""
        if self.order is not None:
            g = g.reshape(len(g), *(self.split[a] for a in self.order))
            g = g.permute(0, *(self.order.index(a) + 1 for a in range(len(self.order))))
        return (g.reshape(len(g), *self.source),)


@dataclass(frozen=True)
class Cut:
    """x[start:stop:step] along a tensor axis of length `size`."""

    over: int
    start: int
    stop: int
    step: int
    size: int

    def __call__(self, x: Tensor) -> Tensor:
        return x[self._where]

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """g at its places, zero elsewhere."""
        whole = g.new_zeros(*g.shape[: self.over], self.size, *g.shape[self.over + 1 :])
        whole[self._where] = g
        return (whole,)

    @property
    def _where(self) -> tuple[slice, ...]:
        return (slice(None),) * self.over + (slice(self.start, self.stop, self.step),)


@dataclass(frozen=True)
class Join:
    """The xs one after the other along a tensor axis; a gap is that many zeros instead of an x."""

    over: int
    gaps: tuple[int | None, ...]
    sizes: tuple[int, ...]

    def __call__(self, *xs: Tensor) -> Tensor:
        rest = iter(xs)
        return torch.cat(
            [next(rest) if n is None else self._zeros(n, xs[0]) for n in self.gaps], self.over
        )

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """g cut up again."""
        parts = g.split(self.sizes, self.over)
        return tuple(p for p, n in zip(parts, self.gaps, strict=True) if n is None)

    def _zeros(self, n: int, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[: self.over], n, *x.shape[self.over + 1 :])


@dataclass(frozen=True)
class Pick:
    """y[.., i, j, ..] = x[.., I[i], J[j], ..]: one list of positions for each of some axes."""

    over: tuple[int, ...]

    def __call__(self, *positions_and_x: Tensor) -> Tensor:
        *positions, x = positions_and_x
        for a, where in zip(self.over, positions, strict=True):
            x = x.index_select(a, where)
        return x


def take(where: Tensor, x: Tensor) -> Tensor:
    """y = x[where], for positions in one flattened row."""
    return x.flatten(1).index_select(1, where.reshape(-1)).reshape(len(x), *where.shape)


@dataclass(frozen=True)
class Zeros:
    """Zeros before and after, axis by axis (negative: cut off); amounts as in F.pad."""

    amounts: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """What was added is cut off."""
        return (F.pad(g, tuple(-n for n in self.amounts)),)


# -- nodes, in the source's own axes --


def reshape(b: Builder, x: Ref, shape: Iterable[int]) -> Ref:
    """The same values in the same order under another shape; one length may be -1."""
    target = _sized(b, x, tuple(shape))
    if target == x.shape:
        return x
    rule = Rearrange(x.shape, x.shape, None, target)
    return b.affine(rule, x, pullback=rule.back)


def _sized(b: Builder, x: Ref, shape: Shape) -> Shape:
    n = math.prod(x.shape)
    if shape.count(-1) == 1:
        known = math.prod(s for s in shape if s != -1)
        shape = tuple(n // max(1, known) if s == -1 else s for s in shape)
    if math.prod(shape) != n or any(s < 0 for s in shape):
        raise b.refuse(f"a value of shape {x.shape} cannot be given shape {shape}")
    return shape


def permute(b: Builder, x: Ref, order: Iterable[int]) -> Ref:
    """Axis order[k] of x becomes axis k."""
    turned = tuple(position(a, x.ndim) for a in order)
    if sorted(turned) != list(range(x.ndim)):
        raise b.refuse(f"{turned} is not an order of the {x.ndim} axes of its input")
    if turned == tuple(range(x.ndim)):
        return x
    return rearrange(b, x, x.shape, turned, tuple(x.shape[a] for a in turned))


def rearrange(b: Builder, x: Ref, split: Shape, order: tuple[int, ...], target: Shape) -> Ref:
    """x as `split`, its axes permuted, read off as `target`."""
    rule = Rearrange(x.shape, split, order, target)
    return b.affine(rule, x, pullback=rule.back)


def cut(b: Builder, x: Ref, dim: int, start: int, stop: int, step: int = 1) -> Ref:
    """x[start:stop:step] along a source axis, with Python's own rules."""
    a = axis(x, dim)
    size = x.shape[a - 1]
    where = range(size)[start:stop:step]
    if len(where) == size and step > 0:
        return x
    if step < 0:
        return pick(b, x, {dim: torch.tensor(list(where), dtype=torch.long)})
    rule = Cut(a, where.start, where.stop, step, size)
    return b.affine(rule, x, pullback=rule.back)


def choose(b: Builder, x: Ref, dim: int, k: int) -> Ref:
    """The k-th slice along a source axis, without that axis."""
    a = position(dim, x.ndim)
    k = int(inside(b, torch.tensor(k), x.shape[a]))
    return reshape(b, cut(b, x, a, k, k + 1), x.shape[:a] + x.shape[a + 1 :])


def join(b: Builder, parts: Sequence[Operand], dim: int) -> Ref:
    """The parts one after the other along a source axis; constants come in through the bias."""
    xs = [p for p in parts if isinstance(p, Ref)]
    over = axis(xs[0], dim)
    values = [p if isinstance(p, Ref) else number(p) for p in parts]
    if any(len(v.shape) != xs[0].ndim for v in values):
        raise b.refuse(f"the parts have shapes {[tuple(v.shape) for v in values]}")
    sizes = tuple(v.shape[over - 1] for v in values)
    gaps = tuple(None if isinstance(v, Ref) else v.shape[over - 1] for v in values)
    whole = [torch.zeros(v.shape, dtype=torch.float64) if isinstance(v, Ref) else v for v in values]
    bias = torch.cat(whole, over - 1) if len(xs) < len(values) else None
    rule = Join(over, gaps, sizes)
    return b.affine(rule, *xs, bias=bias, pullback=rule.back)


def pick(b: Builder, x: Ref, where: dict[int, Tensor]) -> Ref:
    """Positions along some source axes, each axis on its own."""
    weights, back = [], 1
    for a, index in where.items():
        size = x.shape[position(a, x.ndim)]
        weights.append(inside(b, index, size))
        back *= int(torch.bincount(weights[-1], minlength=1).max()) if index.numel() else 1
    rule = Pick(tuple(axis(x, a) for a in where))
    return b.affine(rule, x, weights=weights, terms_back=back if back > 1 else 0)


def moved(b: Builder, x: Ref, move: Callable[[Tensor], Tensor]) -> Ref:
    """Whatever `move` does to the positions of x's entries is done to the entries."""
    where = move(torch.arange(math.prod(x.shape)).reshape(x.shape))
    back = int(torch.bincount(where.reshape(-1), minlength=1).max())
    return b.affine(take, x, weights=(where.contiguous(),), terms_back=back if back > 1 else 0)


def inside(b: Builder, index: Tensor, size: int) -> Tensor:
    """Positions counted from the front, all of them within 0..size-1."""
    index = index.long()
    if index.numel() and not bool(((index >= -size) & (index < size)).all()):
        raise b.refuse(f"it takes position {int(index.abs().max())} of an axis of {size}")
    return torch.where(index < 0, index + size, index)
