"""What a block becomes: one product a unit, from four numbers in closed form or by least squares.

With h = (y - m) / s and r = cov(y, z) / s, t standard normal and g_k = E[g(m + s t) He_k(t)], the
best quadratic of a Gaussian x is, for v = g(y) and for v = g(y) z:

    v ~ g_0 - g_2 / 2 + h (g_1 + g_2 h / 2)
    v ~ G_0 - G_2 + g_0 z' + h ((G_1 - r g_0) + (G_2 - r g_1) h + g_1 z'),     z' = z - E z,

G_0 = E[z] g_0 + r g_1, G_1 = E[z] g_1 + r (g_0 + g_2), 2 G_2 = E[z] g_2 + r (2 g_1 + g_3)
(Stein's lemma, Hermite by Hermite).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.conversion.blocks import Block
from gatewise.bilinear.conversion.entrywise import is_dense
from gatewise.bilinear.conversion.moments import Moments
from gatewise.ir.kinds import Affine, Product, scale, scale_back
from gatewise.ir.network import Network, Node, checked

LAYER = "Quadratic"  # the layer's name of the nodes that a conversion puts in
CUTOFF = 1e-12  # of the largest: directions of the features that carry nothing


@dataclass(frozen=True, eq=False)
class Coefficients:
    """v = const + line z' + h (first + second h + cross z'), each (h,)."""

    const: Tensor
    first: Tensor
    second: Tensor
    line: Tensor
    cross: Tensor


def closed_form(g: Tensor, seen: Moments, gated: bool) -> Coefficients:
    """From the moments g (4, h): the Gaussian optimum."""
    g0, g1, g2, g3 = g
    zero = torch.zeros_like(g0)
    if not gated:
        return Coefficients(g0 - g2 / 2, g1, g2 / 2, zero, zero)
    r, mz = seen.cov * seen.inverse, seen.other
    G0, G1 = mz * g0 + r * g1, mz * g1 + r * (g0 + g2)
    G2 = (mz * g2 + r * (2 * g1 + g3)) / 2
    return Coefficients(G0 - G2, G1 - r * g0, G2 - r * g1, g0, g1)


def least_squares(
    values: Iterable[tuple[Tensor, Tensor | None, Tensor]], seen: Moments
) -> Coefficients:
    """The same form fitted to v over rows (y, z, v), each (n, h): the shortest solution."""
    moment = product = None
    for y, z, v in values:
        h = (y - seen.mean) * seen.inverse
        parts = [torch.ones_like(h), h, h.square()]
        if z is not None:
            away = z - seen.other
            parts += [away, h * away]
        F = torch.stack(parts).permute(2, 0, 1)  # (h, features, n)
        moment = F @ F.mT + (0 if moment is None else moment)
        product = F @ v.mT.unsqueeze(2) + (0 if product is None else product)
    assert isinstance(moment, Tensor) and isinstance(product, Tensor)
    size = moment.diagonal(dim1=1, dim2=2).sqrt()
    size = torch.where(size > 0, size, 1.0)  # a unit that reads one value has features of 0
    even = moment / (size.unsqueeze(1) * size.unsqueeze(2))
    solved = torch.linalg.pinv(even, rtol=CUTOFF, hermitian=True) @ (product / size.unsqueeze(2))
    c = (solved.squeeze(2) / size).mT
    zero = torch.zeros_like(c[0])
    line, cross = (c[3], c[4]) if len(c) > 3 else (zero, zero)
    return Coefficients(c[0], c[1], c[2], line, cross)


# -- the nodes --


def both(p: Tensor, q: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """p x + q y."""
    return torch.addcmul(p * x, q, y)


def both_back(p: Tensor, q: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `both`."""
    return p * g, q * g


Sum = list[tuple[str, Tensor]]  # values, each with a factor a unit


def replaced(network: Network, block: Block, c: Coefficients, seen: Moments) -> Network:
    """The network with the block's last node as left * right + line z + const."""
    new = _nodes(network, block, c, seen)
    nodes = [n for node in network.nodes for n in (new if node.name == block.name else [node])]
    return pruned(network, nodes)


def _nodes(network: Network, block: Block, c: Coefficients, seen: Moments) -> list[Node]:
    per = seen.inverse
    first = [(block.root, per)]
    second = [(block.root, c.second * per)]
    start = c.first - c.second * seen.mean * per
    rest: Sum = []
    if block.other is not None:
        second.append((block.other, c.cross))
        start = start - c.cross * seen.other
        rest.append((block.other, c.line))
    left, right, product = (
        _unused(network, f"{block.name}.{side}") for side in ("left", "right", "product")
    )
    end = [(product, torch.ones_like(per)), *rest]
    return [
        _node(left, block, first, -seen.mean * per),
        _node(right, block, second, start),
        Node(product, LAYER, Product(torch.mul), (left, right), block.shape),
        _node(block.name, block, end, c.const - c.line * seen.other),
    ]


def _node(name: str, block: Block, parts: Sum, bias: Tensor) -> Node:
    """Σ factor value + bias, entry by entry."""
    weights = tuple(block.shaped(factor) for _, factor in parts)
    rule, back = (scale, scale_back) if len(parts) == 1 else (both, both_back)
    kind = Affine(rule, weights, block.shaped(bias), len(parts), 1, back)
    return Node(name, LAYER, kind, tuple(value for value, _ in parts), block.shape)


def sides_joined(network: Network) -> Network:
    """The same function with each side of a product one dense layer of the block's own input.

    Where a pre-activation is a dense layer's value (both of a GLU's of the same input); elsewhere
    the sides stay as they are, a scale and a bias of it.
    """
    by_name = {n.name: n for n in network.nodes}
    return pruned(network, [_joined(n, by_name) for n in network.nodes])


def _joined(node: Node, by_name: dict[str, Node]) -> Node:
    kind = node.kind
    behind = [by_name[name] for name in node.inputs if name in by_name]
    if node.layer != LAYER or not isinstance(kind, Affine) or len(behind) < len(node.inputs):
        return node
    if not all(is_dense(n) and n.inputs == behind[0].inputs for n in behind):
        return node
    assert kind.bias is not None
    weight, bias = torch.zeros(()), kind.bias.flatten()
    for each, factor in zip(behind, kind.weights, strict=True):
        dense, f = each.kind, factor.flatten()
        assert isinstance(dense, Affine)
        weight = weight + f.unsqueeze(1) * dense.weights[0]
        bias = bias if dense.bias is None else bias + f * dense.bias
    assert isinstance(behind[0].kind, Affine)
    whole = dataclasses.replace(behind[0].kind, weights=(weight,), bias=bias)
    return dataclasses.replace(node, kind=whole, inputs=behind[0].inputs)


def pruned(network: Network, nodes: list[Node]) -> Network:
    """The network of these nodes, without those its output does not depend on."""
    needed = {network.output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = tuple(n for n in nodes if n.name in needed)
    return checked(dataclasses.replace(network, nodes=kept))


def _unused(network: Network, name: str) -> str:
    taken = {n.name for n in network.nodes}
    while name in taken:
        name += "'"
    return name
