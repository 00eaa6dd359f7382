"""What the fits take: a table or array with a target, or batches of them, as numbers or labels.

Batches are pairs (X, y): a list of them, or anything that gives them anew each time it is gone
through. A table counts as batches too: some thousands of its rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, EmptyData, WrongShape
from gatewise.given.labels import column_of
from gatewise.tables import Matrix, as_matrix, counted, listed
from gatewise.tables.words import cell

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Batch = tuple[Floats, NDArray[Any], tuple[str, ...]]
BATCH_NUMBERS = 1 << 21  # of a table, at once: what is added to a batch stays in the caches
LEAST_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Batches:
    """x (rows, features) finite, y (rows, ...) as it came, names of the columns; batch by batch.

    again: may they be gone through twice?
    """

    read: Callable[[], Iterator[Batch]]
    again: bool

    def __iter__(self) -> Iterator[Batch]:
        return self.read()


def batches_of(X: Any, y: Any = None, names: Sequence[str] = ()) -> Batches:
    """X with its target y, or batches where y is None; names: of the columns of an array."""
    if y is not None:
        return _of_table(_named(as_matrix(X, names), names), y)
    if not isinstance(X, Iterable) or hasattr(X, "shape") or hasattr(X, "columns"):
        raise DataError(
            f"there is no target: give y= beside the data ({type(X).__name__}), or batches, each a "
            "pair (X, y)"
        )
    whole: Iterable[Any] = X
    return Batches(lambda: _of_pairs(whole), not isinstance(X, Iterator))


def _named(matrix: Matrix, names: Sequence[str]) -> Matrix:
    """A matrix that has columns, and a name for each where there are names."""
    wide = matrix.values.shape[1]
    if not wide:
        raise WrongShape("the data have no column: give at least one input")
    if names and len(names) != wide:
        raise WrongShape(
            f"feature_names holds {counted(len(names), 'name')} for {counted(wide, 'column')}: "
            "give one a column"
        )
    return matrix


def require_again(batches: Batches, what: str) -> None:
    """For fits that go through the rows more than once."""
    if not batches.again:
        raise DataError(
            f"{what} goes through the rows several times, and an iterator gives them once: give a "
            "list of batches, or an object whose __iter__ starts anew"
        )


def _of_table(matrix: Matrix, y: Any) -> Batches:
    target = _target(y, len(matrix.values))
    names = _names(matrix)
    step = max(LEAST_ROWS, 8 * len(names), BATCH_NUMBERS // len(names))

    def read() -> Iterator[Batch]:
        for start in range(0, len(target), step):
            part = slice(start, start + step)
            yield matrix.values[part], target[part], names

    return Batches(read, True)


def _of_pairs(pairs: Iterable[Any]) -> Iterator[Batch]:
    """Every batch has the columns of the first one."""
    columns: tuple[str, ...] = ()
    width: int | None = None
    place = -1
    for place, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(
                f"batch {place} is a {type(pair).__name__}, not a pair (X, y): give the target "
                "with each batch, or y= beside a whole table"
            )
        matrix = _read(pair[0], columns, width, place)
        columns, width = matrix.columns, matrix.values.shape[1]
        yield matrix.values, _target(pair[1], len(matrix.values)), _names(matrix)
    if place < 0:
        raise EmptyData("there are no batches: give at least one pair (X, y)")


def _read(x: Any, columns: tuple[str, ...], width: int | None, place: int) -> Matrix:
    try:
        return as_matrix(x, columns, width)
    except BadRows as error:
        raise BadRows(f"batch {place}: {error}", error.rows) from None
    except DataError as error:
        raise type(error)(f"batch {place}: {error}") from None


def _names(matrix: Matrix) -> tuple[str, ...]:
    return matrix.columns or tuple(f"x{j}" for j in range(matrix.values.shape[1]))


def _target(y: Any, rows: int) -> NDArray[Any]:
    """One entry a row; text beside numbers stays what it is."""
    if isinstance(y, list | tuple) and any(isinstance(v, str) for v in y):
        held: NDArray[Any] = np.empty(len(y), object)
        held[:] = y
    else:
        held = np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)
    if held.ndim == 0 or len(held) != rows:
        got = "one value" if held.ndim == 0 else counted(len(held), "value")
        raise WrongShape(f"y has {got} for {counted(rows, 'row')}: give one value a row")
    return held


# -- a target as numbers, or as labels --


def numbers(y: NDArray[Any]) -> Floats:
    """(rows, targets) finite numbers of a regression."""
    if y.ndim > 2:
        raise WrongShape(f"y has shape {y.shape}: give (rows,), or (rows, targets)")
    try:
        found = y.astype(np.float64).reshape(len(y), -1)
    except (TypeError, ValueError):
        raise DataError(
            f"least squares needs numbers, and y holds {cell(y.ravel().tolist()[0])}: for classes "
            "use logistic or multinomial"
        ) from None
    bad = np.flatnonzero(~np.isfinite(found).all(1)).tolist()
    if bad:
        raise BadRows(
            f"y holds NaN or infinity in rows {listed(bad)}: fill them in or leave them out",
            tuple(bad),
        )
    return found


def codes(y: NDArray[Any], classes: NDArray[Any]) -> Ids:
    """The place of each label among the classes, which are in order."""
    found = column_of(y, len(y))
    if (found.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise DataError(
            f"y holds {cell(found.tolist()[0])}, and the classes are such as "
            f"{cell(classes.tolist()[0])}: give labels of one kind"
        )
    place = np.searchsorted(classes, found).clip(0, len(classes) - 1)
    odd = found[classes[place] != found]
    if len(odd):
        raise DataError(f"the label {odd.tolist()[0]!r} is none of {listed(classes.tolist())}")
    return place
