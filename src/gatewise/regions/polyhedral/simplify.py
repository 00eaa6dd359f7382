"""simplify(complex): a smaller network that is the same function on the box.

A unit that keeps one branch in the whole box is affine there: y = slope z + offset. Every value is
then an affine function of the inputs and of the units that do change; those alone stay gates, each
layer fed by all it hangs on (a skip where a unit that is always on has gone).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import InternalError
from gatewise.ir.kinds import Affine, Pieces, Product, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.rounding import path_terms
from gatewise.numeric import gamma
from gatewise.regions.polyhedral.affine_blocks import blocks_of, network_of
from gatewise.regions.polyhedral.statistics import constant_units

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

RANDOM = 10_000  # points of the box that the two networks are compared on, besides vertices
VERTICES = 100_000


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
    made = [blocks_of(network, branch, merge) for merge in (True, False)]
    built = [network_of(network, blocks) for blocks in made]
    simple, dead = min(built, key=lambda pair: pair[0].parameters)
    error, bound, points = _difference(complex, simple)
    if error > bound:
        raise InternalError(
            f"the simplified network differs by {error:g} on the box, rounding explains {bound:g}"
        )
    return Simplified(
        simple,
        {c.gate: len(c.off) for c in constant},
        {c.gate: len(c.on) for c in constant},
        dead,
        (_units(network), _units(simple)),
        (network.parameters, simple.parameters),
        error,
        bound,
        points,
    )


def _units(network: Network) -> int:
    return sum(math.prod(n.shape) for n in network.gates)


def _difference(complex: Complex, simple: Network) -> tuple[float, float, int]:
    """The largest difference on vertices and random points of the box, its bound, how many."""
    where = complex.slice
    random = np.random.default_rng(0).uniform(where.low, where.high, (RANDOM, where.dimension))
    step = -(-len(complex.vertices) // VERTICES)
    s = np.concatenate([complex.vertices[::step], random])
    with torch.no_grad():
        x = complex.network.rows(where.inputs(s))
        gap = (complex.network(x) - simple(x)).abs()
        bound = _bound(complex.network, simple, x.abs())
    gap, bound = gap.flatten(), bound.expand(gap.shape).flatten()
    over = gap > bound  # any of these is an error, whatever the gaps elsewhere
    worst = int(torch.where(over, gap, -1.0).argmax() if over.any() else gap.argmax())
    return float(gap[worst]), float(bound[worst]), len(s)


def _bound(network: Network, simple: Network, x: Tensor) -> Tensor:
    """gamma(N) M(|x|), M with |weights| and every gate at its steepest: what both compute, and the
    rows that were multiplied out, are sums of the same products in another order, none longer than
    N."""
    most = fold(network, x.reshape(len(x), *network.input_shape), _largest)[network.output]
    terms = 4 * (path_terms(network) + path_terms(simple)) + 16
    return gamma(terms, x.dtype) * most.reshape(len(x), -1)


def _largest(node: Node, xs: list[Tensor]) -> Tensor:
    """What |value| can be at most, from the |value| of the inputs."""
    kind = node.kind
    if isinstance(kind, Affine):
        return kind.absolute()(*xs)
    if isinstance(kind, Pieces):
        return kind.slopes.abs().amax(0) * xs[0] + kind.offsets.abs().amax(0)
    if isinstance(kind, Winner):
        return dataclasses.replace(kind, sign=1)(*xs)
    return kind(*xs) if isinstance(kind, Product) else torch.full_like(kind(*xs), torch.inf)
