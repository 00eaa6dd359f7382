"""census(network, X): every distinct pattern in the data, how often, where first, and whose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import DataError, EmptyData
from gatewise.ir.network import Network, fingerprint, require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.numeric import whole_number
from gatewise.patterns.hashing import group, names
from gatewise.patterns.observe import Observer, default_batch
from gatewise.patterns.on_device import distinct, fed

MERGE_ROWS = 65_536  # distinct patterns to wait for before the first merge
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Census:
    """The clusters of some rows: rows that share a pattern. A commutative monoid under `merge`.

    ids (rows,): the cluster of each row, 0 the largest (ties in order of pattern hash);
    counts, first (clusters,): size and earliest row; pattern: one row a cluster;
    undecided (rows,): units of each row that rounding leaves in doubt; outputs (rows, outputs).
    """

    network: Network
    ids: Ids
    counts: Ids
    first: Ids
    pattern: Pattern
    undecided: Ids
    output: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        unsure = int((self.undecided > 0).sum())
        return f"Census({len(self.ids)} rows in {len(self)} clusters; {unsure} rows undecided)"

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return len(self.ids)

    @property
    def maps(self) -> AffineMap:
        """The affine map of each cluster, lazy."""
        return AffineMap(self.network, self.pattern)

    @property
    def names(self) -> list[str]:
        """A 128-bit name for each cluster's pattern, the same in every run."""
        return names(self.pattern.bits)

    def members(self, cluster: int) -> Ids:
        """The rows of one cluster."""
        return np.flatnonzero(self.ids == cluster)

    def merge(self, other: Census) -> Census:
        """The census of the rows of `self` followed by those of `other`, of the same network."""
        if self.network is not other.network:
            mine, theirs = fingerprint(self.network), fingerprint(other.network)
            if mine != theirs:
                raise DataError(
                    f"only censuses of one network can be merged: their fingerprints are "
                    f"{mine[:12]} and {theirs[:12]}"
                )
        return _ordered([self, other])


def census(
    network: Network,
    x: Tensor,
    *,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Census:
    """Clusters of the rows of x (rows, *input_shape) by activation pattern, one batch at a time.

    Gates are decided in float64 whatever the network's dtype (a float32 network is one with
    float32 weights): float32 would leave half the rows of a 256-wide net in doubt. Memory beyond
    x and the answer is a batch and the distinct patterns. The batch size changes nothing.
    """
    require_piecewise_affine(network, "a census of patterns")
    if batch_size is not None:
        batch_size = whole_number(batch_size, "batch_size")
    if len(x) == 0:
        raise EmptyData("a census needs at least one row, got 0 rows")
    exact = network.to(torch.float64)
    observer = Observer(exact)
    step = batch_size or default_batch(exact)
    whole: list[Census] = []
    waiting: list[Census] = []
    for start, batch in zip(
        range(0, len(x), step), fed(x.split(step), exact.device, exact.dtype), strict=True
    ):
        waiting.append(_single(network, observer, batch))
        if sum(map(len, waiting)) > max(map(len, whole), default=MERGE_ROWS):
            whole, waiting = [_merge([*whole, *waiting])], []
        if progress is not None:
            progress(min(start + step, len(x)))
    return _ordered([*whole, *waiting])


def _single(network: Network, observer: Observer, x: Tensor) -> Census:
    """The census of one batch, clusters in order of hash."""
    seen = observer(x)
    there = seen.packer.there
    if there is not None and not seen.packer.on_host:  # no row was settled on the host
        d = distinct(there)
        pattern = Pattern(d.bits, observer.fields)
        return Census(network, d.inverse, d.counts, d.first, pattern, seen.undecided, seen.output)
    found = group(seen.pattern.bits)
    counts = np.bincount(found.inverse, minlength=len(found.first))
    return Census(
        network,
        found.inverse,
        counts,
        found.first,
        seen.pattern[found.first],
        seen.undecided,
        seen.output,
    )


def _merge(parts: list[Census]) -> Census:
    """The census of the rows of all parts, one after another; clusters in order of hash."""
    bits = np.concatenate([p.pattern.bits for p in parts])
    found = group(bits)
    sizes = np.concatenate([p.counts for p in parts])
    starts = np.cumsum([0, *(p.rows for p in parts)])
    first = np.concatenate([p.first + s for p, s in zip(parts, starts, strict=False)])[found.first]
    offsets = np.cumsum([0, *(len(p) for p in parts)])
    ids = [found.inverse[o : o + len(p)][p.ids] for p, o in zip(parts, offsets, strict=False)]
    return Census(
        parts[0].network,
        np.concatenate(ids),
        np.bincount(found.inverse, sizes).astype(np.int64),
        first,
        Pattern(bits[found.first], parts[0].pattern.fields),
        np.concatenate([p.undecided for p in parts]),
        torch.cat([p.output for p in parts]),
    )


def _ordered(parts: list[Census]) -> Census:
    """The census of all parts, largest cluster first, ties in order of hash."""
    c = _merge(parts)
    places = np.arange(len(c.counts))
    order = np.argsort((c.counts.max() - c.counts) * len(places) + places)  # as a stable sort does
    if np.array_equal(order, np.arange(len(order))):
        return c
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return dataclasses.replace(
        c, ids=rank[c.ids], counts=c.counts[order], first=c.first[order], pattern=c.pattern[order]
    )
