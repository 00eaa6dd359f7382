"""Distinct patterns of rows as they come, in memory: little more of it than the answer takes.

Records (pattern, times, first row) go to buckets by the first bits of their hash. A bucket that is
full is sorted, and equal patterns are joined; where that does not help, all buckets get more room.
At the end the buckets, each in order, are moved up to one another: they are the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gatewise.patterns.compiled import dealt, gathered, joined, marked, singled
from gatewise.patterns.hashing import U64
from gatewise.patterns.streaming.runs import Bits, Ids, Run, hashes, merged

BUCKET_BITS = 8
BUCKETS = 1 << BUCKET_BITS
RECENT = 1 << 12  # records that a row is compared with before it makes one
ROOM = 1 << 13  # records of a bucket, at first
MOST = 1 << 19  # and at most, where more rows are announced than have come
NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Records:
    """Some rows as (row, times): equal rows that came soon after one another are one.

    words (rows, k), keys (rows,): patterns and their hashes; which, times (records,); rows: numbers
    of the rows after `start`, empty where they are 0, 1, ...
    """

    words: U64
    keys: U64
    which: Ids
    times: Ids
    start: int
    rows: Ids

    def __len__(self) -> int:
        return len(self.which)


def records(bits: Bits, start: int = 0, rows: Ids = NO_ROWS) -> Records:
    """Patterns (rows, bytes) of rows from number `start` on, or of rows start + `rows`."""
    keys, words = hashes(bits), bits.view(np.uint64)
    which, times = np.empty((2, len(bits)), np.int64)
    recent, tags = np.full(RECENT, -1), np.zeros(RECENT, np.uint64)
    made = gathered(words, keys, recent, tags, (which, times))
    return Records(words, keys, which[:made], times[:made], start, rows)


class Tally:
    """Counts patterns (a builder, not a value). rows: how many will come, where that is known."""

    def __init__(self, width: int, threads: int = 1, rows: int | None = None) -> None:
        self.width, self.threads, self.announced = width, threads, rows or 0
        self.fills, self.rows = np.zeros(BUCKETS, np.int64), 0
        self.held = _room(ROOM, width)

    def put(self, bits: Bits, start: int, rows: Ids = NO_ROWS) -> None:
        """Patterns (rows, bytes) of rows from number `start` on, or of rows start + `rows`."""
        self.add(records(bits, start, rows))

    def add(self, new: Records) -> None:
        """The same, where their records are made elsewhere: by another thread, say."""
        self.rows += len(new.words)
        of, at = (new.words, new.keys, new.rows), 0
        while True:
            to = (self.fills, _arrays(self.held))
            at = dealt(of, (new.which, new.times), at, _SHIFT, new.start, *to)
            if at == len(new):
                return
            self._make_room()

    def run(self) -> Run:
        """All patterns in order of (hash, bits)."""
        return _chained(list(self._joined(range(BUCKETS))))

    def close(self) -> Run:
        """All patterns, the most frequent first, ties in order of (hash, bits); no more rows.

        Those met once go to the end, the last bucket first: over buckets that have been read. How
        many others come before them is known then.
        """
        whole = self._end_to_end()
        end, several = len(whole), []
        for part in self._joined(range(BUCKETS)[::-1]):
            many = np.flatnonzero(part.counts > 1)
            end -= len(part) - len(many)
            singled(_arrays(part), _arrays(whole), end)
            several.append(_picked(part, many))
        most = _chained(several[::-1])
        order = np.argsort(-most.counts, kind="stable")
        begin = end - len(order)
        _put(whole, begin, _picked(most, order))
        return _picked(whole, slice(begin, None))

    def _make_room(self) -> None:
        """Join what is equal; more room where buckets stay half full: at once for all rows to come,
        if there were few repeats so far."""
        for b, part in enumerate(self._joined(range(BUCKETS))):
            _put(self._bucket(b), 0, part)
            self.fills[b] = len(part)
        room = self.held.counts.shape[1]
        if 2 * self.fills.max() <= room:
            return
        more = 2 * room
        if 2 * self.fills.sum() > self.rows:
            more = max(more, min(MOST, self.announced // BUCKETS * 17 // 16))
        old, self.held = self.held, _room(more, self.width)

        def move(b: int) -> None:
            _put(self._bucket(b), 0, _picked(_nth(old, b), slice(self.fills[b])))

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(move, range(BUCKETS)))

    def _bucket(self, b: int) -> Run:
        return _nth(self.held, b)

    def _end_to_end(self) -> Run:
        bits, counts, first = self.held.bits, self.held.counts, self.held.first
        return Run(bits.reshape(-1, self.width), counts.reshape(-1), first.reshape(-1))

    def _joined(self, buckets: Iterable[int]) -> Iterator[Run]:
        """The patterns of each bucket in order of (hash, bits)."""
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(
                lambda b: _join(_picked(self._bucket(b), slice(self.fills[b]))), buckets
            )


_SHIFT = np.uint64(64 - BUCKET_BITS)


def summed(parts: list[Run]) -> Run:
    """The patterns of all parts in order of (hash, bits), their rows added up."""
    return _join(_chained(parts))


def _join(held: Run) -> Run:
    """Records in order of (hash, bits), equal patterns as one.

    While hashes are sorted, their last bits make room for the place, which is three times quicker
    than argsort; hashes that agree in all the others are hardly ever met.
    """
    out, keys = _empty(*held.bits.shape), hashes(held.bits)
    mask = np.uint64((1 << max(1, len(keys) - 1).bit_length()) - 1)
    marks = np.empty_like(keys)
    marked(keys, mask, marks)
    made = joined(np.sort(marks), mask, keys, _arrays(held), _arrays(out))
    return _picked(out, slice(made)) if made >= 0 else merged([held])[0]


def _room(records: int, width: int) -> Run:
    """BUCKETS of so many records: memory that is not written to is not taken."""
    bits = np.empty((BUCKETS, records, width), np.uint8)
    return Run(bits, *np.empty((2, BUCKETS, records), np.int64))


def _nth(rooms: Run, b: int) -> Run:
    return Run(rooms.bits[b], rooms.counts[b], rooms.first[b])


def _empty(patterns: int, width: int) -> Run:
    return Run(np.empty((patterns, width), np.uint8), *np.empty((2, patterns), np.int64))


def _arrays(run: Run) -> tuple[U64, Ids, Ids]:
    return run.bits.view(np.uint64), run.counts, run.first


def _picked(run: Run, which: Ids | slice) -> Run:
    return Run(run.bits[which], run.counts[which], run.first[which])


def _chained(parts: list[Run]) -> Run:
    columns = ([getattr(p, name) for p in parts] for name in ("bits", "counts", "first"))
    return Run(*(np.concatenate(column) for column in columns))


def _put(whole: Run, at: int, part: Run) -> None:
    here = slice(at, at + len(part))
    whole.bits[here], whole.counts[here], whole.first[here] = part.bits, part.counts, part.first
