"""The half-space of the input a.x + b > 0 on which each gate of a linearly gated network is on.

Where gates are made by a linear network (DLGN: U_l .. U_1 x + c), every pre-activation is affine in
the input, and its layers multiply out to one normal and one offset a gate, with a rounding bound.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.dual.gating import Gated, Site, on_host
from gatewise.errors import DataError, NotGated, WrongShape
from gatewise.given.rows import finite
from gatewise.ir.kinds import Affine, Pieces, Shape
from gatewise.ir.network import INPUT, Network, Node
from gatewise.linear.affine_map import magnitudes, rounding
from gatewise.linear.collapse import by_rows
from gatewise.tables.arrays import as_floats
from gatewise.tables.words import counted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GateHalfSpaces:
    """The half-spaces of one gate layer: unit i is on where a[i].x + b[i] > 0.

    a (units, inputs), b (units,); closed: on at 0 too. At x, a row as computed is within
    bound[0] max|x_j| + bound[1] of the exact one, bound (2, units). at: where the gate acts.
    """

    gate: str
    at: str
    shape: Shape
    a: Floats
    b: Floats
    bound: Floats
    closed: bool = False

    def __len__(self) -> int:
        return len(self.b)

    @property
    def norms(self) -> Floats:
        """|a| of every gate."""
        return np.asarray(np.linalg.norm(self.a, axis=1))

    @property
    def distances(self) -> Floats:
        """b / |a|: how far the origin lies inside (negative: outside); inf where a is 0."""
        norms = self.norms
        away = np.copysign(np.inf, np.where(self.b == 0, -1.0, self.b))
        found: Floats = np.divide(self.b, norms, out=away, where=norms > 0)
        return found

    def on(self, X: Any) -> NDArray[np.bool_]:
        """Which gates are on at the rows of X, (rows, units), from the half-spaces alone."""
        z = _points(X, self.a.shape[1]) @ self.a.T + self.b
        return np.asarray(z >= 0 if self.closed else z > 0)


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """The half-spaces of every gate of a linearly gated network, layer by layer."""

    layers: tuple[GateHalfSpaces, ...]

    def __len__(self) -> int:
        return sum(len(layer) for layer in self.layers)

    def __getitem__(self, index: int) -> GateHalfSpaces:
        return self.layers[index]

    @property
    def normals(self) -> Floats:
        """a / |a| of all gates, layer after layer (gates, inputs); 0 where a is."""
        a = np.concatenate([layer.a for layer in self.layers])
        norm = np.linalg.norm(a, axis=1, keepdims=True)
        return np.asarray(a / np.where(norm > 0, norm, 1))

    @property
    def angles(self) -> Floats:
        """Angles between the normals of all gates in degrees, (gates, gates): 0 faces the same

        way, 180 the other; 90 with a gate that does not depend on the input.
        """
        unit = self.normals
        found = np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))
        np.fill_diagonal(found, 0.0)
        return np.asarray(found)

    def clusters(self, degrees: float = 15.0) -> Ints:
        """A number for each gate, the same for gates linked by angles of at most `degrees`.

        0 is the largest cluster; a gate's cluster-mates face the way it does, whatever its layer.
        """
        if not 0 <= degrees < 180:
            raise DataError(f"degrees must be at least 0 and below 180, got {degrees!r}")
        near = self.angles <= degrees
        label = np.arange(len(near))
        while True:
            least = np.where(near, label, len(label)).min(1, initial=len(label))
            if (least == label).all():
                return _by_size(label)
            label = least

    def __str__(self) -> str:
        lines = [f"{len(self)} gates, each on in a half-space a.x + b > 0 of the input:"]
        lines += [self._line(layer) for layer in self.layers]
        groups = np.bincount(self.clusters()) if len(self) else np.zeros(0, np.int64)
        lines.append(
            f"Linked by angles of at most 15 degrees they make {len(groups)} clusters, the largest "
            f"of {groups.max(initial=0)} gates."
        )
        return "\n".join(lines)

    def _line(self, layer: GateHalfSpaces) -> str:
        norms, still = layer.norms, int((layer.norms == 0).sum())
        says = f"; {still} do not depend on the input" if still else ""
        return (
            f"  {layer.at} (gate {layer.gate}): {len(layer)} gates, |a| from "
            f"{norms.min(initial=np.inf):.3g} to {norms.max(initial=0):.3g}, rounding at most "
            f"{layer.bound.max(initial=0):.1e}{says}"
        )


def half_spaces(net: Network | Gated) -> HalfSpaces:
    """The half-space of every gate of a network whose gates are linear in the input.

    Refuses, by name, a gate whose pre-activation is not: of a ReLU network only the first layer's
    gates are half-spaces of the input.
    """
    whole = on_host(net)
    network = whole.network.to(torch.float64)
    if not whole.sites:
        raise NotGated("the network has no gate, so there is no half-space: it is one affine map")
    for place, site in enumerate(whole.sites):
        _require_linear(network, site, place)
    return HalfSpaces(tuple(_half_spaces(network, site) for site in whole.sites))


def _points(X: Any, inputs: int) -> Floats:
    """X as finite (rows, inputs)."""
    x = as_floats(X)
    if x.shape[1] != inputs:
        raise WrongShape(
            f"these half-spaces take rows of {counted(inputs, 'input')}; X has {x.shape[1]} a row"
        )
    return finite(torch.from_numpy(x)).numpy() if len(x) else x


def _half_spaces(network: Network, site: Site) -> GateHalfSpaces:
    """(W, c - knot) of the layers before the gate, turned round where it is on below its knot."""
    node = network.node(site.gate)
    kind = node.kind
    assert isinstance(kind, Pieces)
    before = _before(network, node)
    units = range(before.outputs)
    a, b = by_rows(before, units)
    size, constant = by_rows(magnitudes(before), units)
    factor = rounding(before)
    sign = 1.0 if site.table == (False, True) else -1.0
    knot = kind.knots[0].expand(node.shape).reshape(-1)
    bound = torch.stack([size[0].sum(1), constant[0] + knot.abs()]) * factor
    return GateHalfSpaces(
        site.gate, site.at, site.shape, (sign * a[0]).numpy(), (sign * (b[0] - knot)).numpy(),
        bound.numpy(), kind.closed[0] == (sign > 0),
    )  # fmt: skip


def _before(network: Network, gate: Node) -> Network:
    """The network from the input to a gate's pre-activation."""
    behind = _ancestors(network, gate.inputs[0])
    nodes = tuple(n for n in network.nodes if n.name in behind)
    return dataclasses.replace(network, nodes=nodes, output=gate.inputs[0], head=())


def _ancestors(network: Network, name: str) -> set[str]:
    found = {name}
    for node in reversed(network.nodes):
        if node.name in found:
            found.update(node.inputs)
    return found - {INPUT}


def _require_linear(network: Network, site: Site, place: int) -> None:
    """Refuse a gate that is not one half-space of the input."""
    gate = network.node(site.gate)
    if len(site.table) != 2 or site.table[0] == site.table[1]:
        raise NotGated(
            f"the gate '{gate.name}' ({gate.layer}) is on in {sum(site.table)} of "
            f"{len(site.table)} pieces, not on one side of one knot: it has no half-space"
        )
    behind = _ancestors(network, gate.inputs[0])
    bent = [n for n in network.nodes if n.name in behind and not isinstance(n.kind, Affine)]
    if bent:
        known = f"only its first {place} gate layers are" if place > 1 else "only its first is"
        raise NotGated(
            f"the gate '{gate.name}' is not linear in the input: its pre-activation comes through "
            f"node '{bent[0].name}' ({bent[0].layer}). Half-spaces are for linearly gated networks "
            f"(DLGN){f'; of this one, {known}' if place else ''}; `distill` makes one of a ReLU "
            f"network"
        )


def _by_size(label: Ints) -> Ints:
    """The labels renumbered 0, 1 .. from the largest group; ties by the first member."""
    _, inverse, counts = np.unique(label, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.asarray(rank[inverse.reshape(-1)])
