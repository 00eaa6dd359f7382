"""Every region of a network in a box, exactly: its polyhedral complex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.regions.cells.pools import Cells
from gatewise.regions.cells.slices import Slice

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.adjacency import Shared
    from gatewise.regions.polyhedral.boundary import Boundary
    from gatewise.regions.polyhedral.simplify import Simplified
    from gatewise.regions.polyhedral.statistics import Statistics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Complex:
    """The R full-dimensional cells of a network over a box of a slice, x = origin + s directions.

    vertices (V, k): coordinates s, shared by the cells; error (V,): each is within that of the
    exact one, in the max-norm. Cell i has the vertices cells.vertex[ptr[i]:ptr[i + 1]] (around the
    polygon where k = 2) and the facets cells.facet[facet_ptr[i]:facet_ptr[i + 1]]; bit j of a
    vertex's mask says that it lies on the j-th of them. who (facets,): gate and unit of each, as
    `cells.stages.label` packs them; a wall of the box is negative. pattern: the branch of every
    unit. counts: cells behind each gate, in order.

    complete: all regions of the box are here. undecided: signs that neither floats nor integers
    could tell, and that were taken for zero; with 0 nothing is lost and nothing invented.
    """

    network: Network
    slice: Slice
    vertices: Floats
    error: Floats
    cells: Cells
    who: Ints
    pattern: Pattern
    counts: Mapping[str, int]
    complete: bool
    undecided: int

    def __len__(self) -> int:
        return len(self.cells.ptr) - 1

    def __repr__(self) -> str:
        k, about = self.dimension, "" if self.complete else ", incomplete"
        doubt = f", {self.undecided} signs undecided" if self.undecided else ""
        return (
            f"Complex({len(self)} regions, {len(self.vertices)} vertices in {k} "
            f"dimension{'s' * (k != 1)}{about}{doubt})"
        )

    @property
    def dimension(self) -> int:
        """k, the number of coordinates."""
        return self.slice.dimension

    def vertices_of(self, index: int) -> Floats:
        """The vertices (n, k) of one cell, in the order of the polygon where k = 2."""
        index = range(len(self))[index]
        corners: Floats = self.vertices[
            self.cells.vertex[self.cells.ptr[index] : self.cells.ptr[index + 1]]
        ]
        return corners

    @property
    def interior(self) -> Floats:
        """A point inside each cell (R, k): the mean of its vertices."""
        sums = np.add.reduceat(self.vertices[self.cells.vertex], self.cells.ptr[:-1], axis=0)
        return np.asarray(sums / np.diff(self.cells.ptr)[:, None], np.float64)

    @property
    def map(self) -> AffineMap:
        """f(x) = W x + b on each region, in the network's inputs."""
        return AffineMap(self.network, self.pattern)

    def values(self, s: Any = None) -> Floats:
        """f at coordinates s (rows, k), or at every vertex: (rows, outputs)."""
        x = self.slice.inputs(self.vertices if s is None else s)
        with torch.no_grad():
            return np.asarray(self.network(torch.from_numpy(x)).cpu().numpy(), np.float64)

    # -- what is measured on it: see the module of each --

    def volumes(self) -> Floats:
        """Length, area or volume of each region (R,), in coordinates s."""
        from gatewise.regions.polyhedral.volumes import volumes

        return volumes(self)

    def shared(self) -> Shared:
        """Every pair of regions with a facet in common, and the units that change there."""
        from gatewise.regions.polyhedral.adjacency import shared

        return shared(self)

    def adjacency(self) -> Any:
        """The dual graph: scipy.sparse CSR (R, R) of bool, True where two share a facet."""
        return self.shared().matrix

    def to_networkx(self) -> Any:
        """The dual graph as a networkx.Graph, with the unit that each edge crosses."""
        return self.shared().to_networkx()

    def boundary(self, output: int = 0, other: int | None = None, level: float = 0.0) -> Boundary:
        """Where an output is at a level, or its difference to another one is."""
        from gatewise.regions.polyhedral.boundary import boundary

        return boundary(self, output, other, level)

    def class_boundary(self) -> Boundary:
        """Where the largest output changes."""
        from gatewise.regions.polyhedral.boundary import class_boundary

        return class_boundary(self)

    def statistics(self) -> Statistics:
        """Volumes, vertices, facets, and the units that are constant over the box."""
        from gatewise.regions.polyhedral.statistics import statistics

        return statistics(self)

    def simplify(self) -> Simplified:
        """A smaller network that is the same function on the box."""
        from gatewise.regions.polyhedral.simplify import simplify

        return simplify(self)

    def to_parquet(self, path: str | Path) -> Path:
        """A row a region, whole or not at all."""
        from gatewise.regions.polyhedral.region_table import to_parquet

        return to_parquet(self, path)
