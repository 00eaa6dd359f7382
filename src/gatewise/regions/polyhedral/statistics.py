"""statistics(complex): what the regions of a box are like, and which units never change in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, missing
from gatewise.regions.polyhedral.volumes import volumes

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, eq=False)
class Constant:
    """The units of one gate that are on one branch in the whole box.

    branch (*shape,): that branch, -1 where both (or several) occur. With one knot 0 is below it and
    1 above: a ReLU that is always off, or always on.
    """

    gate: str
    branch: Ints

    @property
    def off(self) -> Ints:
        """Flat numbers of the units always on their first branch."""
        return np.flatnonzero(self.branch.reshape(-1) == 0)

    @property
    def on(self) -> Ints:
        """Flat numbers of the units always on one other branch."""
        return np.flatnonzero(self.branch.reshape(-1) > 0)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of R regions: volume, vertices, facets, inside (it touches no wall of the box), (R,) each.

    counts: cells behind each gate; constant: for each gate the units that never change, or None
    where the complex is incomplete, for then nothing is proven.
    """

    complex: Complex
    volume: Floats
    vertices: Ints
    facets: Ints
    inside: NDArray[np.bool_]
    counts: Mapping[str, int]
    constant: tuple[Constant, ...] | None

    def __len__(self) -> int:
        return len(self.volume)

    @cached_property
    def quantiles(self) -> Mapping[float, float]:
        """Volumes that so great a share of the regions does not exceed."""
        found = np.quantile(self.volume, QUANTILES)
        return dict(zip(QUANTILES, found.tolist(), strict=True))

    def largest(self, count: int = 10) -> Ints:
        """The regions of most volume, the largest first."""
        return np.argsort(-self.volume, kind="stable")[:count]

    def radius(self, index: int) -> float:
        """The radius of the largest ball in a region, in the coordinates of the slice.

        A linear program in floats over the facets, each through its vertices; 0 at least.
        """
        return _radius(self.complex, range(len(self))[index])

    def columns(self) -> Mapping[str, Any]:
        """A column for each thing said of every region, which any table library takes."""
        return {
            "region": np.arange(len(self)),
            "volume": self.volume,
            "vertices": self.vertices,
            "facets": self.facets,
            "inside": self.inside,
        }

    def __repr__(self) -> str:
        c = self.complex
        lines = [
            f"Statistics: {len(self)} regions of a box in {c.dimension} dimensions"
            f"{'' if c.complete else ' (incomplete)'}, {int(self.inside.sum())} touch no wall",
            f"  {'':10}{'least':>12}{'median':>12}{'mean':>12}{'largest':>12}",
        ]
        for name in ("volume", "vertices", "facets"):
            x = getattr(self, name)
            four = (x.min(), np.median(x), x.mean(), x.max())
            lines.append(f"  {name:10}" + "".join(f"{float(v):12.5g}" for v in four))
        constant = {c.gate: c for c in self.constant or ()}
        for name, count in self.counts.items():
            lines.append(f"  behind {name}: {count} cells{_said(constant.get(name))}")
        return "\n".join(lines)


def statistics(complex: Complex) -> Statistics:
    """Sizes and kinds of the regions of a complex."""
    cells = complex.cells
    upto = np.concatenate([[0], np.cumsum(complex.who < 0)])  # a point has no facets at all
    walls = np.diff(upto[cells.facet_ptr])
    return Statistics(
        complex,
        volumes(complex),
        np.diff(cells.ptr),
        np.diff(cells.facet_ptr),
        walls == 0,
        complex.counts,
        constant_units(complex) if complex.complete else None,
    )


def constant_units(complex: Complex) -> tuple[Constant, ...]:
    """The units of each gate that keep one branch in the whole box, by its complete complex.

    A unit that is on its knot throughout a region counts as the branch that the knot belongs to.
    """
    if not complex.complete:
        raise DataError(
            "which units are constant needs every region of the box, but enumerating stopped "
            "early: ask again without max_regions"
        )
    found = []
    for name in complex.pattern:
        codes = complex.pattern.codes(name)
        first = codes[0].to(torch.int64)
        same = (codes == codes[:1]).all(0)
        found.append(Constant(name, torch.where(same, first, -1).numpy()))
    return tuple(found)


def _said(constant: Constant | None) -> str:
    if constant is None:
        return ""
    n = constant.branch.size
    return f"; of {n} units {len(constant.off)} always off, {len(constant.on)} always on"


# -- the largest ball --


def _radius(complex: Complex, index: int) -> float:
    """max r with n_j.c + r <= n_j.p_j, n_j the outer unit normal of facet j through p_j."""
    try:
        from scipy.optimize import linprog
    except ImportError:
        raise missing("scipy", "lp", "the largest ball in a region") from None
    k = complex.dimension
    if k == 0:
        return 0.0  # a point
    normals, levels = _walls(complex, index)
    rows = np.concatenate([normals, np.ones((len(normals), 1))], 1)
    cost = np.zeros(k + 1)
    cost[k] = -1
    bounds = [(None, None)] * k + [(0, None)]
    found = linprog(cost, A_ub=rows, b_ub=levels, bounds=bounds, method="highs")
    return float(found.x[k]) if found.status == 0 else 0.0


def _walls(complex: Complex, index: int) -> tuple[Floats, Floats]:
    """Outer unit normals of the facets, and their levels, relative to a point inside."""
    cells = complex.cells
    corners = complex.vertices_of(index)
    home = corners.mean(0)
    mask = cells.mask[cells.ptr[index] : cells.ptr[index + 1]]
    normals, levels = [], []
    for j in range(int(cells.facet_ptr[index + 1] - cells.facet_ptr[index])):
        on = (mask[:, j >> 6] >> np.uint64(j & 63) & np.uint64(1)) != 0
        face = corners[on] - home
        middle = face.mean(0)
        normal = np.linalg.svd(face - middle, full_matrices=True)[2][-1]
        level = float(normal @ middle)
        normals.append(normal if level >= 0 else -normal)
        levels.append(abs(level))
    return np.array(normals), np.array(levels)
