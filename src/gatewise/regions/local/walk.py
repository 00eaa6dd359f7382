"""Walks through regions, where there are too many to list: a ball of hops, and paths.

Two regions are neighbours where they share a facet. Every region is found with a point inside it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError, WrongShape
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.regions.constraints import frozen
from gatewise.regions.halfspaces import Region, region
from gatewise.regions.local.beyond import Neighbours, Units, changes, neighbours, sizes, slacks
from gatewise.regions.local.redundant.frame import F64, rounding, with_bias, without_bias

MOST = 1000  # regions of a walk, unless told otherwise
ROUNDS = 60  # halvings of a segment


@dataclass(frozen=True, eq=False)
class Ball:
    """n regions within some hops of the first: pattern, point (n, inputs) inside, hops (n,).

    edges (e, 2): pairs of neighbours among them, each once. complete: every region within the
    radius is there; else `open` regions were not looked beyond, or `missed` facets (or rows that
    may be one) had no neighbour that could be shown.
    """

    pattern: Pattern
    point: Tensor
    hops: Tensor
    edges: Tensor
    open: int
    missed: int

    def __len__(self) -> int:
        return len(self.hops)

    @property
    def complete(self) -> bool:
        """Nothing within the radius was left out."""
        return not self.open and not self.missed

    def __repr__(self) -> str:
        state = "complete" if self.complete else f"{self.open} regions not looked beyond"
        lost = f", {self.missed} facets without a neighbour" if self.missed else ""
        far = int(self.hops.max()) if len(self) else 0
        return f"Ball({len(self)} regions within {far} hops; {state}{lost})"


@dataclass(frozen=True, eq=False)
class Path:
    """n regions one after another: pattern, point (n, inputs) inside; changed (n - 1): units.

    t (n + 1,): where each begins along the segment from 0 to 1, for a straight path. flips: units
    changed in all. complete: False where the search ended at its limit.
    """

    pattern: Pattern
    point: Tensor
    changed: tuple[Units, ...]
    t: Tensor | None = None
    complete: bool = True

    def __len__(self) -> int:
        return len(self.point)

    @property
    def flips(self) -> int:
        """Units changed along the way, each as often as it changes."""
        return sum(len(c) for c in self.changed)

    def __repr__(self) -> str:
        state = "" if self.complete else "; the search ended at its limit"
        return f"Path({len(self)} regions, {self.flips} flips{state})"


def ball(
    network: Network, x: Any, radius: int = 1, *, max_regions: int = MOST, box: Any = None
) -> Ball:
    """The regions within `radius` facets of the region of x, breadth first, at most max_regions."""
    if radius < 0 or max_regions < 1:
        raise DataError(
            f"radius must be 0 or more and max_regions 1 or more, got {radius} and {max_regions}"
        )
    start = _home(network, x)
    known = {start.pattern.bits.tobytes(): 0}
    bits, points, hops = [start.pattern.bits], [start.home.reshape(1, -1)], [0]
    edges: set[tuple[int, int]] = set()
    missed = at = 0
    while at < len(hops) and hops[at] < radius:
        here = Region(start.network, points[at], Pattern(bits[at], start.pattern.fields))
        found = neighbours(here, box=box)
        full = _fresh(found, known) + len(hops) > max_regions
        if full:
            break
        missed += len(found.missed) + len(found.facets.undecided)
        for k in range(len(found)):
            other = known.setdefault(found.pattern.bits[k].tobytes(), len(hops))
            if other == len(hops):
                bits.append(found.pattern.bits[k : k + 1])
                points.append(found.point[k : k + 1])
                hops.append(hops[at] + 1)
            edges.add((min(at, other), max(at, other)))
        at += 1
    open_ = sum(h < radius for h in hops[at:])
    return Ball(
        Pattern(np.concatenate(bits), start.pattern.fields),
        torch.cat(points),
        torch.tensor(hops),
        torch.tensor(sorted(edges), dtype=torch.long).reshape(-1, 2),
        open_,
        missed,
    )


def _fresh(found: Neighbours, known: dict[bytes, int]) -> int:
    return len({b.tobytes() for b in found.pattern.bits} - known.keys())


def path(
    network: Network, a: Any, b: Any, *, fewest: bool = False, max_regions: int = MOST
) -> Path:
    """The regions from the region of a to that of b: along the segment, or with the fewest flips.

    The segment: none is left out that is longer on it than rounding there. Fewest flips: A*, with
    the units in which a region differs from b's as the bound; it looks at max_regions at most.
    """
    start, end = _home(network, a), _home(network, b)
    if fewest:
        return _fewest(start, end, max_regions)
    return _straight(start.network, start.home.reshape(-1), end.home.reshape(-1))


def _home(network: Network, x: Any) -> Region:
    require_piecewise_affine(network, "walking through regions")
    network = network.to(F64, "cpu")
    point = torch.as_tensor(np.asarray(x), dtype=F64).reshape(-1)
    if len(point) != network.inputs:
        raise WrongShape(
            f"a walk starts at one point of {network.inputs} numbers, got {len(point)}"
        )
    if not bool(point.isfinite().all()):
        raise DataError("the point holds NaN or infinity: a region is found at finite numbers")
    found = region(network, point.reshape(1, *network.input_shape))
    return Region(network, point[None], found.pattern)


# -- along a segment --


def _straight(network: Network, a: Tensor, b: Tensor) -> Path:
    """Regions at points, and points in the gaps between the regions found, until none is left."""
    way, t = b - a, torch.tensor([0.0, 1.0], dtype=F64)
    bits = _patterns(network, a, way, t)
    low, high = _extent(network, bits, a, way, t)
    for _ in range(ROUNDS):
        gap = (bits.bits[1:] != bits.bits[:-1]).any(1) & (high[:-1] < low[1:]).numpy()
        middle = ((high[:-1] + low[1:]) / 2)[torch.from_numpy(gap)]
        if not len(middle):
            break
        more = _patterns(network, a, way, middle)
        ends = _extent(network, more, a, way, middle)
        t, order = torch.cat([t, middle]).sort()
        bits = Pattern(np.concatenate([bits.bits, more.bits])[order.numpy()], bits.fields)
        low, high = (torch.cat(v)[order] for v in zip((low, high), ends, strict=True))
    first = np.append(True, (bits.bits[1:] != bits.bits[:-1]).any(1))
    rows = np.flatnonzero(first)
    group = torch.from_numpy(first.cumsum() - 1)
    enter = torch.cat([t.new_zeros(1), ((high[:-1] + low[1:]) / 2)[rows[1:] - 1], t.new_ones(1)])
    inside = t.new_zeros(len(rows)).index_add_(0, group, t) / torch.bincount(group)
    pattern = bits[rows]
    changed = tuple(
        changes(pattern[k : k + 1], pattern[k + 1 : k + 2]) for k in range(len(rows) - 1)
    )
    return Path(pattern, a + inside[:, None] * way, changed, enter, not len(middle))


def _patterns(network: Network, a: Tensor, way: Tensor, t: Tensor) -> Pattern:
    return pattern_of(network, (a + t[:, None] * way).reshape(-1, *network.input_shape))


def _extent(
    network: Network, pattern: Pattern, a: Tensor, way: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """From where to where the region at t may reach along a + t way, rounding included."""
    f = frozen(network, pattern)
    x = (a + t[:, None] * way)[:, None]
    value = slacks(f, x, with_bias)
    rate = slacks(f, way.expand(len(t), 1, -1), without_bias)
    steps = (value.clamp(min=0) + rounding(f) * sizes(f, x)) / rate.abs()
    high = t + torch.where(rate < 0, steps, torch.inf)[:, 0].amin(1)
    low = t - torch.where(rate > 0, steps, torch.inf)[:, 0].amin(1)
    return low, high


# -- the fewest flips --


def _fewest(start: Region, end: Region, most: int) -> Path:
    """A*: the least total of units changed; nodes are opened by cost so far plus units to go."""
    goal = end.pattern
    codes = [goal.codes(name) for name in goal]

    def to_go(p: Pattern) -> int:
        return sum(int((p.codes(n) != c).sum()) for n, c in zip(goal, codes, strict=True))

    first = start.pattern.bits.tobytes()
    cost = {first: 0}
    came: dict[bytes, tuple[bytes, Units]] = {}
    point = {first: start.home.reshape(1, -1)}
    queue, closed = [(to_go(start.pattern), 0, first)], set[bytes]()
    last = first
    while queue and len(closed) < most:
        _, _, last = heapq.heappop(queue)
        if last == goal.bits.tobytes():
            return _traced(start, last, came, point, True)
        if last in closed:
            continue
        closed.add(last)
        bits = np.frombuffer(last, np.uint8)[None].copy()
        found = neighbours(Region(start.network, point[last], Pattern(bits, goal.fields)))
        for k in range(len(found)):
            key, new = found.pattern.bits[k].tobytes(), cost[last] + len(found.changed[k])
            if new < cost.get(key, new + 1):
                cost[key], came[key] = new, (last, found.changed[k])
                point[key] = found.point[k : k + 1]
                guess = new + to_go(found.pattern[k : k + 1])
                heapq.heappush(queue, (guess, -new, key))
    return _traced(start, last, came, point, False)


def _traced(
    start: Region,
    last: bytes,
    came: dict[bytes, tuple[bytes, Units]],
    point: dict[bytes, Tensor],
    complete: bool,
) -> Path:
    keys, changed = [last], []
    while keys[-1] in came:
        before, units = came[keys[-1]]
        keys.append(before)
        changed.append(units)
    keys.reverse()
    bits = np.stack([np.frombuffer(k, np.uint8) for k in keys])
    pattern = Pattern(bits, start.pattern.fields)
    return Path(pattern, torch.cat([point[k] for k in keys]), tuple(changed[::-1]), None, complete)
