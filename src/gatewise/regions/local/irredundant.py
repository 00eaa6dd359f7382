"""facets(region): which of a region's half-spaces are its facets, and a proof for every row.

The exact region is what is spoken of, rounding of its rows included: see `redundant.proofs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_tensor
from gatewise.regions.halfspaces import Region
from gatewise.regions.local.redundant.decide import FACET, REDUNDANT, UNDECIDED, Board, board
from gatewise.regions.local.redundant.frame import F64, Box, frame
from gatewise.regions.local.redundant.leftover import finish
from gatewise.regions.local.redundant.proofs import Claims


@dataclass(frozen=True, eq=False)
class Facets:
    """The facets of one region among its m rows, those of the gates first, then the box's.

    row (F,): the first row of each facet; member (m,): the facet a row is, -1 where it is none:
    several rows are one facet where they are the same half-space. status (m,): +1 facet, -1
    redundant, 0 undecided. gate, unit (m,): whose row it is, "box low" or "box high" with the
    feature for a box. point (F, inputs): beyond the facet and no other row (nan where whole numbers
    proved the facet by themselves); inner (inputs,): strictly inside. exact (m,): decided in whole
    numbers, for floats left it open.

    A facet breaks no undecided row, but for rows that may be zero and cannot be looked at in whole
    numbers: they are left out of what is said of others.
    """

    row: Tensor
    member: Tensor
    status: Tensor
    gate: tuple[str, ...]
    unit: Tensor
    point: Tensor
    inner: Tensor
    exact: Tensor
    claims: tuple[Claims, ...]
    fractions: Mapping[int, Mapping[int, Fraction]]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def redundant(self) -> Tensor:
        """Rows that follow from others."""
        return (self.status == REDUNDANT).nonzero().flatten()

    @property
    def undecided(self) -> Tensor:
        """Rows about which nothing could be proven."""
        return (self.status == UNDECIDED).nonzero().flatten()

    def units(self, facet: int) -> tuple[tuple[str, int], ...]:
        """(gate, unit) of every row that is the facet."""
        rows = (self.member == facet).nonzero().flatten().tolist()
        return tuple((self.gate[r], int(self.unit[r])) for r in rows)

    def multipliers(self, row: int) -> dict[int, float]:
        """l >= 0 with a = sum l_j a_j and b >= sum l_j b_j, for a redundant row; {} for a zero row.

        Rounded: exact ones are that near, which is what was proven.
        """
        if self.status[row] != REDUNDANT:
            raise DataError(f"row {row} is not redundant, so no others imply it")
        if row in self.fractions:
            return {j: float(v) for j, v in self.fractions[row].items()}
        for claim in self.claims:
            for k in (claim.target == row).nonzero().flatten().tolist():
                pairs = zip(claim.by.tolist(), claim.multipliers[k].tolist(), strict=True)
                return {j: v for j, v in pairs if v}
        return {}

    def __repr__(self) -> str:
        open_ = len(self.undecided)
        doubt = f"; {open_} undecided" if open_ else ""
        whole = int(self.exact.sum())
        exact = f"; {whole} decided in whole numbers" if whole else ""
        return f"Facets({len(self)} of {len(self.status)} rows{doubt}{exact})"


def facets(region: Region, index: int = 0, *, box: Any = None) -> Facets:
    """The facets of one region, of the part of it in a box (low, high) if one is given.

    Every row is proven to be a facet or redundant, in float64 with rounding bounds or in whole
    numbers, or listed as undecided. Raises DataError where the region has no inner point.
    Rows that the quick search leaves open need the extra `lp`.
    """
    if not -len(region) <= index < len(region):
        raise DataError(f"there are {len(region)} regions, counted from 0; got index {index}")
    b = board(frame(region, index % len(region), corners(box, region.network.inputs)))
    finish(b)
    return _facets(b)


def corners(box: Any, d: int) -> Box | None:
    """(low, high) of a box as float64, numbers repeated; low must be below high."""
    if box is None:
        return None
    try:
        low, high = box
    except (TypeError, ValueError):
        raise WrongShape("box must be a pair (low, high): two numbers, or two rows") from None
    ends = [as_tensor(v, F64, torch.device("cpu")).reshape(-1) for v in (low, high)]
    if any(len(v) not in (1, d) for v in ends):
        raise WrongShape(
            f"the corners of a box must be one number or {d}, one for each input; got "
            f"{len(ends[0])} and {len(ends[1])}"
        )
    low, high = (v.expand(d).clone() for v in ends)
    if not bool((low < high).all()):
        k = int((~(low < high)).nonzero()[0])
        raise DataError(
            f"the box is empty or flat: input {k} runs from {float(low[k]):g} to "
            f"{float(high[k]):g}; facets need low < high for every input"
        )
    return low, high


def _facets(b: Board) -> Facets:
    m = len(b.walls)
    row = b.live[b.status[b.live] == FACET]
    number = torch.full((m,), -1)
    number[row] = torch.arange(len(row))
    member = torch.where(b.status[b.twin] == FACET, number[b.twin], -1)
    none = b.frame.home.new_full((b.frame.home.numel(),), torch.nan)
    points = [b.point.get(r, none) for r in row.tolist()]
    whole = torch.zeros(m, dtype=torch.bool)
    whole[list(b.whole)] = True
    return Facets(
        row,
        member,
        b.status[b.twin],
        b.frame.gate,
        b.frame.unit,
        torch.stack(points) if points else none.new_zeros(0, len(none)),
        b.frame.x(b.inner[None])[0] if len(b.inner) else b.frame.home,
        whole,
        tuple(b.claims),
        b.fractions,
    )
