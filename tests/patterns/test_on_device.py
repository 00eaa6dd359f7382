"""Packing, hashing and grouping in torch give numpy's bits; batches arrive in order."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.ir.pattern import Field, Packer, Pattern, packed, row_bytes, unpacked
from gatewise.patterns import hashing, on_device
from gatewise.patterns.on_device import distinct, fed, group, hashes

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def coded(draw):
    """One gate's field and codes (rows, units)."""
    branches, units, rows = (
        draw(st.integers(1, 20)),
        draw(st.integers(1, 40)),
        draw(st.integers(0, 9)),
    )
    codes = np.random.default_rng(draw(SEEDS)).integers(0, branches, (rows, units))
    few = [np.uint8] if branches < 256 else []
    kind = bool if branches == 2 else draw(st.sampled_from([*few, np.int64]))
    return Field("g", (units,), branches, 0), torch.from_numpy(codes.astype(kind))


@settings(max_examples=60, deadline=None)
@given(coded())
def test_codes_are_packed_and_unpacked_to_numpys_bits(case):
    field, codes = case
    packer = Packer((field,), len(codes))
    packer.put("g", codes)
    found = packed(codes, field.width)
    assert found.dtype == torch.uint8
    assert np.array_equal(packer.bits[:, : field.stop], found.numpy())
    back, again = unpacked(found, field), Pattern(packer.bits, (field,)).codes("g")
    assert back.dtype == again.dtype
    assert torch.equal(back, again)
    assert torch.equal(back.long(), codes.long())


@st.composite
def patterns(draw):
    """Packed rows (rows, bytes), many of them equal."""
    rows, kinds, width = (draw(st.integers(*ends)) for ends in ((0, 60), (1, 9), (1, 3)))
    rng = np.random.default_rng(draw(SEEDS))
    return rng.integers(0, 256, (kinds, 8 * width)).astype(np.uint8)[rng.integers(0, kinds, rows)]


@settings(max_examples=60, deadline=None)
@given(patterns(), st.integers(0, 3))
def test_hashes_are_those_of_numpy(bits, salt):
    assert np.array_equal(
        hashes(torch.from_numpy(bits), salt).numpy().view(np.uint64), hashing.hashes(bits, salt)
    )


def assert_grouped(bits: np.ndarray) -> None:
    want, found = hashing.group(bits), group(torch.from_numpy(bits))
    assert np.array_equal(found.first.numpy(), want.first)
    assert np.array_equal(found.inverse.numpy(), want.inverse)
    assert np.array_equal(
        found.counts.numpy(), np.bincount(want.inverse, minlength=len(want.first))
    )


@settings(max_examples=60, deadline=None)
@given(patterns())
def test_groups_are_those_of_numpy(bits):
    assert_grouped(bits)


@pytest.mark.parametrize("kept", [0, 1, 2**63])
def test_patterns_that_share_a_hash_are_told_apart(monkeypatch, kept):
    strong, words = hashing.hashes, np.uint64(kept)
    monkeypatch.setattr(hashing, "hashes", lambda bits: strong(bits) & words)
    monkeypatch.setattr(
        on_device,
        "hashes",
        lambda bits: torch.from_numpy((strong(bits.numpy()) & words).view(np.int64)),
    )
    rng = np.random.default_rng(0)
    for width in (8, 24):
        assert_grouped(rng.integers(0, 256, (5, width)).astype(np.uint8)[rng.integers(0, 5, 40)])
        assert_grouped(rng.integers(0, 2, (90, width)).astype(np.uint8) * 255)


def test_distinct_rows_come_with_counts_and_firsts():
    bits = np.random.default_rng(1).integers(0, 2, (50, 8)).astype(np.uint8) & 1
    bits[:, 2:] = 0
    found = distinct(torch.from_numpy(bits))
    rows, counts = np.unique(bits, axis=0, return_counts=True)
    assert sorted(map(bytes, found.bits)) == sorted(map(bytes, rows))
    assert sorted(found.counts) == sorted(counts)
    assert np.array_equal(found.bits[found.inverse], bits)
    assert np.array_equal(bits[found.first], found.bits)
    assert all((bits[:f] != b).any(1).all() for f, b in zip(found.first, found.bits, strict=True))


def test_row_bytes_hold_every_field():
    fields = (Field("a", (3,), 3, 0), Field("b", (9,), 2, 1))
    assert row_bytes(fields) == 8


# -- batches --


def test_batches_on_the_cpu_are_those_given():
    x = torch.randn(10, 3, dtype=torch.float32)
    found = list(fed(x.split(4), torch.device("cpu"), torch.float64))
    assert [len(part) for part in found] == [4, 4, 2]
    assert torch.equal(torch.cat(found), x.double())


class Part:
    """A batch whose journey is written down."""

    def __init__(self, number, log):
        self.number, self.log, self.device = number, log, torch.device("cpu")

    def pin_memory(self):
        self.log.append(("pin", self.number))
        return self

    def to(self, where, non_blocking=None):
        if isinstance(where, torch.device):
            assert non_blocking
            self.log.append(("copy", self.number))
        return self

    def record_stream(self, stream):
        self.log.append(("keep", self.number, stream))


def test_a_batch_is_copied_while_the_one_before_is_worked_on(monkeypatch):
    log, inside = [], []

    class Lane:
        def __init__(self, device):
            self.events = 0

        def record_event(self):
            assert inside == [self]
            self.events += 1
            return self.events - 1

        def wait_event(self, event):
            log.append(("wait", event))

    @contextmanager
    def stream(lane):
        inside.append(lane)
        yield
        inside.pop()

    main = Lane(None)
    monkeypatch.setattr(torch.cuda, "Stream", Lane)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    for part in fed((Part(k, log) for k in range(3)), torch.device("cuda", 0), torch.float64):
        assert not inside
        log.append(("work", part.number))
    for k in range(3):
        here = [log.index((what, k)) for what in ("pin", "copy", "wait", "work")]
        assert here == sorted(here)
        assert log.index(("keep", k, main)) < log.index(("work", k))
        assert k == 2 or log.index(("copy", k + 1)) < log.index(("work", k))
