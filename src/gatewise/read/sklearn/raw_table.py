"""A raw table (pandas, polars, pyarrow, numpy) seen as the columns a model was trained on."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from gatewise.errors import EmptyData, WrongColumns, WrongShape

Column = NDArray[Any]  # float64 where it holds numbers, else objects


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by their position in training; `names` are the training table's.

    data: a narwhals frame or a 2-d array; places: where each column is in data, None if absent.
    missing: what an absent text becomes where the table itself has only `null`.
    """

    data: Any
    names: tuple[str, ...]
    places: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def framed(self) -> bool:
        return isinstance(self.data, nw.DataFrame)

    def column(self, position: int, missing: Any = np.nan) -> Column:
        """The column: float64 if it holds numbers, else objects as the table gives them."""
        place = self.places[position]
        assert place is not None  # `require` was asked first
        if not self.framed:
            return _array_column(self.data[:, place])
        return _series_column(self.data[:, place], missing)

    def numbers(self, position: int) -> NDArray[np.float64]:
        """The column as float64, absent values as NaN; WrongColumns if it holds anything else."""
        found = self.column(position)
        if found.dtype == object:
            raise WrongColumns(self._not_numbers(position, found))
        return found

    def frame(self, positions: Sequence[int]) -> Any:
        """The columns as a native data frame of the user's own kind (pyarrow: pandas)."""
        if not self.framed:
            matrix = [self.column(p) for p in positions]
            return frame_of(matrix, [self.names[p] for p in positions])
        places = [self.places[p] for p in positions]
        part = self.data[:, places].rename(
            {self.data.columns[q]: self.names[p] for p, q in zip(positions, places, strict=True)}
        )
        return part.to_pandas() if part.implementation.is_pyarrow() else part.to_native()

    def require(self, positions: Sequence[int]) -> None:
        """WrongColumns, naming every column of `positions` that is absent."""
        absent = [self.names[p] for p in positions if self.places[p] is None]
        if absent:
            got = listed(self.data.columns)
            raise WrongColumns(
                f"the table lacks {plural(len(absent), 'column')} the model was trained on: "
                f"{listed(absent)}; it has {got}. Add or rename them: they are found by name, "
                f"in any order."
            )

    def _not_numbers(self, position: int, found: Column) -> str:
        row, value = next((i, v) for i, v in enumerate(found) if not _is_number(v))
        return (
            f"column '{self.names[position]}' must hold numbers, as it did in training, but row "
            f"{row} holds {value!r} ({type(value).__name__}). Convert the column to numbers first."
        )


def open_table(raw: Any, names: tuple[str, ...], named: bool) -> Table:
    """A table or 2-d array as the columns `names`; by name if the model was trained with names."""
    frame = nw.from_native(raw, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return _open_frame(frame, names, named)
    array = np.asarray(raw)
    if array.ndim != 2:
        raise WrongShape(
            f"the model takes a table or an array of shape (rows, {len(names)}); got "
            f"{type(raw).__name__} of shape {array.shape}. Reshape one row to (1, {len(names)})."
        )
    _count(array.shape[1], names)
    _some_rows(len(array))
    return Table(array, names, tuple(range(len(names))))


def _open_frame(frame: Any, names: tuple[str, ...], named: bool) -> Table:
    _some_rows(len(frame))
    if not named:
        _count(len(frame.columns), names)
        return Table(frame, names, tuple(range(len(names))))
    where = {str(name): i for i, name in enumerate(frame.columns)}
    return Table(frame, names, tuple(where.get(name) for name in names))


def _count(got: int, names: tuple[str, ...]) -> None:
    if got != len(names):
        raise WrongColumns(
            f"the model was trained on {plural(len(names), 'column')}, {listed(names)}; got {got}. "
            f"Give exactly these, in this order."
        )


def _some_rows(rows: int) -> None:
    if rows == 0:
        raise EmptyData("the table has columns but no rows; give at least one row.")


def _series_column(series: Any, missing: Any) -> Column:
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return np.array(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    if series.implementation.is_pandas_like():
        values = [missing if _is_na(v) else v for v in series.to_list()]
    else:
        values = [missing if v is None else v for v in series.to_list()]
    text = series.dtype in (nw.String, nw.Categorical, nw.Enum)  # also where all of it is absent
    return _objects(values) if text else _object_column(_objects(values))


def _array_column(values: NDArray[Any]) -> Column:
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    return _object_column(values.astype(object))


def _object_column(values: NDArray[Any]) -> Column:
    """float64 where every entry is a number or absent (and some are numbers)."""
    if all(_is_number(v) for v in values) and any(isinstance(v, numbers.Real) for v in values):
        return np.array([float(v) if isinstance(v, numbers.Real) else np.nan for v in values])
    return values


def _objects(values: list[Any]) -> NDArray[Any]:
    """A 1-d array of objects, whatever the objects are."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, numbers.Real) or _is_na(value)


def _is_na(value: Any) -> bool:
    return type(value).__name__ == "NAType"


def frame_of(columns: Sequence[Any], names: Sequence[str]) -> Any:
    """A native data frame of columns: pandas if it is loaded, else polars, else a matrix."""
    data = dict(zip(names, columns, strict=True))
    for package in ("pandas", "polars"):
        if package in sys.modules:
            return sys.modules[package].DataFrame(data)
    return matrix_of(columns)


def matrix_of(columns: Sequence[Column]) -> NDArray[Any]:
    """Columns side by side: float64 if all are, else objects."""
    if not columns:
        return np.empty((0, 0))
    dtype = object if any(c.dtype == object for c in columns) else np.float64
    out = np.empty((len(columns[0]), len(columns)), dtype=dtype)
    for j, column in enumerate(columns):
        out[:, j] = column
    return out


def plural(count: int, noun: str) -> str:
    """'1 column', '2 columns'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[Any], limit: int = 8) -> str:
    """'a', 'b' and 3 more."""
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def input_matrix(raw: Any, names: tuple[str, ...], named: bool) -> NDArray[np.float64]:
    """The columns `names` of a table, in that order, as float64 (rows, columns)."""
    table = open_table(raw, names, named)
    table.require(range(len(names)))
    return np.column_stack([table.numbers(j) for j in range(len(names))])
