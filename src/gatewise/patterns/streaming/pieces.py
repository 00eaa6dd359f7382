"""partial(network, table, piece): the census of one piece of a table, numbered within the piece.

Pure: the same piece gives the same answer in any process, in any order, and again after a crash.
Pieces that follow one another add up (`gathering`) to the census of all rows, whatever the cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.parcel import packed
from gatewise.numeric import whole_number
from gatewise.patterns.streaming.gathering import went
from gatewise.patterns.streaming.parts import Table
from gatewise.patterns.streaming.reading import Block, Place, ahead, blocks, require_unchanged
from gatewise.patterns.streaming.runs import OUTSIDE, Ids, Run
from gatewise.patterns.streaming.tally import Tally
from gatewise.patterns.streaming.watch import OnBadRows, Seen, Watch

PIECE_ROWS = 1 << 20  # of a piece, about: a second of work, and what is done again after a crash


@dataclass(frozen=True)
class Piece:
    """Rows start to stop (None: to the end) of the file with that position in the table."""

    part: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, eq=False)
class Partial:
    """The census of some consecutive rows, numbered from 0.

    run: distinct patterns in order of (hash, bits); unsure (patterns,): undecided rows of each;
    rows: all that were read; skipped: those left out for NaN or infinity; trouble: why nothing
    could be read after them. Where every row is kept: places (rows,), of its pattern in the run
    (-1: left out), and units (rows,), how many of its units are undecided; else both are (0,).
    """

    run: Run
    unsure: Ids
    rows: int
    skipped: int
    trouble: str
    places: NDArray[np.int32]
    units: NDArray[np.int32]

    @property
    def undecided(self) -> int:
        """Rows with a unit that rounding leaves in doubt."""
        return int(self.unsure.sum())


def sent(network: Network) -> bytes:
    """The network as it travels, if it has regions and takes numbers as they lie in the table."""
    require_piecewise_affine(network, "a census of patterns")
    if network.prepare is not None:
        raise DataError(
            "the model prepares raw columns (a scikit-learn Pipeline), which is not sent to other "
            "processes: take gw.census without an engine, or write the prepared table and read the "
            "network alone"
        )
    return packed(network)


def settled(batch_size: int | None, **bad: str) -> int | None:
    """The batch size, checked, as are the words for what to do about bad rows and files."""
    for name, value in bad.items():
        if value not in ("raise", "skip"):
            raise DataError(f"{name} must be 'raise' or 'skip', got {value!r}")
    return None if batch_size is None else whole_number(batch_size, "batch_size")


def cut(table: Table, rows: int = PIECE_ROWS) -> list[Piece]:
    """The table in pieces of about so many rows: whole row groups of Parquet, other files whole.

    A row group is the least that can be read by itself; CSV and Arrow files are read from the top.
    """
    found: list[Piece] = []
    for i, part in enumerate(table.parts):
        if part.trouble or not part.is_parquet:
            found.append(Piece(i))
            continue
        starts = [0]
        for end in np.cumsum([group.num_rows for group in part.fragment.row_groups])[:-1].tolist():
            if end - starts[-1] >= rows:
                starts.append(end)
        found += [Piece(i, a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return found


def partial(
    network: Network,
    table: Table,
    piece: Piece,
    *,
    on_bad_rows: OnBadRows = "raise",
    batch_size: int | None = None,
    keep_rows: bool = False,
) -> Partial:
    """The census of a piece. A file that breaks off is no error here: see `trouble`."""
    part = table.parts[piece.part]
    if not part.trouble:
        require_unchanged(part)  # by another machine's eyes, too
    watch = Watch(network, on_bad_rows, batch_size)
    return counted_up(watch, ahead(_inside(table, piece)), part.name, keep_rows)


def counted_up(watch: Watch, given: Iterable[Block], name: str, keep_rows: bool = False) -> Partial:
    """The census of blocks that follow one another."""
    tally, rows, skipped, trouble = Tally(watch.width), 0, 0, ""
    doubtful: list[Run] = []
    kept: list[Seen] = []
    for block in given:
        seen = watch(block, name)
        inside = np.flatnonzero(~seen.outside)
        tally.put(seen.bits[inside], rows, inside)
        doubtful.append(_alone(seen, np.flatnonzero(seen.units)))
        kept += [seen] if keep_rows else []
        rows, skipped = rows + len(seen), skipped + len(seen) - len(inside)
        trouble = block.trouble
    run = tally.run()
    unsure = np.zeros(len(run), np.int64)
    for at in went(run, doubtful):
        np.add.at(unsure, at, 1)
    units = np.concatenate([np.empty(0, np.int32), *(s.units for s in kept)])
    return Partial(run, unsure, rows, skipped, trouble, _places(run, kept), units)


def _inside(table: Table, piece: Piece) -> Iterator[Block]:
    """The blocks of the piece's rows; what comes after its last block is not read."""
    alone = replace(table, parts=(table.parts[piece.part],))
    for block in blocks(alone, Place(0, piece.start)):
        left = len(block) if piece.stop is None else piece.stop - block.place.row
        yield block.head(left)
        if piece.stop is not None and len(block) >= left:
            return


def _alone(seen: Seen, rows: Ids) -> Run:
    """Some rows, each by itself."""
    return Run(seen.bits[rows], np.ones(len(rows), np.int64), rows)


def _places(run: Run, kept: list[Seen]) -> NDArray[np.int32]:
    """Where each row's pattern is in the run."""
    found = [np.empty(0, np.int32)]
    for seen in kept:
        inside = np.flatnonzero(~seen.outside)
        places = np.full(len(seen), OUTSIDE, np.int32)
        (places[inside],) = went(run, [_alone(seen, inside)])
        found.append(places)
    return np.concatenate(found)
