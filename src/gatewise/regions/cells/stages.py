"""The rows of each gate on each cell: the network's values as affine functions of coordinates.

On a cell every value is affine in s: it is held as k + 1 columns, the images of the directions and
of the origin. They are carried from gate to gate for all cells of a chunk at once; behind a gate
each child has its parent's columns through the branch it is on.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Affine, Pieces, Product, Smooth, Winner, push
from gatewise.ir.network import (
    INPUT,
    Network,
    Node,
    fixed_by_pattern,
    require_piecewise_affine,
)
from gatewise.numeric import gamma
from gatewise.regions.cells.flips import MOST
from gatewise.regions.cells.slices import Slice

Columns = dict[str, Tensor]  # name -> (cells or 1, k + 1, *shape)
KNOT = 1023  # in place of a challenger: the row is about a knot
MOST_BRANCHES = 1023
DENSE = 1 << 22  # entries of a matrix from gate to gate


@dataclass(frozen=True, eq=False)
class Stage:
    """One gate, and what is computed before it.

    number: its place in network.gates; live: names needed behind it; updates: what rank-one updates
    add to the rounding error of its rows, as a share of it. onward (n, m): the matrix from the gate
    to the next one, where nothing else but the gate is needed behind it; else None. apart: a gate
    before this one jumps, so that cells that touch have rows of their own there, and share no
    vertices.
    """

    gate: Node
    number: int
    before: tuple[Node, ...]
    live: frozenset[str]
    updates: float = 0.0
    onward: Onward | None = None
    apart: bool = False


@dataclass(frozen=True, eq=False)
class Onward:
    """From a gate of one knot a unit to the next gate: weight (n, m), and what a unit gains above
    its knot, slope and offset (n,)."""

    weight: NDArray[np.float64]
    slope: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """A network (float64, on the CPU) over a slice, cut into stages.

    most: more cells than so many are not asked for, behind any gate.
    """

    network: Network
    slice: Slice
    stages: tuple[Stage, ...]
    fixed: frozenset[str]
    most: int = sys.maxsize


def plan(network: Network, where: Slice, most: int | None = None) -> Plan:
    """The stages of the network over the slice."""
    require_piecewise_affine(network, "enumerating regions")
    network = network.to(torch.float64, "cpu")
    stages: list[Stage] = []
    before: list[Node] = []
    for node in network.nodes:
        if isinstance(node.kind, Pieces | Winner):
            live = _needed(network, node)
            _check_branches(node)
            jumped = any(isinstance(s.gate.kind, Pieces) and s.gate.kind.jumps for s in stages)
            stages.append(Stage(node, len(stages), tuple(before), live, apart=jumped))
            before = []
        else:
            before.append(node)
    fixed = frozenset(fixed_by_pattern(network))
    return Plan(network, where, tuple(_linked(stages, fixed)), fixed, most or sys.maxsize)


def _linked(stages: list[Stage], fixed: frozenset[str]) -> Iterator[Stage]:
    """The stages, with the matrix from one gate to the next where updates can use it.

    Updates round too: MOST of them as much as an inner product of twice that length.
    """
    updated = False
    for i, stage in enumerate(stages):
        onward = _onward(stage, stages[i + 1], fixed) if i + 1 < len(stages) else None
        updates = _update_error(stage) if updated else 0.0
        updated = onward is not None
        yield dataclasses.replace(stage, onward=onward, updates=updates)


def _update_error(stage: Stage) -> float:
    """MOST updates, two roundings each way, as a share of the error bound without them.

    That bound is at least gamma(2 n + 4) |W||z|, for the longest inner product n on the way. Where
    several products lie there, W itself is rounded, and each update brings that in anew.
    """
    terms = _terms(stage)
    work = 4 * MOST + (2 * MOST * sum(terms) if len(terms) > 1 else 0)
    return gamma(work, torch.float64) / gamma(2 * max(terms) + 4, torch.float64)


def _terms(stage: Stage) -> list[int]:
    """The lengths of the inner products before the gate; what only moves values has none."""
    kinds = (node.kind for node in stage.before)
    return [kind.terms for kind in kinds if isinstance(kind, Affine) and kind.terms]


def _onward(stage: Stage, following: Stage, fixed: frozenset[str]) -> Onward | None:
    kind, gate = stage.gate.kind, stage.gate
    after = following.gate
    n, m = math.prod(gate.shape), math.prod(after.shape)
    if (
        not isinstance(kind, Pieces)
        or len(kind.knots) > 1
        or not isinstance(after.kind, Pieces)
        or following.live - {after.name}
        or n * m > DENSE
        or gate.name in fixed
        or not all(isinstance(node.kind, Affine) for node in following.before)
        or not _terms(following)
    ):
        return None
    values = {gate.name: torch.eye(n, dtype=torch.float64).reshape(1, n, *gate.shape)}
    for node in following.before:
        xs = [values[name] for name in node.inputs if name in values]
        if not xs or len(xs) < len(node.inputs):
            return None
        assert isinstance(node.kind, Affine)
        values[node.name] = push(node.kind, xs, with_bias=False)
    weight = values.get(after.inputs[0])
    if weight is None:
        return None
    gains = (
        (t[1] - t[0]).expand(gate.shape).reshape(-1).numpy() for t in (kind.slopes, kind.offsets)
    )
    slope, offset = (np.ascontiguousarray(g, np.float64) for g in gains)
    return Onward(weight.reshape(n, m).contiguous().numpy(), slope, offset)


def _needed(network: Network, gate: Node) -> frozenset[str]:
    """Names computed up to the gate that a later gate may hang on."""
    place = next(i for i, n in enumerate(network.nodes) if n is gate)
    last = max(i for i, n in enumerate(network.nodes) if isinstance(n.kind, Pieces | Winner))
    later = {name for n in network.nodes[place + 1 : last + 1] for name in n.inputs}
    return frozenset(later & {INPUT, *(n.name for n in network.nodes[: place + 1])})


def _check_branches(node: Node) -> None:
    """A row's label has room for so many candidates."""
    kind = node.kind
    if isinstance(kind, Winner) and kind.branches > MOST_BRANCHES:
        raise UnsupportedLayer(
            f"node '{node.name}' picks the largest of {kind.branches} values; enumerating "
            f"regions takes at most {MOST_BRANCHES}"
        )


def start(p: Plan) -> Columns:
    """The input's columns: the directions and the origin."""
    rows = np.concatenate([p.slice.directions, p.slice.origin[None]])
    return {INPUT: torch.from_numpy(rows).reshape(1, len(rows), *p.network.input_shape)}


def advance(p: Plan, nodes: Sequence[Node], values: Columns) -> Columns:
    """The columns of the nodes, from those of what they hang on."""
    values = dict(values)
    for node in nodes:
        values[node.name] = _step(p, node, [values[name] for name in node.inputs])
    return values


def _step(p: Plan, node: Node, xs: list[Tensor]) -> Tensor:
    kind = node.kind
    if isinstance(kind, Affine):
        y = push(kind, xs, with_bias=False)
        return y if kind.bias is None else _plus(y, kind.bias)
    if isinstance(kind, Product):
        side = 0 if node.inputs[0] in p.fixed else 1
        held = xs[side][:, -1:]
        q = max(len(x) for x in xs)
        parts = [held.expand(q, xs[0].shape[1], *held.shape[2:]), xs[1 - side]]
        u, v = (t.expand(q, *t.shape[1:]).flatten(0, 1) for t in parts)
        return (kind(u, v) if side == 0 else kind(v, u)).unflatten(0, (q, -1))
    assert isinstance(kind, Smooth)  # of what the pattern fixes: a constant
    value = kind(*(x[:, -1] for x in xs))
    flat = value.new_zeros(len(value), xs[0].shape[1], *node.shape)
    flat[:, -1] = value
    return flat


def _plus(y: Tensor, bias: Tensor) -> Tensor:
    """The bias belongs to the origin's column alone."""
    y = y.clone() if not y.is_contiguous() else y
    y[:, -1] += bias.squeeze(1) if bias.ndim == y.ndim else bias
    return y


def through(p: Plan, stage: Stage, values: Columns, parent: Tensor, codes: Tensor) -> Columns:
    """The columns of the children behind the gate: codes (children, *shape)."""
    kind, gate = stage.gate.kind, stage.gate
    assert isinstance(kind, Pieces | Winner)
    zs = [_of(values[name], parent) for name in gate.inputs]
    affine = kind.branch(codes)
    y = affine.linear(*zs)
    if affine.bias is not None:
        y[:, -1] += affine.bias.squeeze(1)
    kept = {n: _of(values[n], parent) for n in stage.live if n != gate.name}
    return {**kept, gate.name: y}


def _of(value: Tensor, parent: Tensor) -> Tensor:
    return value if len(value) == 1 else value[parent]


def knot_forms(stage: Stage, z: Tensor, cells: int) -> NDArray[np.float64]:
    """(cells, k + 1, knots * units): z - knot as rows over the coordinates, one knot after the
    other."""
    kind = stage.gate.kind
    assert isinstance(kind, Pieces)
    flat = z.reshape(*z.shape[:2], -1)
    parts = []
    for knot in kind.knots:
        moved = flat.clone()
        moved[:, -1] -= knot.expand(stage.gate.shape).reshape(-1)
        parts.append(moved)
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    return joined.expand(cells, -1, -1).contiguous().numpy()


def label(gate: int, challenger: int, place: int, units: int) -> NDArray[np.int64]:
    """(units,): who a row is about: unit u of a gate, at knot `place`; or the challenger against
    candidate `place`."""
    head = ((gate << 10 | challenger) << 10 | place) << 32
    return head | np.arange(units, dtype=np.int64)


def unlabel(who: int) -> tuple[int, int, int, int]:
    """(gate, challenger or KNOT, place, unit)."""
    return who >> 52, (who >> 42) & 1023, (who >> 32) & 1023, who & 0xFFFFFFFF
