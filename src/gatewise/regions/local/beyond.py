"""neighbours(region): the regions across each facet, and the units that change there.

Across a facet its own units change branch; but one may come to its knot there and go back (behind
an |z|), and one whose row is zero on the region may wake up. So the branches are read off at a
point just beyond the facet, decided exactly, and that point is kept as the witness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node
from gatewise.ir.pattern import Packer, Pattern
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.regions.constraints import Frozen, asks, frozen, magnitude, slack, spread, visit
from gatewise.regions.halfspaces import Region
from gatewise.regions.local.irredundant import Facets, facets
from gatewise.regions.local.redundant.frame import F64, frame, with_bias, without_bias
from gatewise.regions.local.redundant.proofs import at_gates, sides

Units = tuple[tuple[str, int], ...]
Step = Callable[[Node, list[Tensor]], Tensor]
TRIES = (1e-4, 1e-7, 1e-10)  # steps beyond a facet where other units change with its own


@dataclass(frozen=True, eq=False)
class Neighbours:
    """n regions around one: pattern (n rows), a point (n, inputs) strictly inside each.

    facet (n,): the facet of `facets` that is crossed; changed: the units whose branch is another.
    missed: facets of gates beyond which no point could be shown (thinner than floats there).
    """

    facets: Facets
    facet: Tensor
    pattern: Pattern
    point: Tensor
    changed: tuple[Units, ...]
    missed: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.facet)

    def __repr__(self) -> str:
        lost = f"; {len(self.missed)} facets without a point beyond" if self.missed else ""
        return f"Neighbours({len(self)} across {len(self.facets)} facets{lost})"


def neighbours(region: Region, index: int = 0, *, box: Any = None) -> Neighbours:
    """The regions that share a facet with one region; only those across facets inside the box."""
    found = facets(region, index, box=box)
    network = region.network.to(F64, "cpu")
    home = region.pattern[np.array([index % len(region)])]
    names = {g.name for g in network.gates}
    walls = torch.tensor([gate not in names for gate in found.gate], dtype=torch.bool)
    outer = set(found.member[walls].tolist())  # of the box, even where a gate's row is the same
    inner = [k for k in range(len(found)) if k not in outer]
    shown = [k for k in inner if not bool(found.point[k].isnan().any())]
    pattern, point, there = _seen_beyond(network, home, found, torch.tensor(shown).long())
    changed = tuple(changes(home, pattern[np.array([k])]) for k in range(len(there)))
    missed = tuple(k for k in inner if k not in set(there.tolist()))
    return Neighbours(found, there, pattern, point, changed, missed)


def _seen_beyond(
    network: Network, home: Pattern, found: Facets, facet: Tensor
) -> tuple[Pattern, Tensor, Tensor]:
    """What is met just beyond some facets, where, and for which of them it could be told."""
    if not len(facet):
        return Pattern(home.bits[:0], home.fields), found.point[facet], facet
    guess = _flipped(network, home, found, facet)
    start, way = _on_facets(frozen(network, home), found, facet)
    step = _beyond(frozen(network, guess), start, way)
    bits, point = guess.bits.copy(), start.clone()
    open_ = np.arange(len(facet))
    for length in (step, *(step.new_full(step.shape, t) for t in TRIES)):
        x = start[open_] + length[open_, None] * way[open_]
        seen = pattern_of(network, x.reshape(-1, *network.input_shape))
        left = (x != start[open_]).any(1).numpy()  # a step of 0 shows what is on the facet alone
        fine = seen.equal(guess[open_]) & left
        fine |= _touching(network, seen, start[open_], left & ~fine & ~seen.equal(home))
        bits[open_[fine]], point[open_[fine]] = seen.bits[fine], x[fine]
        open_ = open_[~fine]
        if not len(open_):
            break
    kept = np.setdiff1d(np.arange(len(facet)), open_)
    return Pattern(bits[kept], home.fields), point[kept], facet[kept]


def changes(a: Pattern, b: Pattern) -> Units:
    """(gate, unit) of the units whose branches differ between two patterns of one row each."""
    return tuple(
        (name, unit)
        for name in a
        for unit in (a.codes(name) != b.codes(name)).flatten().nonzero().flatten().tolist()
    )


def _flipped(network: Network, home: Pattern, found: Facets, there: Tensor) -> Pattern:
    """The pattern with the units of each facet on their other branch."""
    target = _across(frozen(network, home))
    packer, member = Packer(home.fields, len(there)), found.member
    start = 0
    for node in network.gates:
        codes = home.codes(node.name).reshape(1, -1).to(torch.int64).repeat(len(there), 1)
        code = target[node.name]
        rows = slice(start, start + len(code))
        start = rows.stop
        facet, row = (member[rows] == there[:, None]).nonzero().T
        codes[facet, found.unit[rows][row]] = code[row]
        packer.put(node.name, codes)
    return Pattern(packer.bits, home.fields)


def _across(f: Frozen) -> dict[str, Tensor]:
    """For each gate, the branch (rows,) that its unit takes beyond each of its rows."""
    found = {}
    for node in f.gates:
        kind, codes = node.kind, f.codes(node.name)
        if isinstance(kind, Pieces):
            code = codes.reshape(-1).long()
            knot = torch.arange(kind.branches - 1)[:, None]
            found[node.name] = torch.where(code > knot, knot, knot + 1).reshape(-1)
        elif isinstance(kind, Winner):
            asked = asks(kind, codes).movedim(-1, 0)
            place = torch.arange(kind.branches).reshape(-1, *[1] * (asked.ndim - 1))
            found[node.name] = place.expand(asked.shape)[asked]
    return found


def _on_facets(f: Frozen, found: Facets, there: Tensor) -> tuple[Tensor, Tensor]:
    """Where the segment from the inner point to the one beyond meets each facet, and its way."""
    beyond, row = found.point[there], found.row[there]
    value = at_gates(
        f, f, torch.cat([found.inner[None], beyond])[None].unflatten(-1, f.network.input_shape)
    )
    first, last = value[0, row], value[1:].gather(1, row[:, None])[:, 0]
    way = beyond - found.inner
    return found.inner + (first / (first - last))[:, None] * way, way


def _beyond(f: Frozen, start: Tensor, way: Tensor) -> Tensor:
    """(P,) half of the way from a facet to the next wall of the region behind it, at most 1/2."""
    if not len(start):
        return start.new_zeros(0)
    value, rate = slacks(f, start[:, None], with_bias), slacks(f, way[:, None], without_bias)
    # rows of the facet itself are 0 here but for rounding, and grow
    t = torch.where(rate < 0, value.clamp(min=0) / -rate, torch.inf)
    return t[:, 0].amin(1).clamp(max=1) / 2


def slacks(f: Frozen, x: Tensor, step: Step) -> Tensor:
    """(P, k, rows) every row of P regions at x (P, k, inputs); inf, or rate 0, where none is."""
    linear = step is without_bias
    empty = x.new_full((*x.shape[:2], 1), 0.0 if linear else torch.inf)
    return torch.cat([empty, *_seen(f, f, x, step, lambda k, z, c: slack(k, z, c, linear))], 2)


def sizes(f: Frozen, x: Tensor) -> Tensor:
    """(P, k, rows) what the rounding of `slacks` is a multiple of."""
    walked = Frozen(f.source, spread(f), f.pattern)
    empty = x.new_zeros(*x.shape[:2], 1)
    return torch.cat([empty, *_seen(f, walked, x.abs(), with_bias, magnitude)], 2)


def _seen(
    f: Frozen, walked: Frozen, x: Tensor, step: Step, measure: Callable[..., Tensor]
) -> list[Tensor]:
    parts: list[Tensor] = []

    def see(node: Node, zs: list[Tensor]) -> None:
        rows = measure(node.kind, zs, f.codes(node.name))
        rows = rows.movedim(0, 2).reshape(*rows.shape[1:3], -1)
        parts.append(rows.expand(len(x), -1, -1))

    visit(walked, x.unflatten(-1, f.network.input_shape), step, see)
    return parts


def _touching(network: Network, seen: Pattern, c: Tensor, left: NDArray[np.bool_]) -> Any:
    """(P,) bool: regions of `left` whose closure has the point c (P, inputs), as far as floats say.

    For what changes beside the facet's own units: rows that are zero here, gates that jump.
    """
    fine = np.zeros(len(c), bool)
    for k in np.flatnonzero(left):
        there = Region(network, c[k : k + 1], seen[np.array([k])])
        fine[k] = bool((sides(frame(there, 0), c[k : k + 1], None) != -1).all())
    return fine
