"""Loops over every row, compiled: hashes of patterns, records, buckets."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import inner, kernel


@inner
def mixed(z: Any) -> Any:
    """The finaliser of splitmix64: `hashing` says what it is."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def hashed(words: Any, salts: Any, out: Any) -> None:
    """Into out (rows,): the sum of the words (rows, k), each mixed with its own salt, mixed."""
    for i in range(len(words)):
        total = np.uint64(0)
        for j in range(words.shape[1]):
            total += mixed(words[i, j] ^ salts[j])
        out[i] = mixed(total)


@kernel
def gathered(words: Any, keys: Any, recent: Any, tags: Any, out: Any) -> int:
    """Rows as records of (row, times): a row whose pattern was met lately adds to its record.

    words (rows, k), keys (rows,) their hashes; recent, tags: tables of 2**b records, and their
    keys, by the last bits of the key, -1 empty; out: arrays (rows,) of each record's first row and
    its count. How many. A record that another pushed out of the table may be made once more.
    """
    rows, counts = out
    made, mask = 0, np.uint64(len(recent) - 1)
    for i in range(len(keys)):
        place = keys[i] & mask
        r = recent[place]
        same = tags[place] == keys[i] and r >= 0
        if same:
            for j in range(words.shape[1]):
                same &= words[rows[r], j] == words[i, j]
        if same:
            counts[r] += 1
        else:
            rows[made], counts[made] = i, 1
            recent[place], tags[place] = made, keys[i]
            made += 1
    return made


@kernel
def dealt(of: Any, which: Any, at: int, shift: Any, start: int, fills: Any, out: Any) -> int:
    """Records from number `at` on, each to the end of its bucket: how far it came.

    of: (words, keys, rows) where rows are numbered start + rows[i], or start + i where `rows` is
    empty; which: (i, times) of the records; a record's bucket is what `shift` leaves of its key.
    fills (buckets,): records in each; out: (words, counts, first) of buckets, by records. It ends
    before the first record whose bucket is full.
    """
    words, keys, rows = of
    places, times = which
    to_words, to_counts, to_first = out
    for record in range(at, len(places)):
        i = places[record]
        b = keys[i] >> shift
        end = fills[b]
        if end == to_counts.shape[1]:
            return record
        fills[b] += 1
        to_counts[b, end] = times[record]
        to_first[b, end] = start + (rows[i] if len(rows) else i)
        for j in range(words.shape[1]):
            to_words[b, end, j] = words[i, j]
    return len(places)


@kernel
def marked(keys: Any, mask: Any, out: Any) -> None:
    """Into out: the keys with their place in the bits of `mask`."""
    for i in range(len(keys)):
        out[i] = (keys[i] & ~mask) | np.uint64(i)


@kernel
def joined(marks: Any, mask: Any, keys: Any, records: Any, out: Any) -> int:
    """Records in the order of sorted `marks`, equal patterns as one: how many patterns, or -1.

    records, out: (words, counts, first), out in order of (key, words). -1: two patterns share a
    key, or the bits of `mask`, which the marks lack, would have told them in another order.
    """
    words, counts, first = records
    to_words, to_counts, to_first = out
    made, last = -1, np.uint64(0)
    for i in range(len(marks)):
        r = marks[i] & mask
        if made < 0 or keys[r] != last:
            if keys[r] < last:
                return -1
            made, last = made + 1, keys[r]
            to_counts[made], to_first[made] = counts[r], first[r]
            for j in range(words.shape[1]):
                to_words[made, j] = words[r, j]
            continue
        to_counts[made] += counts[r]
        to_first[made] = min(to_first[made], first[r])
        for j in range(words.shape[1]):
            if to_words[made, j] != words[r, j]:
                return -1
    return made + 1


@kernel
def singled(run: Any, out: Any, at: int) -> int:
    """The patterns of a run that were met once into `out` from `at` on: where the next goes.

    run, out: (words, counts, first).
    """
    words, counts, first = run
    to_words, to_counts, to_first = out
    for r in range(len(counts)):
        if counts[r] == 1:
            to_counts[at], to_first[at] = 1, first[r]
            for j in range(words.shape[1]):
                to_words[at, j] = words[r, j]
            at += 1
    return at
