"""Prepare: from a raw table to a network's input, by a model's own fitted steps where they curve.

A Network's input column is one of three: a raw column, one with its absent values filled in, or
an entry of what fitted scikit-learn steps give (`Cell`): those run here as they run in the model,
on the same numbers, so a value at the very edge of a bin falls on the model's side of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, WrongColumns
from gatewise.read.sklearn.raw_table import Table, frame_of, matrix_of, open_table

NEWLINE = "\n"
Matrix = Any  # 2-d (1-d where a step asked for one column): float64, objects or scipy sparse


@dataclass(frozen=True, eq=False)
class Raw:
    """Columns of the raw table; flat: one of them, as a 1-d array."""

    columns: tuple[int, ...]
    flat: bool = False
    missing: Any = np.nan

    def compute(self, run: Run) -> Matrix:
        matrix = matrix_of([run.table.column(j, self.missing) for j in self.columns])
        return matrix[:, 0] if self.flat else matrix.reshape(len(run.table), -1)


@dataclass(frozen=True, eq=False)
class Pick:
    """Some columns of a computed matrix."""

    of: Value
    columns: tuple[int, ...]
    flat: bool = False

    def compute(self, run: Run) -> Matrix:
        found = run(self.of)
        if self.flat:
            return dense(found[:, [self.columns[0]]])[:, 0]
        return found[:, list(self.columns)]


@dataclass(frozen=True, eq=False)
class Join:
    """Matrices side by side, each times its weight."""

    parts: tuple[Value, ...]
    weights: tuple[float, ...] = ()

    def compute(self, run: Run) -> Matrix:
        found = [dense(run(part)) for part in self.parts]
        if self.weights:
            found = [w * m for w, m in zip(self.weights, found, strict=True)]
        return np.hstack([np.empty((len(run.table), 0)), *found])


@dataclass(frozen=True, eq=False)
class Apply:
    """What a fitted step makes of a matrix. `framed`: it was fitted on, and wants, a data frame."""

    step: Any
    of: Value
    path: str
    framed: bool = False

    def compute(self, run: Run) -> Matrix:
        x = self._frame(run) if self.framed else run(self.of)
        try:
            return as_matrix(self.step.transform(x))
        except Exception as error:  # a user's own function may raise anything
            raise DataError(
                f"the model's own step '{self.path}' ({type(self.step).__name__}) cannot take this "
                f"table: {str(error).partition(NEWLINE)[0]}"
            ) from error

    def _frame(self, run: Run) -> Any:
        if isinstance(self.of, Raw):
            return run.table.frame(self.of.columns)
        matrix = dense(run(self.of))
        return frame_of(list(matrix.T), list(self.step.feature_names_in_))


Value = Raw | Pick | Join | Apply


class Run:
    """One evaluation over one table: every Value is computed once."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._done: dict[int, Matrix] = {}

    def __call__(self, value: Value) -> Matrix:
        if id(value) not in self._done:
            self._done[id(value)] = value.compute(self)
        return self._done[id(value)]

    def column(self, value: Value, j: int) -> NDArray[Any]:
        """One column, dense; a sparse matrix is turned once so that columns are cheap."""
        found = self(value)
        if hasattr(found, "tocsc"):
            found = self._done.setdefault(-id(value), found.tocsc())
        return dense(found[:, [j]])[:, 0]


def pick(value: Value, columns: Sequence[int], flat: bool = False) -> Value:
    """Columns of a value; of the raw table, they are raw columns again."""
    if isinstance(value, Raw):
        return Raw(tuple(value.columns[j] for j in columns), flat, value.missing)
    return Pick(value, tuple(columns), flat)


def dense(matrix: Matrix) -> NDArray[Any]:
    """A 2-d numpy array, whatever it was."""
    found = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    return found.reshape(-1, 1) if found.ndim == 1 else found


def as_matrix(found: Any) -> Matrix:
    """A step's answer (array, sparse matrix, data frame) as a matrix."""
    frame = nw.from_native(found, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        table = Table(frame, tuple(map(str, frame.columns)), tuple(range(len(frame.columns))))
        return matrix_of([table.column(j) for j in range(len(table.names))])
    return found if hasattr(found, "toarray") else dense(found)


# -- the input columns of a Network --


@dataclass(frozen=True)
class Original:
    """The raw column itself, as numbers."""

    column: int

    def compute(self, run: Run) -> NDArray[np.float64]:
        return run.table.numbers(self.column)


@dataclass(frozen=True, eq=False)
class Filled:
    """Another source with `missing` (NaN, or a number that stands for it) replaced."""

    of: Source
    missing: float
    fill: float

    def compute(self, run: Run) -> NDArray[np.float64]:
        x = self.of.compute(run)
        absent = np.isnan(x) if np.isnan(self.missing) else x == self.missing
        return np.where(absent, self.fill, x)


@dataclass(frozen=True, eq=False)
class Cell:
    """One column of a Value."""

    value: Value
    column: int
    name: str = ""

    def compute(self, run: Run) -> NDArray[np.float64]:
        found = run.column(self.value, self.column)
        try:
            return found.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise WrongColumns(
                f"column '{self.name}' must hold numbers, as it did in training: {error}. "
                f"Convert it to numbers first."
            ) from error


Source = Original | Filled | Cell


@dataclass(frozen=True)
class Group:
    """Columns made from one categorical column: one is 1 for each row, or none of them.

    dropped: the level that has no column of its own (all are 0), or None.
    """

    names: tuple[str, ...]
    levels: tuple[str, ...]
    dropped: str | None = None


@dataclass(frozen=True, eq=False)
class Prepare:
    """raw table -> float64 (rows, inputs). Columns are found by name if the model was so trained.

    columns: the raw names expected; needs: positions of those it reads; names, units: of every
    input ("original", or "transformed by" a step); groups: raw column -> its 0/1 inputs;
    levels: input -> the categories that its values 0, 1, 2, ... stand for, where it has no others.
    """

    columns: tuple[str, ...]
    named: bool
    needs: tuple[int, ...]
    sources: tuple[Source, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    groups: Mapping[str, Group] = field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, raw: Any) -> NDArray[np.float64]:
        table = open_table(raw, self.columns, self.named)
        table.require(self.needs)
        run = Run(table)
        out = np.empty((len(table), len(self.sources)))
        for i, source in enumerate(self.sources):
            out[:, i] = source.compute(run)
        return out


def needed_columns(sources: Sequence[Source]) -> tuple[int, ...]:
    """Positions of the raw columns that the sources read, in order."""
    found: set[int] = set()
    for source in sources:
        found |= _columns_of(source)
    return tuple(sorted(found))


def _columns_of(source: Source | Value) -> set[int]:
    if isinstance(source, Original):
        return {source.column}
    if isinstance(source, Raw):
        return set(source.columns)
    if isinstance(source, Join):
        return set().union(*(_columns_of(p) for p in source.parts))
    if isinstance(source, Cell):
        return _columns_of(source.value)
    return _columns_of(source.of)


# -- own copies of the fitted steps --


def own(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The sources over deep copies of the fitted steps: what the user refits changes nothing."""
    copies: dict[int, Value] = {}
    return tuple(_own_source(s, copies) for s in sources)


def _own_source(source: Source, copies: dict[int, Value]) -> Source:
    if isinstance(source, Filled):
        return replace(source, of=_own_source(source.of, copies))
    if isinstance(source, Cell):
        return replace(source, value=_own_value(source.value, copies))
    return source


def _own_value(value: Value, copies: dict[int, Value]) -> Value:
    if id(value) not in copies:
        copies[id(value)] = _copy(value, copies)
    return copies[id(value)]


def _copy(value: Value, copies: dict[int, Value]) -> Value:
    if isinstance(value, Join):
        return replace(value, parts=tuple(_own_value(p, copies) for p in value.parts))
    if isinstance(value, Pick):
        return replace(value, of=_own_value(value.of, copies))
    if isinstance(value, Apply):
        return replace(value, step=own_step(value.step), of=_own_value(value.of, copies))
    return value


def own_step(step: Any) -> Any:
    """A deep copy; scikit-learn's own transformers forget names, since they are given arrays."""
    mine = copy.deepcopy(step)
    if not wants_frame(step):
        for name in ("feature_names_in_", "_sklearn_output_config"):
            vars(mine).pop(name, None)
    return mine


def wants_frame(step: Any) -> bool:
    """Was it fitted on a data frame, and may its (user's) code ask for one again?"""
    users = not is_own(step) or type(step).__name__ == "FunctionTransformer"
    return users and hasattr(step, "feature_names_in_")


def is_own(step: Any) -> bool:
    """Is its class scikit-learn's own (not a subclass somebody wrote)?"""
    return type(step).__module__.startswith("sklearn.")
