"""Some rows explained, given the census of all: the same functions as in memory, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from gatewise.explain.compute import certificate, margins, require_finite, require_range
from gatewise.explain.explanation import Explanation
from gatewise.explain.streaming.asked import Question
from gatewise.explain.streaming.reading import Floats, Ids
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern, layout, row_bytes
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.census import Census
from gatewise.patterns.observe import default_batch
from gatewise.patterns.streaming import runs
from gatewise.tables import Matrix

NUMBERS = 1 << 20  # contributions at once
ROWS = 1 << 15
HELD = 1 << 22  # numbers in the maps of the largest clusters, which are kept


def step_of(q: Question) -> int:
    """Rows explained at once."""
    wide = len(q.outputs) * len(q.feature_names)
    return q.asked.batch_size or max(64, min(ROWS, NUMBERS // wide))


def unpacked(patterns: Path, place: Path, network: Network) -> NDArray[np.uint8]:
    """The packed pattern of every cluster as an array that lies in a file, not in memory."""
    with pyarrow.parquet.ParquetFile(patterns) as file, place.open("wb") as out:
        for group in range(file.num_row_groups):
            bits = np.ascontiguousarray(runs.as_run(file.read_row_group(group)).bits)
            out.write(bits.data)
    return opened(place, network)


def opened(place: Path, network: Network) -> NDArray[np.uint8]:
    """(clusters, bytes) what `unpacked` put there."""
    return np.memmap(place, np.uint8, "r").reshape(-1, row_bytes(layout(network)))


@dataclass(frozen=True, eq=False)
class Maps:
    """W (clusters, outputs, inputs) and b of clusters; those of the largest are kept.

    weight, offset: of clusters 0, 1, ... that are kept; known: which have been worked out.
    """

    network: Network
    outputs: tuple[int, ...]
    bits: NDArray[np.uint8]
    weight: torch.Tensor = field(init=False)
    offset: torch.Tensor = field(init=False)
    known: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        n, k = self.network, len(self.outputs)
        held = min(len(self.bits), HELD // (k * (n.inputs + 1)))
        empty = torch.empty(held, k, n.inputs + 1, dtype=n.dtype, device=n.device)
        object.__setattr__(self, "weight", empty[..., :-1])
        object.__setattr__(self, "offset", empty[..., -1])
        object.__setattr__(self, "known", np.zeros(held, bool))

    def __call__(self, clusters: Ids) -> tuple[torch.Tensor, torch.Tensor]:
        """Of some clusters, in ascending order."""
        kept = clusters[: np.searchsorted(clusters, len(self.known))]
        new = kept[~self.known[kept]]
        if len(new):
            self.weight[new], self.offset[new] = self._made(new)
            self.known[new] = True
        if len(kept) == len(clusters):
            return self.weight[kept], self.offset[kept]
        weight, offset = self._made(clusters[len(kept) :])
        return torch.cat([self.weight[kept], weight]), torch.cat([self.offset[kept], offset])

    def _made(self, clusters: Ids) -> tuple[torch.Tensor, torch.Tensor]:
        return AffineMap(self.network, self.pattern(clusters)).rows(self.outputs)

    def pattern(self, clusters: Ids) -> Pattern:
        """Those of some clusters."""
        return Pattern(np.asarray(self.bits[clusters]), layout(self.network))


@dataclass(frozen=True, eq=False)
class Ruler:
    """What the rows are measured by: reference and deviations of the inputs, the largest |x|."""

    base: Floats
    base_name: str
    scale: Floats
    reach: Floats | None


def explained(
    q: Question, maps: Maps, ruler: Ruler, x: Floats, index: Ids, ids: Ids, doubts: Ids
) -> Explanation:
    """The Explanation of rows x, numbered `index`; its clusters are those of `np.unique(ids)`."""
    network = q.network
    clusters, first, local = np.unique(ids, return_index=True, return_inverse=True)
    matrix, rows = Matrix(x, q.table.columns, index), network.rows(x)
    counts = np.bincount(local, minlength=len(clusters))
    output = torch.cat([network(part) for part in rows.split(default_batch(network))])
    found = Census(network, local, counts, first, maps.pattern(clusters), doubts, output)
    require_finite(index, output.cpu())
    weight, offset = maps(clusters)
    chosen = list(q.outputs)
    reach = None if ruler.reach is None else torch.from_numpy(ruler.reach).to(rows)
    error, bound = certificate(found, rows, weight, offset, chosen, reach=reach)
    w, b = weight.cpu().numpy(), offset.cpu().numpy()
    require_finite(index, error, bound)
    require_range(w, b, local, matrix, ruler.base)
    margin = margins(network, rows, found, ruler.scale, index) if q.asked.margin else None
    return Explanation(
        network,
        matrix,
        found,
        q.outputs,
        q.feature_names,
        q.output_names,
        w,
        b,
        ruler.base,
        ruler.scale,
        error,
        bound,
        margin,
        reference_name=ruler.base_name,
        groups=q.groups,
    )
