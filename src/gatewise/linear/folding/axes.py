"""Which axis of a layer's weight belongs to which axis of its value: found by trying, not by name.

Scaling a weight along an axis by p and scaling the value by p are the same polynomial in weight,
input and p, or they differ at random numbers. So dense layers, convolutions in groups and layers
yet unknown are all served.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Shape, Taps, scale

F64 = torch.float64
CLOSE = 1e-9


@dataclass(frozen=True)
class Match:
    """Scaling along `weight` (axis of the weight) scales the value along `value` (of its shape)."""

    weight: int
    value: int


def entrywise(affine: Affine, shape: Shape, out: Shape) -> Tensor | None:
    """s (*shape) where L x = s x entry by entry, or None."""
    if affine.batched or shape != out:
        return None
    ones = torch.ones(1, *shape, dtype=F64)
    if affine.rule is scale:
        return affine.linear(ones)[0]
    if affine.weights or affine.terms:
        return None
    x = _random(1, *shape)
    return ones[0] if torch.equal(affine.linear(x), x) else None


def reshapes(affine: Affine, shape: Shape) -> bool:
    """Does it give back every entry in its order, perhaps under another shape?"""
    if affine.batched or affine.weights or affine.terms or affine.bias is not None:
        return False
    x = _random(1, *shape)
    y = affine.linear(x)
    return x.numel() == y.numel() and torch.equal(x.flatten(), y.flatten())


def weight_of(affine: Affine) -> Tensor | None:
    """The one weight of a layer that multiplies, or None."""
    plain = not affine.batched and len(affine.weights) == 1
    return affine.weights[0] if plain and affine.weights[0].is_floating_point() else None


@dataclass(frozen=True)
class OnePlace:
    """Taps of a dense layer: its entries, at one position."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, 1)

    def units(self, y: Tensor) -> Tensor:
        """(rows, units, 1)."""
        return self(y)


def taps_of(affine: Affine, shape: Shape, out: Shape) -> Taps | None:
    """How its weight matrix is used: as the layer says; at one place if it is a plain product."""
    w = weight_of(affine)
    if w is None or affine.rule is scale or affine.taps is not None:
        return affine.taps if w is not None else None
    if tuple(w.shape) != (math.prod(out), math.prod(shape)) or not _any_rows(affine, shape):
        return None
    return OnePlace() if multiplies(affine, _random(*w.shape), _random(2, *shape)) else None


def multiplies(affine: Affine, w: Tensor, x: Tensor) -> bool:
    """With this weight, is it W x of the flattened rows x? Entries of both are about 1 at most."""
    theirs = dataclasses.replace(affine, weights=(w,)).linear(x).reshape(len(x), -1)
    ours = x.reshape(len(x), -1) @ w.T
    return torch.allclose(theirs, ours, rtol=CLOSE, atol=1e-12 * w.shape[1])


def _any_rows(affine: Affine, shape: Shape) -> bool:
    """Does a weight with one more row give one more number? (A rule may know its size.)"""
    m, n = affine.weights[0].shape
    more = dataclasses.replace(affine, weights=(_random(m + 1, n),))
    try:
        return more.linear(_random(1, *shape)).numel() == m + 1
    except RuntimeError:  # torch's word for a reshape that does not fit
        return False


def outward(affine: Affine, shape: Shape, out: Shape) -> Match | None:
    """The weight's axis of outputs, and the axis of the value that it runs along."""
    return _match(affine, shape, out, forward=True)


def inward(affine: Affine, shape: Shape, out: Shape) -> Match | None:
    """The weight's axis of inputs, and the axis of the input that it runs along."""
    return _match(affine, shape, shape, forward=False)


def _match(affine: Affine, shape: Shape, sizes: Shape, forward: bool) -> Match | None:
    w = weight_of(affine)
    if w is None or affine.rule is scale:
        return None
    some, x = _random(*w.shape), _random(1, *shape)
    plain = dataclasses.replace(affine, weights=(some,))
    pairs = [(i, a) for i, n in enumerate(w.shape) for a, m in enumerate(sizes) if n == m]
    pairs.sort(key=lambda pair: w.shape[pair[0]] == 1)  # an axis of 1 fits any other of 1: last
    for i, a in pairs:
        p = _random(w.shape[i])
        q = along(p, a, len(sizes))
        moved = dataclasses.replace(affine, weights=(some * along(p, i, w.ndim),)).linear(x)
        theirs = plain.linear(x) * q if forward else plain.linear(x * q)
        if torch.allclose(theirs, moved, rtol=CLOSE, atol=0):
            return Match(i, a)
    return None


def along(v: Tensor, axis: int, ndim: int) -> Tensor:
    """v (n,) as a tensor of ndim axes that runs along one of them."""
    return v.reshape(*(-1 if a == axis else 1 for a in range(ndim)))


def constant_but(values: Tensor, axis: int) -> Tensor | None:
    """v (n,) where values (*shape) change along one axis only, or None."""
    flat = values.movedim(axis, 0).reshape(values.shape[axis], -1)
    first = flat[:, :1]
    return first[:, 0].clone() if flat.shape[1] and bool((flat == first).all()) else None


def narrow(bias: Tensor, shape: Shape, axis: int | None) -> Tensor:
    """A bias (*shape) as one number along an axis where it is that, with the axes behind it."""
    v = None if axis is None else constant_but(bias, axis)
    if v is None or axis is None:
        return bias.clone()
    return v.reshape(-1, *[1] * (len(shape) - 1 - axis))


def full(affine: Affine, out: Shape) -> Tensor:
    """The bias at every entry, (*out); zeros where there is none."""
    zero = torch.zeros(out, dtype=F64)
    return zero if affine.bias is None else affine.bias.expand(out)


def size(affine: Affine) -> int:
    """Numbers in weights and bias."""
    held = [w for w in affine.weights if w.is_floating_point()]
    held += [] if affine.bias is None else [affine.bias]
    return sum(t.numel() for t in held)


def with_bias(affine: Affine, bias: Tensor | None, axis: int | None) -> Affine:
    """The layer with another bias; in one kernel call only where it is one number a unit."""
    if bias is not None and not bool(bias.any()):
        bias = None
    a_row = bias is None or axis is None or bias.numel() == math.prod(bias.shape[:1])
    return dataclasses.replace(affine, bias=bias, direct=affine.direct if a_row else None)


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.rand(*shape, generator=generator, dtype=F64) + 0.5
