"""enumerate_regions(network, box): every region of a network in a box, none lost, none invented.

Gate after gate, each cell found so far is split by the units that cross it. The work is a small
multiple of what comes out: a unit is looked at once a cell, and a vertex is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern, layout
from gatewise.regions.cells.chunks import Chunk, span
from gatewise.regions.cells.gather import first_of, polygons
from gatewise.regions.cells.pools import Cells
from gatewise.regions.cells.slices import Slice, box_slice
from gatewise.regions.cells.stages import plan
from gatewise.regions.cells.walk import leaves
from gatewise.regions.complex import Complex

Progress = Callable[[int, float], None]  # regions so far, share of the work done (an estimate)


def enumerate_regions(
    network: Network,
    box: Any = None,
    *,
    slice: Slice | None = None,
    max_regions: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Complex:
    """Every region of the network in a box (low, high), or in the box of a slice.

    low and high are one number each, or one for each input; an input with low = high is held
    there, and at most 8 may be free. max_regions: stop at so many, with `complete` False.
    """
    where = _where(network, box, slice)
    if max_regions is not None and max_regions < 1:
        raise DataError(f"max_regions must be at least 1, got {max_regions}")
    p = plan(network, where)
    counts = [0] * len(p.stages)
    found: list[Chunk] = []
    total, share, complete = 0, 0.0, True

    def seen(chunk: Chunk) -> None:
        counts[chunk.stage - 1] += len(chunk)

    for chunk in leaves(p, workers, max_regions, seen):
        if max_regions is not None and total + len(chunk) > max_regions:
            chunk, complete = span(chunk, 0, max_regions - total), False
        if len(chunk):
            found.append(chunk)
        total, share = total + len(chunk), share + chunk.weight
        if progress is not None:
            progress(total, min(share, 1.0))
        if not complete:
            break
    found.sort(key=lambda c: c.order)
    names = [stage.gate.name for stage in p.stages]
    return _gathered(p.network, where, found, dict(zip(names, counts, strict=True)), complete)


def _where(network: Network, box: Any, slice: Slice | None) -> Slice:
    if (box is None) == (slice is None):
        raise DataError("enumerating regions needs either a box or a slice, and not both")
    where = box_slice(network, box) if slice is None else slice
    if len(where.origin) != network.inputs:
        raise DataError(
            f"the slice has points of {len(where.origin)} inputs, the network takes "
            f"{network.inputs}"
        )
    return where


def _gathered(
    network: Network, where: Slice, found: list[Chunk], counts: dict[str, int], complete: bool
) -> Complex:
    """The chunks as one complex: vertices with one key are one vertex."""
    k = where.dimension
    words = max(c.cells.mask.shape[1] for c in found)
    start = np.cumsum([0] + [len(c.points.radius) for c in found])
    pairs = list(zip(found, start[:-1], strict=True))
    vertex = np.concatenate([c.cells.vertex + s for c, s in pairs])
    key = np.concatenate([c.points.key for c in found])
    place, first = first_of(key, vertex)
    position = np.concatenate([c.points.position for c in found])[first]
    error = np.concatenate([c.points.radius for c in found])[first]
    masks = [np.pad(c.cells.mask, ((0, 0), (0, words - c.cells.mask.shape[1]))) for c in found]
    cells = Cells(
        _starts([c.cells.ptr for c in found]),
        place[vertex],
        np.concatenate(masks),
        _starts([c.cells.facet_ptr for c in found]),
        np.concatenate([np.arange(len(c.cells.facet), dtype=np.int64) for c in found]),
    )
    who = np.concatenate([c.rows.who[c.cells.facet] for c in found])
    cells = cells._replace(facet=np.arange(len(who)))
    if k == 2:
        order = polygons(cells)
        cells = cells._replace(vertex=cells.vertex[order], mask=cells.mask[order])
    bits = np.concatenate([c.bits for c in found])
    pattern, undecided = Pattern(bits, layout(network)), sum(c.guessed for c in found)
    return Complex(
        network, where, position, error, cells, who, pattern, counts, complete, undecided
    )


def _starts(ptrs: list[Any]) -> Any:
    lengths = np.concatenate([np.diff(p) for p in ptrs])
    return np.concatenate([[0], np.cumsum(lengths)])
