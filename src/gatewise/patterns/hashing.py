"""128-bit names for packed patterns, and grouping by them that never trusts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hashes(bits: NDArray[np.uint8], salt: int = 0) -> U64:
    """A 64-bit hash of each packed row: the sum of its words, each mixed with its position."""
    words = bits.view(np.uint64)
    total = np.zeros(len(words), np.uint64)
    for j in range(words.shape[1]):
        place = (int(_GOLDEN) * (2 * j + 1) + salt * 0xD1342543DE82EF95) & (2**64 - 1)
        total += _mix(words[:, j] ^ np.uint64(place))
    return _mix(total)


def _mix(z: U64) -> U64:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), in place: a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def names(bits: NDArray[np.uint8]) -> list[str]:
    """The 128-bit name of each pattern, in hex: the same in every run and on every machine."""
    pair = np.stack([hashes(bits, 1), hashes(bits, 2)], 1)
    return [f"{a:016x}{b:016x}" for a, b in pair.tolist()]


@dataclass(frozen=True)
class Groups:
    """Equal rows: first[g] is the earliest row of group g, inverse[i] the group of row i."""

    first: NDArray[np.int64]
    inverse: NDArray[np.int64]


def group(bits: NDArray[np.uint8]) -> Groups:
    """Rows with equal bits, in order of (hash, bits), whatever other rows there are."""
    keys = hashes(bits)
    order = np.argsort(keys)  # not stable, three times quicker: the earliest row is looked up
    ordered = keys[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    first = np.minimum.reduceat(order, np.flatnonzero(starts)) if len(order) else order
    words = bits.view(np.uint64)
    repeats = np.flatnonzero(first[inverse] != np.arange(len(keys)))
    same = words[repeats] == words[first[inverse[repeats]]]
    return Groups(first, inverse) if same.all() else _told_apart(keys, words)


def _told_apart(keys: U64, words: U64) -> Groups:
    """The same where two patterns share a hash: a stable sort by hash, then by every word."""
    order = np.lexsort((*words.T, keys))
    ordered = words[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    return Groups(order[starts], inverse)


def distinct(bits: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`group(bits).first` and how many rows each group has, at half the work."""
    keys = hashes(bits)
    order = np.argsort(keys)
    starts = np.ones(len(keys), bool)
    ordered = keys[order]
    starts[1:] = ordered[1:] != ordered[:-1]
    repeats = np.flatnonzero(~starts)
    words = bits.view(np.uint64)
    if (words[order[repeats]] == words[order[repeats - 1]]).all():
        begins = np.flatnonzero(starts)
        first = np.minimum.reduceat(order, begins) if len(order) else order
        return first, np.diff(begins, append=len(keys))
    found = group(bits)
    return found.first, np.bincount(found.inverse, minlength=len(found.first))
