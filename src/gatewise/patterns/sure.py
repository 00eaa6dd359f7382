"""Patterns of dense networks as fast as a processor multiplies, and the rows that rounding may have
moved.

In float32, the weights and x are rounded to it: half the bytes, twice the units a cycle. One bound
for all rows (`thresholds`, with that dtype's unit roundoff) says how far a pre-activation may be
from the exact one, in whatever order its terms are summed. A row with a unit within it of a knot is
flagged, for a closer look; all other codes are those of exact arithmetic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.ir.kinds import Affine, Pieces
from gatewise.ir.network import INPUT, Network, Node
from gatewise.ir.pattern import Layout, layout
from gatewise.numeric import underflow, unit_roundoff
from gatewise.patterns.thresholds import BEHIND, thresholds
from gatewise.patterns.tile import UNITS, VECTOR, looked

Floats = NDArray[Any]  # of the dtype that is looked in
Layer = tuple[Any, Any]  # an Affine, and the Pieces behind it
NEVER = -1.0  # no |u| is as small: the limit of units that only fill a group of eight
EPS, TINY = 2 * float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)  # inputs may be
# rounded to float32 by the network itself, after they were compared with the reach


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Dense layers with a gate behind each, as `looked` takes them: u = W x + c, then u or slope u.

    weights, bias, slopes: of all layers, end to end; plan (layers, 5): inputs, groups of eight
    units, where weights start, and bias, and the codes of a row; gates: (name, units).
    """

    gates: tuple[tuple[str, int], ...]
    weights: Floats
    bias: Floats
    slopes: Floats
    plan: NDArray[np.int64]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.weights.dtype == np.float32 else torch.float64

    @property
    def widest(self) -> int:
        """Most numbers of a row at once."""
        return int(max(self.plan[:, 0].max(), UNITS * self.plan[:, 1].max()))


def chain(network: Network, dtype: torch.dtype) -> Chain | None:
    """The network up to its last gate, where it is dense layers and gates with a knot at zero.

    None for all others, and where the dtype cannot hold its numbers.
    """
    if network.device.type != "cpu" or not network.gates:
        return None
    layers: list[Layer] = []
    before, pairs = INPUT, zip(network.nodes[::2], network.nodes[1::2], strict=False)
    for (dense, gate), last in zip(pairs, network.gates, strict=False):
        if gate is not last or dense.inputs != (before,) or not _plain(dense, gate):
            return None
        layers.append((dense.kind, gate.kind))
        before = gate.name
    if len(layers) < len(network.gates):
        return None
    found = _chained(layers, layout(network), dtype)
    whole = all(np.isfinite(part).all() for part in (found.weights, found.bias, found.slopes))
    return found if whole else None


def _plain(dense: Node, gate: Node) -> bool:
    """W x + c with one matrix W, and two branches s u and u that meet at zero."""
    affine, kind = dense.kind, gate.kind
    if gate.inputs != (dense.name,) or not isinstance(affine, Affine) or affine.taps is None:
        return False
    if not isinstance(kind, Pieces) or kind.slopes.ndim != 1 or len(kind.closed) != 1:
        return False
    units = math.prod(dense.shape)
    square = affine.weights[0].ndim == 2 and len(affine.weights[0]) == units == dense.shape[-1]
    meet = float(kind.slopes[1]) == 1 and not kind.knots.any() and not kind.offsets.any()
    return square and meet


def _chained(layers: list[Layer], fields: Layout, dtype: torch.dtype) -> Chain:
    """Layers laid end to end, the units filled up to whole groups with zeros."""
    plan, start, first = [], 0, 0
    for (dense, _), field in zip(layers, fields, strict=True):
        inputs, groups = dense.weights[0].shape[1], -(-field.units // UNITS)
        plan.append((inputs, groups, start, first, field.start))
        start, first = start + UNITS * groups * inputs, first + UNITS * groups
    kind = np.float32 if dtype == torch.float32 else np.float64
    weights, bias, slopes = (np.zeros(n, kind) for n in (start, first, len(plan)))
    for k, ((dense, gate), row) in enumerate(zip(layers, plan, strict=True)):
        _lay(dense, row, weights, bias)
        slopes[k] = gate.slopes[0].to(dtype)
    gates = tuple((field.name, field.units) for field in fields)
    return Chain(gates, weights, bias, slopes, np.array(plan))


def _lay(affine: Any, row: tuple[int, ...], weights: Floats, bias: Floats) -> None:
    """One layer's W as (groups, inputs, 8), and its bias, at their places."""
    inputs, groups, start, first, _ = row
    W = affine.weights[0].to(torch.from_numpy(bias).dtype).numpy()
    whole, rest = divmod(len(W), UNITS)
    room = weights[start : start + UNITS * groups * inputs].reshape(groups, inputs, UNITS)
    room[:whole] = W[: UNITS * whole].reshape(whole, UNITS, inputs).swapaxes(1, 2)
    if rest:
        room[whole, :, :rest] = W[UNITS * whole :].T
    if affine.bias is not None:
        with np.errstate(over="ignore"):
            bias[first : first + len(W)] = affine.bias.reshape(-1).numpy()


class Sure:
    """Looks at rows through one chain; keeps the bound for the largest |x| so far (a builder)."""

    def __init__(self, network: Network, chain: Chain, *, exact_input: bool) -> None:
        self.exact, self.chain, self.dtype = network, chain, chain.dtype
        self.unit = 0.0 if exact_input else unit_roundoff(self.dtype)
        self.reach = np.full(network.inputs, NEVER)
        self.limits = np.full_like(chain.bias, NEVER)
        self.high = VECTOR // chain.bias.itemsize
        self.tiles = tuple(np.empty((2, chain.widest * self.high), chain.bias.dtype))

    def widen(self, reach: NDArray[np.float64]) -> bool:
        """Take rows with |x| <= reach (inputs,), too, from now on; False where the dtype cannot."""
        reach = np.maximum(self.reach, reach)
        most = torch.from_numpy(reach * (1 + EPS) + TINY).reshape(1, *self.exact.input_shape)
        start = self.unit * most + underflow(1, self.dtype)
        found = thresholds(self.exact, most, start=start, rounding=self.dtype)
        if not found[BEHIND].isfinite().all():
            return False
        for (name, units), (*_, first, _) in zip(self.chain.gates, self.chain.plan, strict=True):
            limit = found[name].reshape(-1).to(self.dtype)  # `SLACK` pays for rounding it
            self.limits[first : first + units] = limit.numpy()
        self.reach = reach
        return True

    def __call__(
        self, columns: Sequence[NDArray[np.float64]], bits: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Codes of the rows of these columns into bits (rows, bytes) of zeros.

        Which rows are not sure (rows,): `CLOSE` to a knot, `OUTSIDE` of the reach, or both.
        """
        rows = len(bits)
        if rows < self.high:
            more = np.zeros((self.high, bits.shape[1]), np.uint8)
            said = self([np.pad(c, (0, self.high - rows)) for c in columns], more)
            bits[:] = more[:rows]
            return said[:rows]
        held = [np.ascontiguousarray(c, np.float64) for c in columns]
        places = np.array([c.__array_interface__["data"][0] for c in held], np.uintp)
        chain, said = self.chain, np.zeros(rows, np.uint8)
        if {len(c) for c in held} != {rows} or len(held) != len(self.reach):
            raise ValueError(f"{len(self.reach)} columns of {rows} rows are needed")
        if bits.shape[1] < (chain.plan[:, 4] + chain.plan[:, 1]).max():
            raise ValueError(f"codes have no room in {bits.shape[1]} bytes a row")
        numbers = (chain.weights, chain.bias, self.limits, chain.slopes)
        looked(places, self.reach, numbers, chain.plan, self.tiles, bits, said)
        return said
