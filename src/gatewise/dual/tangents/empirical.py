"""The empirical tangent kernel K(x, x') = <df(x)/dtheta, df(x')/dtheta>, exact, layer by layer.

For a dense layer with inputs h and what flows back b:  K_l = (h.h' + 1) (b.b'), so the Jacobian is
never formed. theta are the weights and biases of the Network (see `tangent_weights`).

Three kernels that must not be taken for one another:
the neural path kernel (`npk`) is made of gates alone; it is, but for a factor, the EXPECTED tangent
kernel of a network whose weights are independent of its gates (`expected_tangent_kernel`);
`tangent_kernel(net, X, gates=other)` is that network's tangent kernel for the one draw of weights
in net; and `tangent_kernel(net, X)` is the network's own, whose gates are made by the very weights:
for a ReLU network its cosine with the NPK is only about 0.4, at any width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated
from gatewise.dual.tangents.factors import Factor, Outer, Plan, Whole
from gatewise.dual.tangents.weights import weights_of
from gatewise.errors import DataError, InternalError
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.network import Network
from gatewise.numeric import whole_number
from gatewise.tables.words import counted, listed

Outputs = Literal["sum", "trace", "full"] | int
FACTOR_BYTES = 256 << 20  # of the factors of one tile of rows; two tiles are alive at once
BLOCK = 1 << 20  # entries of a block of the kernel, worked on in cache


@dataclass(frozen=True, eq=False)
class TangentKernel:
    """values (rows, rows2), or (rows, rows2, k, k) for outputs="full".

    parameters: how many numbers theta is; nodes: where they are; own_gates: False where the gates
    were decided by another network; notes: what was left out, or counted once.
    """

    values: NDArray[np.floating[Any]]
    outputs: str
    parameters: int
    nodes: tuple[str, ...]
    own_gates: bool
    notes: tuple[str, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, for numpy and scikit-learn."""
        return np.asarray(self.values, dtype)

    def __str__(self) -> str:
        whose = (
            "its gates made by its own weights (not the NPK)"
            if self.own_gates
            else "its gates fixed by another network"
        )
        rows, others = self.values.shape[:2]
        head = f"Tangent kernel of {rows} x {others} rows, {self.outputs}: {whose}"
        theta = f"theta: {counted(self.parameters, 'number')} in {listed(self.nodes)}"
        return "\n".join([head, theta, *self.notes])


def tangent_kernel(
    net: Network | Gated,
    X: Any,
    X2: Any = None,
    *,
    outputs: Outputs = "sum",
    gates: Network | Gated | None = None,
    nodes: str | Iterable[str] | None = None,
    tied: bool = True,
    batch: int | None = None,
) -> TangentKernel:
    """K[i, j] = <df(X_i)/dtheta, df(X2_j)/dtheta>, exact, theta the weights and biases of net.

    outputs: "sum" (f is the sum of the outputs), an index (f is that output), "trace" (their
    kernels added up) or "full" (rows, rows2, outputs, outputs). gates: another Network, with gates
    of the same shapes, whose gates at each row are used instead; theta then has no part in them.
    nodes: only their weights count. tied: equal weights are one weight (a module used twice).
    batch: rows at once on their way through the network; memory is bounded without it.

    theta is the network's as it was read: a batch norm counts by s and c of s h + c in evaluation,
    s = gamma / sqrt(var + eps) (tangent_split: by gamma and beta); V_1 of values that start from
    ones is folded into a constant and is no weight. Nothing flows back behind a step.
    Raises UnsupportedLayer, naming the node, for weights that are no matrix over taps.
    """
    net = source_of(net)
    weights, (seed, trace) = weights_of(net, nodes, tied), _seed(net, outputs)
    plan = Plan(net, weights, seed, trace, _of_width(gates, net))
    if batch is not None:
        whole_number(batch, "batch")
    x = rows_of(net, X)
    x2 = None if X2 is None else rows_of(net, X2, "X2")
    with torch.no_grad():
        values = _tiled(plan, x, x2, batch)
    return TangentKernel(
        values if outputs == "full" else values[:, :, 0, 0],
        f'outputs="{outputs}"' if isinstance(outputs, str) else f"output {outputs}",
        weights.size,
        tuple(dict.fromkeys(name for w in weights.weights for name in w.nodes)),
        gates is None,
        weights.notes,
    )


def source_of(net: Network | Gated) -> Network:
    """The Network itself, of one that was read as values and masks too."""
    network = net.network if isinstance(net, Gated) else net
    require_network(network)
    return network


def _of_width(gates: Network | Gated | None, net: Network) -> Network | None:
    """The network that decides the gates, if it takes the same rows."""
    if gates is None:
        return None
    other = source_of(gates)
    if other.input_shape != net.input_shape:
        raise DataError(
            f"gates= must be a network of the same rows, of shape {net.input_shape}; it takes "
            f"{other.input_shape}"
        )
    return other


def is_index(outputs: Any, count: int) -> bool:
    """Does it name one of `count` outputs, from the front or from the back?"""
    if isinstance(outputs, bool) or not isinstance(outputs, int | np.integer):
        return False
    return bool(-count <= outputs < count)


def _seed(net: Network, outputs: Outputs) -> tuple[Tensor, bool]:
    """What flows in at the outputs, (k, outputs), and whether the k kernels are added up."""
    eye = torch.eye(net.outputs, dtype=net.dtype, device=net.device)
    if outputs == "sum":
        return torch.ones_like(eye[:1]), False
    if outputs in ("trace", "full"):
        return eye, outputs == "trace"
    if is_index(outputs, net.outputs):
        return eye[[int(outputs)]], False
    raise DataError(
        f'outputs must be "sum", "trace", "full" or an index below {net.outputs}, got {outputs!r}'
    )


# -- tiles of rows, blocks of the kernel --


def _tiled(plan: Plan, x: Tensor, x2: Tensor | None, batch: int | None) -> NDArray[Any]:
    """(rows, rows2, k, k), a tile of rows against a tile at a time; half of it if symmetric."""
    k, step = plan.k, max(1, FACTOR_BYTES // plan.row_bytes())
    other = x if x2 is None else x2
    out = x.new_zeros(len(x) * k, len(other) * k)
    for i in _tiles(len(x), step):
        mine = plan.factors(x[i], batch)
        for j in _tiles(len(other), step):
            if x2 is None and j.start > i.start:
                break
            same = x2 is None and i == j
            theirs = mine if same else plan.factors(other[j], batch)
            part = out[i.start * k : i.stop * k, j.start * k : j.stop * k]
            for a, b in zip(mine, theirs, strict=True):
                add_gram(part, a, b, half=same)
    if x2 is None:
        mirror(out)
    values: NDArray[Any] = out.reshape(len(x), k, len(other), k).transpose(1, 2).cpu().numpy()
    return values


def _tiles(rows: int, step: int) -> Iterator[slice]:
    return (slice(s, min(s + step, rows)) for s in range(0, rows, step))


def add_gram(out: Tensor, a: Factor, b: Factor, *, half: bool) -> None:
    """out (rows k, rows2 k) += the inner products of the gradients; the lower blocks if half."""
    k, positions = (a.g.shape[1], a.g.shape[2]) if isinstance(a, Outer) else (a.d.shape[1], 1)
    step = max(1, math.isqrt(BLOCK) // (k * positions))
    for i in _tiles(len(out) // k, step):
        for j in _tiles(out.shape[1] // k, step):
            if half and j.start > i.start:
                break
            _gram(out[i.start * k : i.stop * k, j.start * k : j.stop * k], a, b, i, j)


def _gram(block: Tensor, a: Factor, b: Factor, i: slice, j: slice) -> None:
    if isinstance(a, Whole) and isinstance(b, Whole):
        block.addmm_(a.d[i].flatten(0, 1), b.d[j].flatten(0, 1).mT)
        return
    if not (isinstance(a, Outer) and isinstance(b, Outer)):
        raise InternalError("the factors of one weight took two forms")
    h = a.u[i].flatten(0, 1) @ b.u[j].flatten(0, 1).mT  # (rows q, rows2 q)
    back = a.g[i].flatten(0, 2) @ b.g[j].flatten(0, 2).mT  # (rows k q, rows2 k q)
    (k, q), n, m = a.g.shape[1:3], i.stop - i.start, j.stop - j.start
    if k == q == 1:
        block.addcmul_(h, back)
        return
    pairs = back.reshape(n, k, q, m, k, q) * h.reshape(n, 1, q, m, 1, q)
    block += pairs.sum((2, 5)).reshape(n * k, m * k)


def mirror(out: Tensor) -> None:
    """The upper half from the lower one, a band of rows at a time."""
    for band in _tiles(len(out), 1024):
        out[band, band] = out[band, band].tril() + out[band, band].tril(-1).mT
        out[band, band.stop :] = out[band.stop :, band].mT
