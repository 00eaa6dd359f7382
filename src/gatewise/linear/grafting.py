"""Units replaced by their best affine branch, g(z) ~ a z + b over the data: fewer gates are left.

After linearity grafting (Chen et al., ICML 2022). A unit that is almost always on, almost always
off, or hardly heard at the output costs little; what it costs is measured, not promised.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.given.rows import rows_of
from gatewise.ir.kinds import Affine, Pieces, scale, scale_back
from gatewise.ir.network import Network, Node, checked, fold

Units = Mapping[str, Any]
NUMBERS = 1 << 22  # in all values of the rows that are in the network at once


@dataclass(frozen=True, eq=False)
class Graft:
    """network: with fewer gates, and what that changed on the data it was fitted to.

    units: for each gate, the numbers of the units replaced (of the flattened gate); slopes and
    offsets: a and b of each. gates: units before. error, r2 (outputs,): root mean square of the
    change, and 1 - its square over the output's variance; largest: the largest |change|; agree:
    the share of rows whose largest output is still the same one (None for one output that is a
    number).
    """

    network: Network
    units: dict[str, Tensor]
    slopes: dict[str, Tensor]
    offsets: dict[str, Tensor]
    gates: int
    error: Tensor
    r2: Tensor
    largest: float
    agree: float | None

    @property
    def grafted(self) -> int:
        """How many units were replaced."""
        return sum(len(u) for u in self.units.values())

    def __str__(self) -> str:
        worst = int(self.r2.argmin())
        text = (
            f"{self.grafted} of {self.gates} gate units grafted: outputs change by "
            f"{float(self.error.square().mean().sqrt()):.3g} (root mean square), at most "
            f"{self.largest:.3g}; R^2 {float(self.r2[worst]):.4f} on the worst output"
        )
        return text if self.agree is None else f"{text}; {self.agree:.2%} keep their class"


def graft(
    network: Network, X: Any, *, units: Units | None = None, share: float | None = None
) -> Graft:
    """A copy of `network` in which chosen units of its gates are affine; and the loss in fidelity.

    units: {gate: numbers or mask of its units}; or share of all units, those first whose graft
    moves the outputs least: by the mean over X of sum_o (df_o/dg)^2 (g(z) - a z - b)^2, to first
    order and each unit alone. Gates are fitted in order, each to what it computed in the original
    from what now reaches it. Gates that pick one of several inputs (MaxPool) are left as they
    are. Of the data, X and the outputs are held; all else is sums a unit, batch by batch, in one
    walk for each gate. `gw.linear.fold` then multiplies layers that have become neighbours.
    Raises DataError for units that are not there, BadRows for NaN or infinity.
    """
    x = rows_of(network, X).to(torch.float64)
    work = network.to(torch.float64)
    gates = {n.name: math.prod(n.shape) for n in work.gates if isinstance(n.kind, Pieces)}
    if not gates:
        raise DataError("the network has no gate of single units, so there is nothing to graft")
    if (units is None) == (share is None):
        raise DataError("give either `units` or `share`: which units to graft, or how many")
    chosen = _named(units, gates) if units is not None else _cheapest(work, x, gates, share)
    lines: Lines = {}
    for node in work.gates:
        if node.name in chosen:
            lines[node.name] = _fitted(work, x, node, chosen[node.name], lines)
    return _told(network, _with(work, lines, sum(gates.values())), x, lines, gates)


def _told(
    network: Network, made: Network, x: Tensor, lines: Lines, gates: Mapping[str, int]
) -> Graft:
    """What became of it on x."""
    with torch.no_grad():
        work = network.to(torch.float64)
        before, after = (torch.cat([n(part) for part in _parts(n, x)]) for n in (work, made))
    index = {name: mask.nonzero()[:, 0] for name, (mask, _, _) in lines.items()}
    moved = (after - before).square().mean(0)
    spread = before.var(0, correction=0)
    return Graft(
        network=made.to(network.dtype),
        units=index,
        slopes={name: lines[name][1][i] for name, i in index.items()},
        offsets={name: lines[name][2][i] for name, i in index.items()},
        gates=sum(gates.values()),
        error=moved.sqrt(),
        r2=1 - torch.where(moved == 0, 0.0, moved / spread),
        largest=float((after - before).abs().max()),
        agree=_agreement(network, before, after),
    )


def _parts(network: Network, x: Tensor) -> tuple[Tensor, ...]:
    """x in batches that fit."""
    numbers = network.inputs + sum(math.prod(n.shape) for n in network.nodes)
    parts: tuple[Tensor, ...] = x.split(max(1, NUMBERS // max(1, numbers)))
    return parts


def _named(units: Units, gates: dict[str, int]) -> dict[str, Tensor]:
    """Masks (units,) of the gates that were named."""
    masks = {}
    if not isinstance(units, Mapping):
        raise DataError(f"`units` is {{gate: numbers or mask of its units}}, got {units!r}")
    for name, wanted in units.items():
        if name not in gates:
            raise DataError(f"there is no gate '{name}' to graft: the gates are {', '.join(gates)}")
        masks[name] = _mask(name, wanted, gates[name])
    return {name: mask for name, mask in masks.items() if bool(mask.any())}


def _mask(name: str, wanted: Any, size: int) -> Tensor:
    try:
        given = torch.as_tensor(wanted, device="cpu").flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"units of '{name}' are numbers or a mask, got {wanted!r}") from error
    if given.dtype == torch.bool and len(given) == size:
        return given
    whole = not given.is_floating_point() and given.dtype != torch.bool
    if len(given) and (not whole or int(given.min()) < 0 or int(given.max()) >= size):
        raise DataError(
            f"gate '{name}' has units 0 .. {size - 1}: give their numbers or a mask of {size}, "
            f"got {wanted!r}"
        )
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, given.long(), True)


def _cheapest(
    network: Network, x: Tensor, gates: dict[str, int], share: float | None
) -> dict[str, Tensor]:
    """The units with the least effect on the outputs, as masks."""
    real = isinstance(share, int | float) and not isinstance(share, bool)
    if not (real and share is not None and 0 < share <= 1):
        raise DataError(f"`share` is above 0 and at most 1, got {share!r}")
    effects = _effects(network, x)
    order = torch.cat([effects[name] for name in gates]).argsort(stable=True)
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[: round(share * len(order))]] = True
    parts = zip(gates, chosen.split(list(gates.values())), strict=True)
    return {name: mask for name, mask in parts if bool(mask.any())}


def _effects(network: Network, x: Tensor) -> dict[str, Tensor]:
    """(units,) a gate: mean over x of sum_o (df_o/dg)^2 (g - a z - b)^2."""
    lines = _lines(network, x)
    total = dict.fromkeys(lines, torch.zeros((), dtype=x.dtype))
    for part in _parts(network, x):
        for name, effect in _effects_of(network, part, lines).items():
            total[name] = total[name] + effect.cpu() / len(x)
    return total


def _lines(network: Network, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """(a, b) of every unit, by gate."""
    sums: dict[str, Sums] = {}

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        value = node.kind(*xs)
        if isinstance(node.kind, Pieces):
            own = Sums.of(xs[0].flatten(1), value.flatten(1))
            sums[node.name] = sums[node.name] + own if node.name in sums else own
        return value

    with torch.no_grad():
        for part in _parts(network, x):
            fold(network, part, step)
    return {name: s.line() for name, s in sums.items()}


def _effects_of(
    network: Network, x: Tensor, lines: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The same of one batch, as a sum over its rows."""
    residuals: dict[str, Tensor] = {}
    probes: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        value = node.kind(*xs)
        if not isinstance(node.kind, Pieces):
            return value
        z, g = (t.detach().flatten(1) for t in (xs[0], value))
        slope, offset = lines[node.name]
        residuals[node.name] = (g - slope * z - offset).square()
        probes[node.name] = torch.zeros_like(value, requires_grad=True)
        return value + probes[node.name]  # the gradient by the probe is that by the gate's value

    with torch.enable_grad():
        out = fold(network, x, step)[network.output].reshape(len(x), -1)
        total = {name: torch.zeros_like(r) for name, r in residuals.items()}
        for k in range(out.shape[1]):
            one = torch.autograd.grad(
                out[:, k].sum(), list(probes.values()), retain_graph=True, materialize_grads=True
            )
            for name, g in zip(probes, one, strict=True):
                total[name] += g.flatten(1).square()
    return {name: (total[name] * r).sum(0) for name, r in residuals.items()}


@dataclass(frozen=True, eq=False)
class Sums:
    """Of z and g over n rows, (units,) each: means, sum (z - mean)^2, sum (z - mean) g, max |z|."""

    n: int
    z: Tensor
    g: Tensor
    zz: Tensor
    zg: Tensor
    top: Tensor

    @classmethod
    def of(cls, z: Tensor, g: Tensor) -> Sums:
        """Of rows (rows, units)."""
        off, mean = z - z.mean(0), g.mean(0)
        zz, zg = off.square().sum(0), (off * (g - mean)).sum(0)
        return cls(len(z), z.mean(0), mean, zz, zg, z.abs().amax(0))

    def __add__(self, other: Sums) -> Sums:
        """Of both (Chan, Golub & LeVeque 1979)."""
        n = self.n + other.n
        dz, dg, share = other.z - self.z, other.g - self.g, other.n / n
        between = self.n * share
        return Sums(
            n,
            self.z + share * dz,
            self.g + share * dg,
            self.zz + other.zz + between * dz.square(),
            self.zg + other.zg + between * dz * dg,
            torch.maximum(self.top, other.top),
        )

    def line(self) -> tuple[Tensor, Tensor]:
        """(a, b), (units,) each, that make sum over the rows of (g - a z - b)^2 least.

        a = 0 for a unit whose z does not vary.
        """
        flat = self.zz <= self.n * (1e-12 * self.top).square()
        slope = torch.where(flat, 0.0, self.zg / torch.where(flat, 1.0, self.zz))
        return slope, self.g - slope * self.z


Line = tuple[Tensor, Tensor, Tensor]  # mask, slopes and offsets (units,), 0 where not grafted
Lines = dict[str, Line]


@torch.no_grad()
def _fitted(network: Network, x: Tensor, gate: Node, mask: Tensor, lines: Lines) -> Line:
    """The line of a gate's chosen units, from what reaches it behind the lines there are."""
    nodes = network.nodes[: network.nodes.index(gate)]
    (source,), kind = gate.inputs, gate.kind
    assert isinstance(kind, Pieces)
    before = dataclasses.replace(network, nodes=nodes, output=source)

    def step(node: Node, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        old, new = (node.kind(*side) for side in zip(*pairs, strict=True))
        if node.name not in lines:
            return old, new
        chosen, slope, offset = lines[node.name]
        z = pairs[0][1].flatten(1)
        return old, torch.where(chosen, slope * z + offset, new.flatten(1)).reshape(new.shape)

    total: Sums | None = None
    for part in _parts(network, x):
        old, new = fold(before, (part, part), step)[source]
        own = Sums.of(new.flatten(1), kind(old).flatten(1))
        total = own if total is None else total + own
    assert total is not None
    mask = mask.to(x.device)
    slope, offset = (torch.where(mask, t, 0.0) for t in total.line())
    return mask, slope, offset


def _with(network: Network, lines: Lines, units: int) -> Network:
    """The network with lines in place of units."""
    nodes: list[Node] = []
    for node in network.nodes:
        nodes += _replaced(node, *lines[node.name]) if node.name in lines else [node]
    count = sum(int(mask.sum()) for mask, _, _ in lines.values())
    note = f"grafted: {count} of {units} gate units are lines, so it is another function"
    return checked(dataclasses.replace(network, nodes=tuple(nodes), notes=(*network.notes, note)))


def _replaced(node: Node, mask: Tensor, slope: Tensor, offset: Tensor) -> list[Node]:
    """One Affine in place of a gate; or its other units gated, put among the grafted ones."""
    kind, shape = node.kind, node.shape
    assert isinstance(kind, Pieces)
    kept = (~mask).nonzero()[:, 0]
    bias = offset.reshape(shape)
    if not len(kept):
        weights = (slope.reshape(shape),)
        whole = Affine(scale, weights, bias, terms=1, terms_back=1, pullback=scale_back)
        return [dataclasses.replace(node, layer="Graft", kind=whole)]
    picked, gated = f"{node.name}.picked", f"{node.name}.gated"
    size = (len(kept),)
    join = Affine(put, (kept, slope), bias, terms=2, terms_back=1)
    return [
        Node(picked, "Graft", Affine(take, (kept,)), node.inputs, size),
        Node(gated, node.layer, _units_of(kind, shape, kept), (picked,), size),
        Node(node.name, "Graft", join, (gated, node.inputs[0]), shape),
    ]


def _units_of(kind: Pieces, shape: Sequence[int], kept: Tensor) -> Pieces:
    """The gate of some of its units."""
    tables = (kind.knots, kind.slopes, kind.offsets)
    if all(t.ndim == 1 for t in tables):
        return kind
    knots, slopes, offsets = (_spread(t, shape)[:, kept] for t in tables)
    return Pieces(knots, slopes, offsets, kind.closed)


def _spread(table: Tensor, shape: Sequence[int]) -> Tensor:
    """(K, ...) constants as (K, units)."""
    axes = [1] * (1 + len(shape) - table.ndim)
    return table.reshape(len(table), *axes, *table.shape[1:]).expand(-1, *shape).flatten(1)


def take(index: Tensor, x: Tensor) -> Tensor:
    """The units x[index], (rows, len(index)); x (rows, *shape) is flattened."""
    return x.flatten(1)[:, index]


def put(index: Tensor, slope: Tensor, g: Tensor, z: Tensor) -> Tensor:
    """slope z, with g added at the units `index` (where slope is 0); in the shape of z."""
    return (slope * z.flatten(1)).index_add(1, index, g).reshape(z.shape)


def _agreement(network: Network, before: Tensor, after: Tensor) -> float | None:
    """The share of rows with the same class."""
    if before.shape[1] > 1 and network.task != "regression":
        return float((before.argmax(1) == after.argmax(1)).double().mean())
    if network.task == "classification":
        return float(((before > 0) == (after > 0)).double().mean())
    return None
