"""E[g(m + s t) He_k(t)], t standard normal, k = 0..3, of many units at once.

Gauss-Legendre on panels that break where g does: at the knots of a piecewise-linear g it is then
exact to rounding, where Gauss-Hermite stops at the kink (E ReLU(t + .3): 9e-3 off with 20 points,
4e-4 with 200). Panels are halved until nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.bilinear.conversion.blocks import Block
from gatewise.bilinear.conversion.moments import Moments
from gatewise.errors import NotBilinear
from gatewise.ir.kinds import Affine, Pieces

REACH = 12.0  # standard deviations; what lies beyond weighs 1e-32
EDGES = 17  # of even panels
NEAR = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # where smooth activations bend, from 0
POINTS = 16  # a panel
ENOUGH = 1e-9  # of the root mean square of g: a change that ends the halving
DOUBTFUL = 1e-3  # a change left at the end that no conversion should hide
HALVINGS = 6
CHUNK = 1 << 19  # numbers alive at once


@dataclass(frozen=True, eq=False)
class Hermite:
    """g (4, h): E[g He_k]; error: what the last halving still changed, over the root of E[g²]."""

    g: Tensor
    error: float


def hermite(block: Block, seen: Moments) -> Hermite:
    """The four moments of g(y) with y Gaussian of each unit's mean and deviation."""
    edges = _edges(block, seen)
    before, size = _integrals(block, seen, edges)
    for _ in range(HALVINGS):
        edges = torch.cat([edges, (edges[1:] + edges[:-1]) / 2]).sort(0).values
        after, root = _integrals(block, seen, edges)
        moved = torch.cat([after - before, (root - size)[None]]).abs().amax(0)
        error = float((moved / (root + 1e-300)).max())
        before, size = after, root
        if error <= ENOUGH or math.isnan(error):
            break
    if not bool(before.isfinite().all()) or not error <= DOUBTFUL:
        raise NotBilinear(
            f"node '{block.name}' ({block.layer}) has no mean under a Gaussian with the data's "
            f"mean and variance that could be computed; fit it to the rows alone: fit='data'"
        )
    return Hermite(before, error)


def _edges(block: Block, seen: Moments) -> Tensor:
    """Ends of panels in t, (edges, h), sorted: even ones, and where g may bend."""
    even = torch.linspace(-REACH, REACH, EDGES, dtype=seen.mean.dtype)
    held = [even[:, None].expand(-1, len(seen.mean))]
    bends = [_knots(block)] if any(isinstance(n.kind, Pieces) for n in block.path) else []
    if not all(isinstance(n.kind, Pieces | Affine) for n in block.path):
        near = torch.tensor(NEAR, dtype=seen.mean.dtype)
        near = torch.cat([-near.flip(0), near.new_zeros(1), near])
        bends.append(near[:, None].expand(-1, len(seen.mean)))
    for y in bends:
        held.append(((y - seen.mean) * seen.inverse).clamp(-REACH, REACH))
    return torch.cat(held).sort(0).values


def _knots(block: Block) -> Tensor:
    """Values of y at which a piecewise-linear node of the block bends, (knots, h)."""
    values = {block.root: _two(block)}
    found = []
    for node in block.path:
        xs = [values[name] for name in node.inputs if name in values]
        if len(xs) < len(node.inputs):
            continue  # behind a curve: the halving finds its bends
        if isinstance(node.kind, Affine):
            values[node.name] = node.kind(*xs)
        elif isinstance(node.kind, Pieces):
            at, slope = xs[0][:1], xs[0][1:] - xs[0][:1]
            found += [(t - at) / torch.where(slope == 0, torch.inf, slope) for t in node.kind.knots]
    whole = torch.cat([y.expand(1, *block.shape) for y in found]) if found else values[block.root]
    return _first(block, whole)


def _two(block: Block) -> Tensor:
    """y = 0 and y = 1."""
    return torch.stack([torch.zeros(block.shape), torch.ones(block.shape)]).double()


def _first(block: Block, values: Tensor) -> Tensor:
    """(k, *shape), each position alike, as (k, h)."""
    return values.reshape(len(values), -1, block.units)[:, 0]


def _integrals(block: Block, seen: Moments, edges: Tensor) -> tuple[Tensor, Tensor]:
    """(E[g He_k] (4, h), the root of E[g²] (h,)) by Gauss-Legendre between the edges."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(POINTS))
    half, middle = (edges[1:] - edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2
    total = edges.new_zeros(5, edges.shape[1])
    step = max(1, CHUNK // (POINTS * math.prod(block.shape)))
    for a, b in zip(half.split(step), middle.split(step), strict=True):
        t = (b + nodes[:, None, None] * a).flatten(0, 1)
        w = (weights[:, None, None] * a).flatten(0, 1) * torch.exp(-t.square() / 2)
        y = seen.mean + seen.std * t
        lead = (len(t), *[1] * (len(block.shape) - 1), block.units)
        at = y.reshape(len(t), *block.shape) if block.flat else y.reshape(lead)
        g = _first(block, block.at(at.expand(len(t), *block.shape)))
        he = torch.stack([torch.ones_like(t), t, t * t - 1, t**3 - 3 * t])
        total[:4] += (he * (w * g)).sum(1)
        total[4] += (w * g.square()).sum(0)
    total /= math.sqrt(2 * math.pi)
    return total[:4], total[4].sqrt()
