"""Read-outs refitted by least squares: the dense layers behind a block give what they gave."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gatewise.bilinear.conversion.measure import readouts
from gatewise.bilinear.conversion.moments import streamed
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network

PULL = 1e-6  # of the mean second moment: how firmly refitted weights keep to the trained ones


def refitted(before: Network, now: Network, block: str, x: Tensor, batch: int) -> Network:
    """min |W h + c - z|² + pull |W - W_0|²: h as the block gives it now, z as it was before."""
    for node in readouts(now, block):
        now = _refitted(before, now, node.name, x, batch)
    return now


def _refitted(before: Network, now: Network, name: str, x: Tensor, batch: int) -> Network:
    node = now.node(name)
    kind = node.kind
    assert isinstance(kind, Affine) and kind.taps is not None
    w = kind.weights[0]
    size = w.shape[1] + 1
    moment, product = w.new_zeros(size, size), w.new_zeros(size, len(w))
    new, old = streamed(now, [node.inputs[0]], x, batch), streamed(before, [name], x, batch)
    for (h,), (z,) in zip(new, old, strict=True):
        taps = kind.taps(h).mT.flatten(0, 1)
        inside = torch.cat([taps, taps.new_ones(len(taps), 1)], 1)
        gap = (kind.taps.units(z) - kind.taps.units(kind(h))).mT.flatten(0, 1)
        moment.addmm_(inside.T, inside)
        product.addmm_(inside.T, gap)
    moment.diagonal().add_(PULL * float(moment.diagonal().mean()) + 1e-300)
    change = torch.cholesky_solve(product, torch.linalg.cholesky(moment)).T
    bias = change[:, -1] if kind.bias is None else kind.bias + change[:, -1]
    fitted = dataclasses.replace(kind, weights=(w + change[:, :-1],), bias=bias)
    nodes = tuple(dataclasses.replace(n, kind=fitted) if n is node else n for n in now.nodes)
    return dataclasses.replace(now, nodes=nodes)
