"""The patterns of a block of rows: in float32 where that is sure, then float64, then exactly."""

from __future__ import annotations

import math
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
from gatewise.patterns.streaming.reading import Block, Floats
from gatewise.patterns.streaming.runs import Bits, Ids
from gatewise.patterns.sure import Sure, chain
from gatewise.tables.words import counted, listed

OnBadRows = Literal["raise", "skip"]
STEP_BYTES = 1 << 20  # of a value at the widest node: two fit a second-level cache
TOO_MANY = 4  # a dtype that leaves more than a fourth of the rows in doubt is given up


@dataclass(frozen=True, eq=False)
class Seen:
    """bits (rows, bytes): patterns; units (rows,): undecided ones; outside (rows,): left out."""

    bits: Bits
    units: NDArray[np.int32]
    outside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.bits)


class Watch:
    """Looks at one block after another; remembers what paid (a builder, one a thread)."""

    def __init__(self, network: Network, on_bad_rows: OnBadRows, batch_size: int | None) -> None:
        self.dtype, self.on_bad_rows = network.dtype, on_bad_rows
        exact = network.to(torch.float64)
        self.observer = Observer(exact)
        self.width = row_bytes(self.observer.fields)
        self.batch_size = batch_size or default_batch(exact)
        self.looks = _looks(exact, network.dtype)
        self.held = np.empty(0, np.float32)
        self.widest = max([network.inputs, *(math.prod(n.shape) for n in network.nodes)])

    def __call__(self, block: Block, name: str) -> Seen:
        """Patterns of the rows of a block of the file of that name."""
        rows, columns = np.arange(len(block)), block.columns
        seen = self._nothing_yet(len(rows))
        if not len(rows):
            return seen
        given = self._halved(columns)
        reach = _reach(given)
        if not np.isfinite(reach).all():
            columns = self._cleaned(block, name, seen.outside)
            given = self._halved(columns)
            reach = _reach(given)
        for look in tuple(self.looks):
            if np.isfinite(reach).all() and look.widen(torch.from_numpy(reach)):
                if look.dtype == torch.float64:
                    given = self._exactly(columns, rows)
                rows = self._look(look, given, rows, seen)
        self._settle(columns, rows, seen, block.place.row, name)
        seen.units[seen.outside] = 0
        return seen

    def _halved(self, columns: tuple[Floats, ...]) -> NDArray[Any]:
        """(columns, rows) in float32: memory that is written again and again is in the cache."""
        shape = (len(columns), len(columns[0]))
        if self.held.size < shape[0] * shape[1]:
            self.held = np.empty(shape[0] * shape[1], np.float32)
        return _given(columns, self.held[: shape[0] * shape[1]].reshape(shape))

    def _nothing_yet(self, rows: int) -> Seen:
        bits = np.zeros((rows, self.width), np.uint8)
        return Seen(bits, np.zeros(rows, np.int32), np.zeros(rows, bool))

    def _cleaned(self, block: Block, name: str, outside: NDArray[np.bool_]) -> tuple[Floats, ...]:
        """The columns with zeros in rows that hold NaN or infinity; `outside` says which."""
        given = _given(block.columns, _room(block.columns, self.dtype))
        outside |= ~np.isfinite(given).all(0)
        if outside.any():
            self._skip(np.flatnonzero(outside) + block.place.row, name)
        return tuple(np.where(outside, 0.0, c) for c in block.columns)

    def _exactly(self, columns: tuple[Floats, ...], rows: Ids) -> Floats:
        """(columns, rows) the numbers that the network is given, in float64."""
        picked = columns if len(rows) == len(columns[0]) else tuple(c[rows] for c in columns)
        return _given(picked, _room(picked, self.dtype)).astype(np.float64, copy=False)

    def _look(self, look: Sure, given: NDArray[Any], rows: Ids, seen: Seen) -> Ids:
        """Codes of these rows (columns, rows) where the look is sure; the rows that are left."""
        every = len(rows) == len(seen)
        bits = seen.bits if every else np.zeros((len(rows), self.width), np.uint8)
        x, near = torch.from_numpy(given).T, np.empty(len(rows), bool)
        step = max(1, STEP_BYTES // (given.itemsize * self.widest))
        with torch.inference_mode():
            for a in range(0, len(rows), step):
                near[a : a + step] = look(x[a : a + step], bits[a : a + step])
        if not every:
            seen.bits[rows] = bits
        if TOO_MANY * near.sum() > len(seen):
            self.looks.remove(look)
        return rows[near]

    def _settle(
        self, columns: tuple[Floats, ...], rows: Ids, seen: Seen, start: int, name: str
    ) -> None:
        """Codes of these rows with an error bound of their own, or exactly."""
        exact = self.observer.network
        for a in range(0, len(rows), self.batch_size):
            here = rows[a : a + self.batch_size]
            values = np.ascontiguousarray(self._exactly(columns, here).T)
            x = torch.from_numpy(values).to(exact.device).reshape(-1, *exact.input_shape)
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
            raise BadRows(
                f"NaN or infinity in {counted(len(rows), 'row')} of '{name}', rows counted from "
                f"0: {listed(rows.tolist())} (and perhaps later ones). Repair them, or leave such "
                "rows out (on_bad_rows='skip')",
                tuple(rows.tolist()),
            )


def _looks(exact: Network, dtype: torch.dtype) -> list[Sure]:
    """The quickest first; the inputs of a float32 network are float32 already."""
    found = []
    for kind in (torch.float32, torch.float64):
        layers = chain(exact, kind)
        if layers is not None:
            found.append(Sure(exact, layers, exact_input=kind in (dtype, torch.float64)))
    return found


def _room(columns: Sequence[Floats], dtype: torch.dtype) -> NDArray[Any]:
    kind = np.float32 if dtype == torch.float32 else np.float64
    return np.empty((len(columns), len(columns[0])), kind)


def _given(columns: Sequence[Floats], out: NDArray[Any]) -> NDArray[Any]:
    """The columns in out (columns, rows), of another dtype; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        for j, column in enumerate(columns):
            out[j] = column
    return out


def _reach(given: NDArray[Any]) -> Floats:
    """(columns,) no less than the largest |x| of each, before it was rounded; NaN where one is."""
    top = np.maximum(given.max(1), -given.min(1)).astype(np.float64)
    single = np.finfo(np.float32)
    return np.asarray(top * (1 + 2 * float(single.eps)) + float(single.tiny))


def finite_rows(values: torch.Tensor) -> NDArray[np.bool_]:
    """(rows,) which hold finite numbers only; one pass without a mask where all do."""
    if values.sum().isfinite():
        return np.ones(len(values), bool)
    return values.reshape(len(values), -1).isfinite().all(1).numpy()
