"""Patterns in exact arithmetic, for the few rows that float64 leaves undecided.

Floats are dyadic rationals, so the network of float weights has an exact value at a row of floats:
every unit is then decided, ties included. The cost is an integer product per weight and row, so
this is for rows in doubt, not for data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Shape, Winner, pull
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Packer, layout, row_bytes
from gatewise.patterns import fixed_point
from gatewise.patterns.dyadic import Dyadic, Rows, dyadic, join, sparse

BUDGET = 300_000  # products a row
AT_ONCE = 10_000_000  # and for one call of `settle`, some seconds: what is left stays undecided
TOGETHER = 1_000_000  # products alive at once
ENTRIES = 4_000_000  # of one node's matrix, read off whole

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rational:
    """A network with every Affine read off as exact sparse rows."""

    network: Network
    rows: Mapping[str, Rows]

    @property
    def cost(self) -> int:
        """Products that one input takes."""
        return 1 + sum(len(rows.column) for rows in self.rows.values())


def rational(network: Network, budget: int | None = None) -> Rational | None:
    """The network over the rationals, or None: a node has no exact value, or they are too many.

    A sum that rounds with no weight of its own has none (a mean: 1/3 is no float), nor has a rule
    that multiplies two weights (their product is rounded when the rule is read off).
    """
    budget = BUDGET if budget is None else budget
    if not all(_possible(network, node, budget) for node in network.nodes):
        return None  # before anything is read off
    network = network.to(device="cpu")
    rows: dict[str, Rows] = {}
    cost = 1
    for node in network.nodes:
        if isinstance(node.kind, Affine):
            rows[node.name] = _read(node.kind, node.shape, _shapes(network, node))
            cost += len(rows[node.name].column)
            if cost > budget:
                return None
    return Rational(network, rows)


def _shapes(network: Network, node: Node) -> list[Shape]:
    return [network.shape(name) for name in node.inputs]


def _possible(network: Network, node: Node, budget: int) -> bool:
    """A kind with exact values, whose rows are not too many to be read off."""
    kind = node.kind
    if not isinstance(kind, Affine):
        return isinstance(kind, Pieces | Winner)
    entries = math.prod(node.shape) * sum(math.prod(s) for s in _shapes(network, node))
    held = sum(int(w.count_nonzero()) for w in kind.weights if w.is_floating_point())
    return entries <= ENTRIES and held <= budget and _readable(kind)


def _readable(kind: Affine) -> bool:
    """The transpose gives the rows of L without rounding."""
    weights = [w for w in kind.weights if w.is_floating_point()]
    if kind.terms and kind.terms_back and not weights:
        return False
    return sum(not _powers_of_two(w) for w in weights) <= 1


def _powers_of_two(w: Tensor) -> bool:
    return bool(((w == 0) | (torch.frexp(w.double()).mantissa.abs() == 0.5)).all())


def _read(kind: Affine, shape: Shape, inputs: list[Shape]) -> Rows:
    """L and c, the rows of L read off its transpose."""
    size = math.prod(shape)
    unit = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape)
    matrix = torch.cat([part.reshape(size, -1) for part in pull(kind, unit, inputs)], 1)
    bias = torch.zeros(size) if kind.bias is None else kind.bias.expand(shape).flatten()
    return sparse(matrix.numpy(), bias.numpy())


def settle(network: Network, x: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Packed patterns of the rows of x (rows, *input_shape), and which rows have been decided.

    Equal rows are decided once; those beyond the budget are not. A network with no exact value, or
    too many products, is taken to fixed point.
    """
    fields = layout(network)
    bits = np.zeros((len(x), row_bytes(fields)), np.uint8)
    done = np.zeros(len(x), bool)
    exact = rational(network) if len(x) else None
    if exact is None:
        return fixed_point.settle(network, x)
    distinct, inverse = torch.unique(x.cpu(), dim=0, return_inverse=True)
    step = max(1, TOGETHER // exact.cost)
    most = AT_ONCE // exact.cost
    for start in range(0, min(len(distinct), most), step):
        part = slice(start, min(start + step, most, len(distinct)))
        packer = Packer(fields, part.stop - start)
        for name, codes in exact_codes(exact, distinct[part]).items():
            packer.put(name, codes)
        mine = ((inverse >= start) & (inverse < part.stop)).numpy()
        bits[mine], done[mine] = packer.bits[inverse.numpy()[mine] - start], True
    return bits, done


def exact_codes(exact: Rational, x: Tensor) -> dict[str, Tensor]:
    """The codes (rows, *shape) of every gate at rows x (rows, *input_shape), without rounding."""
    found: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Dyadic]) -> Dyadic:
        z, kind = join(xs), node.kind
        if isinstance(kind, Affine):
            return exact.rows[node.name](z, one)
        assert isinstance(kind, Pieces | Winner)
        codes = cells(kind, node.shape, z) if isinstance(kind, Pieces) else best(kind, z)
        found[node.name] = torch.from_numpy(codes.T.copy()).reshape(-1, *node.shape)
        return branch(kind, node.shape, z, codes, one)

    one = dyadic(np.ones(len(x)))
    fold(exact.network, dyadic(x.reshape(len(x), -1).numpy().T), step)
    return found


def cells(kind: Pieces, shape: Shape, z: Dyadic) -> Codes:
    """The cell 0..K that holds each z (units, k)."""
    knots, _, _ = tables(kind, shape)
    sides = [z.compare(knots[k][:, None]) for k in range(len(kind.knots))]
    above = [s >= 0 if closed else s > 0 for s, closed in zip(sides, kind.closed, strict=True)]
    return np.asarray(np.sum(above, axis=0, dtype=np.int64))


def best(kind: Winner, z: Dyadic) -> Codes:
    """The first best candidate of each unit (units, k); index -1 is no candidate."""
    places = kind.index.reshape(-1, kind.branches).cpu().numpy()
    code = np.argmax(places >= 0, axis=1)[:, None].repeat(z.whole.shape[1], 1)
    for m, place in enumerate(places.T):
        here = np.take_along_axis(places, code, 1)
        best_ = z[here, np.arange(z.whole.shape[1])]
        better = kind.sign * z[place].compare(best_) > 0
        code = np.where(better & (place >= 0)[:, None], m, code)
    return np.asarray(code)


def branch(kind: Pieces | Winner, shape: Shape, z: Dyadic, codes: Codes, one: Dyadic) -> Dyadic:
    """What comes out of the branches `codes` (units, k or 1); offsets go where `one` (k,) is 1."""
    if isinstance(kind, Winner):
        places = np.take_along_axis(kind.index.reshape(-1, kind.branches).cpu().numpy(), codes, 1)
        return z[places, np.arange(z.whole.shape[1])]
    _, slopes, offsets = tables(kind, shape)
    units = np.arange(len(codes))[:, None]
    return z * slopes[codes, units] + offsets[codes, units] * one


def tables(kind: Pieces, shape: Shape) -> tuple[Dyadic, Dyadic, Dyadic]:
    """knots (K, units), slopes and offsets (K + 1, units)."""
    knots, slopes, offsets = (_spread(t, shape) for t in (kind.knots, kind.slopes, kind.offsets))
    return knots, slopes, offsets


def _spread(table: Tensor, shape: Shape) -> Dyadic:
    """A table (n, ..), its trailing axes broadcast to the shape: (n, units)."""
    few = dyadic(table.cpu().numpy())
    axes = (len(table), *[1] * (len(shape) + 1 - table.ndim), *table.shape[1:])
    whole = np.broadcast_to(few.whole.reshape(axes), (len(table), *shape))
    return Dyadic(whole.reshape(len(table), -1), few.scale)
