"""The rounding bound of every map of a network at once: one matrix of |weights|, all patterns.

`AffineMap.bound` walks the network again for each row. With every gate at its steepest branch,
M = |L_k| S |L_k-1| ... |L_1| is at least the M of any pattern, so gamma (M |x| + m) bounds the same
errors for one product a row. Units that are off let it grow, about twofold for each gate on the
way: so it stands in where gates are few (`SHALLOW`), and the walk does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, scale, scale_back
from gatewise.ir.network import Network, Node, fold
from gatewise.linear.affine_map import magnitudes, rounding, spread
from gatewise.linear.collapse import by_rows

SHALLOW = 3  # gates behind one another


@dataclass(frozen=True, eq=False)
class Everywhere:
    """factor (slope |x| + constant): at least |W x + b - f(x)|, as computed, whatever the pattern.

    slope (outputs, inputs) and constant (outputs,), for some outputs.
    """

    factor: float
    slope: Tensor
    constant: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, outputs) for x (rows, inputs) within the reach that was asked for."""
        return torch.addmm(self.constant, x.abs(), self.slope.T).mul_(self.factor)


def everywhere(network: Network, outputs: Sequence[int], reach: Tensor) -> Everywhere | None:
    """The bound for rows with |x| <= reach (inputs,); None where the network is deep, or a gate

    picks one of several inputs, or two computed values are multiplied.
    """
    steep = steepest(network)
    if steep is None or depth(network) > SHALLOW:
        return None
    slope, constant = by_rows(magnitudes(steep), outputs)
    _, lost = spread(steep, reach.reshape(1, 1, -1))  # what underflow takes grows with |x|
    return Everywhere(rounding(steep), slope[0], constant[0] + lost[0])


def steepest(network: Network) -> Network | None:
    """Every gate as the Affine of its largest |slope| and |offset|; None where there is none."""
    nodes: list[Node] = []
    for node in network.nodes:
        kind = _steepest(node.kind, node.shape) if isinstance(node.kind, Pieces) else node.kind
        if not isinstance(kind, Affine):
            return None
        nodes.append(dataclasses.replace(node, kind=kind))
    return dataclasses.replace(network, nodes=tuple(nodes))


def _steepest(kind: Pieces, shape: tuple[int, ...]) -> Affine:
    slope, offset = (
        t.abs().amax(0).expand(shape).reshape(1, 1, *shape) for t in (kind.slopes, kind.offsets)
    )
    moves = bool(((kind.slopes == 0) | (kind.slopes.abs() == 1)).all())
    bias = offset if bool(kind.offsets.any()) else None
    terms = 0 if moves else 1
    return Affine(scale, (slope,), bias, terms, terms, pullback=scale_back, batched=True)


def depth(network: Network) -> int:
    """The most gates on one way from the input to the output."""

    def step(node: Node, xs: list[int]) -> int:
        return max(xs) + isinstance(node.kind, Pieces)

    return fold(network, 0, step)[network.output]
