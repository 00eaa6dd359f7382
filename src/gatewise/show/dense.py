"""A small Network as dense layers, so that a page can evaluate it: z = W_0 x + sum_j W_j g_j + b.

Between gates everything is affine, so each gate's input is an affine function of the network's
input and of the gates before it: skip connections and joins included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces
from gatewise.ir.network import Network, Node, fold

Floats = NDArray[np.float64]
WEIGHTS = 200_000  # numbers in the page: 2 MB as text
INPUTS = 1_000
WORK = 20_000_000  # numbers of one value in terms of all its sources, while collapsing


@dataclass(frozen=True, eq=False)
class Gate:
    """Knots (K, units or 1), slopes and offsets (K + 1, units or 1); closed as in `Pieces`."""

    name: str
    knots: Floats
    slopes: Floats
    offsets: Floats
    closed: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """z = bias + sum weights[s] @ (value s); value 0 is the input, value k that of gate k - 1.

    gate: what is applied to z, or None for the layer of the outputs.
    """

    weights: dict[int, Floats]
    bias: Floats
    gate: Gate | None


@dataclass(frozen=True)
class Form:
    """A value as const (1, *shape) + sum over sources s of parts[s] (size of s, *shape)."""

    const: Tensor
    parts: dict[int, Tensor]


class TooMuch(Exception):
    """Why a network cannot be put into a page; caught in `dense`."""


def dense(network: Network, outputs: Sequence[int]) -> tuple[Layer, ...] | str:
    """The layers in order, that of the outputs last; or a sentence saying why there are none."""
    try:
        return _layers(network.to(torch.float64, "cpu"), list(outputs))
    except TooMuch as why:
        return str(why)


def _layers(network: Network, outputs: list[int]) -> tuple[Layer, ...]:
    if network.inputs > INPUTS:
        raise TooMuch(f"it has {network.inputs:,} inputs, and {INPUTS:,} fit")
    layers: list[Layer] = []
    eye = torch.eye(network.inputs, dtype=torch.float64)
    start = torch.zeros(1, *network.input_shape, dtype=torch.float64)
    sizes = [network.inputs]

    def step(node: Node, xs: list[Form]) -> Form:
        if isinstance(node.kind, Affine) and not node.kind.batched:
            return _affine(node.kind, xs, sizes, math.prod(node.shape))
        if not isinstance(node.kind, Pieces):
            raise TooMuch(f"its node '{node.name}' ({node.layer}) chooses between inputs")
        layers.append(_layer(xs[0], _gate(node, node.kind)))
        _require_small(layers)
        units = math.prod(node.shape)
        sizes.append(units)
        whole = torch.eye(units, dtype=torch.float64).reshape(units, *node.shape)
        return Form(torch.zeros(1, *node.shape, dtype=torch.float64), {len(layers): whole})

    first = Form(start, {0: eye.reshape(-1, *network.input_shape)})
    last = _layer(fold(network, first, step)[network.output], None)
    picked = {s: w[outputs] for s, w in last.weights.items()}
    layers.append(Layer(picked, last.bias[outputs], None))
    _require_small(layers)
    return tuple(layers)


def _affine(kind: Affine, xs: list[Form], sizes: list[int], size: int) -> Form:
    """The form of L(xs) + c: one push of every source, other inputs held at zero."""
    sources = sorted({s for x in xs for s in x.parts})
    if sum(sizes[s] for s in sources) * size > WORK:
        raise TooMuch("its layers are too wide to be multiplied out")
    parts = {}
    for s in sources:
        at = (x.parts.get(s, x.const.new_zeros(sizes[s], *x.const.shape[1:])) for x in xs)
        parts[s] = kind.linear(*at)
    return Form(kind(*(x.const for x in xs)), parts)


def _layer(form: Form, gate: Gate | None) -> Layer:
    weights = {s: part.reshape(len(part), -1).T.numpy().copy() for s, part in form.parts.items()}
    kept = {s: w for s, w in weights.items() if w.any()}
    return Layer(kept, form.const.reshape(-1).numpy().copy(), gate)


def _gate(node: Node, kind: Pieces) -> Gate:
    knots, slopes, offsets = (
        _per_unit(t, node.shape) for t in (kind.knots, kind.slopes, kind.offsets)
    )
    return Gate(node.name, knots, slopes, offsets, kind.closed)


def _per_unit(table: Tensor, shape: tuple[int, ...]) -> Floats:
    """(k, ...) as (k, 1) where all units share it, else (k, units)."""
    flat = table.reshape(len(table), -1)
    if flat.shape[1] > 1:
        middle = [1] * (len(shape) + 1 - table.ndim)
        flat = table.reshape(len(table), *middle, *table.shape[1:]).expand(-1, *shape).flatten(1)
    return flat.numpy().copy()


def _require_small(layers: list[Layer]) -> None:
    total = sum(w.size for layer in layers for w in layer.weights.values())
    if total > WEIGHTS:
        raise TooMuch(f"it has more than {WEIGHTS:,} weights when written as dense layers")


def evaluate(layers: tuple[Layer, ...], x: Floats) -> Floats:
    """(rows, outputs): what the page computes, here in numpy."""
    values = [x]
    for layer in layers:
        z = layer.bias + sum(values[s] @ w.T for s, w in layer.weights.items())
        values.append(z if layer.gate is None else _apply(layer.gate, z))
    return values[-1]


def _apply(gate: Gate, z: Floats) -> Floats:
    codes = np.zeros(z.shape, np.int64)
    for knot, closed in zip(gate.knots, gate.closed, strict=True):
        codes += z >= knot if closed else z > knot
    slope, offset = gate.slopes[0] + 0 * z, gate.offsets[0] + 0 * z
    for k in range(1, len(gate.slopes)):
        slope, offset = (
            np.where(codes >= k, gate.slopes[k], slope),
            np.where(codes >= k, gate.offsets[k], offset),
        )
    return np.asarray(slope * z + offset)
