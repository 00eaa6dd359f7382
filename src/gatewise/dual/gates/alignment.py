"""How well a kernel fits labels: nu_t of arXiv:2006.10529, and centred alignment.

    nu(K, y) = y^T (K / trace K)^-1 y    small where the labels lie in the kernel's top directions
    A(K, y)  = <H K H, Y Y^T> / (|H K H| |H Y Y^T H|), H = I - 1/n

(the second from Cortes, Mohri and Rostamizadeh 2012).
Two classes are y = -1, +1; more are one-hot, Y (rows, classes), and nu adds up over the columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated, gated, masks, on_host
from gatewise.dual.kernels.path_kernel import npk
from gatewise.errors import DataError, NotGated, WrongShape
from gatewise.given.labels import Floats, signs_of, told_apart
from gatewise.given.rows import rows_of
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network, Node
from gatewise.numeric import whole_number

SWEEPS = 40  # of power and inverse iteration: the condition number to a few per cent
NU_ROWS = 1000  # rows up to which `alignment` works out nu unasked


@dataclass(frozen=True)
class Nu:
    """nu, the estimated condition number of what was solved, and the jitter added to K / trace K.

    jitter is 0 where K is regular. Where it is not, nu depends on it (about as 1 / jitter, for the
    part of the labels that K does not reach), so compare only values of one jitter.
    """

    value: float
    condition: float
    jitter: float

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        why = f", K is singular: {self.jitter:.1e} added to K / trace K" if self.jitter else ""
        return f"nu = {self.value:.6g} (condition about {self.condition:.1e}{why})"


def nu_alignment(K: Any, y: Any) -> Nu:
    """y^T (K / trace K)^-1 y by Cholesky; the smaller, the better the kernel fits the labels.

    K (rows, rows) symmetric, y (rows,) labels. Where K is singular within rounding, the smallest
    jitter that makes it regular is added and reported.
    """
    k, u = _kernel(K)
    targets = _targets(y, len(k))
    trace = float(k.trace())
    if trace <= 0:
        raise DataError(f"the trace of a kernel must be above 0, got {trace:g}")
    k = k / trace
    top = _largest(k)
    jitter = 0.0
    factor, failed = torch.linalg.cholesky_ex(k)
    condition = float("inf") if int(failed) else top * _largest_inverse(factor)
    while condition > 0.1 / (len(k) * u):
        jitter = 10 * max(jitter, len(k) * u * top)
        if jitter > 1e-2 * top:
            raise DataError("K has negative eigenvalues beyond rounding: it is no kernel")
        factor, failed = torch.linalg.cholesky_ex(k + jitter * torch.eye(len(k), dtype=k.dtype))
        condition = float("inf") if int(failed) else (top + jitter) * _largest_inverse(factor)
    value = float((targets * torch.cholesky_solve(targets, factor)).sum())
    return Nu(value, condition, jitter)


def centred_alignment(K: Any, y: Any) -> float:
    """A(K, y), the cosine between the centred kernel and the centred Gram matrix of the labels.

    Between -1 and 1 (0 to 1 for positive semi-definite K). y (rows,) labels.
    """
    k, _ = _kernel(K)
    targets = _targets(y, len(k))
    found = cosine(k, targets - targets.mean(0))
    if np.isnan(found):
        raise DataError("the centred kernel is zero: it tells no two rows apart")
    return found


def cosine(k: Tensor, targets: Tensor) -> float:
    """Between H K H and Y Y^T, Y centred already; NaN where H K H is 0 within rounding."""
    centred = k - k.mean(0)
    centred -= centred.mean(1, keepdim=True)
    size = float(centred.norm())
    if size <= 1e-14 * float(k.norm()):
        return float("nan")
    return float((targets * (centred @ targets)).sum()) / size / float((targets.T @ targets).norm())


def _kernel(K: Any) -> tuple[Tensor, float]:
    """K in float64, and the unit roundoff of the type it came in."""
    array = np.asarray(K)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not len(array):
        raise WrongShape(f"a kernel between the rows has shape (rows, rows), got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("the kernel holds NaN or infinity; take a normalised one")
    u = np.finfo(array.dtype).eps / 2 if array.dtype.kind == "f" else np.finfo(float).eps / 2
    k = torch.from_numpy(array.astype(np.float64))
    if float((k - k.T).abs().max()) > 1e3 * u * float(k.abs().max()):
        raise DataError("the kernel is not symmetric: give K between the rows and themselves")
    return k, float(u)


def _targets(y: Any, rows: int) -> Tensor:
    """-1 and +1 for two classes (rows, 1), one-hot columns for more."""
    classes, codes = told_apart(y, rows)
    signs = signs_of(codes, len(classes))
    return torch.from_numpy(signs if len(classes) == 2 else (signs + 1) / 2)


def _largest(k: Tensor) -> float:
    """The largest eigenvalue of a positive semi-definite matrix, by power iteration."""
    v = torch.ones(len(k), 1, dtype=k.dtype) + torch.linspace(0, 1, len(k), dtype=k.dtype)[:, None]
    for _ in range(SWEEPS):
        v = k @ (v / v.norm())
    return float(v.norm())


def _largest_inverse(factor: Tensor) -> float:
    """The same of the inverse, from its Cholesky factor."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(factor), 1, dtype=factor.dtype, generator=generator)
    for _ in range(SWEEPS):
        v = torch.cholesky_solve(v / v.norm(), factor)
    return float(v.norm())


# -- a network's own kernels --


@dataclass(frozen=True, eq=False)
class GateAlignment:
    """Centred alignment of the labels with each kernel of a network, beside random gates.

    kernels: "inputs" (<x, x'>), each gate layer (gates on at both), "NPK"; centred (kernels,);
    random (kernels, draws): the same network with its weights drawn anew, He normal, biases 0;
    nu, nu_random: nu_alignment of the same, where asked for (else empty); notes.
    """

    kernels: tuple[str, ...]
    centred: Floats
    random: Floats
    nu: tuple[Nu, ...]
    nu_random: tuple[tuple[Nu, ...], ...]
    rows: int
    classes: tuple[Any, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        head = f"Kernel-label alignment over {self.rows} rows of {len(self.classes)} classes"
        columns = f"{'kernel':18}{'own gates':>10}{'random gates':>17}"
        if self.nu:
            columns += f"{'nu':>13}{'nu, random':>13}"
        lines = [head, columns, *(self._line(i) for i in range(len(self.kernels)))]
        return "\n".join([*lines, *self.notes])

    def _line(self, i: int) -> str:
        mean, spread = self.random[i].mean(), self.random[i].std()
        line = f"{self.kernels[i][:17]:18}{self.centred[i]:10.3f}{mean:9.3f} ± {spread:.3f}"
        if not self.nu:
            return line
        return f"{line}{_mean_nu([self.nu[i]])}{_mean_nu([draw[i] for draw in self.nu_random])}"


def _mean_nu(found: Sequence[Nu]) -> str:
    """The mean, where no jitter decides it."""
    regular = not any(n.jitter or np.isnan(n.value) for n in found)
    return f"{np.mean([n.value for n in found]):13.4g}" if regular else f"{'singular':>13}"


def alignment(
    net: Network | Gated, X: Any, y: Any, *, draws: int = 3, seed: int = 0, nu: bool | None = None
) -> GateAlignment:
    """How the labels y align with the inputs, each layer's gates and the neural path kernel.

    The NPK is made of the gates alone: it is not the network's own tangent kernel. draws: how many
    times the weights are drawn anew for gates that have learnt nothing. nu: also nu_alignment
    (default: up to 1000 rows). Memory: two (rows, rows) matrices at a time.
    """
    whole = on_host(net)
    if not whole.sites:
        raise NotGated("the network has no gates, so they align with nothing")
    whole_number(draws, "draws")
    x = rows_of(whole.network, X, least=2)
    classes, targets = told_apart(y, len(x))
    if bool((x == x[0]).all()):
        raise DataError(f"all {len(x)} rows of X are the same, so no kernel tells them apart")
    asked = len(x) <= NU_ROWS if nu is None else nu
    generator = torch.Generator().manual_seed(seed)
    random = [gated(redrawn(whole.network, generator)) for _ in range(draws)]
    own, *others = [_each(g, x, targets, asked) for g in [whole, *random]]
    notes = []
    if any(n.jitter for _, found in [own, *others] for n in found):
        notes.append("singular: nu depends on the jitter that was added, see .nu")
    if np.isnan([own[0], *(centred for centred, _ in others)]).any():
        notes.append("nan: the same gates are on at all rows")
    return GateAlignment(
        ("inputs", *(s.at for s in whole.sites), "NPK"),
        np.array(own[0]),
        np.array([centred for centred, _ in others]).T,
        tuple(own[1]),
        tuple(tuple(found) for _, found in others),
        len(x),
        tuple(classes.tolist()),
        tuple(notes),
    )


def _each(whole: Gated, x: Tensor, y: NDArray[Any], nu: bool) -> tuple[list[float], list[Nu]]:
    """Centred alignment, and nu if asked, of every kernel in turn."""
    centred: list[float] = []
    found: list[Nu] = []
    for k in _kernels(whole, x):
        targets = _targets(y, len(y))
        centred.append(cosine(torch.from_numpy(k), targets - targets.mean(0)))
        if nu:  # none where the same gates are on at all rows
            flat = bool(np.isnan(centred[-1]))
            found.append(Nu(float("nan"), float("inf"), 0.0) if flat else nu_alignment(k, y))
    return centred, found


def _kernels(whole: Gated, x: Tensor) -> Iterator[Floats]:
    """<x, x'>, the overlap of each gate layer, the NPK: one (rows, rows) matrix at a time."""
    flat = x.flatten(1).to(torch.float64)
    yield (flat @ flat.T).numpy()
    for mask in masks(whole, x):
        on = mask.flatten(1).to(torch.float32)
        yield (on @ on.T).double().numpy()  # whole numbers below 2^24: exact
    yield npk(whole, x, scale="normalised").values


def redrawn(network: Network, generator: torch.Generator) -> Network:
    """The network with every weight matrix drawn anew, normal of variance 2 / taps, biases 0."""
    nodes = tuple(_redrawn(node, generator) for node in network.nodes)
    return dataclasses.replace(network, nodes=nodes)


def _redrawn(node: Node, generator: torch.Generator) -> Node:
    kind = node.kind
    if not isinstance(kind, Affine) or kind.taps is None:
        return node
    w = kind.weights[0]
    new = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    new = (new * (2 / w[0].numel()) ** 0.5).to(w)
    bias = None if kind.bias is None else torch.zeros_like(kind.bias)
    return dataclasses.replace(node, kind=dataclasses.replace(kind, weights=(new,), bias=bias))
