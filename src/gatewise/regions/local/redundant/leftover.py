"""The few rows that the quick search leaves: a warm linear program each, then whole numbers.

One at a time against all rows not known to be redundant, so that no two rows that say the same are
both left out.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from gatewise.regions.local.redundant.decide import FACET, REDUNDANT, Board
from gatewise.regions.local.redundant.exact import primitive
from gatewise.regions.local.redundant.lp import Warm
from gatewise.regions.local.redundant.proofs import Claims
from gatewise.regions.local.redundant.rational import follows
from gatewise.regions.local.redundant.rays import Facing, shoot


def finish(b: Board) -> None:
    """Decide what is open, as far as that can be proven."""
    hints = _by_programs(b) if len(b.open) else {}
    if len(b.open) and b.rows is not None:
        _by_whole_numbers(b, hints)
    _copies(b)


def _by_programs(b: Board) -> dict[int, list[int]]:
    """Decide what a program in floats can; for the rest the rows that it says they follow from."""
    rows, hints = b.live, {}
    a = b.walls.a[rows] / b.walls.s[rows, None]
    warm = Warm(a)
    place = {row: k for k, row in enumerate(rows.tolist())}
    for row in b.open.tolist():
        found = warm.ask(place[row]) if b.status[row] == 0 else None
        if found is None:
            continue
        least, u, dual = found
        if least > -1:
            scale = b.walls.s[row] / b.walls.s[rows]
            b.follow([Claims(torch.tensor([row]), rows, (dual * scale)[None])])
            hints[row] = rows[dual > 0].tolist()
            if b.status[row] == REDUNDANT:
                warm.drop(place[row])
        else:
            met = Facing.of(shoot(a, u[None]))
            if len(met.wall) and b.status[rows[met.wall[0]]] == 0:
                b.beyond(rows[met.wall], met.step, b.rational)
    return hints


def _by_whole_numbers(b: Board, hints: dict[int, list[int]]) -> None:
    assert b.rows is not None
    live = b.live.tolist()
    whole = dict(zip(live, primitive(b.rows.whole[np.array(live)]), strict=True))
    for row in b.open.tolist():
        others = [r for r in whole if r != row]
        same = [r for r in others if whole[r] == whole[row]]
        if same:
            b.twin[row] = min(same)
            del whole[row]
            continue
        few = [r for r in hints.get(row, []) if r in whole]
        answer = follows([whole[r] for r in few], whole[row]) if few else None
        if answer is not None and answer.multipliers is not None:
            others = few
        else:
            answer = follows([whole[r] for r in others], whole[row])
        if answer is None:
            continue
        b.whole.add(row)
        if answer.multipliers is None:
            _point(b, live, answer.point or [])
            b.status[row] = FACET
            continue
        pairs = zip(others, answer.multipliers, strict=True)
        unit = _scale(b, row, whole)
        scaled = {r: v * unit / _scale(b, r, whole) for r, v in pairs if v}
        b.fractions[row] = scaled
        b.status[row] = REDUNDANT
        del whole[row]


def _point(b: Board, live: list[int], w: list[int]) -> None:
    """A point in floats beyond the row alone, if one is found on the way to w."""
    most = max(abs(v) for v in w)
    *z, last = (float(Fraction(v, most)) for v in w)
    u = torch.tensor(z, dtype=torch.float64)
    u = u if last == 0 else u / last - b.frame.origin - b.inner
    a = b.walls.a[live] / b.walls.s[live, None]
    met = Facing.of(shoot(a, u[None]))
    b.beyond(torch.tensor(live)[met.wall], met.step, b.rational)


def _copies(b: Board) -> None:
    """Twins of a redundant row are multiples of it."""
    first = torch.arange(len(b.twin))
    copies = (b.twin != first) & (b.status[b.twin] == REDUNDANT)
    for row in copies.nonzero().flatten().tolist():
        b.fractions[row] = {int(b.twin[row]): _ratio(b, row, int(b.twin[row]))}


def _ratio(b: Board, row: int, other: int) -> Fraction:
    """How many times another row a row is, where both are multiples of one."""
    assert b.rows is not None
    mine, theirs = b.rows.whole[row], b.rows.whole[other]
    k = next(k for k, v in enumerate(mine) if v)
    return Fraction(int(mine[k]), int(theirs[k]))


def _scale(b: Board, row: int, whole: dict[int, tuple[int, ...]]) -> Fraction:
    """How many times its coprime whole numbers a row is, but for a factor that all rows share."""
    assert b.rows is not None
    k = next(k for k, v in enumerate(whole[row]) if v)
    return Fraction(int(b.rows.whole[row, k]), whole[row][k])
