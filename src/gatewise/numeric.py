"""Rounding: bounds that hold for every order of summation, and decisions that respect them.

Notation as in Higham, "Accuracy and Stability of Numerical Algorithms", chapter 3:
u is the unit roundoff and gamma(n) = n u / (1 - n u), so that a computed inner product of n
terms differs from the exact one by at most gamma(n) * sum |a_i b_i|, in any order, fused or not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError, missing

Compiled = Callable[..., Any]  # its types are Numba's affair
FLOATS = {torch.float32, torch.float64}


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = eps / 2: the largest relative error of one correctly rounded operation."""
    return float(torch.finfo(dtype).eps) / 2


def gamma(n: float, dtype: torch.dtype) -> float:
    """gamma(n) = n u / (1 - n u); infinite once n u >= 1, where the theory says nothing."""
    nu = n * unit_roundoff(dtype)
    return nu / (1 - nu) if nu < 1 else float("inf")


def underflow(n: float, dtype: torch.dtype) -> float:
    """What n operations can lose to underflow, even where subnormals are flushed to zero."""
    return (n + 1) * float(torch.finfo(dtype).tiny)


class Verdict(IntEnum):
    """The answer to `value > 0?` when value is known to within a bound."""

    NO = -1
    UNDECIDED = 0
    YES = 1


def decide(value: Tensor, bound: Tensor | float) -> Tensor:
    """Verdicts of `value > 0` (int8): YES where value > bound, NO where value < -bound."""
    return (value > bound).to(torch.int8) - (value < -bound).to(torch.int8)


def as_tensor(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers in any container (lists, arrays, tables, tensors) as a tensor."""
    held = values if isinstance(values, Tensor) else np.asarray(values)
    if isinstance(held, np.ndarray):
        backwards = min(held.strides, default=0) < 0  # which torch cannot walk
        held = held.copy() if backwards or not held.flags.writeable else held
    return torch.as_tensor(held, dtype=dtype, device=device)


def device_of(*values: Any) -> torch.device:
    """Where the first tensor among them is; the CPU where there is none."""
    held = (v.device for v in values if isinstance(v, Tensor))
    return next(held, torch.device("cpu"))


def as_float_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """float32 or float64 (the default), from a torch dtype or its name."""
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype or torch.float64
    if chosen not in FLOATS:
        raise DataError(f"dtype must be float32 or float64, got {dtype!r}")
    return chosen


def as_device(device: torch.device | str) -> torch.device:
    """A device torch has here and that computes in float64, in which gates are decided."""
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise DataError(f"device must be one of torch's ('cpu', 'cuda'), got {device!r}") from None
    if chosen.type == "mps":
        raise DataError(
            "device 'mps' has no float64, in which gates are decided: use 'cpu', or a 'cuda' device"
        )
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DataError(f"torch sees no GPU here, so there is no device '{chosen}': use 'cpu'")
    here = chosen.type == "cpu" or chosen.index is not None
    return chosen if here else torch.empty(0, device=chosen).device  # 'cuda' is 'cuda:0', say


def multiplies_float32() -> bool:
    """Is torch set to multiply float32 matrices in float32: not in TF32, not in bfloat16?"""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set for one library: `torch.backends...fp32_precision`
        return False


def require_float32(device: torch.device, convolves: bool) -> None:
    """Refuse float32 where a device may not round each product and sum to float32.

    The bounds here are of inner products in float32: not of TF32, which keeps 10 bits of a factor,
    nor of Winograd's formula for convolutions, which cuDNN may choose.
    """
    if device.type != "cuda":
        return
    if convolves:
        raise DataError(
            f"float32 convolutions on '{device}' are computed in ways that no rounding bound here "
            "covers (TF32, Winograd): use dtype='float64'"
        )
    if not multiplies_float32():
        raise DataError(
            f"torch is set to multiply float32 in fewer digits on '{device}': call "
            "torch.set_float32_matmul_precision('highest'), or use dtype='float64'"
        )


def first_least(rows: Tensor) -> Tensor:
    """(n,) where each of the rows (n, m) has its smallest; NumPy is quicker at it on a CPU."""
    if rows.device.type == "cpu":
        return torch.from_numpy(rows.numpy().argmin(1))
    return rows.argmin(1)


def places_of(there: Tensor) -> Tensor:
    """Places of what is true, rows end to end; NumPy is quicker at it on a CPU."""
    if there.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(there.numpy()))
    return there.flatten().nonzero().flatten()


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """A setting that counts something; True is no number here, nor is one written out."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool | np.bool_):
        raise DataError(f"{name} must be a whole number, at least {least}, got {value!r}")
    return number


def compiled(function: Compiled) -> Compiled:
    """The function compiled by Numba, without the interpreter's lock; kept on disk between runs.

    Modules that use it are imported when their work is asked for, never by `import gatewise`.
    """
    return _njit(function, cache=True)


def kernel(function: Compiled) -> Compiled:
    """A compiled function that makes no arrays of its own and counts no references to those it is
    given: the counting is atomic, and can cost more than a small step of an inner loop."""
    return _njit(function, cache=True, _nrt=False)


def inner(function: Compiled) -> Compiled:
    """A part of a kernel, copied into it: a call hands over every field of every array."""
    return _njit(function, inline="always", _nrt=False)


def _njit(function: Compiled, **options: Any) -> Compiled:
    try:
        from numba import njit
    except ImportError:
        raise missing("numba", "lp", "exact geometry") from None
    try:
        done: Compiled = njit(nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no folder to keep it in: installed by root, run by one without a home
        done = njit(nogil=True, error_model="numpy", **options | {"cache": False})(function)
    return done
