"""Whole numbers, labels and columns that cannot be used are found here, before anything is made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, WrongShape

ROUNDING = 1e-12  # of the largest number: a column that spreads less is one number, rounded


def whole(value: Any, least: int) -> bool:
    """Is it a whole number (1.0 is none, and True is none) from `least` on?"""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def all_whole(values: Any, least: int) -> bool:
    """Is it a sequence of whole numbers from `least` on?"""
    return isinstance(values, Iterable) and all(whole(v, least) for v in values)


def is_flag(value: Any) -> bool:
    """Is it True or False ("no" is neither)?"""
    return isinstance(value, bool | np.bool_)


def is_number(value: Any, least: float = 0.0) -> bool:
    """Is it a finite number from `least` on?"""
    real = not isinstance(value, bool) and isinstance(value, Real)
    return real and math.isfinite(value) and float(value) >= least


def spreads(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each column (rows, columns); 1 where it is constant.

    The deviation of a constant such as 0.1 is a rounding error, and to divide by it would make
    noise of it: constant is a deviation of at most 1e-12 max|x|.
    """
    size, power = np.frexp(np.abs(columns).max(0, initial=0.0))
    spread = np.ldexp(columns, -power).std(0)  # squares of 1e200 and 1e-200 have no float
    return np.asarray(np.where(spread > ROUNDING * size, np.ldexp(spread, power), 1.0))


def coded(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(classes in order, the number of each row's class) of labels (rows,).

    Raises WrongShape for y that is no list, BadRows for missing labels, DataError for strings
    among numbers.
    """
    labels = given(y)
    if labels.ndim != 1:
        raise WrongShape(f"labels are one a row, (rows,), and y's shape is {labels.shape}")
    require_labels(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, codes.astype(np.int64)


def require_labels(labels: NDArray[Any]) -> None:
    """Every row has a label (rows,), and all are strings or none is."""
    gone = tuple(i for i, label in enumerate(labels.tolist()) if absent(label))
    if gone:
        shown = ", ".join(map(str, gone[:10])) + (f" and {len(gone) - 10} more" * (len(gone) > 10))
        raise BadRows(f"y has no label in rows {shown}: leave out these rows", gone)
    strings = sum(isinstance(label, str) for label in labels.tolist())
    if 0 < strings < labels.size:
        raise DataError(
            f"{strings} of {labels.size} labels are strings and the others are not: make all of "
            f"them strings, or all numbers"
        )


def given(y: Any) -> NDArray[Any]:
    """y as an array; a list keeps what it holds, where numpy would make strings of its numbers."""
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise WrongShape("labels are one a row, (rows,), and y's rows are unequal lists") from error
    if isinstance(y, list | tuple) and array.dtype.kind in "US":
        require_labels(np.asarray(y, object).reshape(-1))
    return array


def absent(label: Any) -> bool:
    """None, NaN, or what a table has in place of a missing label."""
    if label is None:
        return True
    try:
        return bool(label != label)
    except TypeError:  # pandas.NA
        return True
