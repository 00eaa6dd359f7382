"""Which nodes work entry by entry, seen on numbers, and which share weights over positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Product, Smooth
from gatewise.ir.network import INPUT, Network, Node

CLOSE = 1e-12  # entries computed in one call or another may differ in their last digits


def entrywise(net: Network, node: Node) -> bool:
    """Is entry i of the node a function of the entries i of its inputs alone?

    Each two entries differ in a bit of their position: all entries with that bit are changed, and
    the others must stay.
    """
    kind = node.kind
    if isinstance(kind, Pieces):
        return True
    if not isinstance(kind, Affine | Smooth | Product) or _mixes(kind):
        return False
    if any(net.shape(name) != node.shape for name in node.inputs):
        return False
    size = math.prod(node.shape)
    bits = torch.arange(max(1, (size - 1).bit_length()))
    masks = (torch.arange(size) >> bits[:, None]) % 2 == 1
    masks = torch.cat([masks, ~masks]).reshape(-1, *node.shape)
    rng = torch.Generator().manual_seed(0)
    draws = torch.rand(2, len(node.inputs), 1, *node.shape, generator=rng, dtype=net.dtype) + 0.5
    still, moved = (list(draw) for draw in draws)
    xs = [torch.where(masks, b, a) for a, b in zip(still, moved, strict=True)]
    return _same(kind(*xs), kind(*still).expand(len(masks), *node.shape), ~masks)


def _mixes(kind: Affine | Smooth | Product) -> bool:
    if isinstance(kind, Affine):
        return kind.batched or kind.taps is not None
    return isinstance(kind, Smooth) and kind.terms > 0


def _same(a: Tensor, b: Tensor, where: Tensor) -> bool:
    return bool(torch.isclose(a[where], b[where], rtol=CLOSE, atol=0, equal_nan=True).all())


def shared_over_positions(net: Network, name: str) -> str | None:
    """The convolution (or alike) behind a value, whose units do not lie along the last axis.

    None where each matrix before it gives the last axis, as dense layers do.
    """
    if name == INPUT:
        return None
    node = net.node(name)
    if not isinstance(node.kind, Affine):
        return None
    if node.kind.taps is None:
        found = (shared_over_positions(net, n) for n in node.inputs)
        return next((n for n in found if n is not None), None)
    return None if along_last(node) else name


def along_last(node: Node) -> bool:
    """Do a dense layer's units lie along the last axis of its value?"""
    assert isinstance(node.kind, Affine) and node.kind.taps is not None
    order = torch.arange(math.prod(node.shape)).reshape(1, *node.shape)
    units = node.kind.taps.units(order)[0]
    return units.shape[0] == node.shape[-1] and torch.equal(units.mT.flatten(), order.flatten())


def is_dense(node: Node) -> bool:
    """One matrix, its units along the last axis."""
    kind = node.kind
    held = isinstance(kind, Affine) and kind.taps is not None and len(node.inputs) == 1
    if not held or not isinstance(kind, Affine):
        return False
    return len(kind.weights) == 1 and kind.weights[0].ndim == 2 and along_last(node)
