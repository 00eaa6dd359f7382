"""Units of a gate that never change its consumers' view: dropped with the weights on both sides.

A unit is a row of the layer before the gate (a channel of a convolution), at all its positions. It
goes where it has one and the same value everywhere, which then is part of the next bias, or where
nothing looks at it. A gate all of whose units keep one branch is no gate any more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Shape, scale, scale_back
from gatewise.ir.network import Network, Node
from gatewise.linear.folding.axes import (
    Match,
    constant_but,
    full,
    inward,
    narrow,
    outward,
    reshapes,
    taps_of,
    weight_of,
    with_bias,
)


@dataclass(frozen=True)
class Reshape:
    """The same values in the same order as `target`."""

    source: Shape
    target: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.target)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """The other way."""
        return (g.reshape(len(g), *self.source),)


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that looks at a gate, perhaps over a reshape; columns: the axis of its weight."""

    node: Node
    reshape: Node | None
    match: Match

    def given(self, shape: Shape) -> Shape:
        """The shape that the layer takes, of a gate of that shape."""
        return shape if self.reshape is None else self.reshape.shape


def pruned(network: Network, branch: Mapping[str, Tensor], fix: bool) -> Network:
    """branch[gate] (*shape,): a unit's one branch, or -1; fix: gates that are affine become so."""
    for gate in network.gates:
        if not isinstance(gate.kind, Pieces):
            continue
        network, one = _drop(network, gate, branch[gate.name].reshape(gate.shape))
        if fix and bool((one >= 0).all()):
            network = _replace(network, {gate.name: _fixed(network.node(gate.name), one)})
    return network


def _fixed(gate: Node, branch: Tensor) -> Node:
    """The gate as the scaling that it is."""
    assert isinstance(gate.kind, Pieces)
    chosen = gate.kind.branch(branch[None])
    slope = chosen.weights[0].reshape(gate.shape)
    bias = None if chosen.bias is None else chosen.bias.expand(1, 1, *gate.shape)[0, 0].clone()
    if bool((slope == 1).all()):
        slope = slope.new_ones(())
    kind = Affine(scale, (slope,), bias, chosen.terms, chosen.terms_back, pullback=scale_back)
    return dataclasses.replace(gate, kind=kind)


def _replace(network: Network, new: Mapping[str, Node]) -> Network:
    nodes = tuple(new.get(n.name, n) for n in network.nodes)
    return dataclasses.replace(network, nodes=nodes)


# -- units that go --


def _drop(network: Network, gate: Node, branch: Tensor) -> tuple[Network, Tensor]:
    """The network without the gate's units that can go, and the branches of those left."""
    maker = _maker(network, gate)
    readers = None if maker is None else _readers(network, gate, maker[1])
    if maker is None or not readers:
        return network, branch
    source, out = maker
    value = _values(gate, branch, out.value)
    unread = torch.stack([_unread(r, gate.shape, out.value) for r in readers]).all(0)
    steady = value.isfinite() & torch.stack(
        [_absorbs(r, gate.shape, out.value, value) for r in readers]
    ).all(0)
    kept = (~(unread | steady)).nonzero().flatten()
    if len(kept) == gate.shape[out.value]:
        return network, branch
    kept = kept if len(kept) else torch.zeros(1, dtype=torch.long)
    value = value.nan_to_num(0, 0, 0)
    value[kept] = 0
    new = {source.name: _fewer_rows(source, out, kept), gate.name: _fewer(gate, out.value, kept)}
    for reader in readers:
        new |= _fewer_columns(reader, gate.shape, out.value, kept, value)
    return _replace(network, new), branch.index_select(out.value, kept)


def _maker(network: Network, gate: Node) -> tuple[Node, Match] | None:
    """The layer whose rows are the gate's units, where nothing else looks at it."""
    (name,) = gate.inputs
    node = next((n for n in network.nodes if n.name == name), None)
    if node is None or name == network.output or gate.name == network.output:
        return None
    if not isinstance(node.kind, Affine) or len(node.inputs) != 1:
        return None
    shape = network.shape(node.inputs[0])
    if taps_of(node.kind, shape, node.shape) is None:
        return None
    if sum(n.inputs.count(name) for n in network.nodes) != 1:
        return None
    match = outward(node.kind, shape, node.shape)
    return None if match is None else (node, match)


def _readers(network: Network, gate: Node, out: Match) -> list[Reader] | None:
    """Every layer that looks at the gate, or None where something else does."""
    found = [_reader(network, gate, n, out) for n in network.nodes if gate.name in n.inputs]
    return None if None in found else [r for r in found if r is not None]


def _reader(network: Network, gate: Node, node: Node, out: Match) -> Reader | None:
    """The node (or the one behind it, if it reshapes) where its columns are the gate's units."""
    reshape = None
    alone = len(node.inputs) == 1
    if alone and isinstance(node.kind, Affine) and reshapes(node.kind, gate.shape):
        behind = [n for n in network.nodes if node.name in n.inputs]
        if len(behind) != 1 or node.name == network.output:
            return None
        reshape, node = node, behind[0]
    if not isinstance(node.kind, Affine) or len(node.inputs) != 1:
        return None
    shape = network.shape(node.inputs[0])
    if taps_of(node.kind, shape, node.shape) is None:
        return None
    match = inward(node.kind, shape, node.shape)
    if match is None or not _reaches(gate, reshape, match, out):
        return None
    return Reader(node, reshape, match)


def _reaches(gate: Node, reshape: Node | None, match: Match, out: Match) -> bool:
    """Do the columns of the reader run along the gate's units (or all its values, if flat)?"""
    if reshape is None:
        return match.value == out.value
    return reshape.shape[match.value] == math.prod(gate.shape)


def _values(gate: Node, branch: Tensor, axis: int) -> Tensor:
    """(units,): the one value of a unit at all its positions; NaN where it has none."""
    assert isinstance(gate.kind, Pieces)
    chosen = gate.kind.branch(branch.clamp(min=0)[None])
    slope = chosen.weights[0].reshape(gate.shape)
    offset = torch.zeros(gate.shape, dtype=slope.dtype)
    if chosen.bias is not None:
        offset = chosen.bias.expand(1, 1, *gate.shape)[0, 0]
    value = torch.where((branch >= 0) & (slope == 0), offset, torch.nan)
    flat = value.movedim(axis, 0).reshape(gate.shape[axis], -1)
    return torch.where((flat == flat[:, :1]).all(1), flat[:, 0], torch.nan)


def _columns(reader: Reader, shape: Shape, axis: int, units: Tensor) -> Tensor:
    """Which columns of the reader's weight hang on some units of the gate."""
    if reader.reshape is None:
        return units
    where = torch.arange(math.prod(shape)).reshape(shape)
    return where.index_select(axis, units).flatten()


def _unread(reader: Reader, shape: Shape, axis: int) -> Tensor:
    """(units,) bool: every weight on the unit is 0."""
    assert isinstance(reader.node.kind, Affine)
    w = weight_of(reader.node.kind)
    assert w is not None
    used = w.movedim(reader.match.weight, 0).reshape(w.shape[reader.match.weight], -1).any(1)
    if reader.reshape is not None:
        used = used.reshape(shape).movedim(axis, 0).reshape(shape[axis], -1).any(1)
    return ~used


def _absorbs(reader: Reader, shape: Shape, axis: int, value: Tensor) -> Tensor:
    """(units,) bool: the unit's value can be part of the reader's bias, one number a unit of it.

    0 always; another only where no padding makes its effect differ from place to place.
    """
    added = _added(reader, shape, axis, value.nan_to_num(0, 0, 0))
    kind = reader.node.kind
    assert isinstance(kind, Affine)
    match = outward(kind, reader.given(shape), reader.node.shape)
    even = match is not None and constant_but(added, match.value) is not None
    return torch.ones_like(value, dtype=torch.bool) if even else value == 0


def _added(reader: Reader, shape: Shape, axis: int, value: Tensor) -> Tensor:
    """L v at every entry of the reader, for the values v of the gate's units."""
    kind = reader.node.kind
    assert isinstance(kind, Affine)
    v = value.reshape(*(-1 if a == axis else 1 for a in range(len(shape)))).expand(shape)
    y: Tensor = kind.linear(v.reshape(1, *reader.given(shape)))[0]
    return y


def _fewer_rows(source: Node, out: Match, kept: Tensor) -> Node:
    """The layer before the gate with some of its units alone."""
    kind = source.kind
    assert isinstance(kind, Affine)
    (w,) = kind.weights
    n, axis = w.shape[out.weight], out.value
    bias = None
    if kind.bias is not None:
        whole = full(kind, source.shape).index_select(axis, kept)
        bias = narrow(whole, tuple(whole.shape), axis)
    kind = dataclasses.replace(
        kind,
        weights=(w.index_select(out.weight, kept),),
        terms_back=-(-kind.terms_back * len(kept) // n),
    )
    shape = _with_size(source.shape, axis, len(kept))
    return dataclasses.replace(source, kind=with_bias(kind, bias, axis), shape=shape)


def _fewer(gate: Node, axis: int, kept: Tensor) -> Node:
    """The gate of some units."""
    kind = gate.kind
    assert isinstance(kind, Pieces)
    behind = len(gate.shape) - axis

    def cut(t: Tensor) -> Tensor:
        own = t.ndim - behind
        varies = own >= 1 and t.shape[own] > 1
        return t.index_select(own, kept) if varies else t

    small = dataclasses.replace(
        kind, knots=cut(kind.knots), slopes=cut(kind.slopes), offsets=cut(kind.offsets)
    )
    shape = _with_size(gate.shape, axis, len(kept))
    return dataclasses.replace(gate, kind=small, shape=shape)


def _fewer_columns(
    reader: Reader, shape: Shape, axis: int, kept: Tensor, value: Tensor
) -> dict[str, Node]:
    """The reader of some units; what the others gave it is part of its bias."""
    node, kind = reader.node, reader.node.kind
    assert isinstance(kind, Affine)
    (w,) = kind.weights
    columns = _columns(reader, shape, axis, kept)
    ends = outward(kind, reader.given(shape), node.shape)
    at = None if ends is None else ends.value
    bias = full(kind, node.shape) + _added(reader, shape, axis, value)
    n = w.shape[reader.match.weight]
    small = dataclasses.replace(
        kind,
        weights=(w.index_select(reader.match.weight, columns),),
        terms=-(-kind.terms * len(columns) // n),
    )
    small = with_bias(small, narrow(bias, node.shape, at), at)
    found = {node.name: dataclasses.replace(node, kind=small)}
    if reader.reshape is not None:
        source = _with_size(shape, axis, len(kept))
        target = _with_size(reader.reshape.shape, reader.match.value, len(columns))
        rule = Reshape(source, target)
        moved = Affine(rule, pullback=rule.back)
        found[reader.reshape.name] = dataclasses.replace(reader.reshape, kind=moved, shape=target)
    return found


def _with_size(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])
