"""From the table or array a user has to the float64 matrix a network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, EmptyData, WrongShape
from gatewise.tables.arrays import Floats, as_floats
from gatewise.tables.frames import ARRAY, Origin, as_columns, matched, open_table, origin_of
from gatewise.tables.words import counted, is_numbered, listed


@dataclass(frozen=True, eq=False)
class Matrix:
    """values (rows, features), where they came from, and what was left out.

    index: position of each row in the table that was given; skipped: rows left out as NaN or inf;
    origin: the library that table came from, so that answers come in the same kind.
    """

    values: Floats
    columns: tuple[str, ...]
    index: NDArray[np.int64]
    skipped: tuple[int, ...] = ()
    origin: Origin = ARRAY


def as_matrix(
    X: Any,
    columns: Sequence[str] = (),
    width: int | None = None,
    on_bad_rows: Literal["raise", "skip"] = "raise",
) -> Matrix:
    """X as a Matrix: a pandas, polars or pyarrow table, an array, a tensor or nested lists.

    columns: the names a table must have, in the network's order (any order in X; extras are an
    error, so that a target left in by mistake is noticed); width: the number an array must have.
    """
    if on_bad_rows not in ("raise", "skip"):
        raise DataError(f"on_bad_rows must be 'raise' or 'skip', got {on_bad_rows!r}")
    frame = open_table(X)
    values, names = numbers_of(X if frame is None else frame, columns, width)
    if len(values) == 0:
        raise EmptyData("the data hold 0 rows: give at least one")
    if width is not None and values.shape[1] != width:
        raise WrongShape(
            f"the network takes {counted(width, 'input')} a row, got {values.shape[1]}"
            f" (data of shape {values.shape})"
        )
    return replace(_finite(values, names, on_bad_rows), origin=origin_of(frame))


def numbers_of(
    X: Any, columns: Sequence[str] = (), width: int | None = None
) -> tuple[Floats, tuple[str, ...]]:
    """The numbers of a table, by name, or of an array; NaN and infinity are still in them."""
    frame = open_table(X)
    if frame is None:
        return as_floats(X), tuple(columns)
    return as_columns(frame, columns, width)


def _finite(values: Floats, names: tuple[str, ...], on_bad_rows: str) -> Matrix:
    good = np.isfinite(values).all(1)
    bad = tuple(np.flatnonzero(~good).tolist())
    if bad and on_bad_rows == "raise":
        raise BadRows(
            f"{len(bad)} of {counted(len(values), 'row')} "
            f"{'holds' if len(values) == 1 else 'hold'} NaN or infinity: rows {listed(bad)} "
            "(counted from 0). Repair them, or skip them with on_bad_rows='skip'",
            bad,
        )
    if len(bad) == len(values):
        rows = "the only row holds" if len(bad) == 1 else f"all {len(bad)} rows hold"
        raise BadRows(f"{rows} NaN or infinity: nothing is left. Repair the data", bad)
    return Matrix(values[good] if bad else values, names, np.flatnonzero(good), bad)


def as_row(given: Any, names: Sequence[str], what: str, ignored: str = "") -> Floats:
    """One row of numbers: by name from a table of one row, a Series or a dict, else in order.

    ignored: a name that may be there and is left out (the target's column).
    """
    held = _by_name(given, what)
    if held is None or (is_numbered(held) and not is_numbered(names)):
        values = given if held is None else list(held.values())
    else:
        held.pop(ignored, None)
        values = [held[name] for name in matched(tuple(held), tuple(names), None, what)]
    try:
        row: Floats = as_floats([_flat(values)])[0]
    except DataError as error:
        raise DataError(f"{what} is not a row of {len(names)} numbers: {error}") from None
    if len(row) != len(names):
        raise WrongShape(
            f"{what} has {counted(len(row), 'value')}, and the network takes {len(names)} inputs: "
            "give one value an input"
        )
    if not np.isfinite(row).all():
        bad = [names[j] for j in np.flatnonzero(~np.isfinite(row)).tolist()]
        raise DataError(f"{what} holds NaN or infinity at {listed(bad)}: give finite numbers")
    return row


def _by_name(given: Any, what: str) -> dict[str, Any] | None:
    """The values with their names, where it has names."""
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    frame = open_table(given)
    if frame is None:
        named = hasattr(given, "to_dict") and hasattr(given, "index")  # a row of a pandas table
        return {str(k): v for k, v in given.to_dict().items()} if named else None
    if len(frame) != 1:
        raise WrongShape(f"{what} is a table of {counted(len(frame), 'row')}: give one row")
    return {name: frame[name][0] for name in frame.columns}


def _flat(values: Any) -> Any:
    """The numbers of an array of any shape, one after another; anything else as it is."""
    return values.reshape(-1) if isinstance(values, np.ndarray | torch.Tensor) else values
