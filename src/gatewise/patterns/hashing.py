"""128-bit names for packed patterns, and grouping by them that never trusts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_GOLDEN = 0x9E3779B97F4A7C15


def hashes(bits: NDArray[np.uint8], salt: int = 0) -> U64:
    """A 64-bit hash of each packed row: the sum of its words, each mixed with its position."""
    words = bits.view(np.uint64)
    where = places(words.shape[1], salt)
    if len(words) < len(where):  # few rows of many words
        return _mix(np.array([_mix(row ^ where).sum() for row in words], np.uint64))
    total = np.zeros(len(words), np.uint64)
    for j, place in enumerate(where):
        total += _mix(words[:, j] ^ place)
    return _mix(total)


def places(words: int, salt: int = 0) -> U64:
    """What each word of a pattern is told apart by."""
    odd = 2 * np.arange(words, dtype=np.uint64) + np.uint64(1)
    return odd * np.uint64(_GOLDEN) + np.uint64(salt * 0xD1342543DE82EF95 & (2**64 - 1))


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


def group(bits: NDArray[np.uint8], keys: U64 | None = None) -> Groups:
    """Rows with equal bits, in order of (hash, bits), whatever other rows there are.

    keys: `hashes(bits)`, where they are known.
    """
    keys = hashes(bits) if keys is None else keys
    order, ordered = _sorted(keys)
    starts = np.ones(len(keys), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    first = order[starts]
    words = bits.view(np.uint64)
    repeats = np.flatnonzero(first[inverse] != np.arange(len(keys)))
    same = words[repeats] == words[first[inverse[repeats]]]
    return Groups(first, inverse) if same.all() else _told_apart(keys, words)


def _sorted(keys: U64) -> tuple[NDArray[np.int64], U64]:
    """The places of the keys in order, the earlier first among equals; and the keys so.

    While they are sorted, the last bits of each make room for its place: three times quicker than
    argsort. Keys that agree in all other bits are hardly ever met.
    """
    mask = np.uint64((1 << max(1, len(keys) - 1).bit_length()) - 1)
    marks = keys & ~mask
    marks |= np.arange(len(keys), dtype=np.uint64)
    marks.sort()
    order = (marks & mask).view(np.int64)
    ordered = keys[order]
    if (ordered[1:] >= ordered[:-1]).all():
        return order, ordered
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


def _told_apart(keys: U64, words: U64) -> Groups:
    """The same where two patterns share a hash: a stable sort by hash, then by every word."""
    order = np.lexsort((*words.T, keys))
    ordered = words[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    return Groups(order[starts], inverse)
