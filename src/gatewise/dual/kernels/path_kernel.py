"""The neural path kernel H(x, x') = <phi_x, phi_x'>: inputs and gates that two rows share, path by
path, summed without listing a path (Lakshminarayanan & Singh 2020, 2021).

Fully connected: H = <x, x'> prod_l o_l, with o_l(x, x') the units of layer l on at both. Any other
network with on/off gates goes through the recursion (`program`, `recursion`). H is made of gates
and inputs alone; the tangent kernel of a ReLU network is another thing (`tangent_kernel`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Chain, Gated, Site, gated, masks, pattern_of, value_input
from gatewise.dual.kernels.program import Contract, Program, Start, plan
from gatewise.dual.kernels.recursion import (
    Fields,
    Run,
    Variance,
    fields,
    rounded,
    run,
    tile_rows,
)
from gatewise.errors import DataError
from gatewise.given.rows import finite, rows_of, sides_of
from gatewise.ir.network import Network
from gatewise.numeric import device_of, whole_number

Floats = NDArray[np.float64]
Scale = Literal["raw", "normalised", "cosine", "log"]
LARGEST = math.log(float(np.finfo(np.float64).max))


@dataclass(frozen=True, eq=False)
class PathKernel:
    """values (N, N'): the kernel of all pairs of rows, in the given scale.

    scale: "raw" H itself; "normalised" every weight layer divided by the number of its taps, so
    that H is the expected kernel at variance 1/fan_in; "cosine" H(x, x') / sqrt(H(x, x) H(x', x')),
    0 where a row has no active path; "log" log |H| (its sign is the cosine's).
    layers: (name, units) of each gate layer; inputs, biases: whether paths carry the input's
    numbers and may start at biases; error: a bound on |values - exact| / H(|x|, |x'|) of a raw or
    normalised kernel; method: how it was computed; outputs: kernels of how many outputs were
    averaged (they differ only where a network ends in gates).
    """

    values: Floats
    scale: Scale
    layers: tuple[tuple[str, int], ...]
    inputs: bool
    biases: bool
    error: float
    method: str
    outputs: int = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype)

    def __str__(self) -> str:
        n, m = self.values.shape
        units = " + ".join(f"{u}" for _, u in self.layers) or "no"
        paths = "input x gates" if self.inputs else "gates alone"
        start = ", paths from biases too" if self.biases else ""
        return (
            f"neural path kernel of {n} x {m} rows ({self.scale}): {paths}, {units} gates{start}\n"
            f"{self.method}; {rounding(self.scale, self.error)}"
        )


def npk(
    net: Network | Gated,
    X: Any,
    X2: Any = None,
    *,
    scale: Scale = "raw",
    inputs: bool = True,
    biases: bool = True,
    batch: int | None = None,
) -> PathKernel:
    """H(x, x') for all pairs of rows of X (N, inputs) and X2 (N', inputs; default X).

    inputs=False puts 1 for <x, x'>: what the gates alone say. biases=False leaves out the paths
    that start at biases. A constant input's first weights are the folded numbers (`constants`).
    One number that scales a value is no weight. batch: rows a side of a tile (no plain chain).
    NotGated names the node of a network without on/off gates; DataError where "raw" overflows.
    """
    _require_scale(scale)
    if batch is not None:
        whole_number(batch, "batch")
    whole = gated(net)
    if whole.layers is not None:
        return _of_chain(whole, whole.layers, X, X2, scale, inputs, biases)
    program = plan(whole)
    work = Recursion(
        program, constant=not inputs, batch=batch, variances=_variances(program, scale)
    )
    if not biases:
        work = work.without_biases()
    values = _scaled(work, X, X2, scale)
    method = f"recursion over {len(program.steps)} steps, tiles of {work.rows} rows"
    return PathKernel(
        values,
        scale,
        _layers(whole.sites),
        inputs and program.sees_inputs,
        biases and any(_has_bias(s) for s in program.steps),
        rounded(program),
        method,
        whole.network.outputs,
    )


def npk_of_gates(
    gates: Sequence[Any],
    gates2: Sequence[Any] | None = None,
    inputs: Any = None,
    inputs2: Any = None,
    *,
    scale: Scale = "raw",
    biases: Sequence[bool] | None = None,
) -> PathKernel:
    """The kernel of a fully connected value network under given gates, hard or soft.

    gates, gates2: one array (rows, width) a layer, bool, 0/1 or numbers; inputs, inputs2: rows, or
    None for <x, x'> = 1; biases: of each weight layer, one more than gate layers.
    """
    from gatewise.dual.kernels.gram import gram, pack, relative_error

    _require_scale(scale)
    there = device_of(*gates, inputs) if gates is not None else None
    first = pack(_layers_of_gates(gates, "gates"))
    second = None if gates2 is None else pack(_layers_of_gates(gates2, "gates2"))
    inputs = None if inputs is None else _numbers(inputs, "inputs")
    inputs2 = None if inputs2 is None else _numbers(inputs2, "inputs2")
    options: dict[str, Any] = {"biases": biases, "scale": scale, "dtype": "float64"}
    values = gram(first, second, inputs, inputs2, **options, device=there)
    layers = tuple((f"gates {k}", u) for k, u in enumerate(first.units, 1))
    width = 1 if inputs is None else np.asarray(inputs).reshape(len(inputs), -1).shape[1]
    error = relative_error(width, len(layers), "float64")
    how = "product of overlaps"
    return PathKernel(values, scale, layers, inputs is not None, any(biases or ()), error, how)


def rounding(scale: str, error: float) -> str:
    """What is known of rounding, in words: it is relative to H, not to a cosine or a logarithm."""
    if scale in ("raw", "normalised"):
        return f"rounding error at most {error:.1e} H(|x|, |x'|)"
    return f"no bound on rounding errors in scale '{scale}'"


def _require_scale(scale: str) -> None:
    if scale not in get_args(Scale):
        raise DataError(f"scale must be one of {', '.join(get_args(Scale))}; got {scale!r}")


def _layers_of_gates(gates: Sequence[Any], name: str) -> list[NDArray[Any]]:
    """Gates as bool where a layer is 0 and 1, else as numbers."""
    if gates is None or len(gates) == 0:
        raise DataError(f"{name} has no layers: give one array (rows, width) for each gate layer")
    return [_hard(layer, f"{name} {k}") for k, layer in enumerate(gates, 1)]


def _hard(gates: Any, name: str) -> NDArray[Any]:
    held = gates.detach().cpu().numpy() if isinstance(gates, Tensor) else gates
    if isinstance(held, np.ndarray) and held.dtype == bool and held.ndim:
        return held
    values = _numbers(held, name)
    hard = bool(((values == 0) | (values == 1)).all())
    return values.astype(bool) if hard else values


def _numbers(given: Any, name: str) -> Floats:
    """A finite array (rows, ...) of its own, float64."""
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.ndim < 1 or values.dtype.kind not in "biuf":
        raise DataError(f"{name} must be numbers (rows, width), got {values.dtype} {values.shape}")
    numbers = np.array(values, np.float64, order="C")
    finite(torch.from_numpy(numbers), name, least=0)
    return numbers


def _layers(sites: tuple[Site, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((s.at, s.units) for s in sites)


# -- the plain chain --


def _of_chain(
    whole: Gated, chain: Chain, X: Any, X2: Any, scale: Scale, inputs: bool, biases: bool
) -> PathKernel:
    """<x, x'> times the product of overlaps."""
    from gatewise.dual.kernels.gram import from_pattern, gram, relative_error

    exact = whole.network.to(torch.float64)
    sides = sides_of(exact, X, X2)
    gates = [from_pattern(pattern_of(whole, v), chain.sites) for v in sides]
    seen = inputs and chain.constant_input is None
    rows = [value_input(whole, v) if seen else None for v in sides]
    starts = [biases and b is not None for b in chain.biases]
    second = gates[1] if X2 is not None else None
    there = exact.device
    options: dict[str, Any] = {"biases": starts, "scale": scale, "dtype": "float64"}
    if not gates[0].layers:  # a linear network: one weight layer, no gate
        numbers = [None if r is None else r.cpu().numpy() for r in rows]
        values, method = _ungated(
            numbers, len(sides), (len(sides[0]), len(sides[-1])), starts, scale
        )
    else:
        other = rows[1] if X2 is not None else None
        values = gram(gates[0], second, rows[0], other, **options, device=there)
        method = "product of overlaps"
    error = relative_error(chain.widths[0], len(chain.sites), "float64")
    return PathKernel(values, scale, _layers(chain.sites), seen, any(starts), error, method)


def _ungated(
    rows: list[Any], sides: int, shape: tuple[int, int], starts: list[bool], scale: Scale
) -> tuple[Floats, str]:
    """<x, x'> + 1 with a bias: the kernel of one linear layer."""
    a, b = rows[0], rows[sides - 1]
    width = 1 if a is None or scale != "normalised" else a.shape[1]
    one = float(sum(starts))

    def kernel(left: Any, right: Any) -> Floats:
        return np.asarray(left @ right.T / width + one)

    values = np.full(shape, 1 + one) if a is None else kernel(a, b)
    diagonals = [
        np.full(n, 1 + one) if v is None else (v * v).sum(1) / width + one
        for v, n in zip((a, b), shape, strict=True)
    ]
    return _finished(values, 0, scale, lambda: (diagonals[0], diagonals[1])), "one linear layer"


# -- any other network --


@dataclass(frozen=True, eq=False)
class Recursion:
    """The recursion over tiles of row pairs: at most `rows` rows a side."""

    program: Program
    variances: Mapping[str, Variance]
    tangent: bool = False
    constant: bool = False
    batch: int | None = None

    @property
    def rows(self) -> int:
        """Rows a side of a tile."""
        return int(self.batch or tile_rows(self.program, 2 if self.tangent else 1))

    def without_biases(self) -> Recursion:
        """The same with no path from a bias."""
        kept = {n: self.variances.get(n, Variance()).weight for n in self.program.weights}
        variances = {n: Variance(w, 0.0) for n, w in kept.items()}
        return Recursion(self.program, variances, self.tangent, self.constant, self.batch)

    def parts(self, X: Any) -> list[Fields]:
        """Masks and numbers of each tile's rows."""
        x = rows_of(self.program.gated.network, X)
        return [self._fields(part) for part in x.split(self.rows)]

    def _fields(self, x: Tensor) -> Fields:
        whole = self.program.gated
        return fields(self.program, x, masks(whole, x), self.constant)

    def task(self, left: Fields, right: Fields) -> Run:
        """One tile."""
        split = self.constant and not any(v.weight != 1 for v in self.variances.values())
        return Run(self.program, left, right, self.variances, self.tangent, split)

    def __call__(self, X: Any, X2: Any = None) -> tuple[Floats, int]:
        """values (D, N, N') and the power of two they stand at."""
        left = self.parts(X)
        right = left if X2 is None else self.parts(X2)
        lines: list[list[Floats]] = []
        exponent = 0
        for i, a in enumerate(left):
            line: list[Floats] = []
            for j, b in enumerate(right):
                if X2 is None and j < i:
                    line.append(lines[j][i].swapaxes(1, 2))
                    continue
                kernel = run(self.task(a, b))
                values = kernel.values[:, 0].cpu().numpy()
                line.append(_mirrored(values) if X2 is None and i == j else values)
                exponent = kernel.exponent
            lines.append(line)
        return np.block(lines), exponent

    def diagonal(self, X: Any) -> Floats:
        """values (N,) of each row with itself, at the same power of two."""
        kernels = (run(self.task(part, part)) for part in self.parts(X))
        return np.concatenate([k.values[0, 0].diagonal().cpu().numpy() for k in kernels])


def _mirrored(values: Floats) -> Floats:
    """The lower triangle on both sides: sums in another order differ in their last digit."""
    lower = np.tril(values)
    return np.asarray(lower + np.tril(values, -1).swapaxes(1, 2))


def _variances(program: Program, scale: Scale) -> dict[str, Variance]:
    """1, or 1 / fan_in with biases of variance 1 for the normalised kernel."""
    if scale != "normalised":
        return {}
    steps = (s for s in program.steps if isinstance(s, Contract))
    return {s.name: Variance(1 / s.fan_in, 1.0) for s in steps}


def _scaled(work: Recursion, X: Any, X2: Any, scale: Scale) -> Floats:
    values, exponent = work(X, X2)
    single = values[0]

    def diagonals() -> tuple[Floats, Floats]:
        if X2 is None:
            return single.diagonal(), single.diagonal()
        return work.diagonal(X), work.diagonal(X2)

    return _finished(single, exponent, scale, diagonals)


def _finished(
    values: Floats, exponent: int, scale: Scale, diagonals: Callable[[], tuple[Floats, Floats]]
) -> Floats:
    """values 2^exponent in the scale that was asked for."""
    if scale == "cosine":
        return _cosine(values, *diagonals())
    if scale == "log":
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.abs(values)) + exponent * math.log(2))
    largest = float(np.abs(values).max())
    reached = math.log(largest) + exponent * math.log(2) if largest else 0.0
    if reached >= LARGEST:
        raise DataError(
            f"the {scale} kernel reaches 10^{reached / math.log(10):.0f}, more than float64 holds: "
            f"use scale 'normalised', 'cosine' or 'log'"
        )
    return np.asarray(np.ldexp(values, exponent))


def _cosine(values: Floats, left: Floats, right: Floats) -> Floats:
    norms = np.sqrt(left)[:, None] * np.sqrt(right)[None]
    done = np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
    return np.asarray(done)


def _has_bias(step: Any) -> bool:
    return isinstance(step, Contract | Start) and bool(step.bias)
