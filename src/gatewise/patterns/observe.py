"""One batch through the network: outputs, packed patterns, and the units that are undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Layout, Packer, Pattern, layout
from gatewise.ir.rounding import Enclosure, enclose_node, undecided
from gatewise.patterns.exact import settle
from gatewise.patterns.on_device import fed
from gatewise.patterns.thresholds import thresholds
from gatewise.patterns.ties import Ties

BATCH_BYTES = 1 << 22  # of one value at the widest node: a few of them fit the last-level cache
THERE_BYTES = 1 << 28  # the same on a GPU, whose cores are many


@dataclass(frozen=True, eq=False)
class Observed:
    """outputs (rows, outputs); codes, packed where the network is; units in doubt a row."""

    output: Tensor
    packer: Packer
    undecided: NDArray[np.int64]

    @property
    def pattern(self) -> Pattern:
        """The patterns, on the host: they come when they are asked for."""
        return Pattern(self.packer.bits, tuple(self.packer.fields.values()))


class Observer:
    """Watches batches of one network; remembers if thresholds paid, and the ties it has seen."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.fields: Layout = layout(network)
        self._running = False
        self._ties: Ties | None = None

    def __call__(self, x: Tensor) -> Observed:
        """Outputs and patterns of x (rows, *input_shape), and undecided units of each row."""
        seen = self._observe(x)
        self._settle(seen, x)
        return seen

    def _settle(self, seen: Observed, x: Tensor) -> None:
        """Decide the rows that float64 could not in rational arithmetic, where possible.

        Ties first: one look at a region decides all its rows. What is left goes row by row.
        """
        rows = seen.undecided.nonzero()[0]
        if not len(rows):
            return
        self._ties = self._ties or Ties(self.network)
        for decide in (self._ties, partial(settle, self.network)):
            bits, done = decide(x[torch.from_numpy(rows)])
            seen.pattern.bits[rows[done]] = bits[done]
            seen.undecided[rows[done]] = 0
            rows = rows[~done]

    def _observe(self, x: Tensor) -> Observed:
        if self._running:
            return observe_running(self.network, self.fields, x)
        seen, flagged = observe_fast(self.network, self.fields, x)
        rows = flagged.nonzero()[0]
        if len(rows) > len(x) // 4:
            # Thresholds flag most rows of a deep network: take the running bound at once.
            self._running = True
        if len(rows):
            closer = observe_running(self.network, self.fields, x[torch.from_numpy(rows)])
            seen.undecided[rows] = closer.undecided
        return seen


def observe_fast(network: Network, fields: Layout, x: Tensor) -> tuple[Observed, NDArray[np.bool_]]:
    """One forward pass; rows flagged where a unit is within the data-wide threshold of a knot."""
    packer = Packer(fields, len(x))
    limits = thresholds(network, x.abs().amax(0, keepdim=True))
    flagged = np.zeros(len(x), bool)

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        kind = node.kind
        if isinstance(kind, Pieces | Winner):
            codes = kind.choose(*xs)
            packer.put(node.name, codes)
            near = _near(kind, xs, codes, limits[node.name])
            if near is not None:
                flagged[near.reshape(len(x), -1).any(1).cpu().numpy()] = True
        return kind(*xs)

    output = fold(network, x, step)[network.output]
    nothing = np.zeros(len(x), np.int64)
    return Observed(output.reshape(len(x), -1), packer, nothing), flagged


def _near(kind: Pieces | Winner, xs: list[Tensor], codes: Tensor, limit: Tensor) -> Tensor | None:
    """Units within `limit` of another branch, or None when there is none in the batch."""
    if isinstance(kind, Winner):
        slack = kind.slack(tuple(xs), codes)
        other = (
            torch.arange(kind.branches, device=codes.device).reshape(-1, *[1] * codes.ndim) != codes
        )
        near = ((slack <= limit) & other).any(0)
        return near if near.any() else None
    found = None
    for knot in kind.knots:
        distance = (xs[0] - knot).abs_() if knot.any() else xs[0].abs()
        # The nearest row of each unit first: most batches have none that is near.
        if not bool((distance.amin(0) > limit).all()):
            near = distance <= limit
            found = near if found is None else found | near
    return found


def observe_running(network: Network, fields: Layout, x: Tensor) -> Observed:
    """The same with a running error bound: every undecided unit is counted."""
    packer = Packer(fields, len(x))
    doubts = np.zeros(len(x), np.int64)

    def step(node: Node, xs: list[Enclosure]) -> Enclosure:
        kind = node.kind
        if isinstance(kind, Pieces | Winner):
            packer.put(node.name, kind.choose(*(e.value for e in xs)))
            unsure = undecided(kind, xs).any(0)
            doubts[:] += unsure.reshape(len(x), -1).sum(1).cpu().numpy()
        return enclose_node(node, xs)

    output = fold(network, Enclosure(x, torch.zeros_like(x)), step)[network.output].value
    return Observed(output.reshape(len(x), -1), packer, doubts)


def pattern(network: Network, x: Tensor) -> Pattern:
    """The pattern of every row of x (rows, *input_shape): decided as the census decides it."""
    exact = network.to(torch.float64)
    observer, step = Observer(exact), default_batch(exact)
    batches = fed(x.split(step), exact.device, exact.dtype)
    parts = [observer(part).pattern.bits for part in batches]
    return Pattern(np.concatenate(parts), observer.fields)


def default_batch(network: Network) -> int:
    """Rows a batch so that a value at the widest node takes about BATCH_BYTES."""
    widest = max([network.inputs, *(math.prod(n.shape) for n in network.nodes)])
    itemsize = torch.empty((), dtype=network.dtype).element_size()
    room = BATCH_BYTES if network.device.type == "cpu" else THERE_BYTES
    return max(1, room // (itemsize * widest))
