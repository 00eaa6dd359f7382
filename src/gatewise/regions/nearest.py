"""The nearest facet of each region: which unit it is about, how far it is, which way it lies.

The wall nearest to a point inside, by distance to its hyperplane, is always a facet: were it
redundant, the segment to its foot would leave the region earlier, through a nearer wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node
from gatewise.ir.pattern import Pattern
from gatewise.regions.constraints import Frozen, frozen, slack
from gatewise.regions.margins import batch_rows, gate_values, nearest, wall_rows
from gatewise.regions.norms import Plan, plan

SCALED = 2  # the metric, of the three of a margin


@dataclass(frozen=True, eq=False)
class Nearest:
    """One facet for each of P points: a.x + b >= 0 inside, |a.x + b| = room at the point.

    gate (P,): the place in `network.gates`, -1 where the region has no wall that the input moves;
    unit (P,): the unit (or group) of that gate; normal (P, d): a; distance (P,): room / |a| in
    units of the scale; foot (P, d): the step to the nearest point of the facet's hyperplane.
    """

    gate: Tensor
    unit: Tensor
    normal: Tensor
    room: Tensor
    distance: Tensor
    foot: Tensor

    def __len__(self) -> int:
        return len(self.gate)


def nearest_facets(network: Network, home: Tensor, pattern: Pattern, scale: Tensor) -> Nearest:
    """The nearest facet of each home (P, *input_shape) in units of `scale` (d,).

    A feature whose scale is 0 is held fixed. There must be a row.
    """
    known, step = plan(network, scale), batch_rows(network)
    parts = [
        _part(known, frozen(network, pattern[i : i + step]), home[i : i + step])
        for i in range(0, len(home), step)
    ]
    gate, unit, normal, room, distance, foot = (
        torch.cat(column) for column in zip(*(vars(part).values() for part in parts), strict=True)
    )
    return Nearest(gate, unit, normal, room, distance, foot)


def _part(p: Plan, f: Frozen, home: Tensor) -> Nearest:
    who = torch.full((2, 3, len(home)), -1, device=home.device)
    distance = nearest(p, f, home, who)[SCALED]
    gate, wall = who[0, SCALED], who[1, SCALED]
    normal, unit, room = home.new_zeros(len(home), p.network.inputs), wall.clone(), distance * 0
    values = gate_values(f, home.unsqueeze(1))
    for number, node in enumerate(f.gates):
        mine = (gate == number).nonzero().flatten()
        if len(mine):
            rows = wall_rows(p, f, node, mine, wall[mine])
            sign, room[mine] = _side(node, values[node.name], f, mine, wall[mine])
            normal[mine] = rows * sign[:, None]
        if isinstance(node.kind, Winner):
            unit[mine] = wall[mine] // node.kind.branches
    steep = normal * p.scale
    square = steep.square().sum(1, keepdim=True)
    foot = torch.where(square > 0, -room[:, None] * steep * p.scale / square, 0.0)
    return Nearest(gate, unit, normal, room, distance, foot)


def _side(
    node: Node, zs: list[Tensor], f: Frozen, home: Tensor, wall: Tensor
) -> tuple[Tensor, Tensor]:
    """+1 where the wall's slack grows with its row, else -1; and the slack."""
    kind, codes = node.kind, f.codes(node.name)
    assert isinstance(kind, Pieces | Winner)
    room = slack(kind, zs, codes)[:, :, 0].reshape(-1, len(f.pattern), codes[0].numel())
    if isinstance(kind, Winner):
        inside = room[wall % kind.branches, home, wall // kind.branches]
        return torch.full_like(inside, kind.sign), inside.clamp(min=0)
    inside, knot = room[:, home, wall].clamp(min=0).min(0)
    signs = kind.signs(codes).reshape(len(room), len(f.pattern), -1)
    return signs[knot, home, wall], inside
