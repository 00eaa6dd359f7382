"""How far the computed rows of a gate can be from the exact ones, on the cells of a chunk.

A row's value at any s of the box is a sum over the network's paths, so folding magnitudes bounds
its rounding error, whatever the cell. Past a gate only the branches count that some cell of the
chunk is on: in a deep network that is a small part of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import INPUT, Node
from gatewise.ir.pattern import Field, Pattern
from gatewise.ir.rounding import Enclosure
from gatewise.patterns.thresholds import SLACK, largest, on_branches
from gatewise.regions.cells.stages import Plan, Stage

Bounds = dict[str, Enclosure]  # name -> the largest |value| and error over the box, (1, *shape)


def start(p: Plan) -> Bounds:
    """The input's: known exactly."""
    where = p.slice
    reach = np.abs(where.origin) + where.reach @ np.abs(where.directions)
    value = torch.from_numpy(reach).reshape(1, *p.network.input_shape)
    return {INPUT: Enclosure(value, torch.zeros_like(value))}


def advance(nodes: Iterable[Node], bounds: Bounds) -> Bounds:
    """The bounds of the nodes, from those of what they hang on."""
    bounds = dict(bounds)
    for node in nodes:
        bounds[node.name] = largest(node, [bounds[name] for name in node.inputs])
    return bounds


def through(stage: Stage, bounds: Bounds, bits: NDArray[np.uint8], field: Field) -> Bounds:
    """The bounds behind the gate, for cells with the packed patterns `bits`."""
    kind, gate = stage.gate.kind, stage.gate
    kept = {name: bounds[name] for name in stage.live if name != gate.name}
    if isinstance(kind, Pieces):
        there = _present(kind, bits, field)
        slope, offset = (_most(t, there) for t in (kind.slopes, kind.offsets))
        behind = on_branches(kind, bounds[gate.inputs[0]], slope, offset)
    else:
        behind = largest(gate, [bounds[name] for name in gate.inputs])
    return {**kept, gate.name: behind}


def _present(kind: Pieces, bits: NDArray[np.uint8], field: Field) -> Tensor:
    """(branches, *shape) bool: the branches that some cell is on."""
    if field.width == 1:
        packed = bits[:, field.start : field.stop]
        ends = np.stack([~np.bitwise_and.reduce(packed, 0), np.bitwise_or.reduce(packed, 0)])
        there = np.unpackbits(ends, axis=1, count=field.units).view(np.bool_)
        return torch.from_numpy(there).reshape(2, *field.shape)
    codes = Pattern(bits, (field,)).codes(field.name)
    return torch.stack([(codes == k).any(0) for k in range(kind.branches)])


def _most(table: Tensor, there: Tensor) -> Tensor:
    """(1, *shape): the largest |entry| of the branches there, for a table (branches, ...)."""
    parts = [t.abs() * on for t, on in zip(table, there, strict=True)]
    return torch.stack(parts).amax(0, keepdim=True)


def row_errors(stage: Stage, bounds: Bounds) -> NDArray[np.float64]:
    """(n,): one bound for each row the gate asks, anywhere in the box."""
    kind, shape = stage.gate.kind, stage.gate.shape
    errors = [bounds[name].error for name in stage.gate.inputs]
    grown = SLACK * (1 + stage.updates)
    if isinstance(kind, Winner):  # a difference of two candidates
        return np.full(int(np.prod(shape)), 2 * grown * max(float(e.max()) for e in errors))
    assert isinstance(kind, Pieces)
    one = errors[0].expand(1, *shape).reshape(-1).numpy()
    return np.tile(grown * one, len(kind.knots))
