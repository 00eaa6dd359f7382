"""Affine forms over a box: what a value can be there, kept as a sum of independent parts.

A value is c + sum_k g_k e_k + r, every e_k in [-1, 1] and |r| <= e (a zonotope), beside bounds
low <= value <= high; both hold, rounding included. Affine nodes map parts to parts; a gate that is
not constant takes a chord, and what it leaves of its pieces becomes one new part a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.errors import NotPiecewiseAffine
from gatewise.ir.kinds import Affine, Pieces, Product, Winner
from gatewise.ir.network import Node
from gatewise.numeric import gamma, underflow

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Form:
    """c, e, low, high are (1, *shape); parts (k, *shape)."""

    c: Tensor
    parts: Tensor
    e: Tensor
    low: Tensor
    high: Tensor


def start(low: Tensor, high: Tensor, shape: tuple[int, ...]) -> Form:
    """The input over a box: one part a feature that moves."""
    c, r = (low + high) / 2, (high - low) / 2
    e = 4e-16 * (c.abs() + r)
    parts = torch.diag(r)[r > 0]
    ends = (v.reshape(1, *shape) for v in (c, e, low, high))
    middle, error, least, most = ends
    return Form(middle, parts.reshape(-1, *shape), error, least, most)


def tight(c: Tensor, parts: Tensor, e: Tensor, low: Tensor, high: Tensor) -> Form:
    """The form with its bounds made as tight as both descriptions allow."""
    r = (parts.abs().sum(0, keepdim=True) + e) * (1 + gamma(len(parts) + 4, F64))
    pad = 4e-16 * (c.abs() + r)
    return Form(c, parts, e, torch.maximum(low, c - r - pad), torch.minimum(high, c + r + pad))


def forward(node: Node, xs: list[Form]) -> Form:
    """The form of a node's value from those of its inputs."""
    kind = node.kind
    if isinstance(kind, Affine):
        return _affine(kind, xs)
    if isinstance(kind, Pieces):
        return _pieces(kind, xs[0])
    if isinstance(kind, Winner):
        return _winner(kind, xs)
    if isinstance(kind, Product):
        return _product(kind, *xs)
    raise NotPiecewiseAffine(
        f"bounds over a box need a network of affine nodes, gates and products, but node "
        f"'{node.name}' is {node.layer}, which is curved"
    )


def codes(kind: Pieces | Winner, xs: list[Form]) -> Tensor:
    """(*shape) the branch that a unit takes all over the box; -1 where more than one is open."""
    if isinstance(kind, Pieces):
        low, high = kind.choose(xs[0].low).long(), kind.choose(xs[0].high).long()
        return torch.where(low == high, low, -1)[0]
    low, high = (_candidates(kind, v) for v in _in_order(kind, xs))
    best = low.argmax(-1, keepdim=True)
    others = high.scatter(-1, best, -torch.inf).amax(-1)
    return torch.where(low.gather(-1, best)[..., 0] > others, best[..., 0], -1)[0]


def _affine(kind: Affine, xs: list[Form]) -> Form:
    g = gamma(2 * kind.terms + 8, F64)
    lost = underflow(kind.terms, F64)
    k = max(len(x.parts) for x in xs)
    parts = kind.linear(*(_padded(x.parts, k) for x in xs))
    c, bias = kind(*(x.c for x in xs)), 0 if kind.bias is None else kind.bias.abs()
    size = kind.magnitude(*(x.c.abs() + x.parts.abs().sum(0, keepdim=True) + x.e for x in xs))
    e = kind.magnitude(*(x.e for x in xs)) * (1 + g) + g * (size + bias) + lost
    middles, halves = [(x.low + x.high) / 2 for x in xs], [(x.high - x.low) / 2 for x in xs]
    middle, half = kind(*middles), kind.magnitude(*halves)
    r = half + g * (kind.magnitude(*(m.abs() for m in middles)) + half + bias) + lost
    return tight(c, parts, e, middle - r, middle + r)


def _padded(parts: Tensor, k: int) -> Tensor:
    more = parts.new_zeros(k - len(parts), *parts.shape[1:])
    return torch.cat([parts, more])


def _pieces(kind: Pieces, x: Form) -> Form:
    """Slope: of the branch, or of the chord between the ends; the rest of f - slope z is new."""
    slope = _chord(kind, x)
    low, high = _range(kind, x, torch.zeros_like(slope))
    below, above = _range(kind, x, slope)
    rest, middle = (above - below) / 2, (above + below) / 2
    new = torch.diag(rest.flatten())[rest.flatten() > 0].reshape(-1, *x.c.shape[1:])
    size = slope.abs() * (x.c.abs() + x.parts.abs().sum(0, keepdim=True)) + middle.abs() + rest
    e = slope.abs() * x.e + 2e-15 * size + underflow(4, F64)
    return tight(slope * x.c + middle, torch.cat([slope * x.parts, new]), e, low, high)


def _chord(kind: Pieces, x: Form) -> Tensor:
    low, high = kind.choose(x.low), kind.choose(x.high)
    ends = [_value(kind, c.long(), z) for c, z in ((low, x.low), (high, x.high))]
    run = x.high - x.low
    chord = torch.where(run > 0, (ends[1] - ends[0]) / run, 0.0)
    own = kind.branch(low).weights[0].squeeze(1)
    return torch.where(low == high, own, chord.nan_to_num(0, 0, 0))


def _value(kind: Pieces, code: Tensor, z: Tensor) -> Tensor:
    affine = kind.branch(code)
    y = affine.weights[0].squeeze(1) * z
    return y if affine.bias is None else y + affine.bias.squeeze(1)


def _range(kind: Pieces, x: Form, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most of f(z) - slope z for low <= z <= high, with room for rounding."""
    least, most = torch.full_like(x.low, torch.inf), torch.full_like(x.low, -torch.inf)
    first, last = kind.choose(x.low).long(), kind.choose(x.high).long()
    for k in range(kind.branches):
        knots = [kind.knots[j] for j in (k - 1, k) if 0 <= j < kind.branches - 1]
        left = torch.maximum(x.low, knots[0]) if k else x.low
        right = torch.minimum(x.high, knots[-1]) if k < kind.branches - 1 else x.high
        here = (first <= k) & (k <= last)
        for z in (left, right):
            value = _value(kind, torch.full_like(first, k), z)
            pad = 4e-16 * (value.abs() + (slope * z).abs() + kind.offsets[k].abs()) + 1e-300
            gap = value - slope * z
            least = torch.where(here, torch.minimum(least, gap - pad), least)
            most = torch.where(here, torch.maximum(most, gap + pad), most)
    return least, most


def _candidates(kind: Winner, zs: list[Tensor]) -> Tensor:
    """(1, *shape, m) sign * candidate, -inf where there is none."""
    flat = torch.cat([z.reshape(len(z), -1) for z in zs], 1)
    picked = kind.sign * flat[:, kind.index.clamp(min=0)]
    return picked.masked_fill(kind.index < 0, -torch.inf)


def _winner(kind: Winner, xs: list[Form]) -> Form:
    """Its own candidate where that is sure, else bounds alone."""
    worst, best = (_candidates(kind, v).amax(-1) for v in _in_order(kind, xs))
    low, high = (worst, best) if kind.sign > 0 else (-best, -worst)
    sure = codes(kind, xs)
    place = kind.index.gather(-1, sure.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    k = max(len(x.parts) for x in xs)
    flat = torch.cat([_padded(x.parts, k).reshape(k, -1) for x in xs], 1)
    one = [torch.cat([getattr(x, n).reshape(1, -1) for x in xs], 1) for n in ("c", "e")]
    fixed = sure >= 0
    c = torch.where(fixed, one[0][:, place], (low + high) / 2)
    e = torch.where(fixed, one[1][:, place], (high - low) / 2 * (1 + 4e-16) + 1e-300)
    return tight(c, torch.where(fixed, flat[:, place], 0.0), e, low, high)


def _in_order(kind: Winner, xs: list[Form]) -> tuple[list[Tensor], list[Tensor]]:
    """The bounds that are least and most once they are times the sign."""
    low, high = [x.low for x in xs], [x.high for x in xs]
    return (low, high) if kind.sign > 0 else (high, low)


def _product(kind: Product, u: Form, v: Form) -> Form:
    """Bounds alone."""
    m, n = (u.low + u.high) / 2, (v.low + v.high) / 2
    p, q = (u.high - u.low) / 2, (v.high - v.low) / 2
    c = kind.rule(m, n)
    r = kind.rule(m.abs(), q) + kind.rule(p, n.abs()) + kind.rule(p, q)
    size = kind.rule(m.abs() + p, n.abs() + q)
    r = r + gamma(2 * kind.terms + 8, F64) * size + underflow(kind.terms, F64)
    return tight(c, c.new_zeros(0, *c.shape[1:]), r, c - r, c + r)
