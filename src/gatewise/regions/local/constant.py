"""constant_units(network, box): gate units that take one branch all over a box, provably."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gatewise.errors import DataError
from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node, fold, require_piecewise_affine
from gatewise.regions.local.forms import F64, Form, codes, forward, start
from gatewise.regions.local.irredundant import corners


@dataclass(frozen=True, eq=False)
class Constant:
    """branch: for each gate (units,) the branch that a unit takes everywhere in the box, else -1.

    -1 is open: bounds do not prove one branch, and the unit may still be constant.
    """

    branch: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """Units proven constant."""
        return sum(int((b >= 0).sum()) for b in self.branch.values())

    @property
    def open(self) -> tuple[tuple[str, int], ...]:
        """(gate, unit) of the others."""
        return tuple(
            (g, k) for g, b in self.branch.items() for k in (b < 0).nonzero().flatten().tolist()
        )

    def __repr__(self) -> str:
        units = sum(len(b) for b in self.branch.values())
        return f"Constant({self.count} of {units} units proven; {units - self.count} open)"


def constant_units(network: Network, box: Any) -> Constant:
    """Units constant over a finite box (low, high), by bounds and affine forms: no unit is guessed.

    Sound for the exact network of these weights, rounding included; not complete.
    """
    require_piecewise_affine(network, "finding constant units")
    network = network.to(F64, "cpu")
    ends = corners(box, network.inputs)
    if ends is None or not all(bool(v.isfinite().all()) for v in ends):
        raise DataError("constant units need a finite box (low, high), got one without an end")
    found: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Form]) -> Form:
        if isinstance(node.kind, Pieces | Winner):
            found[node.name] = codes(node.kind, xs).flatten()
        return forward(node, xs)

    fold(network, start(*ends, network.input_shape), step)
    return Constant(found)
