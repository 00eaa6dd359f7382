"""Bounds of the rows of every unit that hold under every pattern: what margins are pruned by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Smooth, Winner, pull
from gatewise.ir.network import INPUT, Network, Node, fold

STEEPEST = 1e15  # a slope whose square float32 holds
ENTRIES = 4_000_000  # of a matrix that is held whole
KINDS = 3  # Euclidean, the dual of the largest change, Euclidean in units of the scale


@dataclass(frozen=True, eq=False)
class Known:
    """What holds of a value under every pattern: norms (3, n) of its rows, sizes (3,) of its map.

    |g A| <= |g| size for cotangents g, in each of the three norms of g A and the Euclidean of g.
    rows (n, d): the map itself, where no gate comes before it.
    """

    norms: Tensor
    sizes: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Squares:
    """For z = L D u + c, D diagonal: |row i of L D| <= sqrt((D^2 matrix)_i + lost) in each metric

    times sizes (3,), as computed in float32. matrix (in, out): squares of L, over its largest.
    """

    matrix: Tensor
    lost: float
    sizes: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """Bounds of every value; matrices (out, in) of Affines, their squares behind a gate's slopes.

    continuous: no gate jumps at a knot.
    """

    network: Network
    scale: Tensor
    known: Mapping[str, Known]
    matrix: Mapping[str, Tensor]
    squares: Mapping[str, Squares]
    continuous: bool


def plan(network: Network, scale: Tensor) -> Plan:
    """What the margins of any rows share."""
    matrices: dict[str, Tensor] = {}
    shapes = {n.name: n.shape for n in network.nodes} | {INPUT: network.input_shape}

    def step(node: Node, xs: list[Known]) -> Known:
        kind = node.kind
        if isinstance(kind, Affine):
            found = _matrix(kind, node.shape, [shapes[name] for name in node.inputs], scale)
            if found is not None and len(xs) == 1:
                matrices[node.name] = found
            return _affine(kind, node, xs, found, scale, [shapes[name] for name in node.inputs])
        if isinstance(kind, Pieces):
            steep = kind.slopes.abs().amax(0).expand(node.shape).reshape(-1)
            return Known(xs[0].norms * steep, xs[0].sizes * steep.amax())
        if isinstance(kind, Winner):
            return _winner(kind, xs)
        return _nothing(math.prod(node.shape), scale)

    behind = {name for node in network.gates for name in node.inputs} - {INPUT}
    known = fold(network, _input(scale), step, keep=behind) | {INPUT: _input(scale)}
    squares = {
        name: _squares(matrices[name], gate, known[gate.inputs[0]].sizes)
        for name in behind & matrices.keys()
        for gate in network.nodes
        if gate.name == network.node(name).inputs[0]
        and isinstance(gate.kind, Pieces)
        and float(gate.kind.slopes.abs().amax()) < STEEPEST
    }
    whole = all(continuous(node) for node in network.nodes)
    return Plan(network, scale, known, matrices, squares, whole)


def _squares(matrix: Tensor, gate: Node, sizes: Tensor) -> Squares:
    """The bound's square is a sum of n positive float32 products: (n + 4) roundings at most."""
    assert isinstance(gate.kind, Pieces)
    n, most = matrix.shape[1], matrix.abs().amax()
    small = (matrix / most if bool(most > 0) else matrix).float()
    steep = max(1.0, float(gate.kind.slopes.abs().amax()))
    single = torch.finfo(torch.float32)
    up = 1 + (n + 8) * single.eps
    lost = 4 * n * single.tiny * steep**2  # each factor and each product may vanish
    return Squares((small.square() * up).T.contiguous(), lost, most * sizes)


def continuous(node: Node) -> bool:
    """No step at a knot: then the value at a point is that of every branch which may hold there."""
    kind = node.kind
    if not isinstance(kind, Pieces):
        return not isinstance(kind, Smooth)
    ends = zip(
        kind.knots, itertools.pairwise(kind.slopes), itertools.pairwise(kind.offsets), strict=True
    )
    return not any(bool(((b - a) * t + d - c).any()) for t, (a, b), (c, d) in ends)


def safe(like: Tensor) -> float:
    """A factor just above 1 that pays for rounding in the bounds."""
    return 1 + 4096 * float(torch.finfo(like.dtype).eps)


# -- bounds --


def _input(scale: Tensor) -> Known:
    d = len(scale)
    eye = torch.eye(d, dtype=scale.dtype, device=scale.device) if d * d <= ENTRIES else None
    one = torch.ones_like(scale)
    sizes = torch.stack([one[0], one[0] * math.sqrt(d), scale.amax()])
    return Known(torch.stack([one, one, scale]), sizes, eye)


def _nothing(size: int, scale: Tensor) -> Known:
    return Known(scale.new_full((KINDS, size), torch.inf), scale.new_full((KINDS,), torch.inf))


def _affine(
    kind: Affine,
    node: Node,
    xs: list[Known],
    matrix: Tensor | None,
    scale: Tensor,
    shapes: list[tuple[int, ...]],
) -> Known:
    """Triangle inequality, or the norm of the matrix times the size of what it acts on."""
    if matrix is not None and all(x.rows is not None for x in xs):
        rows = matrix @ torch.cat([x.rows for x in xs if x.rows is not None])
        return Known(row_norms(rows, scale), _sizes(rows, scale), rows)
    inputs = [x.norms.reshape(KINDS, *s) for x, s in zip(xs, shapes, strict=True)]
    norms = kind.magnitude(*inputs).reshape(KINDS, -1) * safe(scale)
    size = torch.stack([x.sizes for x in xs]).square().sum(0).sqrt()
    if matrix is None:
        return Known(norms, size * _largest(kind, node.shape, shapes, scale))
    norms = torch.minimum(norms, matrix.norm(dim=1) * size[:, None] * safe(scale))
    return Known(norms, size * _spectral(matrix) * safe(scale))


def _winner(kind: Winner, xs: list[Known]) -> Known:
    norms = torch.cat([x.norms for x in xs], 1)[:, kind.index.clamp(min=0)]
    there = kind.index >= 0
    most = torch.bincount(kind.index[there]).amax()  # how many groups one entry may win
    size = torch.stack([x.sizes for x in xs]).square().sum(0).sqrt() * most.sqrt()
    return Known(norms.masked_fill(~there, 0).amax(-1).reshape(KINDS, -1), size)


def row_norms(rows: Tensor, scale: Tensor) -> Tensor:
    """(3, n) of rows (n, d): the duals of the three metrics."""
    return torch.stack([rows.norm(dim=-1), rows.abs().sum(-1), (rows * scale).norm(dim=-1)])


def _sizes(rows: Tensor, scale: Tensor) -> Tensor:
    """(3,) the largest of |g A| over Euclidean unit g."""
    two = _spectral(rows)
    scaled = _spectral(rows * scale)
    return safe(scale) * torch.stack([two, two * math.sqrt(rows.shape[1]), scaled])


def _spectral(m: Tensor) -> Tensor:
    """The largest singular value, from the Gram matrix of the shorter side."""
    most = m.abs().amax()
    if not bool(most > 0):
        return most
    small = m / most  # so that no square overflows
    gram = small @ small.mT if small.shape[0] <= small.shape[1] else small.mT @ small
    largest: Tensor = torch.linalg.eigvalsh(gram).amax().clamp(min=0).sqrt()
    return most * largest


def _matrix(
    kind: Affine, shape: tuple[int, ...], inputs: list[tuple[int, ...]], like: Tensor
) -> Tensor | None:
    """L of an Affine as (out, in), its inputs side by side, or None where it is too large."""
    n, d = math.prod(shape), sum(math.prod(s) for s in inputs)
    if n * d > ENTRIES:
        return None
    unit = torch.eye(n, dtype=like.dtype, device=like.device).reshape(1, n, *shape)
    return torch.cat([part.reshape(n, -1) for part in pull(kind, unit, inputs)], 1)


def _largest(
    kind: Affine, shape: tuple[int, ...], inputs: list[tuple[int, ...]], like: Tensor
) -> Tensor:
    """|L| <= sqrt(largest row sum x largest column sum), both from |weights|."""
    across = kind.magnitude(*(like.new_ones(1, *s) for s in inputs)).amax()
    down = pull(kind.absolute(), like.new_ones(1, 1, *shape), inputs)
    most = torch.stack([part.amax() for part in down]).amax()
    return safe(like) * (across * most).sqrt()
