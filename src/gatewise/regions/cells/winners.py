"""Cells split by gates that pick the largest of a group: challengers in turn, and a merge.

Candidate r meets the winner so far, which splits a cell by one row a group; the next round's rows
hang on who won. Where r beats two former winners, its cell comes out in parts, cut by a row between
two losers: those are put together again, as one convex cell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.ir.kinds import Affine, Pieces, Winner
from gatewise.ir.network import INPUT
from gatewise.ir.pattern import Pattern, layout
from gatewise.regions.cells.chunks import Chunk, Floats, Ints, Split, split_rows, starts
from gatewise.regions.cells.pools import Cells, Forms
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.stages import Columns, Plan, Stage, label, unlabel


def split_winners(
    p: Plan, stage: Stage, chunk: Chunk, values: Columns, bound: Floats, decide: Signs
) -> tuple[Split, torch.Tensor]:
    """The cells split by who wins each group, and the winner (children, *shape) of each."""
    kind = stage.gate.kind
    assert isinstance(kind, Winner)
    zs = [values[name].flatten(2) for name in stage.gate.inputs]
    q = max(len(z) for z in zs)
    z = kind.sign * torch.cat([v.expand(q, *v.shape[1:]) for v in zs], 2).numpy()
    index = kind.index.reshape(-1, kind.branches).cpu().numpy()
    origin = np.arange(len(chunk), dtype=np.int32)
    best = np.repeat((index >= 0).argmax(1)[None], len(chunk), 0)
    guessed = 0
    loose = rounded(p, stage, chunk)
    for challenger in range(1, kind.branches):
        forms = _forms(p, stage, z, bound, loose, index, origin, best, challenger)
        made = split_rows(chunk, forms, decide)
        won = np.unpackbits(made.sides, axis=1, count=len(index)).astype(bool)
        best = np.where(won, challenger, best[made.parent])
        origin, guessed = origin[made.parent], guessed + made.guessed
        chunk = dataclasses.replace(
            chunk,
            cells=made.cells,
            points=made.points,
            rows=made.rows,
            bits=chunk.bits[made.parent],
        )
    cells, first = merged(chunk, stage.number, origin, best)
    codes = torch.from_numpy(best[first]).reshape(-1, *stage.gate.shape)
    none = np.zeros((len(first), 0), np.uint8)
    return Split(cells, chunk.points, chunk.rows, origin[first], none, guessed), codes


def _forms(
    p: Plan,
    stage: Stage,
    z: Floats,
    bound: Floats,
    loose: NDArray[np.bool_],
    index: Ints,
    origin: NDArray[np.int32],
    best: Ints,
    challenger: int,
) -> Forms:
    """Challenger minus the winner so far, one row a group; -1 where there is no challenger."""
    units = np.arange(len(index))
    row = z[origin if len(z) > 1 else np.zeros_like(origin)]
    mine, theirs = index[:, challenger], index[units, best]
    k = row.shape[1]
    there = np.broadcast_to(theirs[:, None, :], (len(origin), k, len(index)))
    gap = row[:, :, np.maximum(mine, 0)] - np.take_along_axis(row, there, 2)
    gap[:, :, mine < 0] = np.where(np.arange(k) == k - 1, -1.0, 0.0)[:, None]
    doubt = loose[origin if len(loose) > 1 else np.zeros_like(origin)]
    either = doubt[:, np.maximum(mine, 0)] | np.take_along_axis(doubt, theirs, 1)
    error = np.where(either & (mine >= 0), bound, 0.0)
    first = label(stage.number, challenger, 0, len(index))
    who = first[None] | (best.astype(np.int64) << 32)
    return Forms(np.ascontiguousarray(gap), error, who, p.slice.reach, np.zeros(len(index), bool))


def rounded(p: Plan, stage: Stage, chunk: Chunk) -> NDArray[np.bool_]:
    """(cells or 1, candidates): False where a value is a known constant, so nothing was rounded.

    Units on a flat branch are such, as long as they are only moved on their way: of two that are
    off, neither is larger, and no bound has to tell.
    """
    pattern = Pattern(chunk.bits, layout(p.network))
    parts = [_rounded(p, name, pattern).flatten(1) for name in stage.gate.inputs]
    q = max(len(part) for part in parts)
    return torch.cat([part.expand(q, -1) for part in parts], 1).numpy()


def _rounded(p: Plan, name: str, pattern: Pattern) -> torch.Tensor:
    kind = None if name == INPUT else p.network.node(name).kind
    if isinstance(kind, Pieces):
        return kind.branch(pattern.codes(name)).weights[0].squeeze(1) != 0
    if not isinstance(kind, Affine) or kind.terms or kind.bias is not None:
        return torch.ones(1, *p.network.shape(name), dtype=torch.bool)
    xs = [_rounded(p, n, pattern).to(torch.float64) for n in p.network.node(name).inputs]
    q = max(len(x) for x in xs)
    return kind.magnitude(*(x.expand(q, *x.shape[1:]) for x in xs)) > 0


def merged(chunk: Chunk, gate: int, origin: NDArray[np.int32], best: Ints) -> tuple[Cells, Ints]:
    """The cells of one parent with one winner in every group as one; and the first part of each."""
    names = np.concatenate([origin[:, None], best], 1)
    _, first, group = np.unique(names, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    group, first = place[group.reshape(-1)], first[order]
    if len(first) == len(origin):
        return chunk.cells, np.arange(len(origin))
    sizes = np.bincount(group)
    parts = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    bodies = [
        _union(chunk, gate, best[f], part) if len(part) > 1 else _alone(chunk, int(f))
        for f, part in zip(first, parts, strict=True)
    ]
    words = max(b[1].shape[1] for b in bodies)
    masks = [np.pad(b[1], ((0, 0), (0, words - b[1].shape[1]))) for b in bodies]
    return Cells(
        starts(np.array([len(b[0]) for b in bodies])),
        np.concatenate([b[0] for b in bodies]).astype(np.int32),
        np.concatenate(masks),
        starts(np.array([len(b[2]) for b in bodies])),
        np.concatenate([b[2] for b in bodies]).astype(np.int32),
    ), first


Body = tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.int32]]


def _alone(chunk: Chunk, cell: int) -> Body:
    c = chunk.cells
    span, facets = slice(c.ptr[cell], c.ptr[cell + 1]), slice(*c.facet_ptr[cell : cell + 2])
    return c.vertex[span], c.mask[span], c.facet[facets]


def _union(chunk: Chunk, gate: int, best: Ints, parts: Ints) -> Body:
    """The union of the parts, which is convex, without what only cuts them from one another."""
    walls: dict[int, int] = {}  # name of a hyperplane -> its row
    on: dict[int, set[int]] = {}  # key of a vertex -> names of the hyperplanes it lies on
    place: dict[int, int] = {}
    for part in parts.tolist():
        vertex, mask, facet = _alone(chunk, part)
        for b, row in enumerate(facet.tolist()):
            name = _name(chunk, gate, best, row)
            held = (mask[:, b >> 6] >> np.uint64(b & 63)) & np.uint64(1)
            for v in vertex[held.astype(bool)].tolist():
                key = int(chunk.points.key[v])
                place[key] = v
                on.setdefault(key, set())
                if name is not None:
                    walls.setdefault(name, row)
                    on[key].add(name)
    corners = [v for v in on if not any(on[v] <= on[w] for w in on if w != v)]
    number = {name: b for b, name in enumerate(walls)}
    masks = np.zeros((len(corners), -(-len(walls) // 64)), np.uint64)
    for i, v in enumerate(corners):
        for name in on[v]:
            masks[i, number[name] >> 6] |= np.uint64(1 << (number[name] & 63))
    return (
        np.array([place[v] for v in corners], np.int32),
        masks,
        np.array(list(walls.values()), np.int32),
    )


def _name(chunk: Chunk, gate: int, best: Ints, row: int) -> int | None:
    """What tells hyperplanes apart, or None for a row between two losers."""
    who = int(chunk.rows.who[row])
    number, challenger, place, unit = unlabel(who) if who >= 0 else (-1, 0, 0, 0)
    if number != gate:
        return -1 - row
    return who if int(best[unit]) in (challenger, place) else None
