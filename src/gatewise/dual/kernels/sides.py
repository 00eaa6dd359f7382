"""One side of a kernel: rows, their gates, and the factors that every scale is a choice of.

    k_0 = <x, x'> ;  k_l = (k_{l-1} + b_l(x) b_l(x')) o_l(x, x') c_l(x) c_l(x')

k_0 is left as it is, so that what is exactly 0 stays 0. From k_1 on |k_l| <= 1 in the cosine's
factors, up to rounding, so that no depth overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.kernels.packed import Gates, on_counts
from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_tensor, device_of

Scale = Literal["raw", "normalised", "cosine", "log"]


@dataclass(frozen=True, eq=False)
class Side:
    """Rows of one side: x (N, d) or None; logs (L + 2, N): log K_l(x, x), the last after the last
    bias; factors (2, L + 1, N): b and c of each step."""

    rows: int
    gates: Gates
    x: Tensor | None
    logs: NDArray[np.float64]
    factors: NDArray[np.float64]

    @property
    def log(self) -> NDArray[np.float64]:
        """log sqrt K(x, x)."""
        return np.asarray(self.logs[-1] / 2)


def side(
    gates: Gates, inputs: Any, biases: Sequence[bool], scale: Scale, work: torch.dtype, first: bool
) -> Side:
    """Rows with their factors; the constants of "normalised" all stand on the first side."""
    x = None if inputs is None else as_tensor(inputs, work, device_of(inputs))
    if x is not None and (x.ndim != 2 or (gates.layers and len(x) != len(gates))):
        raise WrongShape(f"inputs must be ({len(gates)}, d) as the gates, got {tuple(x.shape)}")
    rows = len(gates) if x is None else len(x)
    logs = _logs(gates, x, biases, rows)
    factors = _factors(logs, biases, scale)
    if scale == "normalised" and first:
        columns = 1 if x is None else max(1, x.shape[1])
        factors[1, :-1] /= np.maximum(gates.units, 1)[:, None]
        factors[:, 0] *= np.array([[columns], [1 / columns]])  # (k_0 / d + b) = (k_0 + b d) / d
    return Side(rows, gates, x, logs, factors)


def _logs(gates: Gates, x: Tensor | None, biases: Sequence[bool], rows: int) -> NDArray[np.float64]:
    """log K_l(x, x) for l = 0 .. L, and with the last bias."""
    norms = np.ones(rows)
    if x is not None:
        norms = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64).square().cpu().numpy()
    with np.errstate(divide="ignore"):
        logs = [np.log(norms)]
        for layer, bias in zip((*gates.layers, None), biases, strict=True):
            more = np.logaddexp(logs[-1], 0) if bias else logs[-1]
            logs.append(more if layer is None else more + np.log(on_counts(layer)))
    return np.stack(logs)


def _factors(
    logs: NDArray[np.float64], biases: Sequence[bool], scale: Scale
) -> NDArray[np.float64]:
    """b and c of each step.

    Cosine and log carry K_l r(x) r(x') with r = min(1, 1 / sqrt K_l(x, x)), at most 1; their last
    c takes what is left to 1 / sqrt K(x, x), or 0 where K(x, x) is 0.
    """
    b = np.array(biases, float)[:, None]
    if scale in ("raw", "normalised"):
        return np.stack(np.broadcast_arrays(b, np.ones_like(logs[1:])))
    held = -np.maximum(logs, 0) / 2
    held[0] = 0
    held[-1] = np.where(np.isneginf(logs[-1]), -np.inf, -logs[-1] / 2)
    return np.stack([b * np.exp(held[:-1]), np.exp(held[1:] - held[:-1])])


def starts_of(gates: Gates, biases: Sequence[bool] | None) -> tuple[bool, ...]:
    """Which weight layers have paths that start at their biases: one more than gate layers."""
    given = (False,) * (len(gates.units) + 1) if biases is None else tuple(map(bool, biases))
    if len(given) != len(gates.units) + 1:
        raise WrongShape(
            f"{len(gates.units)} gate layers lie between {len(gates.units) + 1} weight layers, got "
            f"{len(given)} biases: give one True or False for each weight layer"
        )
    return given


def require_units(gates: Gates, gates2: Gates) -> None:
    """The same gate layers on both sides."""
    if gates.units != gates2.units:
        raise WrongShape(
            f"the two sides have gate layers of {gates.units} and {gates2.units} units: "
            "give gates of one network"
        )


def require_inputs(left: Side, right: Side) -> None:
    """The same inputs on both sides, or none."""
    one, two = (None if s.x is None else s.x.shape[1] for s in (left, right))
    if one != two:
        raise WrongShape(
            f"the two sides have inputs of {one or 'no'} and {two or 'no'} columns: give both "
            "sides the same, or neither"
        )


def require_range(left: Side, right: Side, work: torch.dtype) -> None:
    """|K_l(x, x')| <= sqrt(K_l(x, x) K_l(x', x')): can any of them overflow?"""
    if not left.rows or not right.rows:
        return
    largest = float((left.logs.max(1) + right.logs.max(1)).max() / 2)
    if largest > np.log(torch.finfo(work).max):
        raise DataError(
            f"the raw kernel reaches 10^{largest / np.log(10):.0f}, more than {str(work)[6:]} "
            f"holds: use scale 'normalised', 'cosine' or 'log'"
        )
