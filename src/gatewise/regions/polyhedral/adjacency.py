"""Which regions share a facet: the dual graph of a complex.

Cells meet in whole faces, so two cells are neighbours where a facet of one has the very vertices of
a facet of the other. Facets are found by a hash of their vertices and matched by the vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InternalError, missing
from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network
from gatewise.numeric import kernel
from gatewise.regions.cells.bits import mixed
from gatewise.regions.cells.stages import KNOT, unlabel

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

Ints = NDArray[np.int64]
TASK = "the graph of neighbouring regions"
ONE = np.uint64(1)


@dataclass(frozen=True, eq=False)
class Shared:
    """The P pairs of regions that share a facet.

    cells (P, 2): the regions, lower number first; facets (P, 2): the facet as each of them has it,
    by its place in `complex.who`. partner (facets,): the same facet in the cell beyond, -1 where
    there is none: at a wall of the box, or where the complex is incomplete. open (n,): facets
    inside the box that have none because a gate's value jumps there, or regions are missing.
    """

    complex: Complex
    partner: Ints
    owner: Ints
    open: Ints

    def __len__(self) -> int:
        return len(self.facets)

    def __repr__(self) -> str:
        walls, rest = int((self.complex.who < 0).sum()), len(self.open)
        return (
            f"Shared({len(self)} pairs of {len(self.complex)} regions; {walls} facets on the box"
            + (f", {rest} without a region beyond)" if rest else ")")
        )

    @cached_property
    def facets(self) -> Ints:
        """(P, 2), by the regions' numbers."""
        first = np.flatnonzero(self.partner > np.arange(len(self.partner)))
        return np.stack([first, self.partner[first]], 1)

    @property
    def cells(self) -> Ints:
        """(P, 2): the regions of each pair."""
        return self.owner[self.facets]

    @property
    def matrix(self) -> Any:
        """scipy.sparse CSR (R, R) of bool, symmetric: True where two regions share a facet."""
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise missing("scipy", "lp", TASK) from None
        met = np.flatnonzero(self.partner >= 0)
        n, rows, columns = len(self.complex), self.owner[met], self.owner[self.partner[met]]
        ptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
        found = csr_array((np.ones(len(met), bool), columns, ptr), shape=(n, n))
        found.sort_indices()
        return found

    def unit(self, pair: int) -> tuple[str, int]:
        """(gate, unit) whose row the facet is: the one that made it, of those that change there."""
        gate, _, _, unit = unlabel(int(self.complex.who[self.facets[pair, 0]]))
        return self.complex.network.gates[gate].name, unit

    def changed(self, pair: int) -> tuple[tuple[str, int], ...]:
        """(gate, unit) of every unit whose branch differs between the two regions of a pair."""
        two = self.complex.pattern[self.cells[pair]]
        found: list[tuple[str, int]] = []
        for name in two:
            codes = two.codes(name).reshape(2, -1)
            found += [(name, int(u)) for u in (codes[0] != codes[1]).nonzero().flatten()]
        return tuple(found)

    def to_networkx(self) -> Any:
        """An undirected graph: nodes 0 .. R - 1, edges with `gate` and `unit` of the facet."""
        try:
            import networkx
        except ImportError:
            raise missing("networkx", "lp", TASK) from None
        graph = networkx.Graph()
        graph.add_nodes_from(range(len(self.complex)))
        names = [gate.name for gate in self.complex.network.gates]
        who = self.complex.who[self.facets[:, 0]]
        rows = zip(
            *self.cells.T.tolist(), (who >> 52).tolist(), (who & 0xFFFFFFFF).tolist(), strict=True
        )
        graph.add_edges_from((a, b, {"gate": names[g], "unit": u}) for a, b, g, u in rows)
        return graph


def shared(complex: Complex) -> Shared:
    """Every pair of regions with a facet in common.

    Raises InternalError where a facet inside the box of a complete complex has no cell beyond,
    unless a gate of the network jumps and another follows it: then cells need not meet so.
    """
    cells = complex.cells
    owner = np.repeat(np.arange(len(complex)), np.diff(cells.facet_ptr))
    code = np.zeros(len(owner), np.uint64)
    _hash(cells.ptr, cells.vertex, cells.mask, cells.facet_ptr, code)
    partner = np.full(len(owner), -1, np.int64)
    table = np.full(1 << int(2 * len(owner)).bit_length(), -1, np.int64)
    thrice = _match(
        cells.ptr, cells.vertex, cells.mask, cells.facet_ptr, owner, code, table, partner
    )
    lone = np.flatnonzero((partner < 0) & (complex.who >= 0))
    walls = np.flatnonzero((partner >= 0) & (complex.who < 0))
    if thrice >= 0 or len(walls):
        facet = thrice if thrice >= 0 else int(walls[0])
        raise InternalError(f"facet {facet} of the complex is shared by regions that cannot meet")
    if len(lone) and complex.complete and not complex.undecided and not jumps(complex.network):
        raise InternalError(
            f"{len(lone)} facets inside the box have no region beyond, the first is "
            f"{lone[0]} of region {owner[lone[0]]}: {_label(complex, int(lone[0]))}"
        )
    return Shared(complex, partner, owner, lone)


def adjacency(complex: Complex) -> Any:
    """scipy.sparse CSR (R, R) of bool: which regions share a facet."""
    return shared(complex).matrix


def _label(complex: Complex, facet: int) -> str:
    gate, challenger, _, unit = unlabel(int(complex.who[facet]))
    what = "unit" if challenger == KNOT else "window"
    return f"{what} {unit} of '{complex.network.gates[gate].name}'"


def jumps(network: Network, at_end: bool = False) -> bool:
    """Can a gate's value jump, and reach another gate (or the output, at_end)?"""
    behind: set[str] = set()
    for node in network.nodes:
        after = any(name in behind for name in node.inputs)
        if after and isinstance(node.kind, Pieces | Winner):
            return True
        if after or (isinstance(node.kind, Pieces) and node.kind.jumps):
            behind.add(node.name)
    return at_end and network.output in behind


@kernel
def _hash(ptr: Any, vertex: Any, mask: Any, facet_ptr: Any, code: Any) -> None:
    """code (facets,): the sum of the mixed vertex numbers, the same in any order."""
    words = mask.shape[1]
    for c in range(len(ptr) - 1):
        for i in range(ptr[c], ptr[c + 1]):
            key = mixed(np.uint64(vertex[i]))
            for w in range(words):
                start = facet_ptr[c] + 64 * w
                for b in range(min(64, facet_ptr[c + 1] - start)):
                    if mask[i, w] >> np.uint64(b) & ONE:
                        code[start + b] += key


@kernel
def _match(
    ptr: Any,
    vertex: Any,
    mask: Any,
    facet_ptr: Any,
    owner: Any,
    code: Any,
    table: Any,
    partner: Any,
) -> int:
    """partner: the facet with the same vertices, by an open table; one met thrice, or -1."""
    last = np.uint64(len(table) - 1)
    for f in range(len(code)):
        at = np.int64(mixed(code[f]) & last)
        while table[at] >= 0:
            g = table[at]
            if code[g] == code[f] and _same(ptr, vertex, mask, facet_ptr, owner, f, g):
                break
            at = np.int64(np.uint64(at + 1) & last)
        if table[at] < 0:
            table[at] = f
        elif partner[table[at]] >= 0:
            return f
        else:
            partner[f], partner[table[at]] = table[at], f
    return -1


@kernel
def _same(ptr: Any, vertex: Any, mask: Any, facet_ptr: Any, owner: Any, f: int, g: int) -> bool:
    """Are the vertices of the facets f and g the same?"""
    a, b = owner[f], owner[g]
    i, j = f - facet_ptr[a], g - facet_ptr[b]
    more = 0
    for v in range(ptr[b], ptr[b + 1]):
        if mask[v, j >> 6] >> np.uint64(j & 63) & ONE:
            more += 1
    for u in range(ptr[a], ptr[a + 1]):
        if mask[u, i >> 6] >> np.uint64(i & 63) & ONE:
            found = False
            for v in range(ptr[b], ptr[b + 1]):
                if vertex[u] == vertex[v] and mask[v, j >> 6] >> np.uint64(j & 63) & ONE:
                    found = True
                    break
            if not found:
                return False
            more -= 1
    return more == 0
