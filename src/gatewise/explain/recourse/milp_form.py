"""A piecewise-affine network as one list of rectified units over its inputs.

Every continuous gate is a sum of rectifiers: s_0 z + o_0 + sum_k (s_{k+1} - s_k) max(0, z - t_k)
for pieces with knots t_k, and max(a, b) = a + max(0, b - a) for winners, in rounds of pairs. So
f(x) = C v + d with v = (x, r), r_i = max(0, P_i v + b_i), where unit i reads earlier stages only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.ir.kinds import Affine, Pieces, Shape, Winner, pull
from gatewise.ir.network import INPUT, Network, Node, fold

Floats = NDArray[np.float64]
ENTRIES = 50_000_000  # numbers in the dense matrices: 400 MB
JUMP = 1e-9  # a gate whose branches differ by less at a knot, relative to its size, has no jump


@dataclass(frozen=True, eq=False)
class Rectified:
    """f(x) = matrix v + offset, v = (x, r) of inputs + units numbers, r = max(0, pre v + bias).

    stages: slices of units that read only the inputs and the units of stages before.
    """

    inputs: int
    pre: Floats
    bias: Floats
    stages: tuple[slice, ...]
    matrix: Floats
    offset: Floats

    @property
    def units(self) -> int:
        return len(self.bias)

    def __call__(self, x: Floats) -> Floats:
        """f at x (rows, inputs): (rows, outputs)."""
        v = np.concatenate([x, np.zeros((len(x), self.units))], 1)
        for s in self.stages:
            v[:, self.inputs + s.start : self.inputs + s.stop] = np.maximum(
                0, v @ self.pre[s].T + self.bias[s]
            )
        return np.asarray(v @ self.matrix.T + self.offset)


@dataclass(frozen=True, eq=False)
class Form:
    """Values as affine forms of the v there is so far: (size, width) and (size,)."""

    matrix: Floats
    constant: Floats

    def __getitem__(self, places: NDArray[np.int64]) -> Form:
        return Form(self.matrix[places], self.constant[places])

    def widened(self, width: int) -> Form:
        """The same forms over more variables."""
        more = width - self.matrix.shape[1]
        return self if more == 0 else Form(np.pad(self.matrix, ((0, 0), (0, more))), self.constant)


def rectified(network: Network, task: str = "exact recourse") -> Rectified:
    """The network as rectified units; NotPiecewiseAffine names a node that has no such form."""
    network = network.to(torch.float64, "cpu")
    build = _Builder(network, task)
    out = fold(network, build.start, build.step)[network.output].widened(build.width)
    n = sum(len(b) for _, b in build.stages)
    pre = np.zeros((n, build.width))
    slices, at = [], 0
    for matrix, constant in build.stages:
        pre[at : at + len(constant), : matrix.shape[1]] = matrix
        slices.append(slice(at, at + len(constant)))
        at += len(constant)
    bias = np.concatenate([np.empty(0), *(b for _, b in build.stages)])
    return Rectified(network.inputs, pre, bias, tuple(slices), out.matrix, out.constant)


class _Builder:
    """Collects stages of units while the network is folded (a builder, not a value)."""

    def __init__(self, network: Network, task: str) -> None:
        self.network, self.task = network, task
        self.stages: list[tuple[Floats, Floats]] = []
        self.width = network.inputs
        self.start = Form(np.eye(network.inputs), np.zeros(network.inputs))

    def step(self, node: Node, xs: list[Form]) -> Form:
        """The forms of one node from those of its inputs."""
        entries = math.prod(node.shape) * self.width
        if entries > ENTRIES or self.width * self.width > ENTRIES:
            raise DataError(
                f"{self.task} writes the network out as dense matrices, and at '{node.name}' they "
                f"would hold more than {ENTRIES:,} numbers: use method='region', or a smaller "
                f"network"
            )
        xs = [x.widened(self.width) for x in xs]
        if isinstance(node.kind, Affine):
            return _affine(self.network, node, node.kind, xs)
        if isinstance(node.kind, Pieces):
            return self._pieces(node, node.kind, xs[0])
        if isinstance(node.kind, Winner):
            return self._winner(node.kind, _joined(xs))
        raise NotPiecewiseAffine(
            f"{self.task} needs gates over affine nodes, but node '{node.name}' is {node.layer}, "
            f"a {type(node.kind).__name__}: method='region' takes what has regions"
        )

    def _rectify(self, z: Form) -> Form:
        """max(0, z) as new variables: one stage."""
        z = z.widened(self.width)
        self.stages.append((z.matrix, z.constant))
        size = len(z.constant)
        matrix = np.zeros((size, self.width + size))
        matrix[:, self.width :] = np.eye(size)
        self.width += size
        return Form(matrix, np.zeros(size))

    def _pieces(self, node: Node, kind: Pieces, z: Form) -> Form:
        """s_0 z + o_0 + the sum over knots of (change of slope) max(0, z - knot)."""
        knots, slopes, offsets = (
            _spread(t, node.shape) for t in (kind.knots, kind.slopes, kind.offsets)
        )
        rise = np.diff(slopes, axis=0)
        self._require_continuous(node, knots, rise, np.diff(offsets, axis=0))
        k, unit = np.nonzero(rise)
        base = Form(slopes[0][:, None] * z.matrix, slopes[0] * z.constant + offsets[0])
        if not len(k):
            return base
        part = z[unit]
        r = self._rectify(Form(part.matrix, part.constant - knots[k, unit]))
        base = base.widened(self.width)
        np.add.at(base.matrix, unit, rise[k, unit][:, None] * r.matrix)
        return base

    def _require_continuous(self, node: Node, t: Floats, rise: Floats, step: Floats) -> None:
        jump = np.abs(rise * t + step)
        if (jump > JUMP * (1 + np.abs(rise * t) + np.abs(step))).any():
            raise NotPiecewiseAffine(
                f"{self.task} needs continuous gates, but node '{node.name}' ({node.layer}) jumps "
                f"at a knot: the nearest point may not exist there. Use method='region'"
            )

    def _winner(self, kind: Winner, z: Form) -> Form:
        """The largest (smallest) of each group, by rounds of pairs."""
        index = kind.index.reshape(-1, kind.branches).numpy()
        first = index[np.arange(len(index)), (index >= 0).argmax(1)]
        index = np.where(index < 0, first[:, None], index)  # padding repeats a candidate
        sign = float(kind.sign)
        best = [z[index[:, c]] for c in range(index.shape[1])]
        while len(best) > 1:
            best = [self._larger(a, b, sign) for a, b in _pairs(best)]
        return best[0].widened(self.width)

    def _larger(self, a: Form, b: Form | None, sign: float) -> Form:
        """a + sign max(0, sign (b - a)): the larger of two, or the smaller."""
        if b is None:
            return a
        a, b = a.widened(self.width), b.widened(self.width)
        r = self._rectify(Form(sign * (b.matrix - a.matrix), sign * (b.constant - a.constant)))
        return Form(a.widened(self.width).matrix + sign * r.matrix, a.constant)


def _spread(table: torch.Tensor, shape: Shape) -> Floats:
    """(k, *trailing) constants as (k, units): trailing axes broadcast against the shape."""
    lead = [1] * (len(shape) - table.ndim + 1)
    whole = table.double().reshape(len(table), *lead, *table.shape[1:]).expand(len(table), *shape)
    return np.asarray(whole.reshape(len(table), -1).numpy())


def _pairs(items: Sequence[Form]) -> list[tuple[Form, Form | None]]:
    """Neighbours two by two; the last alone where they are odd."""
    return [
        (items[i], items[i + 1] if i + 1 < len(items) else None) for i in range(0, len(items), 2)
    ]


def _joined(xs: list[Form]) -> Form:
    return Form(np.concatenate([x.matrix for x in xs]), np.concatenate([x.constant for x in xs]))


def _affine(network: Network, node: Node, kind: Affine, xs: list[Form]) -> Form:
    """The rows of L read off its transpose, times the forms of the inputs."""
    size = math.prod(node.shape)
    shapes = [network.input_shape if n == INPUT else network.shape(n) for n in node.inputs]
    unit = torch.eye(size, dtype=torch.float64).reshape(1, size, *node.shape)
    parts = [p.detach().reshape(size, -1).numpy() for p in pull(kind, unit, shapes)]
    bias = np.zeros(size) if kind.bias is None else kind.bias.expand(node.shape).reshape(-1).numpy()
    matrix = sum((p @ x.matrix for p, x in zip(parts, xs, strict=True)), np.zeros(1))
    constant = sum((p @ x.constant for p, x in zip(parts, xs, strict=True)), bias)
    return Form(np.asarray(matrix), np.asarray(constant))
