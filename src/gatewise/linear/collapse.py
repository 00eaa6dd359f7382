"""collapse: a gate-free Network of P patterns multiplied out to W (P, outputs, inputs), b.

Row by row (one walk back per output) or column by column (one walk forward per input), whichever
is less work. What no gate has touched yet is shared by all patterns (Q = 1 in `push`, `pull`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Shape, pull, push
from gatewise.ir.network import Network, Node, fold, fold_back


def collapse(frozen: Network, outputs: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """W (P, k, inputs) and b (P, k) with f(x) = W x + b on each of the P regions."""
    chosen = list(range(frozen.outputs)) if outputs is None else list(outputs)
    if len(chosen) <= frozen.inputs:
        return by_rows(frozen, chosen)
    weight, offset = by_columns(frozen)
    return weight[:, chosen], offset[:, chosen]


def by_rows(frozen: Network, outputs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The walk back: cotangents of the chosen outputs; b collects <g, c> at every bias c."""
    seed = torch.zeros(len(outputs), frozen.outputs, dtype=frozen.dtype, device=frozen.device)
    seed[range(len(outputs)), list(outputs)] = 1
    return walk_back(frozen, seed.reshape(1, len(outputs), *frozen.output_shape))


def walk_back(frozen: Network, seed: Tensor) -> tuple[Tensor, Tensor]:
    """(g W, g b) for cotangents g (P or 1, k, *output_shape): (P, k, inputs) and (P, k)."""
    shapes = {n.name: n.shape for n in frozen.nodes} | {"input": frozen.input_shape}
    offsets: list[Tensor] = [seed.new_zeros(1, 1)]

    def step(node: Node, g: Tensor) -> tuple[Tensor, ...]:
        kind = node.kind
        assert isinstance(kind, Affine)
        if kind.bias is not None:
            offsets[0] = offsets[0] + _inner(g, kind, node.shape)
        return pull(kind, g, [shapes[name] for name in node.inputs])

    p, k = max(frozen.patterns, len(seed)), seed.shape[1]
    g = fold_back(frozen, seed, step)
    g = seed.new_zeros(p, k, frozen.inputs) if g is None else g
    return g.reshape(len(g), k, -1).expand(p, k, -1), offsets[0].expand(p, k)


def _inner(g: Tensor, kind: Affine, shape: Shape) -> Tensor:
    """<g, c>, (P or 1, k)."""
    assert kind.bias is not None
    if kind.batched:
        return (g * kind.bias).reshape(max(len(g), len(kind.bias)), g.shape[1], -1).sum(-1)
    return g.reshape(*g.shape[:2], -1) @ kind.bias.expand(shape).reshape(-1)


def by_columns(frozen: Network) -> tuple[Tensor, Tensor]:
    """The walk forward: W is the image of the identity without biases, b that of 0 with them."""
    eye = torch.eye(frozen.inputs, dtype=frozen.dtype, device=frozen.device)
    columns = apply(frozen, eye.reshape(1, -1, *frozen.input_shape), with_bias=False)
    zero = eye.new_zeros(1, 1, *frozen.input_shape)
    p = frozen.patterns
    offset = apply(frozen, zero).reshape(-1, frozen.outputs).expand(p, -1)
    return columns.reshape(len(columns), frozen.inputs, -1).mT.expand(p, -1, -1), offset


def apply(frozen: Network, x: Tensor, with_bias: bool = True) -> Tensor:
    """W x (+ b) for x (P or 1, k, *input_shape), without forming W: (P or 1, k, *output_shape)."""

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        assert isinstance(node.kind, Affine)
        return push(node.kind, xs, with_bias)

    return fold(frozen, x, step)[frozen.output]
