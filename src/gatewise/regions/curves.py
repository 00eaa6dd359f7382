"""Values along lines through the gates of a network, and integrals of slopes on the way back.

Each value is held at its own knots: at a gate the places where a unit changes its branch are put
in between, so a later value has more of them than an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Winner, pull
from gatewise.ir.network import INPUT, Network, Node, fold, fold_back
from gatewise.regions.grids import Curve, Finer, Grid, common, crossing, insert

TIE = 8  # candidates that differ by so many roundings of the larger are level


@dataclass(frozen=True, eq=False)
class Step:
    """What the walk back needs of a node: its pieces within those of each input, and its branch.

    codes (K, *shape): the branch on each piece; slope: the mean slope over each, for a gate that
    no other gate depends on.
    """

    finer: list[Finer | None]
    sizes: list[int]
    codes: Tensor | None = None
    slope: Tensor | None = None


def walk(network: Network, x: Tensor, direction: Tensor, grid: Grid) -> Curve:
    """The output along the lines, on the grid of all places where any unit before it changes."""
    return fold(network, _start(network, x, direction, grid), lambda n, xs: _step(n, xs)[0])[
        network.output
    ]


def walk_there(
    network: Network, x: Tensor, direction: Tensor, grid: Grid
) -> tuple[Grid, dict[str, Step]]:
    """The grid the walk back starts from, and what it needs of every node.

    Behind the last gates no grid is needed: what comes back to them is constant on each piece, so
    of such a gate only the mean slope counts, and that is its secant (f(b) - f(a)) / (b - a).
    """
    last, record = _last(network), {}

    def step(node: Node, xs: list[Curve]) -> Curve:
        if node.name in last:
            value, record[node.name] = _secant(node.kind, xs)  # type: ignore[arg-type]
        else:
            value, record[node.name] = _step(node, xs)
        return value

    end = fold(network, _start(network, x, direction, grid), step)[network.output]
    return end.grid, record


def _last(network: Network) -> set[str]:
    """Names of the elementwise gates that no later gate looks at."""
    behind: set[str] = set()
    for node in reversed(network.nodes):
        if node.name in behind or isinstance(node.kind, Pieces | Winner):
            behind.update(node.inputs)
    gates = (n for n in network.gates if n.name not in behind)
    return {n.name for n in gates if isinstance(n.kind, Pieces)}


def _start(network: Network, x: Tensor, direction: Tensor, grid: Grid) -> Curve:
    t, way = grid.t[:, None], direction[grid.row]
    ends = torch.where(t.isinf(), way * t.sign(), x[grid.row] + t * way)
    return Curve(grid, ends.reshape(-1, *network.input_shape))


def _step(node: Node, xs: list[Curve]) -> tuple[Curve, Step]:
    if isinstance(node.kind, Affine):
        return _affine(node.kind, xs)
    if isinstance(node.kind, Pieces):
        return _pieces(node.kind, xs)
    assert isinstance(node.kind, Winner)
    return _winner(node.kind, xs)


def _secant(kind: Pieces, xs: list[Curve]) -> tuple[Curve, Step]:
    """The gate at the knots of its input, and its mean slope between them."""
    z, y, codes = xs[0].value, kind(xs[0].value), kind.choose(xs[0].value)
    slope = kind.branch(codes).weights[0].squeeze(1).expand_as(z).clone()
    changed = (codes[1:] != codes[:-1]).nonzero(as_tuple=True)
    later = (changed[0] + 1, *changed[1:])
    run = z[later] - z[changed]
    # equal values in different branches: a line along a threshold, where either slope is right
    mean = torch.where(run == 0, slope[changed], (y[later] - y[changed]) / run)
    slope[changed] = mean
    return Curve(xs[0].grid, y), Step([None], [len(z)], slope=slope)


def _affine(kind: Affine, xs: list[Curve]) -> tuple[Curve, Step]:
    level, finer = common(xs)
    grid, values = level[0].grid, [c.value for c in level]
    rays = grid.rays
    if rays.any() and kind.bias is not None:
        y = kind.linear(*values)
        y = y + kind.bias * (~rays).to(y.dtype).reshape(-1, *[1] * (y.ndim - 1))
    else:
        y = kind(*values)
    return Curve(grid, y), Step(finer, [len(c.grid) for c in xs])


def _pieces(kind: Pieces, xs: list[Curve]) -> tuple[Curve, Step]:
    """Knots where a unit passes a threshold; beyond them the branch of each piece's middle."""
    z = xs[0]
    places = [_passing(z, _off(z, knot)) for knot in kind.knots]
    piece = torch.cat([p for p, _ in places])
    finer = insert(z.grid, piece, torch.cat([t for _, t in places])) if len(piece) else None
    fine = z if finer is None else finer.lift(z)
    y, rays = kind(fine.value), fine.grid.rays
    if rays.any():
        v = fine.value[rays]
        top, bottom = (kind.slopes[i].expand(v.shape[1:]) for i in (-1, 0))
        y = y.index_put((rays,), torch.where(v > 0, top, bottom) * v)
    return Curve(fine.grid, y), Step([finer], [len(z.grid)], kind.choose(_middle(fine)))


def _winner(kind: Winner, xs: list[Curve]) -> tuple[Curve, Step]:
    """The upper envelope: where one end's winner loses at the other, their lines' meeting point."""
    level, finer = common(xs)
    grid = level[0].grid
    down: Tensor | None = None
    for _ in range(kind.branches + 1):
        piece, t = _overtaken(kind, level)
        more = insert(grid, piece, t) if len(piece) else None
        if more is None:
            break
        level, grid = [more.lift(c) for c in level], more.grid
        down = more.left if down is None else down[more.left]
    if down is not None:
        within = [down if f is None else f.left[down] for f in finer]
        finer = [Finer(grid, left) for left in within]
    values, middle = [c.value for c in level], [_middle(c) for c in level]
    return Curve(grid, kind(*values)), Step(finer, [len(c.grid) for c in xs], kind.choose(*middle))


def _off(z: Curve, knot: Tensor) -> Tensor:
    """z - knot, flattened (K, units); at the end of a ray the slope is z's own."""
    if not knot.any():
        return z.value.reshape(len(z.grid), -1)
    ends = z.grid.rays.reshape(-1, *[1] * (z.value.ndim - 1))
    return (z.value - torch.where(ends, 0, knot)).reshape(len(z.grid), -1)


def _passing(z: Curve, s: Tensor) -> tuple[Tensor, Tensor]:
    """Pieces, and t in them, where an entry of s (K, units) changes its sign."""
    above, below = s > 0, s < 0
    changes = (above[:-1] & below[1:]) | (below[:-1] & above[1:])
    changes &= z.grid.inside[:, None]
    piece, unit = changes.nonzero(as_tuple=True)
    return piece, crossing(z.grid, piece, s[piece, unit], s[piece + 1, unit])


def _middle(z: Curve) -> Tensor:
    """(K, *shape) z inside each piece: at its middle, or 1 along a ray. Nothing at a last knot."""
    v, rays = z.value, z.grid.rays
    middle = torch.empty_like(v)
    torch.add(v[:-1], v[1:], out=middle[:-1])
    middle[-1] = 0
    if not rays.any():
        return middle.mul_(0.5)
    ray = rays | torch.cat([rays[1:], rays[-1:]])
    return middle * torch.where(ray, 1.0, 0.5).reshape(-1, *[1] * (v.ndim - 1))


def _overtaken(kind: Winner, level: list[Curve]) -> tuple[Tensor, Tensor]:
    """Pieces where the winner at the left end is not the one at the right, and where they meet."""
    grid = level[0].grid
    flat = torch.cat([c.value.reshape(len(grid), -1) for c in level], 1)
    z = (kind.sign * flat[:, kind.index.clamp(min=0)]).masked_fill(kind.index < 0, -torch.inf)
    z = z.reshape(len(grid), -1, kind.branches)
    best, code = z.max(-1)
    level_with = TIE * torch.finfo(z.dtype).eps * best.abs()
    left, right = code[:-1], code[1:]
    # what each end's winner is worth at the other end, below that end's winner
    lost = z[1:].gather(-1, left[..., None])[..., 0] - best[1:]
    gain = z[:-1].gather(-1, right[..., None])[..., 0] - best[:-1]
    open_ = (lost < -level_with[1:]) & (gain < -level_with[:-1]) & grid.inside[:, None]
    piece, unit = open_.nonzero(as_tuple=True)
    return piece, crossing(grid, piece, gain[piece, unit], -lost[piece, unit])


# -- the walk back --


def walk_back(
    network: Network,
    start: Grid,
    end: Grid,
    record: dict[str, Step],
    outputs: Sequence[int],
) -> Tensor:
    """(rows, k, inputs): the integral of the gradients of k outputs over each line."""
    shapes = {n.name: n.shape for n in network.nodes} | {INPUT: network.input_shape}
    k = len(outputs)
    seed = start.t.new_zeros(k, network.outputs)
    seed[range(k), list(outputs)] = 1
    g = end.lengths[:, None, None] * seed

    def step(node: Node, g: Tensor) -> list[Tensor]:
        seen = record[node.name]
        if seen.slope is not None:
            return [g * seen.slope.unsqueeze(1)]
        parts = pull(_branch(node, seen), g, [shapes[name] for name in node.inputs])
        pairs = zip(parts, seen.finer, seen.sizes, strict=True)
        return [p if f is None else f.lower(p, size) for p, f, size in pairs]

    found = fold_back(network, g.reshape(len(end), k, *network.output_shape), step)
    rows = int(start.row[-1]) + 1
    if found is None:
        return seed.new_zeros(rows, k, network.inputs)
    whole_line = seed.new_zeros(rows, k, network.inputs)
    return whole_line.index_add_(0, start.row, found.reshape(len(start), k, -1))


def _branch(node: Node, seen: Step) -> Affine:
    if isinstance(node.kind, Affine):
        return node.kind
    assert isinstance(node.kind, Pieces | Winner)
    assert seen.codes is not None
    return node.kind.branch(seen.codes)
