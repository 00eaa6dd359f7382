"""Patterns counted as they come: what a dictionary of all rows says, in the census's order."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.patterns import hashing
from gatewise.patterns.streaming import runs, tally
from gatewise.patterns.streaming.tally import Tally

WIDTH = 16


def counted(bits: np.ndarray, rows: np.ndarray) -> dict[bytes, tuple[int, int]]:
    """pattern -> (times, least row)."""
    found: dict[bytes, tuple[int, int]] = {}
    for row, pattern in zip(rows.tolist(), bits, strict=True):
        times, first = found.get(pattern.tobytes(), (0, row))
        found[pattern.tobytes()] = (times + 1, min(first, row))
    return found


def in_order(found: dict[bytes, tuple[int, int]]) -> list[tuple[bytes, int, int]]:
    """The largest first, ties in order of (hash, words)."""

    def place(item):
        words = np.frombuffer(item[0], np.uint64)
        key = int(hashing.hashes(np.frombuffer(item[0], np.uint8)[None])[0])
        return (-item[1][0], key, *words[::-1].tolist())

    return [(bits, *said) for bits, said in sorted(found.items(), key=place)]


def said(run: runs.Run) -> list[tuple[bytes, int, int]]:
    return [
        (b.tobytes(), int(c), int(f))
        for b, c, f in zip(run.bits, run.counts, run.first, strict=True)
    ]


@settings(max_examples=15)
@given(st.data())
def test_counts_firsts_and_order_are_a_dictionarys(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    distinct = data.draw(st.sampled_from([1, 7, 300, 5000]))
    rows = data.draw(st.integers(1, 4000))
    base = rng.integers(0, 256, (distinct, WIDTH), np.uint8)
    bits = base[rng.integers(distinct, size=rows)]
    numbers = np.sort(rng.choice(3 * rows, rows, replace=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "ROOM", data.draw(st.integers(1, 40)))
        patch.setattr(tally, "RECENT", data.draw(st.sampled_from([1, 16, 4096])))
        found = Tally(WIDTH, data.draw(st.integers(1, 3)), data.draw(st.sampled_from([None, rows])))
        start, step = data.draw(st.integers(0, 10**12)), data.draw(st.integers(90, 2000))
        for a in range(0, rows, step):
            found.put(bits[a : a + step], start, numbers[a : a + step])
        run = found.close()
    assert said(run) == in_order(counted(bits, numbers + start))


@pytest.mark.parametrize("bits_kept", [0, 9, 40])
def test_patterns_that_share_a_hash_or_its_first_bits_are_told_apart(monkeypatch, bits_kept):
    """A hash of so many bits: joined by words, in order of them."""

    def poor(bits, salt=0):
        words = bits.view(np.uint64)
        kept = words[:, 0] >> np.uint64(64 - bits_kept) if bits_kept else words[:, 0] * np.uint64(0)
        return kept << np.uint64(64 - bits_kept) if bits_kept else kept

    for place in (hashing, runs, tally):
        monkeypatch.setattr(place, "hashes", poor)
    monkeypatch.setattr(tally, "ROOM", 64)
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (500, WIDTH), np.uint8)
    base[:, 3:8] = base[0, 3:8]  # so that many agree in the first 40 bits, too
    base[:, :2] = base[0, :2]
    bits = base[rng.integers(500, size=2000)]
    found = Tally(WIDTH)
    found.put(bits, 0)
    assert said(found.close()) == in_order(counted(bits, np.arange(2000)))


def test_memory_is_the_answers_and_a_little(monkeypatch):
    """All different and announced: nothing is held twice."""
    monkeypatch.setattr(tally, "ROOM", 1 << 9)
    rows, rng = 1_000_000, np.random.default_rng(0)
    tracemalloc.start()
    try:
        found = Tally(8, rows=rows)
        for a in range(0, rows, 100_000):
            found.put(rng.integers(0, 2**63, (100_000, 1)).view(np.uint8), a)
        run = found.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(run) == rows and (run.counts == 1).all()
    answer = rows * (8 + 8 + 8)
    assert peak < 1.6 * answer  # with a batch, and the room that a bucket may have too much
