"""Ties that hold on a whole region: decided once a region, in rationals, for all rows on it.

Networks built by hand or by a compiler (lattices of max and min, copied units) carry units that are
zero, or candidates that are equal, everywhere on a region: float64 leaves every row there in doubt.
Take each doubtful unit to lie exactly on its knot. If, frozen to that pattern, the rows of those
units are identically zero, then by induction along the network it is the pattern of the row: the
units before have their exact codes, so the doubtful one is exactly zero and the tie rule holds.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Packer, Pattern, layout, row_bytes
from gatewise.ir.rounding import Enclosure, enclose_node, undecided
from gatewise.patterns.degenerate import affordable, zero_rows
from gatewise.patterns.exact import rational
from gatewise.patterns.hashing import group

Doubts = dict[str, Tensor]  # for each gate (knots or candidates, rows, *shape): what is open


class Ties:
    """Decides rows on ties of one network; remembers the regions it has looked at."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.fields = layout(network)
        self.exact = rational(network)
        self._zero: dict[bytes, dict[str, Tensor]] = {}

    def __call__(self, x: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Packed patterns of the rows of x (rows, *input_shape), and which rows are decided."""
        if self.exact is None or not len(x):
            return np.zeros((len(x), row_bytes(self.fields)), np.uint8), np.zeros(len(x), bool)
        pattern, doubts = on_knots(self.network, x)
        found = group(pattern.bits)
        done = np.zeros(len(x), bool)
        for k, first in enumerate(found.first):
            zero = self._zeros(pattern[first : first + 1])
            if zero is not None:
                rows = np.flatnonzero(found.inverse == k)
                done[rows] = _only_ties(doubts, zero, torch.from_numpy(rows))
        return pattern.bits, done

    def _zeros(self, pattern: Pattern) -> dict[str, Tensor] | None:
        """The rows that vanish on the pattern's region, or None where it costs too much."""
        assert self.exact is not None
        key = pattern.bits.tobytes()
        if key not in self._zero and len(self._zero) < affordable(self.exact):
            self._zero[key] = zero_rows(self.exact, pattern)
        return self._zero.get(key)


def on_knots(network: Network, x: Tensor) -> tuple[Pattern, Doubts]:
    """Patterns with every doubtful unit taken to lie on its knot, and what was in doubt.

    A doubtful knot counts as its tie rule says; of the candidates that may win, the first does.
    """
    packer, doubts = Packer(layout(network), len(x)), Doubts()

    def step(node: Node, xs: list[Enclosure]) -> Enclosure:
        kind = node.kind
        if isinstance(kind, Pieces | Winner):
            open_ = undecided(kind, xs)
            codes = kind.choose(*(e.value for e in xs))
            if isinstance(kind, Pieces):
                packer.put(node.name, _tied_knots(kind, xs[0].value, open_))
            else:
                open_ = open_.scatter(0, codes.long().unsqueeze(0), open_.any(0, keepdim=True))
                codes = torch.where(open_.any(0), open_.int().argmax(0), codes)
                packer.put(node.name, codes)
            doubts[node.name] = open_
        return enclose_node(node, xs)

    fold(network, Enclosure(x, torch.zeros_like(x)), step)
    return Pattern(packer.bits, layout(network)), doubts


def _tied_knots(kind: Pieces, z: Tensor, open_: Tensor) -> Tensor:
    """Codes of z with the open knots (K, rows, *shape) taken as met exactly."""
    above = [
        torch.where(near, torch.full_like(near, closed), z >= t if closed else z > t)
        for near, t, closed in zip(open_, kind.knots, kind.closed, strict=True)
    ]
    return above[0] if len(above) == 1 else torch.stack(above).sum(0, dtype=torch.uint8)


def _only_ties(doubts: Doubts, zero: dict[str, Tensor], rows: Tensor) -> NDArray[np.bool_]:
    """Rows whose doubts are all about rows that vanish on the region."""
    fine = torch.ones(len(rows), dtype=torch.bool)
    for name, open_ in doubts.items():
        bad = open_[:, rows].cpu() & ~zero[name][:, 0]
        fine &= ~bad.movedim(1, 0).reshape(len(rows), -1).any(1)
    return fine.numpy()
