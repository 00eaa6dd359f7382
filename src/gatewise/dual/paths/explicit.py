"""Every path of a small network: f_o(x) = sum over paths p to o of v(p) phi_p(x).

The value v(p) is the product of the weights on the path, the feature phi_p(x) its start (an input,
or 1 where it starts at a bias) times its gates. Where a weight is used in many places
(convolution), or a value goes on by two ways with no weight between (z + relu(z)), the paths with
the same weights are one bundle, and its feature is their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.dual.gating import Gated, masks
from gatewise.dual.paths.edges import unit_graph
from gatewise.dual.paths.graph import (
    Bools,
    Floats,
    Ints,
    UnitGraph,
    big,
    count_paths,
    row_masks,
)
from gatewise.errors import DataError
from gatewise.given.rows import rows_of
from gatewise.ir.network import Network

BLOCK = 1 << 14  # paths worked on at once
FEATURES = 10**8  # rows times paths
SHOWN = 12  # paths that a printed table names


@dataclass(frozen=True, eq=False)
class PathTable:
    """Paths of a network, or bundles of paths that share their weights.

    index (paths, layers): the number of the weight taken in each layer, unit * taps + tap, a bias
    numbered after the weights; -1: the path passes the layer by. starts (paths,): the input of its
    first member, -1 for a bias; outputs; values v; features phi (rows, paths); members: paths in
    the bundle; f (rows, outputs): the network's own values.
    """

    layers: tuple[str, ...]
    index: Ints
    units: Ints
    starts: Ints
    outputs: Ints
    values: Floats
    features: Floats
    members: Ints
    f: Floats
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def contributions(self) -> Floats:
        """phi v, (rows, paths)."""
        return np.asarray(self.features * self.values)

    @property
    def sums(self) -> Floats:
        """sum of phi v over the paths to each output, (rows, outputs)."""
        found = np.zeros_like(self.f)
        for o in range(self.f.shape[1]):
            mine = self.outputs == o
            found[:, o] = self.features[:, mine] @ self.values[mine]
        return found

    @property
    def error(self) -> float:
        """The largest |sum - f|."""
        return float(np.abs(self.sums - self.f).max(initial=0.0))

    def path(self, i: int) -> str:
        """Path i in words: where it starts and the unit (or channel) of each layer."""
        j = int(self.starts[i])
        shared = int(self.members[i]) > 1
        start = (self.names[j] if self.names else f"x{j}") if j >= 0 else "bias"
        way = zip(self.layers, self.units[i].tolist(), strict=True)
        steps = [f"{name}[{unit}]" for name, unit in way if unit >= 0]
        first = f"{int(self.members[i])} paths" if shared else start
        return " -> ".join([first, *steps])

    def __str__(self) -> str:
        paths = int(self.members.sum())
        bundles = f" in {len(self)} bundles of the same weights" if paths > len(self) else ""
        rows, outputs = self.f.shape
        head = f"{paths} paths{bundles}, {rows} rows, {outputs} outputs."
        size = np.abs(self.contributions).sum(0)
        lines = [
            f"  {self.path(i)}: v = {self.values[i]:+.4g}, phi = {_few(self.features[:, i])}"
            for i in np.argsort(-size, kind="stable")[:SHOWN]
        ]
        more = [f"  .. and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        tail = f"sum of phi v is f to within {self.error:.1e}."
        return "\n".join([head, *lines, *more, tail])


@dataclass(frozen=True, eq=False)
class Paths:
    """A block of paths: edges (paths, steps) from the output back, -1 past the start; outputs."""

    edges: Ints
    outputs: Ints


def explicit_paths(net: Network | Gated | UnitGraph, X: Any, limit: int = 10**6) -> PathTable:
    """Every path of a small network with its value and its features at the rows of X.

    A network with more than `limit` paths is refused with their exact number.
    """
    graph = unit_graph(net)
    network = graph.source.network
    x = rows_of(network, X)
    count = count_paths(graph)
    if count > limit:
        raise DataError(
            f"the network has {big(count)} paths, and at most {limit} are listed: raise limit, or "
            f"use strongest_paths for those that matter, or unit_shares for the sum through a unit"
        )
    if count * len(x) > FEATURES:
        raise DataError(
            f"the features of {big(count)} paths at {len(x)} rows are more numbers than the "
            f"{FEATURES:.0e} that are held: give fewer rows"
        )
    on = row_masks(graph, masks(graph.source, x))
    on = np.broadcast_to(on, (len(x), on.shape[1]))
    flat = x.reshape(len(x), -1).numpy()
    blocks = [_worked(graph, block, flat, on) for block in path_blocks(graph)]
    table = [np.concatenate(column, axis=-1) for column in zip(*blocks, strict=True)]
    index, starts, outputs, values, features = table
    return _bundled(graph, index.T, starts, outputs, values, features, network(x).numpy())


def path_blocks(graph: UnitGraph, size: int = BLOCK) -> Iterator[Paths]:
    """All paths, about `size` at a time, in memory that does not grow with their number."""
    vertex, nothing = graph.outputs, np.zeros((len(graph.outputs), 0), np.int64)
    stack = [(vertex, nothing, np.arange(len(vertex)))]
    while stack:
        vertex, edges, outputs = stack.pop()
        done = vertex <= graph.inputs
        if done.all():
            yield Paths(edges, outputs)
            continue
        grown = _grown(graph, vertex, edges, outputs, done)
        pieces = range(0, len(grown[0]), size)
        stack.extend(tuple(part[i : i + size] for part in grown) for i in reversed(pieces))  # type: ignore[misc]


def _grown(
    graph: UnitGraph, vertex: Ints, edges: Ints, outputs: Ints, done: Bools
) -> tuple[Ints, Ints, Ints]:
    """Every path by each edge to its last unit; those that have come to a start stay."""
    first, last = graph.indptr[vertex], graph.indptr[vertex + 1]
    ways = np.where(done, 1, last - first)
    row = np.repeat(np.arange(len(vertex)), ways)
    place = np.arange(len(row)) - np.repeat(np.cumsum(ways) - ways, ways)
    edge = np.where(done[row], -1, first[row] + place)
    source = np.where(done[row], vertex[row], graph.src[edge])
    return source, np.concatenate([edges[row], edge[:, None]], 1), outputs[row]


def _worked(graph: UnitGraph, block: Paths, x: Floats, on: Bools) -> tuple[NDArray[Any], ...]:
    """index (layers, paths), starts, outputs, values, features (rows, paths) of a block."""
    count = len(block.outputs)
    columns = graph.columns
    column = {la.name: i for i, la in enumerate(columns)}
    of_layer = np.array([column.get(la.name, -1) for la in graph.layers] or [-1])
    index = np.full((len(columns) + 1, count), -1)
    values, features = np.ones(count), np.ones((len(x), count))
    start = np.zeros(count, np.int64)
    for e in block.edges.T:
        there = e >= 0
        values *= np.where(there, graph.weight[e], 1.0)
        passed = on[:, graph.gates[e]].all(2) * graph.fixed[e]
        features *= np.where(there, passed, 1.0)
        to = np.searchsorted(graph.indptr, e, side="right") - 1
        at = np.where(there, of_layer[graph.layer_of(to)], -1)
        index[at, np.arange(count)] = graph.number[e]  # the last row takes what has no column
        start = np.where(there, graph.src[e], start)
    ones = np.ones((len(x), 1))
    features *= np.concatenate([ones, x], 1)[:, start]
    return index[:-1], start - 1, block.outputs, values, features


def _bundled(
    graph: UnitGraph,
    index: Ints,
    starts: Ints,
    outputs: Ints,
    values: Floats,
    features: Floats,
    f: Floats,
) -> PathTable:
    """The table; paths of the same weights and output are one bundle: their features add up."""
    columns = graph.columns
    members = np.ones(len(values), np.int64)
    key = np.concatenate([outputs[:, None], index], 1)
    _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
    if len(first) < len(values):
        order = np.argsort(group.reshape(-1), kind="stable")
        cuts = np.searchsorted(group.reshape(-1)[order], np.arange(len(first)))
        features = np.add.reduceat(features[:, order], cuts, axis=1)
        members = np.bincount(group.reshape(-1))
        index, starts, outputs = index[first], starts[first], outputs[first]
        values = values[first]
    found = [_units(la, index[:, i]) for i, la in enumerate(columns)]
    units = np.stack(found, 1) if found else index
    names = tuple(graph.source.network.feature_names)
    return PathTable(
        tuple(la.name for la in columns), index, units, starts, outputs, values, features,
        members, f, names,
    )  # fmt: skip


def _units(layer: Any, number: Ints) -> Ints:
    """The unit (or channel) that a weight or bias belongs to; -1 where there is none."""
    weight = number // layer.taps
    return np.where(
        number < 0, -1, np.where(number < layer.numbers, weight, number - layer.numbers)
    )


def _few(values: Floats) -> str:
    shown = ", ".join(f"{v:.3g}" for v in values[:4])
    return f"[{shown}, ..]" if len(values) > 4 else f"[{shown}]"
