"""A stretch of affine nodes as a network of its own, and the matrices of its nodes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Shape, scale
from gatewise.ir.network import INPUT, Network, Node
from gatewise.linear.chains import F64, Factor, scaled, times_power
from gatewise.linear.collapse import collapse
from gatewise.linear.folding.axes import multiplies, weight_of
from gatewise.linear.spectra import Layer

MOST = 1 << 26  # numbers in W: half a gigabyte
DIAGONAL = 1 << 22  # numbers in the matrix that a scaling is written out as


def part_of(network: Network, name: str) -> tuple[Network, tuple[str, ...], tuple[Node, ...]]:
    """The affine nodes behind `name` as a network of its own, its sources, those nodes."""
    needed = {name}
    for node in reversed(network.nodes):
        if node.name in needed and isinstance(node.kind, Affine):
            needed.update(node.inputs)
    nodes = tuple(n for n in network.nodes if n.name in needed and isinstance(n.kind, Affine))
    own = {n.name for n in nodes}
    sources = tuple(dict.fromkeys(v for n in nodes for v in n.inputs if v not in own))
    return cut_out(nodes, sources, [network.shape(s) for s in sources]), sources, nodes


def cut_out(nodes: Sequence[Node], sources: Sequence[str], shapes: Sequence[Shape]) -> Network:
    """The nodes on their own; several sources are one input, joined end to end."""
    given: list[Node] = []
    names, size = {sources[0]: INPUT}, shapes[0]
    if len(sources) > 1:
        given, names, size = _parts(sources, shapes)
    renamed = [
        dataclasses.replace(n, inputs=tuple(names.get(i, i) for i in n.inputs)) for n in nodes
    ]
    return Network((*given, *renamed), size, nodes[-1].name)


def _parts(
    sources: Sequence[str], shapes: Sequence[Shape]
) -> tuple[list[Node], dict[str, str], Shape]:
    """A node for each source that cuts it out of all of them joined."""
    given, names, at = [], {}, 0
    total = sum(math.prod(s) for s in shapes)
    for source, shape in zip(sources, shapes, strict=True):
        rule = Part(at, total, shape)
        names[source] = f"{source}.part"
        given.append(Node(names[source], "part", Affine(rule, pullback=rule.back), (INPUT,), shape))
        at += math.prod(shape)
    return given, names, (total,)


@dataclass(frozen=True)
class Part:
    """x[at : at + n] as `shape`, of `total` joined values."""

    at: int
    total: int
    shape: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, self.at : self.at + math.prod(self.shape)].reshape(len(x), *self.shape)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """Its transpose."""
        whole = g.new_zeros(len(g), self.total)
        whole[:, self.at : self.at + math.prod(self.shape)] = g.reshape(len(g), -1)
        return (whole,)


def factors_of(part: Network) -> list[Factor] | None:
    """The stretch as matrices one after another, or None where it is none such."""
    found: list[Factor] = []
    at = INPUT
    for node in part.nodes:
        if node.inputs != (at,):
            return None
        matrix = _matrix(node, part.shape(at))
        if matrix is None:
            return None
        kind, at = node.kind, node.name
        assert isinstance(kind, Affine)
        offset = None
        if kind.bias is not None:
            offset = scaled(kind.bias.expand(node.shape).reshape(-1))
        found.append(Factor(scaled(matrix), 0.0, offset))
    return [f for f in found if not _nothing(f)] or found[:1]


def _nothing(factor: Factor) -> bool:
    """Is it the identity, moving nothing and adding nothing?"""
    W = factor.weight
    if factor.offset is not None or W.value.shape[0] != W.value.shape[1]:
        return False
    return torch.equal(times_power(W.value, W.exponent), torch.eye(len(W.value), dtype=F64))


def _matrix(node: Node, shape: Shape) -> Tensor | None:
    """The matrix of a dense layer, of a scaling and of a reshape; None for any other."""
    kind = node.kind
    assert isinstance(kind, Affine)
    n, m = math.prod(shape), math.prod(node.shape)
    if kind.batched or n * m > MOST:
        return None
    v = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    w = weight_of(kind)
    if w is None or kind.rule is scale:
        return _diagonal(kind, v) if n == m and n * m <= DIAGONAL else None
    if tuple(w.shape) != (m, n):
        return None
    top = float(w.abs().max()) if w.numel() else 0.0
    down = math.ldexp(1.0, -math.frexp(top)[1]) if 0 < top < math.inf else 1.0
    return w if multiplies(kind, w * down, v) else None


def _diagonal(kind: Affine, v: Tensor) -> Tensor | None:
    """diag(s) where L v = s v entry by entry, perhaps under another shape."""
    if kind.weights and kind.rule is not scale:
        return None
    s = kind.linear(torch.ones_like(v[:1])).reshape(-1)
    theirs = kind.linear(v).reshape(2, -1)
    return s.diag() if torch.allclose(theirs, v.reshape(2, -1) * s, rtol=1e-11, atol=0) else None


def layer_of(node: Node, part: Network) -> Layer | None:
    """The node's own matrix; None where it only moves values, or is too large to write out."""
    kind = node.kind
    assert isinstance(kind, Affine)
    if not any(w.is_floating_point() for w in kind.weights):
        return None
    if not kind.batched and kind.rule is scale:
        s = kind.weights[0].expand(node.shape).reshape(-1)
        return Layer(node.name, node.layer, scaled(s), diagonal=True)
    matrix = _matrix(node, part.shape(node.inputs[0])) if len(node.inputs) == 1 else None
    if matrix is None:
        sources = tuple(dict.fromkeys(node.inputs))
        shapes = [part.shape(name) for name in sources]
        if sum(map(math.prod, shapes)) * math.prod(node.shape) > MOST // 4:
            return None
        matrix = collapse(cut_out([node], sources, shapes))[0][0]
    return Layer(node.name, node.layer, scaled(matrix))
