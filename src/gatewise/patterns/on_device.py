"""Census work on the device that holds the patterns: what travels are answers, not rows.

`hashing` in torch, bit for bit: int64 products wrap as uint64 ones do, a shift is made logical by
a mask, and unsigned order is signed order once the top bit is turned over. Rows are equal where
their words are: the hash only brings them together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN, SALT = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95  # as in `hashing`
TOP = -(1 << 63)
Ids = NDArray[np.int64]


def words(bits: Tensor) -> Tensor:
    """int64 (rows, words) of packed rows, uint8 (rows, bytes): a view."""
    if not len(bits):  # of which NumPy's strides are no good to torch
        return torch.empty(0, bits.shape[1] // 8, dtype=torch.int64, device=bits.device)
    return bits.view(torch.int64)


def hashes(bits: Tensor, salt: int = 0) -> Tensor:
    """int64 (rows,): the bits of `hashing.hashes`."""
    held = words(bits)
    total = held.new_zeros(len(held))
    for j in range(held.shape[1]):
        total += _mix(held[:, j] ^ _signed(GOLDEN * (2 * j + 1) + salt * SALT))
    return _mix(total)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64."""
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """z >> by, zeros coming in."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The int64 with the low 64 bits of a number."""
    return ((number + (1 << 63)) % (1 << 64)) - (1 << 63)


@dataclass(frozen=True, eq=False)
class Groups:
    """Equal rows: first (groups,) earliest rows, counts (groups,), inverse (rows,): whose each is.

    On the device, in order of (hash, bits) as `hashing.group` has them.
    """

    first: Tensor
    counts: Tensor
    inverse: Tensor

    def __len__(self) -> int:
        return len(self.first)


def group(bits: Tensor) -> Groups:
    """The groups of packed rows (rows, bytes), whatever other rows there are."""
    keys, held = hashes(bits) ^ TOP, words(bits)
    ordered, order = keys.sort(stable=True)
    starts = _starts(ordered.unsqueeze(1))
    mine = order[~starts]
    if not torch.equal(held[mine], held[order[(~starts).nonzero().squeeze(1) - 1]]):
        order, starts = _told_apart(keys, held)
    return _groups(order, starts)


def _starts(ordered: Tensor) -> Tensor:
    """(rows,) bool: does this row (rows, k) differ from the one before?"""
    starts = torch.ones(len(ordered), dtype=torch.bool, device=ordered.device)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    return starts


def _told_apart(keys: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Where two patterns share a hash: stable sorts by every word, the last one by hash."""
    order = torch.arange(len(keys), device=keys.device)
    for column in (*(held ^ TOP).unbind(1), keys):
        order = order[column[order].argsort(stable=True)]
    return order, _starts(torch.cat([keys.unsqueeze(1), held], 1)[order])


def _groups(order: Tensor, starts: Tensor) -> Groups:
    """Each group's rows lie together in `order`, the earliest first."""
    inverse = torch.empty_like(order)
    inverse[order] = starts.cumsum(0) - 1
    begins = starts.nonzero().squeeze(1)
    ends = torch.cat([begins[1:], begins.new_full((1,), len(order))]) if len(begins) else begins
    return Groups(order[begins], ends - begins, inverse)


@dataclass(frozen=True, eq=False)
class Distinct:
    """Groups on the host: bits (groups, bytes), counts, first (groups,), inverse (rows,)."""

    bits: NDArray[np.uint8]
    counts: Ids
    first: Ids
    inverse: Ids


def distinct(bits: Tensor) -> Distinct:
    """`group(bits)` with the distinct patterns: all that leaves the device.

    inverse travels as int32 where that holds it.
    """
    found = group(bits)
    narrow = torch.int32 if len(bits) <= torch.iinfo(torch.int32).max else torch.int64
    inverse = _host(found.inverse.to(narrow)).astype(np.int64)
    return Distinct(_host(bits[found.first]), _host(found.counts), _host(found.first), inverse)


def _host(values: Tensor) -> NDArray[Any]:
    """The one way back from the device."""
    held: NDArray[Any] = values.cpu().numpy()
    return held


# -- batches on their way in --


def fed(parts: Iterable[Tensor], device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
    """Each part on the device in the type, the next one on its way while one is worked on.

    From the host to CUDA a part goes through pinned memory on a stream of its own, as it is: the
    type is changed there. Elsewhere it is a plain `to`, read no further than asked.
    """
    if device.type != "cuda":
        for part in parts:
            yield part.to(device, dtype)
        return
    lane, sent = torch.cuda.Stream(device), deque[tuple[Tensor, torch.cuda.Event]]()
    for part in parts:
        with torch.cuda.stream(lane):
            held = part.pin_memory() if part.device.type == "cpu" else part
            sent.append((held.to(device, non_blocking=True).to(dtype), lane.record_event()))
        if len(sent) > 1:
            yield _arrived(*sent.popleft(), device)
    for there, event in sent:
        yield _arrived(there, event, device)


def _arrived(there: Tensor, event: torch.cuda.Event, device: torch.device) -> Tensor:
    """The part, for the stream at work: it waits for the copy, and keeps the memory till done."""
    here = torch.cuda.current_stream(device)
    here.wait_event(event)
    there.record_stream(here)
    return there
