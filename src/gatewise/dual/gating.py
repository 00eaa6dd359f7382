"""Networks whose gates are on or off: where each mask multiplies a value, and the masks of rows.

f(x) is then a sum over paths: the product of the weights on a path (its value) times the input it
starts from and the masks of the units it runs through (its feature).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import NotGated
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Winner, kind_name, scale
from gatewise.ir.network import INPUT, Network, Node, fixed_by_pattern
from gatewise.ir.pattern import Pattern
from gatewise.numeric import as_tensor
from gatewise.patterns.observe import pattern

CONSTANT = ""  # the name of a value that no input reaches: the constant 1


@dataclass(frozen=True, eq=False)
class Site:
    """Where a 0/1 mask multiplies values: the value of node `at` is mask * value.

    gate: the Pieces node whose codes say the mask (a ReLU, or a step); table: the mask of each of
    its codes; at: the ReLU itself, the Product, or the constant times a mask; value: the name of
    what is masked (CONSTANT where a mask multiplies weights of a constant input); shape: of one
    row of the mask.
    """

    gate: str
    at: str
    value: str
    shape: Shape
    table: tuple[bool, ...] = (False, True)

    @property
    def units(self) -> int:
        """Number of gates."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Chain:
    """f = W_d m_{d-1} W_{d-1} ... m_1 W_1 x_v, a bias after each W: fully connected, no skips.

    weights: W_l (w_l, w_{l-1}); sites: of m_1 .. m_{d-1}; constant_input: the ones (1,) that W_1
    (w_1, 1) takes in a value network that sees no input, None where x_v is the value of `start`:
    the input, or what fixed scalings (a scaler of the pipeline) made of it.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    sites: tuple[Site, ...]
    constant_input: Tensor | None
    start: str = INPUT

    @property
    def widths(self) -> tuple[int, ...]:
        """w_0 .. w_d: inputs, gate layers, outputs."""
        return (self.weights[0].shape[1], *(len(w) for w in self.weights))


@dataclass(frozen=True, eq=False)
class Gated:
    """A network read as values and masks.

    sites: in order; values: names of the nodes that values flow through, from where the input
    enters to the output; layers: the plain fully connected chain, or None.
    """

    network: Network
    sites: tuple[Site, ...]
    layers: Chain | None
    values: tuple[str, ...]

    def site(self, at: str) -> Site | None:
        """The site whose masked value is node `at`."""
        return next((s for s in self.sites if s.at == at), None)

    def __str__(self) -> str:
        units = sum(s.units for s in self.sites)
        form = "a plain chain" if self.layers is not None else "with skips, positions or norms"
        return f"{len(self.sites)} gate layers of {units} units, {form}"


def gated(network: Network | Gated) -> Gated:
    """The values and masks of a network; refuses, naming the node, where gates are not on/off.

    The value side is what reaches the output without passing through a step; in a Product, the
    mask is the side that is a 0/1 step. Gates of a feature network alone do not multiply values
    and are not counted.
    """
    if isinstance(network, Gated):
        return network
    require_network(network)
    fixed = fixed_by_pattern(network)
    sites: dict[str, Site] = {}
    values = {network.output}
    for node in reversed(network.nodes):
        if node.name in values:
            site, sources = _read(network, node, fixed)
            values.update(sources)
            if site is not None:
                sites[site.at] = site
    order = [n.name for n in network.nodes if n.name in values]
    found = tuple(sites[name] for name in order if name in sites)
    kept = Gated(network, found, None, tuple(order))
    return Gated(network, found, _chain(kept), tuple(order))


def on_host(network: Network | Gated) -> Gated:
    """`gated` of it on the CPU, for analyses that work there wherever the network is."""
    whole = gated(network)
    if whole.network.device.type == "cpu":
        return whole
    return gated(whole.network.to(device="cpu"))


def _read(network: Network, node: Node, fixed: set[str]) -> tuple[Site | None, tuple[str, ...]]:
    """The site that a node of the value side is, if any, and the values it is made of."""
    kind = node.kind
    if isinstance(kind, Pieces):
        return _gate(node, kind)
    if isinstance(kind, Product):
        return _product(network, node)
    if isinstance(kind, Affine):
        _require_weight(node, kind)
        return _masked_constant(network, node, kind)
    raise _refused(node)


def _gate(node: Node, kind: Pieces) -> tuple[Site, tuple[str, ...]]:
    """A ReLU masks its input; a step on the value side masks the constant 1."""
    if kind.constant:
        site = Site(node.name, node.name, CONSTANT, node.shape, _table(node, kind.offsets))
        return site, ()
    if bool(kind.offsets.any()):
        raise _refused(node)
    site = Site(node.name, node.name, node.inputs[0], node.shape, _table(node, kind.slopes))
    return site, node.inputs


def _product(network: Network, node: Node) -> tuple[Site, tuple[str, ...]]:
    """A Product of a 0/1 step and a value; the step may stand on either side."""
    for mask, value in (node.inputs[::-1], node.inputs):
        step = None if mask == INPUT else network.node(mask)
        if step is not None and _is_mask(step) and network.shape(value) == step.shape == node.shape:
            table = _table(step, step.kind.offsets)  # type: ignore[union-attr]
            return Site(mask, node.name, value, node.shape, table), (value,)
    raise NotGated(
        f"node '{node.name}' ({node.layer}) multiplies two computed values, and neither is a 0/1 "
        f"step of the same shape: paths need gates that are on or off, such as ReLU or (z > 0)"
    )


def _masked_constant(
    network: Network, node: Node, kind: Affine
) -> tuple[Site | None, tuple[str, ...]]:
    """A constant times a step: the first gate layer of a value network that sees no input."""
    source = None if INPUT in node.inputs else network.node(node.inputs[0])
    if kind.rule is scale and source is not None and _is_mask(source):
        table = _table(source, source.kind.offsets)  # type: ignore[union-attr]
        return Site(source.name, node.name, CONSTANT, node.shape, table), ()
    return None, node.inputs


def _is_mask(node: Node) -> bool:
    kind = node.kind
    return (
        isinstance(kind, Pieces)
        and kind.constant
        and bool(((kind.offsets == 0) | (kind.offsets == 1)).all())
    )


def _table(node: Node, values: Tensor) -> tuple[bool, ...]:
    """On or off for each code; refused where it is another number or differs from unit to unit."""
    flat = values.reshape(len(values), -1)
    one = flat[:, :1]
    if not bool((flat == one).all()) or not bool(((one == 0) | (one == 1)).all()):
        raise _refused(node)
    return tuple(bool(v) for v in one[:, 0])


def _require_weight(node: Node, kind: Affine) -> None:
    """A weight without taps must be one factor an entry: not a grouped or transposed layer."""
    for w in kind.weights:
        if kind.taps is None and w.is_floating_point() and not _spreads(w, node.shape):
            raise NotGated(
                f"node '{node.name}' ({node.layer}) is no dense layer or ungrouped convolution, "
                f"so its paths are not known; use Linear, or Conv with groups=1"
            )


def _spreads(w: Tensor, shape: Shape) -> bool:
    """Does w broadcast to one row of this shape?"""
    try:
        return tuple(torch.broadcast_shapes(w.shape, shape)) == shape
    except RuntimeError:
        return False


def _refused(node: Node) -> NotGated:
    what = "a Winner" if isinstance(node.kind, Winner) else kind_name(node.kind)
    return NotGated(
        f"node '{node.name}' is {node.layer} ({what}), which is not an on/off gate: paths need "
        f"gates that pass a value whole or not at all, such as ReLU or (z > 0)"
    )


# -- masks --


def pattern_of(net: Network | Gated, X: Any, batch: int | None = None) -> Pattern:
    """The packed pattern of every row, decided in float64 as the census decides it."""
    network = gated(net).network.to(torch.float64)
    x = rows_of(network, X)
    if batch is None or len(x) <= batch:
        return pattern(network, x)
    parts = [pattern(network, part) for part in x.split(batch)]
    return _joined(parts)


def _joined(parts: list[Pattern]) -> Pattern:
    import numpy as np

    return Pattern(np.concatenate([p.bits for p in parts]), parts[0].fields)


def masks(net: Network | Gated, rows: Pattern | Any) -> list[Tensor]:
    """One bool tensor (rows, *site.shape) for each site, from a pattern or from the rows."""
    whole = gated(net)
    seen = rows if isinstance(rows, Pattern) else pattern_of(whole, rows)
    return [mask_of(site, seen, whole.network.device) for site in whole.sites]


def mask_of(site: Site, seen: Pattern, device: torch.device | None = None) -> Tensor:
    """The mask of one site at the rows of a pattern, on the device (None: the CPU)."""
    codes = seen.codes(site.gate, device)
    plain = site.table == (False, True)
    on = codes.bool() if plain else torch.tensor(site.table, device=codes.device)[codes.long()]
    return on.reshape(-1, *site.shape)


# -- the plain chain --


def _chain(whole: Gated) -> Chain | None:
    """Dense layers and masks in turn, or None where there is anything else."""
    network = whole.network
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    sites: list[Site] = []
    name, shift = network.output, None
    while name != INPUT:
        node = network.node(name)
        site = whole.site(name)
        if site is not None:
            if len(sites) != len(weights) - 1:
                return None
            sites.append(site)
            if site.value == CONSTANT:
                return _from_constant(network, weights, biases, sites)
            name = site.value
        elif _is_dense(node) and len(weights) == len(sites):
            weights.append(node.kind.weights[0])  # type: ignore[union-attr]
            biases.append(_sum(shift, _row(node)))
            name, shift = node.inputs[0], None
        elif _keeps_order(network, node) and (len(weights) == len(sites) or _row(node) is None):
            shift = _sum(shift, _row(node))
            name = node.inputs[0]
        else:
            break
    if shift is not None or len(weights) != len(sites) + 1 or not _fixed_before(network, name):
        return None
    return Chain(tuple(weights[::-1]), tuple(biases[::-1]), tuple(sites[::-1]), None, name)


def _from_constant(
    network: Network, weights: list[Tensor], biases: list[Tensor | None], sites: list[Site]
) -> Chain | None:
    """The chain whose first layer is constant: W_1 (w_1, 1) is what multiplies the first mask."""
    first = network.node(sites[-1].at)
    if isinstance(first.kind, Pieces):  # a mask of the bare constant 1
        factor = torch.ones(first.shape, dtype=network.dtype)
    else:
        factor = first.kind.weights[0].expand(first.shape)  # type: ignore[union-attr]
    if getattr(first.kind, "bias", None) is not None or sum(n > 1 for n in first.shape) > 1:
        return None
    one = torch.ones(1, dtype=network.dtype)
    columns = [*weights, factor.reshape(-1, 1)]
    return Chain(tuple(columns[::-1]), (None, *biases[::-1]), tuple(sites[::-1]), one)


def _is_dense(node: Node) -> bool:
    """A weight matrix at one position?"""
    kind = node.kind
    return (
        isinstance(kind, Affine)
        and kind.taps is not None
        and kind.weights[0].ndim == 2
        and math.prod(node.shape) == len(kind.weights[0])
    )


def _row(node: Node) -> Tensor | None:
    """The bias of a node, one number an entry of its value."""
    bias = getattr(node.kind, "bias", None)
    return None if bias is None else bias.expand(node.shape).reshape(-1)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _keeps_order(network: Network, node: Node) -> bool:
    """Does the node only reshape or shift (entry k of its value from entry k of its input)?"""
    kind = node.kind
    if not isinstance(kind, Affine) or kind.taps is not None or len(node.inputs) != 1:
        return False
    size = math.prod(node.shape)
    if size != math.prod(network.shape(node.inputs[0])):
        return False
    probe = torch.arange(1, size + 1, dtype=network.dtype, device=network.device)
    moved = kind.linear(probe.reshape(1, *network.shape(node.inputs[0])))
    return bool((moved.reshape(-1) == probe).all())


def _fixed_before(network: Network, name: str) -> bool:
    """Is a value the input after entry-by-entry scalings, shifts and reshapes alone?"""
    while name != INPUT:
        node = network.node(name)
        kind = node.kind
        entrywise = isinstance(kind, Affine) and kind.rule is scale
        if not entrywise and not _keeps_order(network, node):
            return False
        name = node.inputs[0]
    return True


def value_input(net: Network | Gated, X: Any) -> Tensor:
    """x_v of a plain chain (rows, w_0): what its first weight layer multiplies, in float64."""
    whole = gated(net)
    chain = whole.layers
    if chain is None:
        raise NotGated("the network is no plain chain of dense layers and gates")
    x = rows_of(whole.network.to(torch.float64), X)
    if chain.constant_input is not None:
        return as_tensor(chain.constant_input, x.dtype, x.device).expand(len(x), -1)
    name, steps = chain.start, []
    while name != INPUT:
        steps.append(whole.network.node(name))
        name = steps[-1].inputs[0]
    for kind in (node.kind for node in reversed(steps)):
        x = kind(x) if isinstance(kind, Affine) else x
    return x.reshape(len(x), -1)
