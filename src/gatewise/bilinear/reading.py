"""Every bilinear layer of a Network, found by its nodes: Products of two sides affine in one value.

From a Product the sides are followed back through Affine nodes to the nearest value that both
read, and its result forward to the last value that is affine in it. What the walk meets, not what
a class is called, says what is a layer: a GLU without activation, squared units, a product behind
a residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, checked
from gatewise.bilinear.probe import LARGEST, Map, affine_map
from gatewise.errors import DataError, NotBilinear
from gatewise.ir.kinds import Affine, Product, kind_name
from gatewise.ir.network import INPUT, Network, Node, fold


def bilinear_layers(network: Network, *, strict: bool = True) -> list[BilinearLayer]:
    """Every bilinear layer, in order, in float64.

    strict: a Product that is none is refused by its name and why (a product of three, a side that
    is not affine, attention whose softmax was not frozen); False: such Products are left out, and
    only a network without any layer is refused.
    """
    net = network.to(torch.float64)
    products = [n.name for n in net.nodes if isinstance(n.kind, Product)]
    if not products:
        raise NotBilinear(
            "the network multiplies no two computed values, so it has no bilinear layer; "
            f"its nodes are {', '.join(dict.fromkeys(n.layer for n in net.nodes))}"
        )
    found, refusals = [], []
    for name in products:
        try:
            found.append(_layer(net, name))
        except NotBilinear as reason:
            if strict:
                raise
            refusals.append(reason)
    if not found:
        raise refusals[0]
    return found


def bilinear_layer(network: Network, name: str | None = None) -> BilinearLayer:
    """The layer of one Product; without a name, the only one there is."""
    if name is not None:
        held = {n.name for n in network.nodes if isinstance(n.kind, Product)}
        if name not in held:
            listed = ", ".join(f"'{n}'" for n in sorted(held)) or "none"
            raise DataError(f"the network has no Product '{name}'; its Products: {listed}")
        return _layer(network.to(torch.float64), name)
    layers = bilinear_layers(network)
    if len(layers) > 1:
        names = ", ".join(f"'{layer.name}'" for layer in layers)
        raise DataError(f"the network has {len(layers)} bilinear layers, name one: {names}")
    return layers[0]


def layer_input(network: Network, layer: BilinearLayer, X: Any) -> Tensor:
    """What a layer reads at rows X of the network: (rows, *positions, d)."""
    net = network.to(torch.float64)
    x = net.rows(X)
    if layer.source != INPUT:
        x = fold(net, x, lambda n, xs: n.kind(*xs), keep=(layer.source,))[layer.source]
    return x.reshape(len(x), *layer.positions, layer.inputs)


def _layer(net: Network, name: str) -> BilinearLayer:
    """The layer of a Product: to where its value ends, else (pooled over many positions) the
    products themselves, position by position."""
    node = net.node(name)
    _require_entrywise(net, node)
    source = _source(net, node)
    target = _target(net, source, name)
    for end, by_position in ((target, True), (target, False), (name, True)):
        read = _read(net, node, source, end, by_position)
        if read is not None:
            return read
    raise NotBilinear(
        f"node '{name}' ({node.layer}) mixes positions, and as one dense layer it would be more "
        f"than {LARGEST:,} numbers: it is not read"
    )


def _read(
    net: Network, node: Node, source: str, target: str, by_position: bool
) -> BilinearLayer | None:
    """The layer's matrices, each position alike or all entries at once; None where not so (or,
    all entries at once, where that is too large)."""
    sides = [affine_map(net, (source,), side, by_position) for side in node.inputs]
    out = affine_map(net, (source, node.name), target, by_position)
    if sides[0] is None or sides[1] is None or out is None:
        return None
    skip = out.weights[0]
    positions = net.shape(source)[:-1] if by_position else ()
    positions = positions[next((i for i, n in enumerate(positions) if n > 1), len(positions)) :]
    inside = _embedding(net, source, by_position, not positions)
    return checked(
        BilinearLayer(
            W=sides[0].weights[0],
            V=sides[1].weights[0],
            P=out.weights[1],
            w_bias=sides[0].bias,
            v_bias=sides[1].bias,
            skip=skip if bool(skip.any()) else None,
            bias=out.bias,
            name=node.name,
            source=source,
            target=target,
            embedding=None if inside is None else inside.weights[0],
            embedding_bias=None if inside is None else inside.bias,
            positions=positions,
        )
    )


def _embedding(net: Network, source: str, by_position: bool, single: bool) -> Map | None:
    """How the layer's input depends on the network's, where that is affine.

    A layer at a single position may read the input reshaped: all its entries are one vector then.
    """
    if not _reaches(net, source):
        return None
    found = affine_map(net, (INPUT,), source, by_position)
    return affine_map(net, (INPUT,), source, False) if found is None and single else found


# -- where a layer begins and ends --


def _source(net: Network, node: Node) -> str:
    """The nearest value that both sides are affine in, behind at least one weight."""

    def stop(name: str) -> NotBilinear:
        return _refused(net, node, name)

    return _meet(net, node.inputs, stop, past_weight=True)


def _target(net: Network, source: str, product: str) -> str:
    """The last value affine in x and the product through which everything later sees it."""
    inside = {product}
    allowed = {source, product}
    for n in net.nodes:
        if isinstance(n.kind, Affine) and n.name not in allowed and set(n.inputs) <= allowed:
            allowed.add(n.name)
            if inside & set(n.inputs):
                inside.add(n.name)
    read = [name for n in net.nodes if n.name not in allowed for name in n.inputs]
    ends = {name for name in [*read, net.output] if name in inside}
    if not ends:
        return product
    try:
        met = _meet(net, tuple(ends), _never)
    except NotBilinear:
        return product
    return met if met in inside else product


def _never(name: str) -> NotBilinear:
    return NotBilinear(name)


def _meet(
    net: Network,
    names: Sequence[str],
    stop: Callable[[str], NotBilinear],
    past_weight: bool = False,
) -> str:
    """Walk back from several values, the latest first, until one value is left.

    past_weight: do not rest before a matrix was passed. `stop` makes the error for a value that
    is not affine while others are left.
    """
    order = {INPUT: -1} | {n.name: i for i, n in enumerate(net.nodes)}
    left, passed = set(names), not past_weight
    while True:
        latest = max(left, key=order.__getitem__)
        kind = None if latest == INPUT else net.node(latest).kind
        if len(left) == 1 and (passed or not isinstance(kind, Affine)):
            return latest
        if not isinstance(kind, Affine):
            raise stop(latest)
        passed = passed or _is_matrix(kind)
        left.remove(latest)
        left.update(net.node(latest).inputs)


def _is_matrix(kind: Affine) -> bool:
    """Has the node a weight that mixes entries?"""
    return kind.taps is not None or any(
        w.is_floating_point() and sum(n > 1 for n in w.shape) > 1 for w in kind.weights
    )


def _reaches(net: Network, source: str) -> bool:
    """Is a value behind the input affine in it?"""
    if source == INPUT:
        return False
    seen, left = {INPUT}, [source]
    while left:
        node = net.node(left.pop())
        if not isinstance(node.kind, Affine):
            return False
        left += [name for name in node.inputs if name not in seen]
        seen.update(node.inputs)
    return True


# -- refusals --


def _require_entrywise(net: Network, node: Node) -> None:
    """u * v entry by entry, seen on numbers: not a matrix product, not nn.Bilinear."""
    assert isinstance(node.kind, Product)
    shapes = [net.shape(name) for name in node.inputs]
    if shapes[0] == shapes[1] == node.shape:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(2, 2, *node.shape, generator=generator, dtype=net.dtype)
        u, v = drawn.to(net.device)
        if torch.equal(node.kind(u, v), u * v):
            return
    raise NotBilinear(
        f"node '{node.name}' ({node.layer}) does not multiply entry by entry: it joins "
        f"{shapes[0]} and {shapes[1]} to {node.shape}, as attention does; freeze its pattern "
        f"(gatewise.bilinear.circuits) or give the weights to BilinearLayer.from_weights"
    )


def _refused(net: Network, node: Node, blamed: str) -> NotBilinear:
    """Why the walk back from a Product's sides stopped at a value while others were left."""
    if blamed == INPUT:
        why = "its sides do not meet in one value"
        return NotBilinear(f"node '{node.name}' ({node.layer}) is no bilinear layer: {why}")
    cause = net.node(blamed)
    here = f"node '{node.name}' ({node.layer}) is no bilinear layer:"
    if isinstance(cause.kind, Product):
        return NotBilinear(
            f"{here} a side holds the product '{blamed}', so it is a product of three or more; "
            f"read the parts with gatewise.bilinear.Stack, or cut the network there"
        )
    if "softmax" in cause.layer.lower():
        return NotBilinear(
            f"{here} a side is behind the softmax '{blamed}', which is not frozen; freeze the "
            f"attention pattern at a point (gatewise.bilinear.circuits)"
        )
    return NotBilinear(
        f"{here} a side is not affine, it holds '{blamed}' ({cause.layer}, "
        f"{kind_name(cause.kind)}); only products of two affine sides have a third-order tensor"
    )
