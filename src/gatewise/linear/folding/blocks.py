"""A network whose constant units have become affine, as blocks of gates over affine functions.

Every value is held as columns over a basis: the constant 1, the inputs, then the units of each
block in turn, so that it is affine in all that came before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Smooth, Winner, push
from gatewise.ir.network import INPUT, Network, Node

MOST = 1 << 27  # numbers in the columns of one value
GREEDY = 8  # gates: with more, on units are multiplied in everywhere or nowhere


@dataclass(frozen=True, eq=False)
class Block:
    """Units over the basis: rows (1 + basis, n) enter `kind`, or are the units where it is None.

    Units of a Winner take several rows each: see its index.
    """

    name: str
    layer: str
    rows: Tensor
    kind: Pieces | Winner | None
    units: int


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks in order, and the output (1 + basis, outputs) over all of them."""

    blocks: tuple[Block, ...]
    output: Tensor


def without_constants(
    network: Network, branch: Mapping[str, Tensor], note: str, most: int = MOST
) -> tuple[Network, dict[str, int]]:
    """The network of the units that change; for each gate, how many more nothing hangs on.

    branch[gate]: the one branch that a unit takes, or -1. Of units with a slope on it, either their
    rows are multiplied into the layers behind them or they stay as rows without a gate, gate by
    gate: whichever takes fewer parameters in all.
    """

    def build(merge: Collection[str]) -> tuple[Network, dict[str, int]]:
        return network_of(network, blocks_of(network, branch, merge, most), note)

    gates = [n.name for n in network.gates if bool((branch[n.name] >= 0).any())]
    chosen: set[str] = set(gates)
    best = build(chosen)
    if gates and (other := build(())) and other[0].parameters < best[0].parameters:
        chosen, best = set(), other
    for gate in gates if 1 < len(gates) <= GREEDY else ():
        flipped = chosen ^ {gate}
        other = build(flipped)
        if other[0].parameters < best[0].parameters:
            chosen, best = flipped, other
    return best


def blocks_of(
    network: Network, branch: Mapping[str, Tensor], merge: Collection[str], most: int = MOST
) -> Blocks:
    """branch[gate] (*shape,): the one branch of a unit, or -1.

    merge: gates whose units with a slope on their one branch are multiplied into what is behind
    them; those of other gates are units of a block without a gate.
    """
    start = torch.eye(network.inputs + 1, dtype=network.dtype)[:, 1:]
    values = {INPUT: start.reshape(-1, *network.input_shape)}
    blocks: list[Block] = []
    for node in network.nodes:
        gate = isinstance(node.kind, Pieces | Winner)
        xs = [values[name] for name in node.inputs]
        width = 1 + network.inputs + sum(b.units for b in blocks) if gate else max(map(len, xs))
        xs = [_padded(x, width) for x in xs]
        if len(xs[0]) * math.prod(node.shape) > most:
            raise DataError(
                f"simplifying takes {len(xs[0])} columns of node '{node.name}' of shape "
                f"{node.shape}, more than fits: it is for networks of up to some thousand units"
            )
        if gate:
            merged = node.name in merge
            values[node.name] = _gate(node, xs, branch[node.name], merged, blocks)
        else:
            values[node.name] = _step(node, xs)
    width = 1 + network.inputs + sum(b.units for b in blocks)
    out = values[network.output]
    return Blocks(tuple(blocks), _padded(out, width).reshape(width, -1))


def _padded(x: Tensor, width: int) -> Tensor:
    """Zero columns for the units that came later."""
    return torch.cat([x, x.new_zeros(width - len(x), *x.shape[1:])])


def _step(node: Node, xs: list[Tensor]) -> Tensor:
    """The columns behind a node that is no gate; the bias belongs to the first."""
    kind = node.kind
    still = [not bool(x[1:].any()) for x in xs]
    if isinstance(kind, Product) and any(still):
        side = still.index(True)
        fixed, moving = xs[side][:1], xs[1 - side]
        return push(kind.fix(side, fixed), [moving[None]])[0]
    if isinstance(kind, Smooth) and all(still):
        value = kind(*(x[:1] for x in xs))
        return _padded(value.reshape(1, *node.shape), len(xs[0]))
    if not isinstance(kind, Affine):
        raise NotPiecewiseAffine(
            f"node '{node.name}' is {node.layer}: it multiplies or bends values that change, so "
            f"the network cannot be written as gates over affine functions"
        )
    y = push(kind, [x[None] for x in xs], with_bias=False)[0]
    if kind.bias is not None:
        y = torch.cat([y[:1] + kind.bias, y[1:]])
    return y


def _gate(node: Node, xs: list[Tensor], branch: Tensor, merge: bool, blocks: list[Block]) -> Tensor:
    """The columns behind a gate; the units that change (or are kept as rows) become blocks."""
    kind, branch = node.kind, branch.reshape(-1)
    assert isinstance(kind, Pieces | Winner)
    width, n = len(xs[0]), len(branch)
    chosen = kind.branch(_any(kind, branch.reshape(node.shape))[None])
    y = chosen.linear(*(x[None] for x in xs))[0].reshape(width, n)
    if chosen.bias is not None:
        y[0] += chosen.bias.reshape(-1)
    changing = branch < 0
    parts = [(changing, True)]
    if not merge:
        parts.append((~changing & y[1:].any(0), False))
    for which, gated in parts:
        kept = which.nonzero().flatten()
        if not len(kept):
            continue
        rows, small = _kept(kind, node.shape, xs, kept) if gated else (y[:width, kept], None)
        name = node.name if gated else f"{node.name}.on"
        blocks.append(Block(name, node.layer, rows, small, len(kept)))
        y[:, kept] = 0
        own = y.new_zeros(len(kept), n)
        own[range(len(kept)), kept] = 1
        y = torch.cat([y, own])
    return y.reshape(len(y), *node.shape)


def _any(kind: Pieces | Winner, branch: Tensor) -> Tensor:
    """The branches, and for -1 the first that there is (a window may begin in padding)."""
    first = torch.zeros_like(branch, dtype=torch.long)
    if isinstance(kind, Winner):
        first = (kind.index >= 0).int().argmax(-1).expand(branch.shape)
    return torch.where(branch < 0, first, branch.long())


def _kept(
    kind: Pieces | Winner, shape: Shape, xs: list[Tensor], kept: Tensor
) -> tuple[Tensor, Pieces | Winner]:
    """What enters some units of a gate, and the gate of those alone."""
    flat = torch.cat([x.reshape(len(x), -1) for x in xs], 1)
    if isinstance(kind, Winner):
        index = kind.index.expand(*shape, kind.branches).reshape(-1, kind.branches)[kept]
        used = index[index >= 0].unique()
        place = torch.searchsorted(used, index.clamp(min=0)).where(index >= 0, -1)
        return flat[:, used], dataclasses.replace(kind, index=place)
    one = all(t.ndim == 1 for t in (kind.knots, kind.slopes, kind.offsets))

    def taken(t: Tensor) -> Tensor:
        return t if t.ndim == 1 else torch.stack([v.expand(shape).reshape(-1)[kept] for v in t])

    knots, slopes, offsets = (taken(t) for t in (kind.knots, kind.slopes, kind.offsets))
    return flat[:, kept], Pieces(knots, slopes, offsets, kind.closed, kind.direct if one else None)


# -- and back to a network --


def network_of(network: Network, blocks: Blocks, note: str) -> tuple[Network, dict[str, int]]:
    """The network of the blocks; for each gate, how many units went since nothing hangs on them."""
    live = _live(network.inputs, blocks)
    nodes: list[Node] = []
    sources: list[tuple[str, int, Tensor]] = [(INPUT, 1, torch.arange(network.inputs))]
    at, dead = 1 + network.inputs, {}
    taken = {n.name for n in network.nodes}
    for block in blocks.blocks:
        kept = live[at : at + block.units].nonzero().flatten()
        if block.kind is not None:
            dead[block.name] = block.units - len(kept)
        if len(kept):
            rows, kind = _cut(block, kept)
            name = _name(block.name, network.output, taken)
            before = name if kind is None else _name(f"{name}.in", "", taken)
            nodes.append(_affine(before, "affine", rows, sources, (rows.shape[1],), network))
            if kind is not None:
                nodes.append(Node(name, block.layer, kind, (before,), (len(kept),)))
            sources.append((name, at, kept))
        at += block.units
    shape, out = network.output_shape, network.output
    nodes.append(_affine(out, "affine", blocks.output, sources, shape, network))
    made = dataclasses.replace(network, nodes=tuple(nodes), notes=(*network.notes, note))
    return made, dead


def _name(wanted: str, output: str, taken: set[str]) -> str:
    """The name itself, or a new one where it is the output's or stands for something else."""
    if wanted in taken and wanted != output:
        return wanted
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def _live(inputs: int, blocks: Blocks) -> Tensor:
    """(1 + basis,): does the output hang on it?"""
    live = blocks.output.any(1)
    end = len(live)
    for block in reversed(blocks.blocks):
        kept = live[end - block.units : end].nonzero().flatten()
        end -= block.units
        if len(kept):
            rows, _ = _cut(block, kept)
            live[: len(rows)] |= rows.any(1)
    return live


def _cut(block: Block, kept: Tensor) -> tuple[Tensor, Pieces | Winner | None]:
    """Some units of a block."""
    kind = block.kind
    if kind is None:
        return block.rows[:, kept], None
    return _kept(kind, (block.units,), [block.rows], kept)


def _affine(
    name: str,
    layer: str,
    rows: Tensor,
    sources: list[tuple[str, int, Tensor]],
    shape: Shape,
    network: Network,
) -> Node:
    """One Affine of the rows over the sources that they hang on, with one weight for all."""
    used = [s for s in sources if s[1] < len(rows) and bool(rows[s[1] + s[2]].any())]
    used = used or sources[:1]
    weight = torch.cat([rows[at + kept] for _, at, kept in used]).T.contiguous()
    sizes = tuple(len(kept) for _, _, kept in used)
    shapes = tuple(network.input_shape if n == INPUT else (len(k),) for n, _, k in used)
    bias = rows[0].reshape(shape).clone() if bool(rows[0].any()) else None
    names = tuple(n for n, _, _ in used)
    if len(used) == len(shape) == len(shapes[0]) == 1:
        kind = Affine(matrix, (weight,), bias, sum(sizes), len(weight), pullback=matrix_back)
        return Node(name, layer, kind, names, shape)
    rule = Joined(sizes, shapes, shape)
    kind = Affine(rule, (weight,), bias, sum(sizes), len(weight), pullback=rule.back)
    return Node(name, layer, kind, names, shape)


def matrix(w: Tensor, x: Tensor) -> Tensor:
    """w x for flat rows: of any size, so that layers can be multiplied and cut further."""
    return torch.nn.functional.linear(x, w)


def matrix_back(w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """w' g."""
    return (g @ w,)


@dataclass(frozen=True)
class Joined:
    """w x for the inputs joined end to end."""

    sizes: tuple[int, ...]
    shapes: tuple[Shape, ...]
    shape: Shape

    def __call__(self, w: Tensor, *xs: Tensor) -> Tensor:
        flat = torch.cat([x.reshape(len(x), -1) for x in xs], 1)
        return torch.nn.functional.linear(flat, w).reshape(-1, *self.shape)

    def back(self, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """w' g, in parts."""
        parts = (g.reshape(len(g), -1) @ w).split(self.sizes, 1)
        return tuple(p.reshape(-1, *s) for p, s in zip(parts, self.shapes, strict=True))
