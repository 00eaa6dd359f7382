"""Arrays, tensors and nested lists as float64, or a plain refusal: nothing is guessed."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import WrongShape
from gatewise.tables.words import cell, one_line

Floats = NDArray[np.float64]
_KINDS = {"c": "complex numbers", "m": "time spans", "M": "dates", "U": "text", "S": "bytes"}


def as_floats(X: Any) -> Floats:
    """(rows, features), the axes after the first one flattened."""
    array = _floats(_plain(X))
    if array.ndim < 2:
        raise WrongShape(
            f"the data must have a row axis, got shape {array.shape}; for one row use X[None]"
        )
    return np.ascontiguousarray(array.reshape(len(array), -1 if array.size else array.shape[1]))


def _plain(X: Any) -> Any:
    """A numpy array of whatever kind, from an array, a tensor or nested lists."""
    if isinstance(X, torch.Tensor):
        return _from_tensor(X)
    if hasattr(X, "toarray"):
        raise WrongShape(f"the data are sparse ({type(X).__name__}): give them as X.toarray()")
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongShape(
            f"the data are not a rectangular array of numbers: {one_line(error)}"
        ) from None
    if array.ndim == 0 and array.dtype == object:
        raise WrongShape(
            f"the data are a {type(X).__name__}, neither a table nor an array: give a data frame, "
            "or rows of numbers"
        )
    return array


def _from_tensor(X: torch.Tensor) -> NDArray[Any]:
    if X.layout != torch.strided:
        raise WrongShape("the data are a sparse tensor: give them as X.to_dense()")
    if X.is_complex():
        raise WrongShape(f"the data are complex ({X.dtype}), and a network takes real numbers")
    try:
        return X.detach().cpu().double().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise WrongShape(
            f"the tensor of {X.dtype} on '{X.device}' cannot be read: {one_line(error)}"
        ) from None


def _floats(array: NDArray[Any]) -> Floats:
    """float64; masked and absent entries are NaN; text, dates and complex numbers are refused."""
    if array.dtype == object:
        _require_numbers(array)
    elif array.dtype.kind not in "biuf":
        raise WrongShape(
            f"the data hold {_KINDS.get(array.dtype.kind, 'records')} ({array.dtype}), not real "
            "numbers: convert them first, X.astype(float) if that is what is meant"
        )
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongShape(f"the data are not real numbers: {one_line(error)}") from None
    return np.ma.filled(values, np.nan) if np.ma.isMaskedArray(values) else values


def _require_numbers(array: NDArray[Any]) -> None:
    """Every object is a real number or None; a list or text among them is named."""
    for place, value in np.ndenumerate(np.ma.getdata(array)):
        if not (value is None or isinstance(value, Real | Decimal | np.bool_)):
            where = f"row {place[0]}" if array.ndim == 1 else f"row {place[0]}, column {place[1]}"
            raise WrongShape(
                f"the data are not a rectangular array of numbers: {where} (counted from 0) is "
                f"{cell(value)}, a {type(value).__name__}"
            )
