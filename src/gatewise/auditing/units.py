"""What units do on some rows, and how many rules are in use there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gatewise.explain.explanation import Explanation
from gatewise.ir.pattern import Field

CODES = 10_000_000  # unpacked at once


@dataclass(frozen=True)
class GateUse:
    """Units of one gate: on the rows always on the first branch, always on another, or neither."""

    name: str
    units: int
    off: int
    on: int

    @property
    def both(self) -> int:
        """Units that switch."""
        return self.units - self.off - self.on


def gate_uses(e: Explanation) -> tuple[GateUse, ...]:
    """Each gate's units by what they do on the rows."""
    return tuple(_gate_use(e, field) for field in e.census.pattern.fields)


def _gate_use(e: Explanation, field: Field) -> GateUse:
    step = max(1, CODES // max(1, field.units))
    low = np.full(field.units, np.iinfo(np.int64).max)
    high = np.full(field.units, -1)
    for start in range(0, e.clusters, step):
        part = e.census.pattern[slice(start, start + step)]
        codes = part.codes(field.name).reshape(len(part), -1).numpy().astype(np.int64)
        low, high = np.minimum(low, codes.min(0)), np.maximum(high, codes.max(0))
    fixed = low == high
    return GateUse(
        field.name, field.units, int((fixed & (high == 0)).sum()), int((fixed & (high > 0)).sum())
    )


def linear_share(uses: Iterable[GateUse]) -> float:
    """The share of units that never switch, so that each is affine on the rows; nan for none."""
    uses = tuple(uses)
    units = sum(use.units for use in uses)
    return sum(use.off + use.on for use in uses) / units if units else float("nan")


def effective_rules(e: Explanation) -> float:
    """exp(entropy of the cluster sizes): how many equally large clusters would be as mixed."""
    p = e.share[e.share > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
