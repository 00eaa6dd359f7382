"""The sign of one affine combination of outputs at every vertex of a complex, proven.

A vertex is known to within a radius, so the walk of `ir.rounding` starts there with that error; a
sign that it leaves open is decided in integers, as those of the enumeration are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import DataError
from gatewise.ir.kinds import Affine, Pieces, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import layout, row_bytes
from gatewise.ir.rounding import Enclosure, enclose_node
from gatewise.numeric import gamma, underflow
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.stages import KNOT, label, plan

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

Floats = NDArray[np.float64]
ROWS = 1 << 22  # numbers alive at once in the walk
MOST = 20_000  # signs decided in integers; what more is open stays so
TRIES = 64  # choices of k rows at one vertex


@dataclass(frozen=True, eq=False)
class Level:
    """g at the vertices: value (V,), known to within error (V,), and its sign (V,) int8.

    open (n,): vertices whose sign could not be told, taken for zero.
    """

    value: Floats
    error: Floats
    sign: NDArray[np.int8]
    open: NDArray[np.int64]


def level_of(complex: Complex, output: int, other: int | None, level: float) -> Level:
    """g = f_output - level, or f_output - f_other - level, at every vertex."""
    network = difference(complex.network, output, other, level)
    value, error = _enclosed(complex, network)
    sign = (value > error).astype(np.int8) - (value < -error).astype(np.int8)
    doubtful = np.flatnonzero((sign == 0) & (error > 0))
    if not len(doubtful):
        return Level(value, error, sign, doubtful)
    told = _exact(complex, network, doubtful)
    sign[doubtful] = [s or 0 for s in told]
    return Level(value, error, sign, doubtful[[s is None for s in told]])


def difference(network: Network, output: int, other: int | None, level: float) -> Network:
    """The network of the one output g."""
    outputs = network.outputs
    for o in (output, other):
        if o is not None and not -outputs <= o < outputs:
            raise DataError(f"outputs run from 0 to {outputs - 1}, got {o}")
    if other is not None and output % outputs == other % outputs:
        raise DataError(f"a boundary is between two outputs, got output {output} twice")
    if not np.isfinite(level):
        raise DataError(f"level must be a finite number, got {level!r}")
    row = torch.zeros(1, outputs, dtype=network.dtype)
    row[0, output] = 1
    if other is not None:
        row[0, other] = -1
    bias = torch.full((1,), level, dtype=network.dtype).neg() if level else None
    return appended(network, Affine(flat_rows, (row,), bias, 2, 1), "difference")


def appended(network: Network, kind: Any, name: str) -> Network:
    """The network with one more node, of shape (1,), behind its output."""
    taken = {n.name for n in network.nodes}
    while name in taken:
        name += "_"
    node = Node(name, name, kind, (network.output,), (1,))
    return dataclasses.replace(network, nodes=(*network.nodes, node), output=name, head=())


def flat_rows(w: Tensor, y: Tensor) -> Tensor:
    """w y for each row of y, flattened."""
    return torch.nn.functional.linear(y.reshape(len(y), -1), w)


# -- floats --


def _enclosed(complex: Complex, network: Network) -> tuple[Floats, Floats]:
    """g at the vertices and a bound on its error, that of the vertices included."""
    where, s = complex.slice, complex.vertices
    x = where.inputs(s)
    size = np.abs(where.origin) + np.abs(s) @ np.abs(where.directions)
    spread = complex.error[:, None] * np.abs(where.directions).sum(0)
    g = gamma(2 * where.dimension + 8, torch.float64)
    off = (spread + g * size) * (1 + g) + underflow(where.dimension, torch.float64)
    off[:, ~where.directions.any(0)] = 0.0  # held inputs are the very numbers
    longest = np.abs(where.directions).max(0, initial=0)
    identity = (np.count_nonzero(where.directions, 0) <= 1) & (longest == 1)
    plain = identity & (where.origin == 0)
    off[:, plain] = spread[:, plain]
    step = max(1, ROWS // max(int(np.prod(n.shape)) for n in network.nodes))
    parts = [
        _walk(network, x[i : i + step], off[i : i + step]) for i in range(0, max(len(x), 1), step)
    ]
    value, error = (np.concatenate(p) for p in zip(*parts, strict=True))
    return value, error


def _walk(network: Network, x: Floats, off: Floats) -> tuple[Floats, Floats]:
    shape = (len(x), *network.input_shape)
    start = Enclosure(torch.from_numpy(x).reshape(shape), torch.from_numpy(off).reshape(shape))
    with torch.no_grad():
        end = fold(network, start, enclose_node)[network.output]
    return end.value.reshape(-1).numpy(), end.error.reshape(-1).numpy()


# -- integers --


def _exact(complex: Complex, network: Network, vertices: NDArray[np.int64]) -> list[int | None]:
    """The sign of g at each of some vertices, from integer determinants, or None."""
    crease = Pieces(*_crease(network.dtype), (False,))
    p = plan(appended(network, crease, "crease"), complex.slice)
    decide, asked = Signs(p), int(label(len(p.stages) - 1, KNOT, 0, 1)[0])
    place, cell = places(complex, vertices)
    width = row_bytes(layout(p.network))
    found: list[int | None] = [None] * len(vertices)
    for i in np.argsort(cell, kind="stable")[:MOST]:
        bits = np.zeros((1, width), np.uint8)
        own = complex.pattern.bits[cell[i]]
        bits[0, : len(own)] = own
        for rows in _rows(complex, int(place[i]), int(cell[i])):
            found[i] = decide(bits, rows, asked)
            if found[i] is not None:
                break
    return found


def _crease(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    zero, unit = torch.zeros(1, dtype=dtype), torch.tensor([0.0, 1.0], dtype=dtype)
    return zero, unit, torch.zeros(2, dtype=dtype)


def places(complex: Complex, vertices: NDArray[np.int64]) -> tuple[Any, Any]:
    """A place of each vertex in the cells, and the cell it is a place of."""
    held = complex.cells.vertex
    place = np.zeros(len(complex.vertices), np.int64)
    place[held[::-1]] = np.arange(len(held))[::-1]
    chosen = place[vertices]
    return chosen, np.searchsorted(complex.cells.ptr, chosen, side="right") - 1


def _rows(complex: Complex, place: int, cell: int) -> list[tuple[int, ...]]:
    """Choices of k of the facets' rows that meet at a vertex."""
    mask, start = complex.cells.mask[place], int(complex.cells.facet_ptr[cell])
    bits = [64 * w + b for w, word in enumerate(mask.tolist()) for b in range(64) if word >> b & 1]
    who = [int(complex.who[start + b]) for b in bits]
    return list(islice(combinations(who, complex.dimension), TRIES))


def winner(network: Network) -> Network:
    """The network of the number of its largest output, as a gate."""
    if network.outputs < 2:
        raise DataError(
            "class boundaries need two outputs or more, got 1: ask for boundary(level=..) instead"
        )
    index = torch.arange(network.outputs)[None]
    return appended(network, Winner(index), "largest")
