"""Rounding bounds as steps of the fold: how far computed values can be from exact ones.

Running error analysis (Higham, chapter 3.3): beside each value goes an error bound, and
|fl(Lx + c) - (Lx + c)| <= |L| e + gamma (|L||x| + |c|)  for an x known to within e.
gamma(2 n + 4) stands for gamma(n): it pays for the roundings made while computing the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Product, Smooth, Winner
from gatewise.ir.network import INPUT, Network, Node, fold
from gatewise.numeric import gamma, underflow

LIBM_ULPS = 16  # what torch's elementwise transcendental functions are trusted to, in roundings


@dataclass(frozen=True, eq=False)
class Enclosure:
    """The exact value lies within `error` of `value`, entry by entry."""

    value: Tensor
    error: Tensor


def enclose(
    network: Network, x: Tensor, watch: Callable[[Node, list[Enclosure]], None] | None = None
) -> Enclosure:
    """f(x) with its running error bound; `watch` sees every gate's inputs on the way."""

    def step(node: Node, xs: list[Enclosure]) -> Enclosure:
        if watch is not None and isinstance(node.kind, Pieces | Winner):
            watch(node, xs)
        return enclose_node(node, xs)

    return fold(network, Enclosure(x, torch.zeros_like(x)), step)[network.output]


def enclose_node(node: Node, xs: list[Enclosure]) -> Enclosure:
    """One node's value and error bound from those of its inputs."""
    kind = node.kind
    value = kind(*(x.value for x in xs))
    if isinstance(kind, Affine):
        return Enclosure(value, _affine_error(kind, xs, value))
    if isinstance(kind, Pieces):
        return Enclosure(value, _pieces_error(kind, xs[0], value))
    if isinstance(kind, Winner):
        return Enclosure(value, _winner_error(kind, xs))
    if isinstance(kind, Product):
        return Enclosure(value, _product_error(kind, *xs))
    return Enclosure(value, _smooth_error(kind, xs, value))


def _affine_error(kind: Affine, xs: list[Enclosure], value: Tensor) -> Tensor:
    if kind.terms == 0 and kind.bias is None:
        return kind.magnitude(*(x.error for x in xs))
    g = gamma(2 * kind.terms + 4, value.dtype)
    spread = kind.magnitude(*(x.error + g * x.value.abs() for x in xs))
    error = (1 + g) * spread + _lost(kind, xs, spread)
    return error if kind.bias is None else error + g * kind.bias.abs()


def _lost(kind: Affine, xs: list[Enclosure], spread: Tensor) -> Tensor | float:
    """What underflow can take from each output: nothing where every product has a zero in it."""
    lost = underflow(kind.terms, spread.dtype)
    if not (spread == 0).any():
        return lost
    weights = (w.ne(0).to(w.dtype) if w.is_floating_point() else w for w in kind.weights)
    there = [((x.value != 0) | (x.error > 0)).to(spread.dtype) for x in xs]
    return lost * (kind.rule(*weights, *there) > 0).to(spread.dtype)


def undecided_knots(kind: Pieces, z: Enclosure) -> Tensor:
    """(K, rows, *shape) bool: the unit may lie on either side of the knot.

    A unit known exactly (error 0) is decided even on a knot: the tie rule decides it.
    """
    near = torch.stack([(z.value - t).abs() <= z.error for t in kind.knots])
    return near & (z.error > 0)


def _pieces_error(kind: Pieces, z: Enclosure, value: Tensor) -> Tensor:
    """The slope of the branch taken, or of the steepest one near a knot, and the jumps there."""
    near = undecided_knots(kind, z)
    slope = kind.branch(kind.choose(z.value)).weights[0].squeeze(1).abs()
    slope = torch.where(near.any(0), kind.slopes.abs().amax(0), slope)
    # where the branch is flat nothing comes through, not even an infinite error
    error = (slope * z.error).masked_fill(slope == 0, 0)
    for k, knot in enumerate(kind.knots):
        step = (kind.slopes[k + 1] - kind.slopes[k]) * knot + kind.offsets[k + 1] - kind.offsets[k]
        error = error + near[k] * step.abs()
    if exact_branches(kind):
        return error
    rounded = gamma(4, value.dtype) * (value.abs() + slope * z.value.abs())
    return error + rounded + underflow(1, value.dtype)


def exact_branches(kind: Pieces) -> bool:
    """True where evaluating any branch rounds nothing: slopes 0 or +-1 with no offset to add."""
    branches = zip(kind.slopes, kind.offsets, strict=True)  # one may have axes the other lacks
    moves = [((s == 0) | ((s.abs() == 1) & (o == 0))).all() for s, o in branches]
    return all(bool(m) for m in moves)


def _winner_error(kind: Winner, xs: list[Enclosure]) -> Tensor:
    flat = torch.cat([x.error.reshape(len(x.error), -1) for x in xs], 1)
    picked = flat[:, kind.index.clamp(min=0)].masked_fill(kind.index < 0, 0)
    return picked.amax(-1)


def undecided_winners(kind: Winner, xs: list[Enclosure]) -> Tensor:
    """(candidates, rows, *shape) bool: another candidate than the one chosen that may win."""
    values, errors = tuple(x.value for x in xs), tuple(x.error for x in xs)
    codes = kind.choose(*values)
    slack = kind.slack(values, codes)
    flat = torch.cat([e.reshape(len(e), -1) for e in errors], 1)[:, kind.index.clamp(min=0)]
    error = (flat + flat.gather(-1, codes.long().unsqueeze(-1))).movedim(-1, 0)
    other = torch.arange(kind.branches, device=codes.device).reshape(-1, *[1] * codes.ndim) != codes
    return (slack <= error) & (error > 0) & other


def undecided(kind: Pieces | Winner, xs: list[Enclosure]) -> Tensor:
    """(knots or candidates, rows, *shape) bool: what rounding leaves open at each unit."""
    return undecided_knots(kind, xs[0]) if isinstance(kind, Pieces) else undecided_winners(kind, xs)


def _product_error(kind: Product, u: Enclosure, v: Enclosure) -> Tensor:
    g = gamma(2 * kind.terms + 4, u.value.dtype)
    a, b = u.value.abs(), v.value.abs()
    spread = kind.rule(a, v.error + g * b) + kind.rule(u.error, b + v.error)
    return (1 + g) * spread + underflow(kind.terms, a.dtype)


def _smooth_error(kind: Smooth, xs: list[Enclosure], value: Tensor) -> Tensor:
    if kind.lipschitz is None:
        return torch.full_like(value, torch.inf)
    worst = torch.stack([x.error.reshape(len(x.error), -1).amax(1) for x in xs]).amax(0)
    worst = worst.reshape(-1, *[1] * (value.ndim - 1))
    return kind.lipschitz * worst + gamma(LIBM_ULPS + kind.terms, value.dtype) * (value.abs() + 1)


def path_terms(network: Network, backward: bool = False) -> int:
    """N with |computed - exact| <= gamma(N) * (the same walk over |weights|), at every node.

    The largest sum, over paths from the input, of each node's inner-product length plus one for
    its bias; the walk back adds one more for each place where paths join.
    """
    joins = {n: sum(node.inputs.count(n) for node in network.nodes) for n in _names(network)}

    def step(node: Node, xs: list[int]) -> int:
        kind = node.kind
        own = 0
        if isinstance(kind, Affine):
            own = (kind.terms_back if backward else kind.terms) + (kind.bias is not None)
        return max(xs) + own + (joins.get(node.name, 1) - 1 if backward else 0)

    start, names = joins[INPUT] if backward else 0, [n.name for n in network.nodes]
    return max(fold(network, start, step, keep=names).values(), default=0)


def _names(network: Network) -> list[str]:
    return [INPUT, *(n.name for n in network.nodes)]
