"""One gate: from a chunk of cells to the chunk of their children behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.pattern import Packer, layout
from gatewise.regions.cells import flips
from gatewise.regions.cells.chunks import Chunk, Split, apart, split_rows
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

Codes = Callable[[Any], torch.Tensor]  # of some of the children


def split(p: Plan, chunk: Chunk, decide: Signs) -> Chunk:
    """The chunk behind its next gate."""
    stage = p.stages[chunk.stage]
    chunk = apart(chunk) if stage.apart else chunk
    known = stage.gate.inputs[0] in chunk.values
    values = chunk.values if known else advance(p, stage.before, chunk.values)
    if isinstance(stage.gate.kind, Winner):
        made, won = split_winners(p, stage, chunk, values, decide)
        codes: Codes = won.__getitem__
    else:
        made, codes = split_knots(p, stage, chunk, values[stage.gate.inputs[0]], decide)
    bits = chunk.bits[made.parent]
    field = layout(p.network)[stage.number]
    if field.width == 1 and isinstance(stage.gate.kind, Pieces):
        bits[:, field.start : field.stop] = made.sides  # packed the same way
    else:
        packer = Packer(layout(p.network), len(bits))
        packer.put(stage.gate.name, codes(slice(None)))
        bits |= packer.bits
    parent = torch.from_numpy(made.parent).long()
    if stage.onward is not None:
        values = {p.stages[chunk.stage + 1].gate.inputs[0]: _next(p, stage, values, made, codes)}
    elif stage.live:
        values = through(p, stage, values, parent, codes(slice(None)))
    else:
        values = {}
    return Chunk(
        made.cells,
        made.points,
        made.rows,
        bits,
        values,
        chunk.stage + 1,
        chunk.order,
        chunk.weight,
        chunk.guessed + made.guessed,
    )


def _next(p: Plan, stage: Stage, values: Columns, made: Split, codes: Codes) -> torch.Tensor:
    """What enters the next gate on each child: a product for some, updates for the others."""
    assert stage.onward is not None
    fresh = np.empty(len(made.parent), np.bool_)
    flips.fresh_starts(made.parent, made.sides, fresh)
    following, some = p.stages[stage.number + 1], fresh.nonzero()[0]
    parent = torch.from_numpy(made.parent[some]).long()
    first = advance(p, following.before, through(p, stage, values, parent, codes(some)))
    product = first[following.gate.inputs[0]]
    z = values[stage.gate.inputs[0]]
    out = np.empty((len(fresh), z.shape[1], stage.onward.weight.shape[1]))
    flips.follow(
        made.parent,
        made.sides,
        fresh,
        product.flatten(2).contiguous().numpy(),
        z.flatten(2).contiguous().numpy(),
        stage.onward.weight,
        stage.onward.slope,
        stage.onward.offset,
        out,
    )
    return torch.from_numpy(out).reshape(len(out), z.shape[1], *following.gate.shape)


def split_knots(
    p: Plan, stage: Stage, chunk: Chunk, z: torch.Tensor, decide: Signs
) -> tuple[Split, Codes]:
    """The cells split at the knots of every unit, and how to get the branches of some of them."""
    kind, shape = stage.gate.kind, stage.gate.shape
    assert isinstance(kind, Pieces)
    units = int(np.prod(shape))
    who = np.concatenate([label(stage.number, KNOT, k, units) for k in range(len(kind.knots))])
    forms = Forms(
        knot_forms(stage, z, len(chunk)),
        stage.error[None],
        who[None],
        p.slice.reach,
        np.repeat(np.array(kind.closed), units),
    )
    made = split_rows(chunk, forms, decide)

    def codes(rows: Any) -> torch.Tensor:
        """(rows, *shape)."""
        sides = np.unpackbits(made.sides[rows], axis=1, count=len(who)).view(bool)
        above = sides.reshape(len(sides), -1, units)
        picked = above[:, 0] if above.shape[1] == 1 else above.sum(1, dtype=np.uint8)
        return torch.from_numpy(picked).reshape(-1, *shape)

    return made, codes
