"""A network as a graph of units: edges carry weights and pass gates; f sums over its paths.

Vertex 0 is the constant 1 (a bias is the weight of an edge from it), then come the inputs, then the
units of every node that adds or weighs (reshapes and gates are folded into the edges). So
f_o = sum over paths p to o of start(p) * product of its edges' weights and gates, and any sum or
maximum over paths is one sweep over the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated
from gatewise.ir.kinds import Shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ONE = 0  # the vertex of the constant


@dataclass(frozen=True, eq=False)
class Layer:
    """The units of one node: vertices start..stop, edges first..last that lead to them.

    taps: weights a unit has (a weight's number is unit * taps + tap); numbers: weights in all, a
    bias is numbered after them; weighs: False where coefficients are fixed (add, mean pool).
    """

    name: str
    shape: Shape
    start: int
    stop: int
    first: int
    last: int
    taps: int
    numbers: int
    weighs: bool


@dataclass(frozen=True, eq=False)
class UnitGraph:
    """Edges grouped by the vertex they lead to (indptr), by source within it, biases first.

    src; weight, fixed: the edge's coefficient is their product; number: which weight of its layer
    (-1: none); gates (edges, g): columns of the masks of a row that it passes, the last is "on".
    """

    source: Gated
    layers: tuple[Layer, ...]
    inputs: int
    indptr: Ints
    src: Ints
    weight: Floats
    fixed: Floats
    number: Ints
    gates: Ints
    outputs: Ints

    @property
    def vertices(self) -> int:
        return len(self.indptr) - 1

    @property
    def columns(self) -> tuple[Layer, ...]:
        """The layers that have weights or biases: what a path is named by."""
        return tuple(
            la for la in self.layers if la.weighs or (self.number[la.first : la.last] >= 0).any()
        )

    def layer_of(self, vertex: NDArray[Any]) -> Ints:
        """Position in `layers` of each vertex (below 0: an input or the constant)."""
        starts = np.array([la.start for la in self.layers], np.int64)
        return np.searchsorted(starts, vertex, side="right") - 1


# -- sweeps --


def row_masks(graph: UnitGraph, masks: list[Tensor]) -> Bools:
    """(rows, gates + 1): the masks of all sites side by side, and a last column that is on."""
    rows = len(masks[0]) if masks else 1
    flat = [m.reshape(len(m), -1).cpu().numpy() for m in masks]
    return np.concatenate([*flat, np.ones((rows, 1), bool)], 1)


def coefficients(graph: UnitGraph, on: Bools) -> Floats:
    """The coefficient of every edge under the masks of one row; 0 where a gate on it is off."""
    alive = on[graph.gates]
    passed = alive[:, 0] if alive.shape[1] == 1 else alive.all(1)
    return np.where(passed, graph.weight * graph.fixed, 0.0)


def starts(graph: UnitGraph, x: Floats) -> Floats:
    """Start values of the vertices: 1, the inputs, and 0 elsewhere."""
    values = np.zeros(graph.vertices, np.result_type(x))
    values[ONE], values[1 : 1 + graph.inputs] = 1, x
    return values


def sweep(graph: UnitGraph, edge: NDArray[Any], start: NDArray[Any], reduce: Any) -> NDArray[Any]:
    """value[v] = reduce over the edges to v of edge * value[source], layer by layer."""
    value = start.copy()
    for la in graph.layers:
        terms = edge[la.first : la.last] * value[graph.src[la.first : la.last]]
        value[la.start : la.stop] = segments(graph, la, terms, reduce)
    return value


def segments(graph: UnitGraph, la: Layer, terms: NDArray[Any], reduce: Any) -> NDArray[Any]:
    """reduce(terms) for each vertex of a layer; 0 where no edge leads to it."""
    ends = graph.indptr[la.start : la.stop + 1] - la.first
    some = ends[1:] > ends[:-1]
    found = np.zeros(la.stop - la.start, terms.dtype)
    if some.any():
        found[some] = reduce.reduceat(terms, ends[:-1][some])
    return found


def count_paths(
    graph: UnitGraph,
    alive: Bools | None = None,
    starting: Bools | None = None,
    ends: Ints | None = None,
) -> int:
    """The exact number of paths to some vertices: counted modulo primes and put together.

    alive: the edges that may be taken; starting: the inputs that are not 0; ends: the outputs.
    """
    ends = graph.outputs if ends is None else ends
    edges = np.ones(len(graph.src)) if alive is None else alive.astype(float)
    first = np.ones(graph.inputs, bool) if starting is None else starting
    near = sweep(graph, edges, starts(graph, first.astype(float)), np.add)[ends].sum()
    if near < 2.0**52:
        return int(near)
    total, modulus = 0, 1
    for prime in _primes(math.ceil(math.log2(near) / 29) + 1):
        rest = _count_modulo(graph, edges.astype(np.int64), first, prime, ends)
        total += modulus * ((rest - total) * pow(modulus, -1, prime) % prime)
        modulus *= prime
    return total


@cache
def _primes(count: int) -> tuple[int, ...]:
    """The largest primes below 2^30: a sum of 2^33 such residues is an exact int64."""
    below = (p for p in range(2**30 - 1, 1, -1) if all(p % q for q in range(2, 2**15 + 1)))
    return tuple(islice(below, count))


def _count_modulo(graph: UnitGraph, edges: Ints, first: Bools, prime: int, ends: Ints) -> int:
    value = starts(graph, first.astype(np.int64))
    for la in graph.layers:
        terms = edges[la.first : la.last] * value[graph.src[la.first : la.last]]
        value[la.start : la.stop] = segments(graph, la, terms, np.add) % prime
    return int(value[ends].sum() % prime)


def big(count: int) -> str:
    """A whole number of any size: in full below a million, else like 1.4e13."""
    return str(count) if count < 10**6 else f"{Decimal(count):.1e}".replace("e+", "e")
