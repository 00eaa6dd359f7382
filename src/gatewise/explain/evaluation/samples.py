"""Points to try an explanation on: inside a row's region, in a ball around it, half taken away."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Winner, push
from gatewise.ir.network import Network, Node
from gatewise.linear.affine_map import chunk_rows
from gatewise.regions.constraints import Frozen, frozen, slack, visit
from gatewise.regions.halfspaces import Region

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
STEPS = 8  # of hit-and-run: from a corner of a region to all of it, for tens of features
PREPROCESSING = "preprocessing"  # what the reader calls the steps before the network
EDGE = 1e-3  # part of each chord left free at its ends, so that few points are undecided


def in_region(region: Region, scale: Floats, count: int, rng: np.random.Generator) -> Floats:
    """(P, count, features): hit-and-run inside each region and its box, widened by a deviation.

    The box only ends regions without end. It is widened since rows lie on it (a 0 of a one-hot
    column, the smallest of anything), and few directions lead inwards from a corner.

    From x, draw a direction u, find the chord {t : x + t u in the region and the box}, jump to a
    uniform point of it, STEPS times (Smith 1984, "Efficient Monte Carlo procedures"). Features
    with scale 0 stay as they are. The points are not verified here: see `Region.contains`.
    """
    step = chunk_rows(region.network, count)
    parts = [region[i : i + step] for i in range(0, len(region), step)]
    return np.concatenate([_walked(part, scale, count, rng) for part in parts])


def _walked(region: Region, scale: Floats, count: int, rng: np.random.Generator) -> Floats:
    f = frozen(region.network, region.pattern)
    home = region.home.reshape(len(region), 1, -1)
    x = home.repeat(1, count, 1)
    assert region.box is not None
    wider = torch.from_numpy(scale).to(x)
    low = torch.minimum(region.box[0].to(x), home) - wider
    high = torch.maximum(region.box[1].to(x), home) + wider
    for _ in range(STEPS):
        u = torch.from_numpy(rng.standard_normal(x.shape) * scale).to(x)
        start, stop = _chord(f, x, u, low, high)
        part = torch.from_numpy(rng.uniform(EDGE, 1 - EDGE, x.shape[:2])).to(x)
        # Where all scales are 0 no chord ends, and inf - inf is not a number; u is 0 there.
        t = torch.nan_to_num(start + (stop - start) * part).unsqueeze(-1)
        x = torch.minimum(torch.maximum(x + t * u, low), high)
    return np.asarray(x.cpu().numpy())


def _chord(f: Frozen, x: Tensor, u: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """(P, k) first and last t <= 0 <= t' with x + t u in the closed region and the box."""
    bounds = [_ahead(torch.cat([high - x, x - low], -1).movedim(-1, 0), torch.cat([-u, u], -1))]
    shape = (*x.shape[:2], *f.source.input_shape)
    room: dict[str, Tensor] = {}

    def values(node: Node, zs: list[Tensor]) -> None:
        room[node.name] = slack(_gate(node), zs, f.codes(node.name))

    def slopes(node: Node, zs: list[Tensor]) -> None:
        rate = slack(_gate(node), zs, f.codes(node.name), linear=True)
        have = room.pop(node.name)
        flat = have.movedim((1, 2), (-2, -1)).reshape(-1, *have.shape[1:3])
        bounds.append(_ahead(flat, rate.movedim((1, 2), (0, 1)).reshape(*rate.shape[1:3], -1)))

    visit(f, x.reshape(shape), lambda n, zs: push(_affine(n), zs), values)
    visit(f, u.reshape(shape), lambda n, zs: push(_affine(n), zs, with_bias=False), slopes)
    start = torch.stack([b[0] for b in bounds]).amax(0)
    stop = torch.stack([b[1] for b in bounds]).amin(0)
    return start, stop


def _ahead(room: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """(P, k) the chord that rows room + t rate >= 0 leave; room (rows, P, k), rate (P, k, rows)."""
    room, rate = room.clamp(min=0), rate.movedim(-1, 0)
    reach = torch.where(rate != 0, room / rate.abs(), torch.inf)
    wide = torch.full_like(reach, torch.inf)
    return -torch.where(rate > 0, reach, wide).amin(0), torch.where(rate < 0, reach, wide).amin(0)


def _gate(node: Node) -> Pieces | Winner:
    assert isinstance(node.kind, Pieces | Winner)
    return node.kind


def _affine(node: Node) -> Affine:
    assert isinstance(node.kind, Affine)
    return node.kind


def in_ball(x: Floats, radius: Floats, count: int, rng: np.random.Generator) -> Floats:
    """(rows, count, features): x plus uniform noise within +-radius of each feature."""
    return x[:, None] + rng.uniform(-1, 1, (len(x), count, x.shape[1])) * radius


def halves(rows: int, features: int, count: int, rng: np.random.Generator) -> Mask:
    """(rows, count, features): True where a feature is taken away, each with probability 1/2."""
    return rng.random((rows, count, features)) < 0.5


def redrawn(network: Network, rng: np.random.Generator) -> Network:
    """The network with every weight matrix drawn anew: normal, with its own mean square.

    All layers at once (Adebayo et al. 2018, 1810.03292). A Pipeline's own steps were not learnt
    as weights and stay, so that features keep their units; so do biases.
    """
    nodes = tuple(_redrawn(n, rng) for n in network.nodes)
    return dataclasses.replace(network, nodes=nodes)


def _redrawn(node: Node, rng: np.random.Generator) -> Node:
    if not isinstance(node.kind, Affine) or node.name.startswith(PREPROCESSING):
        return node
    kind = dataclasses.replace(node.kind, weights=tuple(_like(w, rng) for w in node.kind.weights))
    return dataclasses.replace(node, kind=kind)


def _like(weight: Tensor, rng: np.random.Generator) -> Tensor:
    """Normal numbers of the same mean square; indices, vectors and scalars are left alone."""
    if weight.ndim < 2 or not weight.is_floating_point():
        return weight
    size = weight.square().mean().sqrt()
    return torch.from_numpy(rng.standard_normal(weight.shape)).to(weight) * size
