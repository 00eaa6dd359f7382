"""Data frames of any library (through narwhals) as named columns of float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gatewise.errors import WrongColumns
from gatewise.tables.arrays import Floats
from gatewise.tables.words import cell, counted, is_number, listed


@dataclass(frozen=True, eq=False)
class Origin:
    """The library a table came from ("" for arrays), and the labels of its rows, where it has any.

    index: a pandas Index, kept as it is; None where rows have positions only.
    """

    library: str = ""
    index: Any = None

    def table(self, columns: Mapping[str, Any], rows: Any) -> Any:
        """The columns as a table of the same library, for those `rows` of it; a dict for arrays."""
        if not self.library:
            return dict(columns)
        import narwhals.stable.v2 as nw

        backend: Any = self.library
        found = nw.from_dict(dict(columns), backend=backend).to_native()
        return found if self.index is None else found.set_axis(self.index[rows], axis=0)


ARRAY = Origin()


def origin_of(frame: Any) -> Origin:
    """Where the rows of an open table came from; of None, an array."""
    if frame is None:
        return ARRAY
    native = frame.to_native()
    index = native.index if frame.implementation.is_pandas_like() else None
    return Origin(frame.implementation.value, index)


def is_table(X: Any) -> bool:
    """True for a dataframe that narwhals knows."""
    return open_table(X) is not None


def open_table(X: Any) -> Any:
    """X as an eager narwhals frame with text as column names, or None where it is no table.

    narwhals is imported only when a table may have arrived.
    """
    if isinstance(X, np.ndarray | torch.Tensor | list | tuple):
        return None
    import narwhals.stable.v2 as nw

    try:
        frame = nw.from_native(X, pass_through=True)
    except nw.exceptions.DuplicateError:
        raise duplicates("the table", [str(c) for c in _native_names(X)]) from None
    if not isinstance(frame, nw.DataFrame | nw.LazyFrame):
        return None
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    names = [str(c) for c in frame.columns]
    if len(set(names)) < len(names):
        raise duplicates("the table", names)
    if names != list(frame.columns):  # pandas: numbers, or tuples of a MultiIndex
        frame = nw.from_native(frame.to_native().set_axis(names, axis=1))
    return frame


def _native_names(X: Any) -> Sequence[Any]:
    return X.column_names if hasattr(X, "column_names") else list(X.columns)


def duplicates(what: str, names: Sequence[str]) -> WrongColumns:
    """The error for names that are there twice."""
    twice = [name for name, n in Counter(names).items() if n > 1]
    return WrongColumns(
        f"{what} has more than one column named {listed(twice)}: give every column its own name"
    )


def as_columns(
    frame: Any, columns: Sequence[str], width: int | None
) -> tuple[Floats, tuple[str, ...]]:
    """The values and names of the columns to take."""
    names = matched(tuple(frame.columns), tuple(columns), width)
    text = [c for c in names if not _is_numeric(frame[c])]
    if text:
        raise WrongColumns(_not_numbers(frame[text[0]], text))
    if not names:
        raise WrongColumns("the table has no column left to use as input")
    return np.ascontiguousarray(np.stack([_column(frame[c]) for c in names], 1)), names


def _column(column: Any) -> Floats:
    import narwhals.stable.v2 as nw

    if column.null_count() == len(column):
        return np.full(len(column), np.nan)
    return np.asarray(column.cast(nw.Float64).to_numpy(), np.float64)


def _is_numeric(column: Any) -> bool:
    """Numbers or booleans; a column of nothing but missing values is caught later, by its rows."""
    kind = str(column.dtype)
    return column.dtype.is_numeric() or kind == "Boolean" or column.null_count() == len(column)


def _not_numbers(column: Any, text: Sequence[str]) -> str:
    """Which column is not numbers, and the first cell that shows it."""
    also = f" (nor {'does' if len(text) == 2 else 'do'} {listed(text[1:])})" if text[1:] else ""
    kind = str(column.dtype)
    kind = str(column.to_native().dtype) if kind == "Unknown" else kind
    said = f"column '{column.name}' holds {kind}, not numbers{also}"
    if kind not in ("String", "Object", "Categorical", "Enum", "Binary"):
        return f"{said}: convert it to numbers, or leave it out"
    cells = enumerate(column.to_list())
    row, found = next(((i, c) for i, c in cells if not is_number(c)), (-1, None))
    if row < 0:
        return f"{said}: its cells are numbers kept as {kind}; convert it, astype(float) in pandas"
    return (
        f"{said}: row {row} (counted from 0) is {cell(found)}. Repair such cells or encode the "
        "text first, or read a whole scikit-learn Pipeline, which does it"
    )


def matched(
    got: tuple[str, ...], wanted: tuple[str, ...], width: int | None, what: str = "the table"
) -> tuple[str, ...]:
    """The columns to take, in the network's order."""
    if not wanted:
        if width is not None and len(got) != width:
            raise WrongColumns(
                f"the network takes {counted(width, 'input')}, "
                f"{what} has {counted(len(got), 'column')}: "
                f"{listed(got)}. Is one of them the target? Name it as target"
            )
        return got
    missing = [c for c in wanted if c not in got]
    extra = [c for c in got if c not in wanted]
    if missing or extra:
        said = f"missing: {listed(missing)}" if missing else ""
        also = f"not known to the network: {listed(extra)}" if extra else ""
        raise WrongColumns(
            f"{what}'s columns are not the network's ({'; '.join(filter(None, (said, also)))}): "
            "they are matched by name, in any order"
        )
    return wanted
