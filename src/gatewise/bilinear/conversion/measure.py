"""How a converted network does beside the one it came from, on rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.conversion.blocks import Block
from gatewise.bilinear.conversion.entrywise import is_dense
from gatewise.bilinear.conversion.moments import streamed
from gatewise.given.labels import CONSTANT, Truth, quality, winners
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network, Node


@dataclass(frozen=True)
class Fit:
    """One block, every block before it converted too: R2 of its units' values, and of what the
    dense layer behind it gives (its read-out; None where there is none)."""

    name: str
    layer: str
    units: int
    r2_units: float
    r2: float | None


@dataclass(frozen=True)
class Measured:
    """Both networks on some rows. r2: of the outputs, 1 - |f - f'|² / |f - mean f|² (NaN where f
    moves by rounding alone, so that there is nothing to explain); agreement: share of rows decided
    alike (None for a regression); score: (before, after) share of right labels, or R2 against the
    targets of a regression (None without y)."""

    rows: int
    blocks: tuple[Fit, ...]
    r2: float
    agreement: float | None
    score: tuple[float, float] | None


def measured(
    before: Network,
    after: Network,
    blocks: Sequence[Block],
    rows: tuple[Tensor, Truth | None],
    batch: int,
) -> Measured:
    """Block by block and at the outputs."""
    x, truth = rows
    behind = [readouts(before, block.name) for block in blocks]
    outs = [nodes[0].name if nodes else None for nodes in behind]
    names = [*(block.name for block in blocks), *(n for n in outs if n is not None)]
    gaps = {name: _Gap(before.shape(name)) for name in names}
    found: list[tuple[Tensor, Tensor]] = []
    streams = (streamed(net, [*names, before.output], x, batch) for net in (before, after))
    for a, b in zip(*streams, strict=True):
        for name, u, v in zip(names, a, b, strict=False):
            gaps[name].add(u, v)
        found.append((a[-1].flatten(1), b[-1].flatten(1)))
    f, g = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return Measured(
        len(x),
        tuple(
            Fit(b.name, b.layer, b.units, gaps[b.name].r2, None if o is None else gaps[o].r2)
            for b, o in zip(blocks, outs, strict=True)
        ),
        quality(g, f, labels=False),
        float((winners(f) == winners(g)).mean()) if decides(before) else None,
        None if truth is None else (truth.score(f), truth.score(g)),
    )


def decides(network: Network) -> bool:
    """Do its outputs pick something? Not where it regresses, has one output and no classes, or
    outputs at many positions."""
    if sum(n > 1 for n in network.output_shape) > 1:
        return False
    return network.task != "regression" and (network.outputs > 1 or network.task is not None)


class _Gap:
    """Sums over rows of |u - v|², and of u about the first batch's mean, entry by entry."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        long = sum(n > 1 for n in shape) > 1
        self.width = shape[-1] if long else math.prod(shape)
        self.count, self.off = 0, 0.0
        self.centre = self.total = self.squares = torch.zeros(self.width, dtype=torch.float64)
        self.top = self.centre

    def add(self, u: Tensor, v: Tensor) -> None:
        """u as it was, v as it is now."""
        u, v = u.reshape(-1, self.width), v.reshape(-1, self.width)
        self.centre = self.centre if self.count else u.mean(0)
        self.count += len(u)
        self.off += float((u - v).square().sum())
        self.top = torch.maximum(self.top, u.abs().amax(0))
        self.total = self.total + (u - self.centre).sum(0)
        self.squares = self.squares + (u - self.centre).square().sum(0)

    @property
    def r2(self) -> float:
        """NaN where u never moves, but for rounding."""
        spread = (self.squares - self.total.square() / self.count).sum()
        rounding = self.count * (CONSTANT * self.top).square().sum()
        return float(1 - self.off / spread) if spread > rounding else math.nan


def readouts(network: Network, name: str) -> list[Node]:
    """The dense layers that read a value, through nothing but moves and scales of it."""
    found, seen = [], {name}
    for node in network.nodes:
        kind = node.kind
        if not isinstance(kind, Affine) or len(node.inputs) != 1 or node.inputs[0] not in seen:
            continue
        if kind.taps is None:
            seen.add(node.name)
        elif is_dense(node):
            found.append(node)
    return found
