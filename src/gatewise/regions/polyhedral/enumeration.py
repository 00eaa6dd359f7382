"""enumerate_regions(network, box): every region of a network in a box, none lost, none invented.

Gate after gate, each cell found so far is split by the units that cross it. The work is a small
multiple of what comes out: a unit is looked at once a cell, and a vertex is made once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, InternalError
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern, layout
from gatewise.numeric import whole_number
from gatewise.regions.cells.chunks import Chunk, span, starts
from gatewise.regions.cells.gather import first_of, polygons
from gatewise.regions.cells.pools import Cells
from gatewise.regions.cells.slices import Slice, box_slice
from gatewise.regions.cells.stages import plan
from gatewise.regions.cells.walk import leaves
from gatewise.regions.polyhedral.complex import Complex, Floats, Ints
from gatewise.regions.polyhedral.exact_vertices import sharpened
from gatewise.regions.polyhedral.region_table import region_file

FULL = 2**62  # regions: more than any count of them that fits an int64
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
    run = _Run(network, _where(network, box, slice), max_regions, workers, progress)
    found = sorted(run, key=lambda chunk: chunk.order)
    return _gathered(run, found)


@dataclass(frozen=True)
class Streamed:
    """What went to a file: how many regions in all and behind each gate; see `Complex`."""

    regions: int
    counts: Mapping[str, int]
    complete: bool
    undecided: int


def stream_regions(
    network: Network,
    path: str | Path,
    box: Any = None,
    *,
    slice: Slice | None = None,
    max_regions: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Streamed:
    """`enumerate_regions` to a Parquet file, part by part: memory does not grow with the regions.

    One row a region, as `Complex.to_parquet` writes them but without neighbours; the file appears
    whole or not at all. The order of the rows may change from run to run.
    """
    run = _Run(network, _where(network, box, slice), max_regions, workers, progress)
    undecided, held = 0, None
    with region_file(path) as add:
        for chunk in itertools.chain(run, [None]):  # one behind: the last part knows if all are in
            if held is not None:
                undecided += held.guessed
                add(_gathered(run, [held]), False)
            held = chunk
    return Streamed(run.total, run.counts, run.complete, undecided)


class _Run:
    """One enumeration: gives chunks of regions, and knows afterwards how many, and if all."""

    def __init__(
        self,
        network: Network,
        where: Slice,
        most: int | None,
        workers: int | None,
        progress: Progress | None,
    ) -> None:
        for name, asked in (("max_regions", most), ("workers", workers)):
            if asked is not None:
                whole_number(asked, name)
        self.plan, self.most, self.workers, self.progress = (
            plan(network, where, most and min(most, FULL) + 1),  # one more says that there are more
            most,
            workers,
            progress,
        )
        self.counts = {stage.gate.name: 0 for stage in self.plan.stages}
        self.total, self.share, self.complete = 0, 0.0, True

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in leaves(self.plan, self.workers, self._seen):
            if self.most is not None and self.total + len(chunk) > self.most:
                chunk, self.complete = span(chunk, 0, self.most - self.total), False
            self.total, self.share = self.total + len(chunk), self.share + chunk.weight
            if len(chunk):
                yield chunk
            if self.progress is not None:
                self.progress(self.total, min(self.share, 1.0))
            if not self.complete:
                return

    def _seen(self, chunk: Chunk) -> None:
        self.counts[self.plan.stages[chunk.stage - 1].gate.name] += len(chunk)


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


def _gathered(run: _Run, found: list[Chunk]) -> Complex:
    """The chunks as one complex: vertices with one key are one vertex."""
    network, where = run.plan.network, run.plan.slice
    k = where.dimension
    with ThreadPoolExecutor(1) as pool:  # half of it is copies that need nothing of the other half
        copies = pool.submit(_joined, found)
        vertex, position, error = _shared(found)
        mask, who, bits = copies.result()
    cells = Cells(
        starts(np.concatenate([np.diff(c.cells.ptr) for c in found])),
        vertex,
        mask,
        starts(np.concatenate([np.diff(c.cells.facet_ptr) for c in found])),
        np.arange(len(who)),
    )
    if k == 2:
        order = polygons(cells)
        cells = cells._replace(vertex=cells.vertex[order], mask=cells.mask[order])
    pattern, undecided = Pattern(bits, layout(network)), sum(c.guessed for c in found)
    return sharpened(
        Complex(
            network,
            where,
            position,
            error,
            cells,
            who,
            pattern,
            run.counts,
            run.complete,
            undecided,
        )
    )


def _shared(found: list[Chunk]) -> tuple[Ints, Floats, Floats]:
    """The vertex of every place, numbered over all chunks; position and error of each vertex."""
    ends = np.cumsum([len(c.points.radius) for c in found])
    key = np.concatenate([c.points.key for c in found])
    place, first = first_of(key, np.concatenate([_in_use(c) for c in found]))
    own = zip(found, np.split(place, ends[:-1]), strict=True)
    vertex = np.concatenate([at[c.cells.vertex] for c, at in own])
    position = np.concatenate([c.points.position for c in found])
    error = np.concatenate([c.points.radius for c in found])
    _check_keys(place, first, position, error)
    return vertex, position[first], error[first]


def _joined(found: list[Chunk]) -> tuple[NDArray[np.uint64], Ints, NDArray[np.uint8]]:
    """The facet bits of every place, the row of every facet, the pattern of every cell."""
    words = max(c.cells.mask.shape[1] for c in found)
    mask = np.concatenate([_widened(c.cells.mask, words) for c in found])
    who = np.concatenate([c.rows.who[c.cells.facet] for c in found])
    return mask, who, np.concatenate([c.bits for c in found])


def _in_use(chunk: Chunk) -> NDArray[np.bool_]:
    """Which of the chunk's vertices some cell has."""
    used = np.zeros(len(chunk.points.radius), np.bool_)
    used[chunk.cells.vertex] = True
    return used


def _widened(mask: NDArray[np.uint64], words: int) -> NDArray[np.uint64]:
    """Facet bits in so many words."""
    return mask if mask.shape[1] == words else np.pad(mask, ((0, 0), (0, words - mask.shape[1])))


def _check_keys(place: Ints, first: Ints, position: Floats, error: Floats) -> None:
    """Vertices of one key must be where each other is, within their bounds: a hash is no proof."""
    used = np.flatnonzero(place >= 0)
    taken = first[place[used]]
    other = used[used != taken], taken[used != taken]
    gap = np.abs(position[other[0]] - position[other[1]])
    if (gap > (error[other[0]] + error[other[1]])[:, None]).any():
        raise InternalError("two vertices have one key: please report the network and the box")
