"""simplify(complex): a smaller network that is the same function on the box.

A unit that keeps one branch in the whole box is affine there: y = slope z + offset. Every value is
then an affine function of the inputs and of the units that do change; those alone stay gates, each
layer fed by all it hangs on (a skip where a unit that is always on has gone).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gatewise.ir.network import Network
from gatewise.linear.folding.blocks import without_constants
from gatewise.linear.folding.difference import Difference, difference
from gatewise.regions.polyhedral.statistics import constant_units

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

RANDOM = 10_000  # points of the box that the two networks are compared on, besides vertices
VERTICES = 100_000
NOTE = "simplified: the function it was made from in the box (or slice) of its regions only"


@dataclass(frozen=True, eq=False)
class Simplified:
    """network: f on the box, and something else outside it.

    off, on: for each gate, how many units went because they are always on their first branch, or
    always on one other; dead: how many more because nothing hangs on them. units, parameters:
    (before, after). error: the largest difference of the two seen on `points` points, vertices and
    random ones of the box; bound: what rounding can make of it there.
    """

    network: Network
    off: Mapping[str, int]
    on: Mapping[str, int]
    dead: Mapping[str, int]
    units: tuple[int, int]
    parameters: tuple[int, int]
    error: float
    bound: float
    points: int

    def __repr__(self) -> str:
        gone = f"{sum(self.off.values())} always off, {sum(self.on.values())} always on"
        return (
            f"Simplified({self.units[0]} -> {self.units[1]} gate units ({gone}, "
            f"{sum(self.dead.values())} dead), {self.parameters[0]} -> {self.parameters[1]} "
            f"parameters; differs by {self.error:.2g} on {self.points} points of the box)"
        )


def simplify(complex: Complex) -> Simplified:
    """The network of a complete complex without the units that are constant over its box.

    Of units that are always on, either their rows are multiplied into the layers behind them or
    they stay as rows without a gate, whichever takes fewer parameters in all. Raises
    NotPiecewiseAffine where a product of two changing values stands in the way.
    """
    network, constant = complex.network, constant_units(complex)
    branch = {c.gate: torch.from_numpy(c.branch) for c in constant}
    simple, dead = without_constants(network, branch, NOTE)
    apart = _difference(complex, simple)
    return Simplified(
        simple,
        {c.gate: len(c.off) for c in constant},
        {c.gate: len(c.on) for c in constant},
        dead,
        (_units(network), _units(simple)),
        (network.parameters, simple.parameters),
        apart.error,
        apart.bound,
        apart.rows,
    )


def _units(network: Network) -> int:
    return sum(math.prod(n.shape) for n in network.gates)


def _difference(complex: Complex, simple: Network) -> Difference:
    """On vertices and random points of the box."""
    where = complex.slice
    random = np.random.default_rng(0).uniform(where.low, where.high, (RANDOM, where.dimension))
    step = -(-len(complex.vertices) // VERTICES)
    s = np.concatenate([complex.vertices[::step], random])
    return difference(complex.network, simple, complex.network.rows(where.inputs(s)))
