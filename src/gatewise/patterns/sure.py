"""Patterns of dense networks as fast as BLAS multiplies, and the rows that rounding may have moved.

In float32, the weights and x are rounded to it: half the bytes, twice the units a cycle. One bound
for all rows (`thresholds`, with that dtype's unit roundoff) says how far a pre-activation may be
from the exact one. A row with a unit within it of a knot is flagged, for a closer look; all other
codes are those of exact arithmetic.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces
from gatewise.ir.network import INPUT, Network, Node
from gatewise.ir.pattern import layout
from gatewise.numeric import multiplies_float32, underflow, unit_roundoff
from gatewise.patterns.compiled import gated
from gatewise.patterns.thresholds import thresholds

Floats = NDArray[Any]  # of the dtype that is looked in


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One gate behind one matrix: u = x W^T + bias (units,), then u where u > 0, else slope u."""

    gate: str
    matrix: Tensor
    bias: Floats
    slope: Any

    @property
    def finite(self) -> bool:
        """Does the dtype hold its numbers?"""
        parts = self.matrix.isfinite().all(), np.isfinite(self.bias).all(), np.isfinite(self.slope)
        return all(bool(p) for p in parts)


def chain(network: Network, dtype: torch.dtype) -> list[Layer] | None:
    """The network up to its last gate, where it is dense layers and gates with a knot at zero.

    None for all others. A convolution, say, may be computed by another formula (Winograd's) whose
    error no gamma(n) bounds; float32 products may be of bfloat16, where torch is told so.
    """
    exact = dtype != torch.float32 or multiplies_float32()
    if not exact or network.device.type != "cpu" or not network.gates:
        return None
    layers, before = [], INPUT
    for dense, gate in zip(network.nodes[::2], network.nodes[1::2], strict=False):
        if dense.inputs != (before,) or gate.inputs != (dense.name,) or not _plain(dense, gate):
            return None
        layers.append(_layer(dense.kind, gate, dtype))
        if not layers[-1].finite:
            return None
        before = gate.name
        if gate is network.gates[-1]:
            return layers
    return None


def _plain(dense: Node, gate: Node) -> bool:
    """W x + c with one matrix W, and two branches s u and u that meet at zero."""
    affine, kind = dense.kind, gate.kind
    if not isinstance(affine, Affine) or affine.taps is None or not isinstance(kind, Pieces):
        return False
    units = math.prod(dense.shape)
    square = affine.weights[0].ndim == 2 and len(affine.weights[0]) == units == dense.shape[-1]
    flat = kind.slopes.ndim == 1 and len(kind.closed) == 1 and float(kind.slopes[1]) == 1
    return square and flat and not kind.knots.any() and not kind.offsets.any()


def _layer(affine: Any, gate: Node, dtype: torch.dtype) -> Layer:
    bias = affine.weights[0].new_zeros(len(affine.weights[0]))
    if affine.bias is not None:
        bias = bias + affine.bias.reshape(-1)
    assert isinstance(gate.kind, Pieces)
    slope = gate.kind.slopes[0].to(dtype).numpy()[()]
    return Layer(gate.name, affine.weights[0].to(dtype), bias.to(dtype).numpy(), slope)


class Sure:
    """Looks at batches of one network in one dtype; keeps the bound for the largest |x| so far."""

    def __init__(self, network: Network, layers: list[Layer], *, exact_input: bool) -> None:
        self.exact, self.layers = network, layers
        self.dtype = layers[0].matrix.dtype
        self.places = {field.name: field.start for field in layout(network)}
        self.unit = 0.0 if exact_input else unit_roundoff(self.dtype)
        self.reach = torch.full((1, *network.input_shape), -1.0, dtype=network.dtype)
        self.limits: dict[str, Floats] = {}
        self.held = [torch.empty(0, dtype=self.dtype)] * len(layers)

    def widen(self, reach: Tensor) -> bool:
        """Take rows with |x| <= reach (inputs,) from now on; False where the dtype cannot."""
        reach = reach.reshape(self.reach.shape)
        if (reach > self.reach).any():
            self.reach = torch.maximum(self.reach, reach)
            start = self.unit * self.reach + underflow(1, self.dtype)
            found = thresholds(self.exact, self.reach, start=start, rounding=self.dtype)
            names = (*self.places, self.exact.output)
            self.limits = {name: self._flat(found[name]) for name in names}
        return bool(np.isfinite(self.limits[self.exact.output]).all())

    def _flat(self, limit: Tensor) -> Floats:
        """One threshold a unit: `SLACK` pays for rounding it."""
        return np.ascontiguousarray(limit.reshape(-1).to(self.dtype).numpy())

    def __call__(self, x: Tensor, bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Codes of x (rows, inputs) into bits (rows, bytes); which rows are not sure.

        x may lie in memory column after column, as tables do. Memory that is written batch after
        batch stays in the cache.
        """
        near = np.zeros(x.shape[0], bool)
        for k, layer in enumerate(self.layers):
            shape = (x.shape[0], len(layer.bias))
            if self.held[k].shape[0] < shape[0]:
                self.held[k] = x.new_empty(shape)
            x = torch.mm(x, layer.matrix.T, out=self.held[k][: shape[0]])
            limits, start = self.limits[layer.gate], self.places[layer.gate]
            gated(x.numpy(), layer.bias, limits, layer.slope, bits, start, near)
        return near
