"""The k strongest paths of an output at x, exactly, without listing the others.

A path's contribution is start * weights, its gates being on. Going back from the output, a path
that has come to unit u with product s can end with at most |s| B(u), where B(u) is the largest
|contribution| of any path from a start to u: one sweep gives it, and it is attained. So the search
that always goes on from the largest bound meets complete paths in order: about k * depth steps.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.dual.gating import Gated, masks
from gatewise.dual.paths.edges import unit_graph
from gatewise.dual.paths.graph import (
    Floats,
    Ints,
    UnitGraph,
    big,
    coefficients,
    count_paths,
    row_masks,
    segments,
    starts,
    sweep,
)
from gatewise.dual.paths.shares import one_row, place, which_outputs
from gatewise.errors import DataError
from gatewise.ir.kinds import Shape
from gatewise.ir.network import Network
from gatewise.numeric import whole_number

Sign = Literal["positive", "negative"]
SHOWN = 10  # paths that a printed result names
LITTLE = 0.01  # of the absolute mass: below it the words say so
EXTRA = 1000  # paths looked at beyond k, to order those that tie with the k-th within rounding


@dataclass(frozen=True, eq=False)
class StrongPaths:
    """The k strongest paths to one output at one row, by |contribution|.

    contributions (k,); starts (k,): the input, or -1 for a bias (of the first layer entered);
    units (k, layers): the unit of each layer, flattened, or -1 where the path passes it by.
    mass: sum |contribution| over all active paths; active: their number; value: f.
    """

    output: int
    value: float
    contributions: Floats
    starts: Ints
    units: Ints
    layers: tuple[str, ...]
    shapes: tuple[Shape, ...]
    names: tuple[str, ...]
    mass: float
    active: int
    sign: Sign | None = None

    def __len__(self) -> int:
        return len(self.contributions)

    @property
    def carried(self) -> float:
        """The part of the absolute mass that these paths carry."""
        return float(np.abs(self.contributions).sum() / self.mass) if self.mass else 1.0

    @property
    def cancellation(self) -> float:
        """|f| / sum |contribution|: near 0, positive and negative paths take each other away."""
        return abs(self.value) / self.mass if self.mass else 1.0

    def path(self, i: int) -> str:
        """Path i in words: where it starts and the units it runs through."""
        way = zip(self.layers, self.shapes, self.units[i].tolist(), strict=True)
        steps = [f"{name}[{place(unit, shape)}]" for name, shape, unit in way if unit >= 0]
        j = int(self.starts[i])
        first = (self.names[j] if self.names else f"x{j}") if j >= 0 else "bias"
        return " -> ".join([first, *steps])

    def __str__(self) -> str:
        kind = f"{self.sign} " if self.sign else ""
        head = (
            f"The {len(self)} strongest {kind}paths of {big(self.active)} active ones to output "
            f"{self.output}, where f = {self.value:.4g}:"
        )
        lines = [f"  {self.contributions[i]:+.4g}  {self.path(i)}" for i in range(len(self))]
        more = [f"  .. and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([head, *lines[:SHOWN], *more, self._says()])

    def _says(self) -> str:
        said = (
            f"They carry {self.carried:.2g} of the absolute mass {self.mass:.4g} of all paths, and "
            f"{self.contributions.sum():+.4g} of f; |f| is {self.cancellation:.2g} of that mass."
        )
        if self.carried >= LITTLE:
            return f"{said} Read units first: unit_shares adds up all paths through each."
        return (
            f"{said} So single paths of this network carry almost nothing: read its units first "
            f"(unit_shares), which add up all paths through each."
        )


def strongest_paths(
    net: Network | Gated | UnitGraph,
    x: Any,
    k: int = 20,
    output: int | None = None,
    sign: Sign | None = None,
) -> StrongPaths:
    """The k paths with the largest |contribution| to an output at the row x.

    x: (inputs,) or one row; output: None is the largest; sign: only positive or negative paths.
    The product is taken from the output back; ties go by the sources of the edges, from the output
    back, biases first. For many rows, give `unit_graph(net)`, which is most of the work.
    """
    _require(k, sign)
    graph = unit_graph(net)
    network = graph.source.network
    row = one_row(network, x, "x")
    values = network(row)
    chosen = int(which_outputs(values, output)[0])
    on = row_masks(graph, masks(graph.source, row))[0]
    c, start = coefficients(graph, on), starts(graph, row.reshape(-1).numpy())
    end = int(graph.outputs[chosen])
    paths = strongest_edges(graph, c, start, end, k, sign)
    mass = sweep(graph, np.abs(c), np.abs(start), np.add)[end]
    first = start[1 : 1 + graph.inputs] != 0
    active = count_paths(graph, c != 0, first, graph.outputs[chosen : chosen + 1])
    columns, units, begins = named(graph, paths)
    return StrongPaths(
        chosen, float(values[0, chosen]), path_products(graph, c, start, paths), begins, units,
        columns, tuple(la.shape for la in graph.columns), tuple(network.feature_names),
        float(mass), active, sign,
    )  # fmt: skip


def path_products(graph: UnitGraph, c: Floats, start: Floats, paths: list[list[int]]) -> Floats:
    """The product of each path's coefficients, from the output back, times its start."""
    found = np.ones(len(paths))
    for i, edges in enumerate(paths):
        product = 1.0
        for e in edges:
            product *= float(c[e])
        found[i] = product * float(start[graph.src[edges[-1]]])
    return found


def named(graph: UnitGraph, paths: list[list[int]]) -> tuple[tuple[str, ...], Ints, Ints]:
    """Names of the layers with weights, units (paths, layers), and the inputs paths start from."""
    columns = graph.columns
    units = np.full((len(paths), len(columns)), -1)
    where = {la.name: i for i, la in enumerate(columns)}
    begins = np.zeros(len(paths), np.int64)
    for i, edges in enumerate(paths):
        begins[i] = int(graph.src[edges[-1]]) - 1
        ends = np.searchsorted(graph.indptr, edges, side="right") - 1
        for vertex, at in zip(ends.tolist(), graph.layer_of(ends).tolist(), strict=True):
            la = graph.layers[at]
            if la.name in where:
                units[i, where[la.name]] = vertex - la.start
    return tuple(la.name for la in columns), units, begins


def strongest_edges(
    graph: UnitGraph, c: Floats, start: Floats, end: int, k: int, sign: Sign | None = None
) -> list[list[int]]:
    """The k strongest paths to vertex `end`, each as its edges from the end back to the start."""
    search = _Search(graph, c, start, sign)
    found: list[tuple[float, tuple[int, ...]]] = []
    floor = 0.0
    slack = 1 - 8 * (len(graph.layers) + 2) * np.finfo(float).eps
    for bound, size, edges in search.run(end):
        if len(found) == k:
            floor = min(f[0] for f in found) * slack
        if len(found) >= k and (bound < floor or len(found) >= k + EXTRA):
            break
        found.append((size, edges))
    found.sort(key=lambda f: (-f[0], f[1]))
    return [list(edges) for _, edges in found[:k]]


class _Search:
    """Complete paths in order of their bounds; keeps the order of the edges to each unit seen."""

    def __init__(self, graph: UnitGraph, c: Floats, start: Floats, sign: Sign | None) -> None:
        self.graph, self.c, self.start = graph, c, start
        self.bounds = _bounds(graph, c, start, signed=sign is not None)
        self.want = 1 if sign == "negative" else 0
        self.known: dict[tuple[int, int], tuple[list[int], list[float]]] = {}

    def run(self, end: int) -> Any:
        """Yields (bound, |contribution|, edges) from the largest on."""
        heap: list[tuple[float, tuple[int, ...], int, float, int, int]] = []
        self._push(heap, (), 0, 1.0, end, self.want)
        while heap:
            bound, edges, rank, product, vertex, want = heapq.heappop(heap)
            self._push(heap, edges[:-1], rank + 1, product, vertex, want)
            last = edges[-1]
            source = int(self.graph.src[last])
            product *= abs(float(self.c[last]))
            if source <= self.graph.inputs:
                yield -bound, product * abs(float(self.start[source])), edges
            else:
                self._push(heap, edges, 0, product, source, self._turn(want, last))

    def _push(
        self, heap: list[Any], edges: tuple[int, ...], rank: int, s: float, vertex: int, want: int
    ) -> None:
        """The rank-th best way on from a vertex, if there is one."""
        order, bounds = self._ordered(vertex, want)
        if rank < len(order):
            heapq.heappush(
                heap, (-(s * bounds[rank]), (*edges, order[rank]), rank, s, vertex, want)
            )

    def _ordered(self, vertex: int, want: int) -> tuple[list[int], list[float]]:
        """Edges to a vertex that bring anything, by the best they can bring, and that."""
        if (vertex, want) not in self.known:
            lo, hi = self.graph.indptr[vertex : vertex + 2]
            c = self.c[lo:hi]
            best = np.abs(c) * self._ahead(c, self.graph.src[lo:hi], want)
            order = np.argsort(-best, kind="stable")[: np.count_nonzero(best)]
            self.known[vertex, want] = ((order + lo).tolist(), best[order].tolist())
        return self.known[vertex, want]

    def _ahead(self, c: Floats, src: Ints, want: int) -> Floats:
        if len(self.bounds) == 1:
            return np.asarray(self.bounds[0][src])
        return np.asarray(self.bounds[np.where(c < 0, 1 - want, want), src])

    def _turn(self, want: int, edge: int) -> int:
        """The sign that the rest of a path must have, behind this edge."""
        return 1 - want if len(self.bounds) == 2 and self.c[edge] < 0 else want


def _bounds(graph: UnitGraph, c: Floats, start: Floats, signed: bool) -> NDArray[np.float64]:
    """B (1, vertices): the largest |contribution| of a path to each vertex.

    signed: (2, vertices), the largest of the positive and of the negative ones.
    """
    if not signed:
        return np.asarray(sweep(graph, np.abs(c), np.abs(start), np.maximum))[None]
    best = np.stack([np.maximum(start, 0), np.maximum(-start, 0)])
    for la in graph.layers:
        src, w = graph.src[la.first : la.last], c[la.first : la.last]
        up, down = np.maximum(w, 0), np.maximum(-w, 0)
        for s in (0, 1):
            terms = np.maximum(up * best[s, src], down * best[1 - s, src])
            best[s, la.start : la.stop] = segments(graph, la, terms, np.maximum)
    return best


def _require(k: int, sign: Any) -> None:
    whole_number(k, "k")
    if sign not in (None, "positive", "negative"):
        raise DataError(f"sign must be None, 'positive' or 'negative', got {sign!r}")
