"""The nearest wall of many regions, without multiplying out a row for every unit.

A unit with slack r and row a is r / |a| away. An upper bound U of |a|, valid for every pattern,
gives r / U, a lower bound of the distance; the row itself is worked out (one walk back) only for
units whose lower bound is below the smallest distance known. Rows before the first gate are the
same for all regions. Exact: no unit that could be the nearest is left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.ir.kinds import Affine, Pieces, Winner, pull, push
from gatewise.ir.network import INPUT, Network, Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import chunk_rows
from gatewise.linear.freeze import freeze
from gatewise.numeric import first_least, places_of
from gatewise.patterns.fixed_point import products
from gatewise.regions.constraints import Frozen, frozen, slack, visit
from gatewise.regions.norms import KINDS, Plan, row_norms

CHUNK_COLUMNS = 1 << 25  # numbers before all gates together, of the images of unit vectors
A_ROW = 2 * 10**12  # products for one row, some minutes: beyond it a margin is refused by name
CHUNK = 400_000  # numbers in one value of a chunk: a few such values fit the last-level cache
COARSE = 1 + 1e-5  # pays for rounding in float32, in which walls are left out
LEVEL = 1e-12  # distances that differ by no more are one
TINY = float(torch.finfo(torch.float32).tiny)
HUGE = float(torch.finfo(torch.float32).max)


Seen = tuple[int, Tensor]  # the number of a gate, and `who` of `nearest`


@dataclass(frozen=True, eq=False)
class Homes:
    """P regions of a network by their patterns; frozen only where a row is asked for.

    slopes: of gates, (P, n), filled in as they are asked for.
    """

    source: Network
    pattern: Pattern
    slopes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pattern)

    def codes(self, name: str) -> Tensor:
        """(P, 1, *shape)."""
        return self.pattern.codes(name, self.source.device).unsqueeze(1)

    def slope(self, gate: Node) -> Tensor:
        """(P, n) of the branch that each unit of a gate is on."""
        assert isinstance(gate.kind, Pieces)
        if gate.name not in self.slopes:
            branch = gate.kind.branch(self.codes(gate.name))
            self.slopes[gate.name] = branch.weights[0].reshape(len(self), -1)
        return self.slopes[gate.name]


@dataclass(frozen=True, eq=False)
class Walls:
    """One gate of P regions: room (P, n) is each wall's slack at home, inf where there is none.

    size (3,) over inverse (P or 1, n), in float32, is at least the norms of the walls' rows. winner
    (P, groups, 1): the candidate that wins each group, whose rows are taken less the wall's own.
    """

    node: Node
    room: Tensor
    inverse: Tensor
    size: Tensor
    winner: Tensor | None = None

    def reach(self, best: Tensor) -> Tensor:
        """(P,) walls whose room * inverse is not below this are not nearer than best (3, P)."""
        far = torch.where(self.size[:, None] > 0, self.size[:, None] * best, 0)  # 0 inf is none
        return far.amax(0).float() * COARSE


def batch_rows(network: Network) -> int:
    """Regions a chunk, so that a value at the widest node holds about CHUNK numbers."""
    widest = max([network.inputs, *(math.prod(n.shape) for n in network.nodes)])
    return max(1, min(CHUNK // widest, chunk_rows(network, 1)))


def margins(p: Plan, pattern: Pattern, home: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of each home to the nearest wall of its region, in the three metrics: (P,) each."""
    best = _nearest(p, Homes(p.network, pattern), home, None)
    return best[0], best[1], best[2]


def nearest(p: Plan, f: Frozen, home: Tensor, who: Tensor | None) -> Tensor:
    """(3, P) distances; who (2, 3, P), where given, is filled with the gate and its wall.

    Gates are counted as in `network.gates`; a wall is a unit, or group x candidates + candidate;
    -1 where there is none.
    """
    return _nearest(p, Homes(f.source, f.pattern), home, who)


def _nearest(p: Plan, r: Homes, home: Tensor, who: Tensor | None) -> Tensor:
    best = home.new_full((KINDS, len(home)), torch.inf)
    values, walks = _home_values(p, r, home), 0
    for gate, node in enumerate(r.source.gates):
        zs = values[node.name]
        known, room = p.known[node.inputs[0]], _room(node, zs, r)
        seen = None if who is None else (gate, who)
        if isinstance(node.kind, Pieces) and known.rows is not None:
            _exact(room, known.norms, best, seen)
            continue
        walks = _search(p, r, _walls(p, r, node, room), best, seen, walks)
        if walks < 0:
            _require_affordable(p, p.network.inputs)
            return torch.stack(dense(frozen(r.source, r.pattern), home, p.scale))
    return best


def _require_affordable(p: Plan, walks: int) -> None:
    """Refuse by name what would take a row this many walks through the network."""
    once = products(p.network)
    if walks * once > A_ROW:
        raise DataError(
            f"the margin of one row takes some {walks:,} walks through a network of {once:.2g} "
            "products, hours or days: leave margins out (margin set to False, or --no-margin)"
        )


def _home_values(p: Plan, r: Homes, home: Tensor) -> dict[str, list[Tensor]]:
    """For each gate the values (P, 1, *shape) of its inputs at home.

    A continuous network has the same ones whichever branch a unit at its knot is given, so the
    plain walk does, which is the cheaper one.
    """
    if not p.continuous:
        return gate_values(frozen(r.source, r.pattern), home.unsqueeze(1))
    last = [n.name for n in r.source.nodes].index(r.source.gates[-1].name) if r.source.gates else 0
    ahead = dataclasses.replace(r.source, nodes=r.source.nodes[:last], output=INPUT)
    inputs = {name for g in r.source.gates for name in g.inputs}
    found = fold(ahead, home, lambda node, xs: node.kind(*xs), keep=inputs)
    return {g.name: [found[name].unsqueeze(1) for name in g.inputs] for g in r.source.gates}


def _exact(room: Tensor, norms: Tensor, best: Tensor, seen: Seen | None) -> None:
    """Lower `best` by walls whose norms (3, n) are known and the same in every region."""
    for k in range(KINDS):
        there = (norms[k] > 0).nonzero().flatten()
        if not len(there):
            continue
        some = room if len(there) == norms.shape[1] else room[:, there]
        distance = some * (1 / norms[k, there])
        nearer = distance.amin(1)
        if seen is not None:
            low = (nearer < best[k]).nonzero().flatten()
            seen[1][0, k, low] = seen[0]
            seen[1][1, k, low] = there[distance[low].argmin(1)]
        torch.minimum(best[k], nearer, out=best[k])


def dense(f: Frozen, home: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same from every row of every region: the identity pushed forward."""
    step = max(1, chunk_rows(f.source, f.source.inputs))
    if len(home) > step:
        halves = [slice(i, i + step) for i in range(0, len(home), step)]
        parts = [dense(frozen(f.source, f.pattern[h]), home[h], scale) for h in halves]
        a, b, c = (torch.cat(column) for column in zip(*parts, strict=True))
        return a, b, c
    best = home.new_full((KINDS, len(home)), torch.inf)
    norms: dict[str, Tensor] = {}
    for columns in _columns(f, home):
        _add_norms(f, columns, scale, norms)
    for name, zs in gate_values(f, home.unsqueeze(1)).items():
        kind = f.source.node(name).kind
        assert isinstance(kind, Pieces | Winner)
        room = slack(kind, zs, f.codes(name)).flatten(2).clamp(min=0)
        torch.minimum(best, _distance(room, norms.pop(name)).amin((1, 3)), out=best)
    return best[0], best[1], best[2]


def _columns(f: Frozen, home: Tensor) -> Iterator[slice]:
    """The inputs, as many at a time as a chunk holds values for: all of them, or some."""
    d, held = f.network.inputs, sum(math.prod(n.shape) for n in f.source.gates)
    step = max(1, min(d, CHUNK_COLUMNS // (held * len(home))))
    yield from (slice(i, min(i + step, d)) for i in range(0, d, step))


def _add_norms(f: Frozen, columns: slice, scale: Tensor, norms: dict[str, Tensor]) -> None:
    """The norms (3, rows a unit, P, n) of each gate's rows, with some more of their columns."""
    d = f.network.inputs

    def see(node: Node, zs: list[Tensor]) -> None:
        kind = node.kind
        assert isinstance(kind, Pieces | Winner)
        a = slack(kind, zs, f.codes(node.name), linear=True).flatten(3).movedim(2, -1)
        more = row_norms(a, scale[columns])
        if node.name not in norms:
            norms[node.name] = more
        else:
            old, (l2, l1, scaled) = norms[node.name], more
            old.copy_(torch.stack([old[0].hypot(l2), old[1] + l1, old[2].hypot(scaled)]))

    some = scale.new_zeros(columns.stop - columns.start, d)
    some[range(len(some)), range(columns.start, columns.stop)] = 1
    visit(f, some.reshape(1, -1, *f.network.input_shape), _without_bias, see)


def gate_values(f: Frozen, x: Tensor) -> dict[str, list[Tensor]]:
    """For each gate, the values of its inputs at x (P, k, *input_shape)."""
    found: dict[str, list[Tensor]] = {}
    visit(f, x, _with_bias, lambda node, zs: found.update({node.name: zs}))
    return found


def _with_bias(node: Node, xs: list[Tensor]) -> Tensor:
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs)


def _without_bias(node: Node, xs: list[Tensor]) -> Tensor:
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs, with_bias=False)


def _room(node: Node, zs: list[Tensor], r: Homes) -> Tensor:
    """(P, n) slack of each wall at home: of a unit's nearest threshold, of a group's candidates."""
    kind, p = node.kind, len(r)
    assert isinstance(kind, Pieces | Winner)
    if isinstance(kind, Pieces) and kind.branches == 2:
        # a unit that rounding puts beyond its threshold is on it, up to the same rounding
        return (zs[0] - kind.knots[0] if kind.knots.any() else zs[0]).abs().reshape(p, -1)
    room = slack(kind, zs, r.codes(node.name)).clamp(min=0)
    if isinstance(kind, Pieces):
        return room.amin(0).reshape(p, -1)
    return room[:, :, 0].movedim(0, -1).reshape(p, -1)


def _distance(room: Tensor, norms: Tensor) -> Tensor:
    return torch.where(norms > 0, room / norms, torch.inf)


def _walls(p: Plan, r: Homes, node: Node, room: Tensor) -> Walls:
    if isinstance(node.kind, Winner):
        norms = torch.cat([p.known[name].norms for name in node.inputs], 1)
        size, each = _common(norms[:, node.kind.index.clamp(min=0).reshape(-1)])
        each = each.reshape(1, -1, node.kind.branches).expand(len(room), -1, -1)
        codes = r.codes(node.name).long().reshape(len(room), -1, 1)
        bound = (each + each.gather(-1, codes)).reshape(len(room), -1)
        return Walls(node, room, bound.reciprocal_(), size, codes)
    gated = _gated(p, r, node.inputs[0])
    if gated is None:
        size, bound = _common(p.known[node.inputs[0]].norms)
        return Walls(node, room, bound.reciprocal_(), size)
    return Walls(node, room, *gated)


def _common(norms: Tensor) -> tuple[Tensor, Tensor]:
    """sizes (3,) and one bound (1, n) with bound * sizes >= norms (3, n)."""
    sizes = norms.amax(1).clamp(min=torch.finfo(norms.dtype).tiny)
    bound = (norms / sizes[:, None]).amax(0, keepdim=True).nan_to_num(nan=1.0)
    return sizes, bound.float() * COARSE + TINY


def _gated(p: Plan, r: Homes, name: str) -> tuple[Tensor, Tensor] | None:
    """1 / |L_i D|, (P, n), for z = L D u + c with D the slopes of a gate at home; and u's sizes."""
    if name not in p.squares:
        return None
    gate = p.network.node(p.network.node(name).inputs[0])
    assert isinstance(gate.kind, Pieces)
    squares = r.slope(gate).float().square() @ p.squares[name].matrix
    return squares.add_(p.squares[name].lost).rsqrt_(), p.squares[name].sizes


def _search(p: Plan, r: Homes, walls: Walls, best: Tensor, seen: Seen | None, walks: int) -> int:
    """Lower `best` (3, P) to the nearest of these walls: the likeliest first, then the rest.

    walks: taken for the gates before; returned with those taken here. Negative, with `best` left
    unfinished, where they come to so many that all rows together cost less.
    """
    score = walls.room.to(torch.float32, copy=True)
    if bool(score.amax().isinf()):  # no wall, or a slack that float32 does not hold
        score = (walls.room * walls.inverse.double()).clamp(max=HUGE).float()
    else:
        score = score.mul_(walls.inverse)
    wall = first_least(score)
    least = score.gather(1, wall[:, None])[:, 0]
    home = (least < walls.reach(best)).nonzero().flatten()
    _lower(p, r, walls, home, wall.index_select(0, home), best, seen)
    score[home, wall[home]] = torch.inf
    left = places_of(score < walls.reach(best)[:, None])
    walks += len(left)
    if walks > score.shape[0] * p.network.inputs and seen is None:
        return -1
    _require_affordable(p, walks // len(score))
    home, wall = left // score.shape[1], left % score.shape[1]
    _lower(p, r, walls, home, wall, best, seen)
    return walks


def _lower(
    p: Plan, r: Homes, walls: Walls, home: Tensor, wall: Tensor, best: Tensor, seen: Seen | None
) -> None:
    """Work out the rows of some walls (home and wall (N,)), and lower `best` to the nearest."""
    step = batch_rows(p.network)
    for part in range(0, len(home), step):
        i, w = home[part : part + step], wall[part : part + step]
        norms = row_norms(_rows(p, r, walls.node, walls.winner, i, w), p.scale)
        distance = _distance(walls.room[i, w], norms)
        before = None if seen is None else best.clone()
        best.scatter_reduce_(1, i.expand(KINDS, -1), distance, "amin")
        if seen is not None and before is not None:
            for k in range(KINDS):
                # a wall level with an earlier gate's is that gate's: it may not pass beyond it
                now = (distance[k] == best[k, i]) & (distance[k] < before[k, i] * (1 - LEVEL))
                seen[1][0, k, i[now]], seen[1][1, k, i[now]] = seen[0], w[now]


# -- rows, one walk back each --


def wall_rows(p: Plan, f: Frozen, node: Node, home: Tensor, wall: Tensor) -> Tensor:
    """(N, d) the rows of some walls of a gate: of the unit, or of the winner less the candidate."""
    winner = f.codes(node.name).long().reshape(len(f.pattern), -1, 1)
    return _rows(p, Homes(f.source, f.pattern), node, winner, home, wall)


def _rows(
    p: Plan, r: Homes, node: Node, winner: Tensor | None, home: Tensor, wall: Tensor
) -> Tensor:
    if isinstance(node.kind, Pieces):
        chained = _chain(p, r, node.inputs[0], home, wall)
        if chained is not None:
            return chained
    grads = _seeds(p, node, winner, home, wall)
    shapes = {n.name: n.shape for n in r.source.nodes} | {INPUT: p.network.input_shape}
    place = [n.name for n in r.source.nodes].index(node.name)
    before = dataclasses.replace(r.source, nodes=r.source.nodes[:place], output=INPUT)
    for node in reversed(freeze(before, r.pattern[home.cpu()]).nodes):
        if node.name not in grads:
            continue
        assert isinstance(node.kind, Affine)
        parts = pull(node.kind, grads.pop(node.name), [shapes[n] for n in node.inputs])
        for name, part in zip(node.inputs, parts, strict=True):
            grads[name] = grads[name] + part if name in grads else part
    zero = p.scale.new_zeros(len(home), p.network.inputs)
    return grads[INPUT].reshape(len(home), -1) if INPUT in grads else zero


def _chain(p: Plan, r: Homes, name: str, home: Tensor, wall: Tensor) -> Tensor | None:
    """(N, d) rows of L_k D .. L_2 D L_1: where matrices and gates alternate, products are all."""
    if name not in p.squares:
        return None
    g = p.matrix[name].index_select(0, wall)
    while name in p.squares:
        gate = p.network.node(p.network.node(name).inputs[0])
        g = g * r.slope(gate).index_select(0, home)
        name = gate.inputs[0]
        first = p.known[name].rows
        if first is not None:
            return g @ first
        if name in p.squares:
            g = g @ p.matrix[name]
    return None


def _seeds(
    p: Plan, node: Node, winner: Tensor | None, home: Tensor, wall: Tensor
) -> dict[str, Tensor]:
    """Cotangents (N, 1, *shape) that ask for the walls' rows."""
    names, shape, kind = node.inputs, p.network.shape, node.kind
    if isinstance(kind, Pieces) and names[0] in p.matrix:
        before = p.network.node(names[0]).inputs[0]
        return {before: p.matrix[names[0]].index_select(0, wall).reshape(-1, 1, *shape(before))}
    sizes = [math.prod(shape(name)) for name in names]
    seed = p.scale.new_zeros(len(home), sum(sizes))
    line = torch.arange(len(home), device=home.device)
    if isinstance(kind, Winner):
        assert winner is not None
        index = kind.index.reshape(-1, kind.branches)
        group, each = wall // kind.branches, wall % kind.branches
        seed[line, index[group, winner[home, group, 0]]] += 1
        seed[line, index[group, each]] -= 1
    else:
        seed[line, wall] = 1
    grads: dict[str, Tensor] = {}
    for name, part in zip(names, seed.split(sizes, 1), strict=True):
        part = part.reshape(-1, 1, *shape(name))
        grads[name] = grads[name] + part if name in grads else part
    return grads
