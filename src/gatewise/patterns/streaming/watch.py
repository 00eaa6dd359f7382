"""The patterns of a block of rows: in float32 where that is sure, then float64, then exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError
from gatewise.ir.network import Network
from gatewise.ir.pattern import row_bytes
from gatewise.patterns.observe import Observer, default_batch
from gatewise.patterns.on_device import fed
from gatewise.patterns.streaming.reading import Block, Floats
from gatewise.patterns.streaming.runs import Bits, Ids
from gatewise.patterns.sure import Chain, Sure, chain
from gatewise.patterns.tile import OUTSIDE
from gatewise.tables.words import counted, listed

OnBadRows = Literal["raise", "skip"]
SPARE = 0.01  # share of rows that may lie beyond the reach: a bound for all suffers from few large
ROOM = {torch.float32: 1.25, torch.float64: 4.0}  # times what the others need: for later rows, and
# for those that the quicker look left because they are large
FAR = 16  # more than a sixteenth of the rows beyond the reach: it has to be wider
TOO_MANY = 4  # a dtype that leaves more than a fourth of the rows in doubt is given up
ENOUGH = 4096  # rows of a block, for that to be told from: all of a small file may lie on ties


@dataclass(frozen=True, eq=False)
class Seen:
    """bits (rows, bytes): patterns; units (rows,): undecided ones; outside (rows,): left out."""

    bits: Bits
    units: NDArray[np.int32]
    outside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.bits)


class _NotFinite(Exception):
    """NaN or infinity among the numbers that the network is given."""


class Watch:
    """Looks at one block after another; remembers what paid (a builder, one a thread)."""

    def __init__(
        self,
        network: Network,
        on_bad_rows: OnBadRows,
        batch_size: int | None,
        chains: Sequence[Chain] | None = None,
    ) -> None:
        """chains: `chains_of(network)`, where several threads need them."""
        self.dtype, self.on_bad_rows = network.dtype, on_bad_rows
        exact = network.to(torch.float64)
        self.observer = Observer(exact)
        self.width = row_bytes(self.observer.fields)
        self.batch_size = batch_size or default_batch(exact)
        exactly = (network.dtype, torch.float64)  # a float32 network's inputs are float32 already
        self.looks = [
            Sure(exact, chain, exact_input=chain.dtype in exactly)
            for chain in (chains_of(network) if chains is None else chains)
        ]

    def __call__(self, block: Block, name: str) -> Seen:
        """Patterns of the rows of a block of the file of that name."""
        columns, seen = block.columns, self._nothing_yet(len(block))
        if not len(block):
            return seen
        try:
            rows = self._surely(columns, seen)
        except _NotFinite:
            columns = self._cleaned(block, name, seen.outside)
            rows = self._surely(columns, seen)
        self._settle(columns, rows, seen, block.place.row, name)
        seen.units[seen.outside] = 0
        return seen

    def _nothing_yet(self, rows: int) -> Seen:
        bits = np.zeros((rows, self.width), np.uint8)
        return Seen(bits, np.zeros(rows, np.int32), np.zeros(rows, bool))

    def _surely(self, columns: tuple[Floats, ...], seen: Seen) -> Ids:
        """Codes of rows that a look is sure of; the rows that are left."""
        rows = np.arange(len(seen))
        if not self.looks:
            self._require_finite(columns)
        for look in tuple(self.looks):
            given = columns if look.dtype == torch.float32 else self._exactly(columns, rows)
            rows = self._look(look, given, rows, seen)
        return rows

    @np.errstate(over="ignore")
    def _widen(self, columns: Sequence[Floats]) -> None:
        """Bounds for rows like those of these columns; a look may refuse, and flags them then."""
        most = _most(columns)
        for look in self.looks:
            look.widen(ROOM[look.dtype] * most)

    def _look(self, look: Sure, given: Sequence[Floats], rows: Ids, seen: Seen) -> Ids:
        """The same of some rows, whose columns are given; a look that is hardly ever sure is given
        up."""
        every = len(rows) == len(seen)
        bits = seen.bits if every else np.zeros((len(rows), self.width), np.uint8)
        said = look(given, bits)
        beyond = np.flatnonzero(said & OUTSIDE)
        self._require_finite([c[beyond] for c in given])
        if every and FAR * len(beyond) > len(rows):
            self._widen(given)
            said = look(given, bits)
        left = np.flatnonzero(said)
        if not every:
            seen.bits[rows] = bits
        if TOO_MANY * len(left) > max(len(seen), ENOUGH):
            self.looks.remove(look)
        return rows[left]

    def _require_finite(self, columns: Sequence[Floats]) -> None:
        for column in columns:
            ends = np.array([column.max(initial=0), column.min(initial=0)])
            if not np.isfinite(_rounded(ends, self.dtype)).all():
                raise _NotFinite

    def _cleaned(self, block: Block, name: str, outside: NDArray[np.bool_]) -> tuple[Floats, ...]:
        """The columns with zeros in rows that hold NaN or infinity; `outside` says which."""
        for column in block.columns:
            outside |= ~np.isfinite(_rounded(column, self.dtype))
        if outside.any():
            self._skip(np.flatnonzero(outside) + block.place.row, name)
        return tuple(np.where(outside, 0.0, c) for c in block.columns)

    def _exactly(self, columns: tuple[Floats, ...], rows: Ids) -> Sequence[Floats]:
        """Columns of the numbers that the network is given, in float64."""
        picked = columns if len(rows) == len(columns[0]) else [c[rows] for c in columns]
        if self.dtype == torch.float64:
            return picked
        return [_rounded(c, self.dtype).astype(np.float64) for c in picked]

    def _settle(
        self, columns: tuple[Floats, ...], rows: Ids, seen: Seen, start: int, name: str
    ) -> None:
        """Codes of these rows with an error bound of their own, or exactly."""
        exact, size = self.observer.network, self.batch_size
        batches = [rows[a : a + size] for a in range(0, len(rows), size)]
        given = (torch.from_numpy(np.stack(self._exactly(columns, b), 1)) for b in batches)
        for here, flat in zip(batches, fed(given, exact.device, exact.dtype), strict=True):
            x = flat.reshape(-1, *exact.input_shape)
            found = self.observer(x)
            lost = here[~finite_rows(found.output.cpu())]
            if len(lost):
                raise DataError(
                    f"the network's output is not finite at row {lost[0] + start} (counted from "
                    f"0) of '{name}': its inputs are too large"
                )
            seen.bits[here], seen.units[here] = found.pattern.bits, found.undecided

    def _skip(self, rows: Ids, name: str) -> None:
        if self.on_bad_rows == "raise":
            large = ", or a number too large for float32," if self.dtype == torch.float32 else ""
            raise BadRows(
                f"NaN or infinity{large} in {counted(len(rows), 'row')} of '{name}', rows counted "
                f"from 0: {listed(rows.tolist())} (and perhaps later ones). Repair them, or leave "
                "such rows out (on_bad_rows='skip')",
                tuple(rows.tolist()),
            )


def chains_of(network: Network) -> list[Chain]:
    """What a network can be looked at through, the quickest first."""
    exact = network.to(torch.float64)
    found = (chain(exact, dtype) for dtype in (torch.float32, torch.float64))
    return [c for c in found if c is not None]


def _most(columns: Sequence[Floats]) -> Floats:
    """(columns,) no less than |x|, but for a `SPARE` of the rows at most."""
    last = len(columns[0]) - 1
    place = last - int(SPARE * last / len(columns))
    return np.array([np.partition(np.abs(c), place)[place] for c in columns])


def _rounded(numbers: Floats, dtype: torch.dtype) -> NDArray[Any]:
    """In the network's dtype; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32 if dtype == torch.float32 else np.float64, copy=False)


def finite_rows(values: torch.Tensor) -> NDArray[np.bool_]:
    """(rows,) which hold finite numbers only; one pass without a mask where all do."""
    if values.sum().isfinite():
        return np.ones(len(values), bool)
    return values.reshape(len(values), -1).isfinite().all(1).numpy()
