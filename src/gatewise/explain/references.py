"""What contributions are measured from: a named row, one of the data's, or the caller's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.compute import Floats, mean
from gatewise.tables import Matrix, as_row, counted

MEAN = "the mean of the data"


def reference_row(
    matrix: Matrix, names: Sequence[str], given: Any, ignored: str = ""
) -> tuple[Floats, str]:
    """A row (features,) and what to call it.

    given: None or "mean", "median", "zero", "row 17" (a position among these rows); a mask of
    rows (a cohort: truth values in an array, a Series or a list, one for each row here or for each
    row of the table as it came, bad rows included), whose mean is taken; else a row
    of numbers, in order or by name (a dict, a Series, a table of one row). ignored: a name that
    may be among them and is left out.
    """
    values = matrix.values
    if given is None or (isinstance(given, str) and given == "mean"):
        return mean(values), MEAN
    if isinstance(given, str):
        return _named(values, given)
    mask = mask_of(given, names)
    if mask is not None:
        return _cohort(matrix, mask)
    return as_row(given, names, "reference", ignored), "the given reference"


def mask_of(given: Any, names: Sequence[str] = ()) -> NDArray[np.bool_] | None:
    """Truth values as a mask of rows; None where they are something else.

    A Series labelled by the features is a row by name, whatever it holds.
    """
    if isinstance(given, list | tuple):
        held = len(given) > 0 and all(isinstance(v, bool | np.bool_) for v in given)
        return np.array(given, bool) if held else None
    kind = str(getattr(given, "dtype", "")).removeprefix("torch.").lower()
    if kind not in ("bool", "boolean"):
        return None
    if names and _labels(given) == set(names):
        return None
    values = given.to_list() if hasattr(given, "to_list") else given.tolist()
    mask = np.array(values, object)
    if mask.ndim == 1 and not all(v is True or v is False for v in mask):
        raise DataError(
            "the mask of reference rows holds missing values: fill them, with False say"
        )
    return mask.astype(bool)


def _labels(given: Any) -> set[str]:
    """Those of a pandas Series (lists and tensors have a method called index)."""
    return set(map(str, given.index)) if hasattr(given, "iloc") else set()


def _named(values: Floats, given: str) -> tuple[Floats, str]:
    if given == "median":
        return np.asarray(np.median(values, 0)), "the median of the data"
    if given == "zero":
        return np.zeros(values.shape[1]), "zero"
    asked = re.fullmatch(r"row (-?[0-9]{1,12})", given)
    if asked:
        return _row(values, int(asked[1]))
    raise DataError(
        f"reference is {given!r}: name 'mean', 'median', 'zero' or 'row 17' (say), or give a mask "
        "of rows, or a row of numbers"
    )


def _row(values: Floats, place: int) -> tuple[Floats, str]:
    if not -len(values) <= place < len(values):
        raise DataError(
            f"reference row {place} is not among the {counted(len(values), 'row')}, counted from 0"
        )
    return values[place].copy(), f"row {place % len(values)}"


def _cohort(matrix: Matrix, mask: NDArray[np.bool_]) -> tuple[Floats, str]:
    left, rows = len(matrix.skipped), len(matrix.values)
    if left and mask.shape == (rows + left,):
        mask = mask[matrix.index]
    if mask.shape != (rows,):
        whole = f", or of the {rows + left} before {left} were left out" if left else ""
        raise DataError(
            f"the mask of reference rows has shape {mask.shape}: give one truth value for each of "
            f"the {counted(rows, 'row')}{whole}"
        )
    if not mask.any():
        raise DataError("the mask of reference rows picks no row: pick at least one")
    return mean(matrix.values[mask]), f"the mean of {counted(int(mask.sum()), 'row')}"
