"""The graph of units of a gated network, built node by node: see `unit_graph.UnitGraph`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.dual.gating import CONSTANT, Gated, Site, on_host
from gatewise.dual.kernels.constants import beginning
from gatewise.dual.kernels.views import diagonal
from gatewise.dual.paths.graph import Floats, Ints, Layer, UnitGraph
from gatewise.errors import DataError
from gatewise.ir.kinds import Affine, Shape
from gatewise.ir.network import INPUT, Network, Node

EDGES = 20_000_000  # about 40 bytes each, and three times that while they are sorted
DENSE = 20_000_000  # numbers in the matrix of a node that is known only by what it does
NOWHERE = -1


@dataclass(frozen=True, eq=False)
class _Value:
    """Entries of a node's value as (fixed coefficient) * (gates) * vertex, or NOWHERE: 0."""

    vertex: Ints
    fixed: Floats
    gates: Ints

    def take(self, index: Ints) -> _Value:
        """The entries at `index`; below 0 is nowhere."""
        vertex = np.where(index < 0, NOWHERE, self.vertex[index])
        return _Value(vertex, self.fixed[index], self.gates[index])


@dataclass(frozen=True, eq=False)
class _Edges:
    """dst (local), and the source as an entry of a value; weight, number as in the graph."""

    dst: Ints
    source: _Value
    weight: Floats
    number: Ints


def unit_graph(net: Network | Gated | UnitGraph) -> UnitGraph:
    """The graph of a gated network; refuses, with the count of edges, one too large to hold."""
    if isinstance(net, UnitGraph):
        return net
    whole = on_host(net)
    builder = _Builder(Gated(whole.network.to(torch.float64), whole.sites, None, whole.values))
    for name in whole.values:
        if name != INPUT:
            builder.add(builder.network.node(name))
    return builder.finish()


class _Builder:
    """Collects layers and edges node by node (a builder, not a value)."""

    def __init__(self, whole: Gated) -> None:
        self.whole, self.network = whole, whole.network
        self.layers: list[Layer] = []
        self.edges: list[_Edges] = []
        sizes = [s.units for s in whole.sites]
        self.offset = dict(zip((s.at for s in whole.sites), np.cumsum([0, *sizes]), strict=False))
        self.always = sum(sizes)  # the column that is on
        inputs = np.arange(1, 1 + self.network.inputs)
        self.vertices, self.count = 1 + self.network.inputs, 0
        self.values = {INPUT: self._plain(inputs)}

    def add(self, node: Node) -> None:
        """The value of one node: folded into edges where it only moves or masks."""
        site = self.whole.site(node.name)
        if site is not None:
            self.values[node.name] = self._masked(node, site)
            return
        kind = node.kind
        assert isinstance(kind, Affine)
        moved = self._moved(node, kind)
        self.values[node.name] = self._layer(node, kind) if moved is None else moved

    def finish(self) -> UnitGraph:
        """The graph, once the output is a layer of its own."""
        out = self.values[self.network.output]
        last = self._output(out)
        src, weight, fixed, number, gates, dst = self._joined()
        indptr = np.searchsorted(dst, np.arange(self.vertices + 1))
        return UnitGraph(
            self.whole, tuple(self.layers), self.network.inputs, indptr, src, weight, fixed,
            number, gates, last,
        )  # fmt: skip

    def _plain(self, vertex: Ints) -> _Value:
        return _Value(vertex, np.ones(len(vertex)), np.full((len(vertex), 1), self.always))

    def _masked(self, node: Node, site: Site) -> _Value:
        """mask * value: the same entries, each passing one gate more."""
        inner = self._constant(node) if site.value == CONSTANT else self.values[site.value]
        column = self.offset[node.name] + np.arange(site.units)
        gates = np.concatenate([inner.gates, column[:, None]], 1)
        return _Value(inner.vertex, inner.fixed, gates)

    def _constant(self, node: Node) -> _Value:
        """What a mask of a constant multiplies: weights of edges from the constant 1."""
        kind, size = node.kind, math.prod(node.shape)
        source = self._plain(np.zeros(size, np.int64))
        if not isinstance(kind, Affine):
            edges = _Edges(np.arange(size), source, np.ones(size), np.full(size, -1))
            return self._put(node, [edges], 1, 1, False)
        start = beginning(self.whole, node, kind.weights[0])
        number = start.number.numpy()
        edges = _Edges(np.arange(size), source, _entries(kind.weights[0], node.shape), number)
        return self._put(node, [edges], start.kinds, int(number.max()) + 1, True)

    def _moved(self, node: Node, kind: Affine) -> _Value | None:
        """The value of a node that only puts entries elsewhere, or None."""
        weighted = any(w.is_floating_point() for w in kind.weights)
        if len(node.inputs) != 1 or kind.terms or kind.bias is not None or weighted:
            return None
        probe = _probe(self.network.shape(node.inputs[0]))
        seen = kind.linear(probe).reshape(-1).numpy()
        value = self.values[node.inputs[0]].take(np.abs(seen).round().astype(np.int64) - 1)
        return _Value(value.vertex, value.fixed * np.where(seen < 0, -1.0, 1.0), value.gates)

    def _layer(self, node: Node, kind: Affine) -> _Value:
        """A layer of its own: the edges of its weights, and of its bias from the constant 1."""
        weighs, taps, numbers = False, 1, 0
        if kind.taps is not None:
            parts = [self._tapped(node, kind)]
            weighs, taps, numbers = True, kind.weights[0][0].numel(), kind.weights[0].numel()
        elif diagonal(node):
            parts = [self._scaled(node, kind)]
            weighs, numbers = True, kind.weights[0].numel()
        else:
            parts = [self._probed(node, kind, i) for i in range(len(node.inputs))]
        if kind.bias is not None:
            parts.append(self._bias(node, kind.bias, numbers))
        return self._put(node, parts, taps, numbers, weighs)

    def _tapped(self, node: Node, kind: Affine) -> _Edges:
        """y[o, q] = sum over t of W[o, t] x[source(t, q)]: dense layers and convolutions."""
        assert kind.taps is not None
        w = kind.weights[0].reshape(len(kind.weights[0]), -1).numpy()
        source = kind.taps(_probe(self.network.shape(node.inputs[0])))[0].numpy()
        there = source.round().astype(np.int64) - 1  # (taps, positions); -1 is padding
        place = kind.taps.units(_probe(node.shape))[0].numpy().round().astype(np.int64) - 1
        self._require(len(w) * int((there >= 0).sum()))
        tap, q = np.nonzero(there >= 0)
        unit = np.arange(len(w))[:, None]
        number = (unit * w.shape[1] + tap).reshape(-1)
        index = np.broadcast_to(there[tap, q], (len(w), len(tap))).reshape(-1)
        value = self.values[node.inputs[0]].take(index)
        return _Edges(place[:, q].reshape(-1), value, w.reshape(-1)[number], number)

    def _scaled(self, node: Node, kind: Affine) -> _Edges:
        """y = s x entry by entry: a diagonal weight (batch normalisation, a scaler)."""
        w, value = kind.weights[0], self.values[node.inputs[0]]
        dst = np.arange(len(value.vertex))
        return _Edges(dst, value, _entries(w, node.shape), _places(w, node.shape))

    def _probed(self, node: Node, kind: Affine, i: int) -> _Edges:
        """Fixed coefficients, read off what the node does to its i-th input."""
        dst, index, c = self._matrix(node, kind, i)
        value = self.values[node.inputs[i]].take(index)
        value = _Value(value.vertex, value.fixed * c, value.gates)
        return _Edges(dst, value, np.ones(len(dst)), np.full(len(dst), -1))

    def _matrix(self, node: Node, kind: Affine, i: int) -> tuple[Ints, Ints, Floats]:
        """Row, column and value of its nonzero entries: a diagonal if random numbers say so."""
        shapes = [self.network.shape(name) for name in node.inputs]
        size, out = math.prod(shapes[i]), math.prod(node.shape)

        def image(x: Tensor) -> Floats:
            xs = [x.new_zeros(len(x), *s) for s in shapes]
            xs[i] = x.reshape(len(x), *shapes[i])
            return np.asarray(kind.linear(*xs).reshape(len(x), -1).numpy())

        if size == out:
            random = torch.rand(1, size, generator=torch.Generator().manual_seed(1)).double() + 1
            c, seen = image(torch.ones(1, size, dtype=torch.float64))[0], image(random)[0]
            if np.allclose(seen, c * random[0].numpy(), rtol=1e-13, atol=0):
                place = np.nonzero(c)[0]
                return place, place, c[place]
        self._require(size * out, DENSE)
        whole = image(torch.eye(size, dtype=torch.float64))
        index, dst = np.nonzero(whole)
        return dst, index, whole[index, dst]

    def _bias(self, node: Node, bias: Tensor, numbers: int) -> _Edges:
        size = math.prod(node.shape)
        source = self._plain(np.zeros(size, np.int64))
        number = numbers + _places(bias, node.shape)
        return _Edges(np.arange(size), source, _entries(bias, node.shape), number)

    def _put(
        self, node: Node, parts: list[_Edges], taps: int, numbers: int, weighs: bool
    ) -> _Value:
        """The parts as one layer, its edges in order of the unit and then of the source."""
        size = math.prod(node.shape)
        joined = _sorted(_join(parts))
        start, first = self.vertices, self.count
        self.vertices, self.count = start + size, first + len(joined.dst)
        self._require(self.count)
        self.edges.append(_Edges(joined.dst + start, joined.source, joined.weight, joined.number))
        self.layers.append(
            Layer(node.name, node.shape, start, self.vertices, first, self.count, taps, numbers,
                  weighs)
        )  # fmt: skip
        return self._plain(np.arange(start, self.vertices))

    def _output(self, out: _Value) -> Ints:
        """Vertices of the outputs; where the last node moves or masks, they are made."""
        plain = (out.fixed == 1).all() and (out.gates == self.always).all()
        if plain and (out.vertex > self.network.inputs).all():
            return out.vertex
        node = self.network.node(self.network.output)
        size = len(out.vertex)
        edges = _Edges(np.arange(size), out, np.ones(size), np.full(size, -1))
        return self._put(node, [edges], 1, 0, False).vertex

    def _joined(self) -> tuple[Any, ...]:
        whole = _join(self.edges or [_Edges(*_nothing())])
        s = whole.source
        passed = (s.gates != self.always).any(0)
        passed[-1] = True
        return s.vertex, whole.weight, s.fixed, whole.number, s.gates[:, passed], whole.dst

    def _require(self, edges: int, most: int | None = None) -> None:
        most = EDGES if most is None else most
        if edges > most:
            raise DataError(
                f"the graph of units has {edges:.1e} edges or more, and at most {most:.0e} are "
                f"held: paths are for smaller networks; use unit_shares, which needs no graph"
            )


def _join(parts: list[_Edges]) -> _Edges:
    wide = max(p.source.gates.shape[1] for p in parts)
    gates = [np.pad(p.source.gates, ((0, 0), (wide - p.source.gates.shape[1], 0)), "edge")
             for p in parts]  # fmt: skip
    source = _Value(
        np.concatenate([p.source.vertex for p in parts]),
        np.concatenate([p.source.fixed for p in parts]),
        np.concatenate(gates),
    )
    rest = (np.concatenate([getattr(p, k) for p in parts]) for k in ("dst", "weight", "number"))
    dst, weight, number = rest
    return _Edges(dst, source, weight, number)


def _sorted(e: _Edges) -> _Edges:
    """Edges that start somewhere, by unit and source."""
    order = np.lexsort((e.source.vertex, e.dst))
    order = order[e.source.vertex[order] != NOWHERE]
    return _Edges(e.dst[order], e.source.take(order), e.weight[order], e.number[order])


def _nothing() -> tuple[Any, ...]:
    empty = np.zeros(0, np.int64)
    return empty, _Value(empty, np.zeros(0), np.zeros((0, 1), np.int64)), np.zeros(0), empty


def _probe(shape: Shape) -> Tensor:
    """1, 2, 3 .. in a row of that shape: a value that says where it came from."""
    size = math.prod(shape)
    return torch.arange(1, size + 1, dtype=torch.float64).reshape(1, *shape)


def _entries(w: Tensor, shape: Shape) -> Floats:
    """w, one number an entry of a value of that shape."""
    return np.array(w.double().expand(shape).reshape(-1).numpy(), np.float64)


def _places(w: Tensor, shape: Shape) -> Ints:
    """Which number of w stands at each entry."""
    index = torch.arange(w.numel()).reshape(w.shape).expand(shape)
    return np.array(index.reshape(-1).numpy(), np.int64)
