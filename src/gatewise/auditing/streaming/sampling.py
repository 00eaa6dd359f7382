"""Rows of a table larger than memory for an audit: held out by their number, sampled by it.

Row i of a table has the key splitmix64(i + seed): those below the share are test rows, those with
the least keys are the sample. Both depend on the number of the row and on nothing else, so however
the files are cut or shared out the same rows are picked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.explain.streaming.reading import Rows

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
U64 = NDArray[np.uint64]
STEP, MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
FOR_SAMPLE = 0x5851F42D4C957F2D  # so that the sample is no matter of the split


def keys(rows: Ids, seed: int) -> U64:
    """(rows,) splitmix64 of (row, seed): uniform on 64 bits (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = rows.astype(np.uint64) * np.uint64(STEP) + np.uint64(seed * STEP % 2**64)
        for shift, factor in zip((30, 27), MIX, strict=True):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        return z ^ (z >> np.uint64(31))


def held_out(rows: Ids, share: float, seed: int) -> NDArray[np.bool_]:
    """(rows,) is it a test row?"""
    return keys(rows, seed) < np.uint64(min(int(share * 2**64), 2**64 - 1))


@dataclass(frozen=True, eq=False)
class Sample:
    """At most `most` rows, those of the least keys: x (rows, inputs), their target, numbers.

    A commutative monoid under `merge`; in order of the rows' numbers.
    """

    most: int
    seed: int
    x: Floats
    target: Any
    index: Ids

    def __len__(self) -> int:
        return len(self.index)

    def merge(self, other: Sample) -> Sample:
        """Of the rows of both."""
        x = np.vstack([self.x, other.x])
        target = pa.concat_arrays([self.target, other.target.cast(self.target.type)])
        return _least(self.most, self.seed, x, target, np.concatenate([self.index, other.index]))


def sample_of(rows: Rows, which: NDArray[np.bool_], most: int, seed: int, kind: Any) -> Sample:
    """Of some rows of a block."""
    place = np.flatnonzero(which)
    target = rows.target.take(pa.array(place)).cast(kind)
    return _least(most, seed, rows.values[place], target, place + rows.start)


def none(most: int, seed: int, inputs: int, kind: Any) -> Sample:
    """Of no row."""
    return Sample(most, seed, np.empty((0, inputs)), pa.array([], kind), np.empty(0, np.int64))


def _least(most: int, seed: int, x: Floats, target: Any, index: Ids) -> Sample:
    if len(index) > most:
        mine = keys(index, seed ^ FOR_SAMPLE)
        kept = np.sort(np.argpartition(mine, most)[:most])
    else:
        kept = np.arange(len(index))
    kept = kept[np.argsort(index[kept], kind="stable")]
    return Sample(most, seed, x[kept], target.take(pa.array(kept)), index[kept])
