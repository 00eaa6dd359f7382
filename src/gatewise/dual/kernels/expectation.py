"""Expected kernels of a network whose gates are fixed and whose weights are drawn anew.

With the weights of layer l independent of the gates, zero mean and variance s_l^2 (biases s_b^2):

    E[f(x) f(x')] = the path kernel with a factor s^2 for every weight on a path
    E[tangent kernel] = sum_l dE[f f'] / ds_l^2

both exact at any width (for a chain without biases: H prod s_l^2, and H sum_l prod_{k != l} s_k^2).
A convolution uses one draw at all positions. f is linear in each weight, so nothing is neglected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gatewise.dual.gating import Gated, gated
from gatewise.dual.kernels.path_kernel import Floats, Recursion
from gatewise.dual.kernels.program import Contract, Program, Start, plan
from gatewise.dual.kernels.recursion import Variance, rounded
from gatewise.errors import DataError
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network
from gatewise.numeric import whole_number

LARGEST_EXPONENT = 1000  # beyond, the 1 of a bias is lost beside the weights
MARGIN = -280.0  # log10 of a product of factors that may come to fall below the smallest number

Variances = Mapping[str, Variance | float] | str


@dataclass(frozen=True, eq=False)
class ExpectedKernel:
    """values (N, N'): of one output, averaged over the outputs.

    what: "E[f f']" or "E[tangent kernel]"; variances: (s^2, s_b^2) of each layer by its node's
    name; error: a bound on |values - exact| / the same kernel of |x| and |x'|.
    """

    values: Floats
    what: str
    variances: Mapping[str, Variance]
    error: float

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.values, dtype)

    def __str__(self) -> str:
        n, m = self.values.shape
        lines = [f"{what}: {v.weight:.3g}, {v.bias:.3g}" for what, v in self.variances.items()]
        return (
            f"{self.what} of {n} x {m} rows under fixed gates, exact at this width; variances of "
            f"weights, biases:\n  " + "\n  ".join(lines)
        )


def expected_kernel(
    net: Network | Gated,
    X: Any,
    X2: Any = None,
    *,
    variances: Variances = "fan_in",
    batch: int | None = None,
) -> ExpectedKernel:
    """E[f(x) f(x')] over fresh weights, gates kept.

    variances: "fan_in" 1 / taps for weights and 1 for biases; "network" the mean squares of the
    network's own; or a Variance (or a number, for both) a node name. Weights used by two layers
    are taken as two draws. DataError where variances leave what float64 holds. The first weights
    of a constant input are the folded numbers: see `constants`.
    """
    return _expected(net, X, X2, variances, batch, tangent=False)


def expected_tangent_kernel(
    net: Network | Gated,
    X: Any,
    X2: Any = None,
    *,
    variances: Variances = "fan_in",
    batch: int | None = None,
) -> ExpectedKernel:
    """E of the tangent kernel of the weights and biases, gates kept: sum_l dE[f f'] / ds_l^2.

    Not the tangent kernel of the network itself, whose gates depend on its weights.
    """
    return _expected(net, X, X2, variances, batch, tangent=True)


def _expected(
    net: Network | Gated, X: Any, X2: Any, variances: Variances, batch: int | None, tangent: bool
) -> ExpectedKernel:
    if batch is not None:
        whole_number(batch, "batch")
    program = plan(gated(net))
    chosen = chosen_variances(program, variances)
    values, exponent = Recursion(program, chosen, tangent=tangent, batch=batch)(X, X2)
    with np.errstate(over="ignore"):
        kernel = np.ldexp(values[-1], exponent)
    _require_range(program, chosen, kernel, exponent)
    what = "E[tangent kernel]" if tangent else "E[f f']"
    return ExpectedKernel(kernel, what, chosen, rounded(program))


def _require_range(
    program: Program, chosen: Mapping[str, Variance], kernel: Floats, exponent: int
) -> None:
    """Refuse variances that took some number on the way out of what float64 holds."""
    taps = {s.name: s.fan_in for s in program.steps if isinstance(s, Contract)}
    factors = [v.weight * taps.get(n, 1) for n, v in chosen.items() if v.weight]
    factors += [v.bias for v in chosen.values() if v.bias]
    shrunk = sum(-math.log10(f) for f in factors if f < 1)
    lost = shrunk > -MARGIN and bool((np.abs(kernel) < np.finfo(float).tiny).any())
    if lost or exponent > LARGEST_EXPONENT or not np.isfinite(kernel).all():
        low, high = min(factors, default=1.0), max(factors, default=1.0)
        raise DataError(
            f"the expected kernel leaves what float64 holds: variance times fan-in goes from "
            f"{low:.1e} to {high:.1e}; give variances nearer to 1 / fan-in"
        )


def chosen_variances(program: Program, variances: Variances) -> dict[str, Variance]:
    """One Variance for each layer of the program."""
    if variances == "fan_in":
        taps = {s.name: s.fan_in for s in program.steps if isinstance(s, Contract)}
        return {n: Variance(1 / taps.get(n, 1), 1.0) for n in program.weights}
    if variances == "network":
        return {n: _measured(program, n) for n in program.weights}
    if isinstance(variances, str):
        raise DataError(f"variances must be 'fan_in', 'network' or a mapping, got {variances!r}")
    extra, lost = set(variances) - set(program.weights), set(program.weights) - set(variances)
    if extra or lost:
        raise DataError(
            f"variances must name the layers {', '.join(program.weights)}; "
            + " and ".join(
                f"{what} {', '.join(sorted(names))}"
                for what, names in (("it does not name", lost), ("it names also", extra))
                if names
            )
        )
    return {name: _variance(name, variances[name]) for name in program.weights}


def _variance(name: str, given: Variance | float) -> Variance:
    found = given if isinstance(given, Variance) else Variance(float(given), float(given))
    if not (0 <= found.weight < float("inf") and 0 <= found.bias < float("inf")):
        raise DataError(f"the variances of '{name}' must be finite and not negative, got {given}")
    return found


def _measured(program: Program, name: str) -> Variance:
    """Mean squares of one layer's weights and of its biases (0 where it has none)."""
    kind = program.gated.network.node(name).kind
    assert isinstance(kind, Affine)
    starts_only = all(s.bias for s in program.steps if isinstance(s, Start) and s.node == name)
    weights = kind.weights[0] if kind.weights else None
    fixed = kind.taps is None and not _scales(program, name) and starts_only
    return Variance(0.0 if fixed else _square(weights), _square(kind.bias))


def _scales(program: Program, name: str) -> bool:
    return any(getattr(s, "node", None) == name and not isinstance(s, Start) for s in program.steps)


def _square(values: Tensor | None) -> float:
    return 0.0 if values is None else float((values * values).mean())


__all__ = ["ExpectedKernel", "Variance", "expected_kernel", "expected_tangent_kernel"]
