"""Neural path kernels of fully connected nets from packed gates, tile by tile.

    o_l(x, x') = units of gate layer l that are on at x and at x'
    K_0 = <x, x'> (1 without inputs);  K_l = (K_{l-1} + b_l) o_l;  kernel = K_L + b_{L+1}

with b_l = 1 where weight layer l has a bias (its paths start there), else 0. The inputs' product is
a matrix product into the answer itself, the counts are multiplied in while the tile is in the
cache; a symmetric kernel is computed in its lower triangle and mirrored. So no other array of
N x N' numbers is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gatewise.dual.kernels.packed import Gates, from_pattern, pack
from gatewise.dual.kernels.panels import Both, Floats, Method, Plan, best_method, both, prepare
from gatewise.dual.kernels.sides import Scale
from gatewise.errors import WrongShape
from gatewise.numeric import as_float_dtype, device_of, gamma

__all__ = ["Gates", "Scale", "from_pattern", "gram", "overlaps", "pack", "relative_error"]

PANEL = 1024  # rows of a matrix product: of fewer it is slower
FINE = 256  # rows of the same on the diagonal, where half of it is not needed


def gram(
    gates: Gates,
    gates2: Gates | None = None,
    inputs: Any = None,
    inputs2: Any = None,
    *,
    biases: Sequence[bool] | None = None,
    scale: Scale = "raw",
    dtype: torch.dtype | str = "float32",
    method: Method | None = None,
    out: Floats | None = None,
    device: torch.device | None = None,
) -> Floats:
    """The kernel of all pairs, (N, N) or (N, N') floating.

    inputs (N, d): the rows themselves; None for a value network that sees no input. biases: of each
    weight layer, one more than gate layers (default: none has one). scale: "raw" counts paths;
    "normalised" divides the inputs' product by d and every o_l by its units; "cosine" is K / sqrt(K
    K'), 0 where a row has no active path; "log" is log |K|, whose sign is the cosine's; it reads
    -inf below a cosine of 1e-300. DataError where "raw" could overflow the type. method: how gates
    are counted on the CPU (default: the fastest). out: C-contiguous, filled and returned.
    device: where it is computed (default: where the inputs are); another than the CPU multiplies
    matrices, and the answer comes back from there.
    """
    options: dict[str, Any] = {"biases": biases, "scale": scale, "dtype": dtype}
    there = device or device_of(inputs, inputs2)
    if there.type != "cpu":
        return _there(both(gates, gates2, inputs, inputs2, **options), out, there)
    plan = prepare(gates, gates2, inputs, inputs2, **options, method=method)
    answer = _room(plan, out)
    for start in range(0, plan.shape[0], PANEL):
        panel = answer[start : start + PANEL]
        left = start if plan.symmetric else plan.shape[1]
        if left:
            plan.fill(panel, (start, 0), 0, left)
        if plan.symmetric:
            _diagonal(plan, panel, start)
            mirror(answer, start, start + len(panel))
    return answer


def _there(sides: Both, out: Floats | None, device: torch.device) -> Floats:
    """The same by `on_device`."""
    from gatewise.dual.kernels.on_device import fill

    answer = _room(sides, out)
    fill(answer, sides, device)
    if sides.symmetric:
        mirror(answer, 0, len(answer))
    return answer


def _diagonal(plan: Plan, panel: Floats, start: int) -> None:
    """The block of a panel on the diagonal, in smaller panels: little above it is computed."""
    for row in range(0, len(panel), FINE):
        part = panel[row : row + FINE]
        plan.fill(part, (start + row, 0), start, start + row + len(part))


def _room(plan: Plan | Both, out: Floats | None) -> Floats:
    if out is None:
        # torch begins arrays on a cache line, NumPy does not: a third of the product's time
        return np.asarray(torch.empty(plan.shape, dtype=plan.dtype).numpy())
    if out.shape != plan.shape or out.dtype != plan.numpy or not out.flags.c_contiguous:
        raise WrongShape(
            f"out must be C-contiguous {plan.numpy} {plan.shape}, got {out.dtype} {out.shape}"
        )
    return out


def mirror(square: Floats, start: int, stop: int) -> None:
    """square[j, i] = square[i, j] for the rows i of start .. stop - 1 and all j < i."""
    if best_method() != "matrix":
        from gatewise.dual.kernels import popcount

        popcount.mirror(square, start, stop)
        return
    square[:start, start:stop] = square[start:stop, :start].T
    block = np.tril(square[start:stop, start:stop], -1)
    upper = np.triu_indices(stop - start, 1)
    square[start:stop, start:stop][upper] = block.T[upper]


def overlaps(
    gates: Gates, layer: int, gates2: Gates | None = None, *, dtype: torch.dtype | str = "float32"
) -> Floats:
    """o_l of all pairs: how many gates of one layer are on at both, exact below 2^24."""
    other = None if gates2 is None else gates2.only(layer)
    return gram(gates.only(layer), other, dtype=dtype)


def relative_error(inputs: int, layers: int, dtype: torch.dtype | str = "float32") -> float:
    """A bound on |computed - exact| / kernel(|x|, |x'|) of a raw or normalised kernel of d inputs.

    Counts are exact. Rounded are x and x', their product of d terms, and in a layer b b', the sum
    with it, c c' (twice where normalised), and two products.
    """
    return gamma(inputs + 2 + 6 * layers + 2, as_float_dtype(dtype))
