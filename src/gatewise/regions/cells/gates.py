"""One gate: from a chunk of cells to the chunk of their children behind it."""

from __future__ import annotations

import numpy as np
import torch

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.pattern import Packer, Pattern, layout
from gatewise.regions.cells import bounds, flips
from gatewise.regions.cells.bounds import Bounds, row_errors
from gatewise.regions.cells.chunks import Chunk, Floats, Ints, Split, apart, own_keys, split_rows
from gatewise.regions.cells.pools import Forms
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.stages import (
    KNOT,
    Columns,
    Plan,
    Stage,
    advance,
    knot_forms,
    label,
    through,
)
from gatewise.regions.cells.winners import split_winners


def split(p: Plan, chunk: Chunk, decide: Signs) -> Chunk:
    """The chunk behind its next gate."""
    stage = p.stages[chunk.stage]
    chunk = apart(chunk) if stage.apart else chunk
    values, known = entering(p, chunk), entering_bounds(p, chunk)
    error = row_errors(stage, known)
    kind, field = stage.gate.kind, layout(p.network)[stage.number]
    codes: torch.Tensor | None
    if isinstance(kind, Winner):
        made, codes = split_winners(p, stage, chunk, values, error, decide)
    else:
        z = values[stage.gate.inputs[0]]
        made, codes = split_knots(p, stage, chunk, z, error, decide)
    made = own_keys(chunk, made) if stage.apart else made
    bits = chunk.bits[made.parent]
    if codes is None:
        bits[:, field.start : field.stop] = made.sides  # one knot a unit: packed the same way
    else:
        packer = Packer(layout(p.network), len(bits))
        packer.put(stage.gate.name, codes)
        bits |= packer.bits
    needed = (stage.live | {*stage.gate.inputs}) - {stage.gate.name} if stage.live else set()
    return Chunk(
        made.cells,
        made.points,
        made.rows,
        bits,
        {name: values[name] for name in needed},
        {name: known[name] for name in needed},
        chunk.stage + 1,
        made.parent.astype(np.int64),
        chunk.order,
        chunk.weight,
        chunk.guessed + made.guessed,
    )


def entering(p: Plan, chunk: Chunk) -> Columns:
    """What enters the chunk's next gate, on each of its cells, and what is needed behind it.

    Worked out here, a chunk at a time, so that a gate with many children fits.
    """
    stage = p.stages[chunk.stage]
    if chunk.parent is None:
        return advance(p, stage.before, chunk.values)
    if p.stages[chunk.stage - 1].onward is not None:
        return {stage.gate.inputs[0]: _updated(p, chunk)}
    return _afresh(p, chunk, np.arange(len(chunk)))


def entering_bounds(p: Plan, chunk: Chunk) -> Bounds:
    """How far what enters the chunk's next gate can be off, on any of its cells."""
    stage, behind = p.stages[chunk.stage], chunk.bounds
    if chunk.parent is not None:
        last = p.stages[chunk.stage - 1]
        behind = bounds.through(last, behind, chunk.bits, layout(p.network)[last.number])
    return bounds.advance(stage.before, behind)


def _afresh(p: Plan, chunk: Chunk, some: Ints) -> Columns:
    """Values behind the last gate, from its inputs on the parents, for some of the cells."""
    assert chunk.parent is not None
    last = p.stages[chunk.stage - 1]
    codes = Pattern(chunk.bits[some], layout(p.network)).codes(last.gate.name)
    values = through(p, last, chunk.values, torch.from_numpy(chunk.parent[some]), codes)
    return advance(p, p.stages[chunk.stage].before, values)


def _updated(p: Plan, chunk: Chunk) -> torch.Tensor:
    """What enters the next gate: a product for some of the cells, updates for the others."""
    last, name = p.stages[chunk.stage - 1], p.stages[chunk.stage].gate.inputs[0]
    field = layout(p.network)[last.number]
    assert last.onward is not None and chunk.parent is not None
    sides = np.ascontiguousarray(chunk.bits[:, field.start : field.stop])
    fresh = np.empty(len(chunk), np.bool_)
    flips.fresh_starts(chunk.parent, sides, fresh)
    product = _afresh(p, chunk, fresh.nonzero()[0])[name]
    z = chunk.values[last.gate.inputs[0]]
    out = np.empty((len(fresh), z.shape[1], last.onward.weight.shape[1]))
    flips.follow(
        chunk.parent,
        sides,
        fresh,
        product.flatten(2).contiguous().numpy(),
        z.flatten(2).contiguous().numpy(),
        last.onward.weight,
        last.onward.slope,
        last.onward.offset,
        out,
    )
    return torch.from_numpy(out).reshape(len(out), *product.shape[1:])


def split_knots(
    p: Plan, stage: Stage, chunk: Chunk, z: torch.Tensor, error: Floats, decide: Signs
) -> tuple[Split, torch.Tensor | None]:
    """The cells split at the knots of every unit, and the branches (children, *shape) that they
    are on; None where there is one knot a unit, and the sides say it."""
    kind, shape = stage.gate.kind, stage.gate.shape
    assert isinstance(kind, Pieces)
    units, knots = int(np.prod(shape)), len(kind.knots)
    who = np.concatenate([label(stage.number, KNOT, k, units) for k in range(knots)])
    forms = Forms(
        knot_forms(stage, z, len(chunk)),
        error[None],
        who[None],
        p.slice.reach,
        np.repeat(np.array(kind.closed), units),
    )
    made = split_rows(chunk, forms, decide, p.most)
    if knots == 1:
        return made, None
    sides = np.unpackbits(made.sides, axis=1, count=len(who)).reshape(-1, knots, units)
    return made, torch.from_numpy(sides.sum(1, dtype=np.uint8)).reshape(-1, *shape)
