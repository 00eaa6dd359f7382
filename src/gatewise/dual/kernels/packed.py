"""Gates of rows as words of bits, the form in which `gram` counts them: 1 bit a gate and row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.dual.gating import Site, mask_of
from gatewise.errors import WrongShape
from gatewise.ir.pattern import Pattern

Words = NDArray[np.uint64]
REPACK = 500.0  # repacking one gate of one row takes as long as counting this many pairs


@dataclass(frozen=True, eq=False)
class Gates:
    """Which gates are on at rows.

    layers[l]: uint64 (rows, words), the bytes in the order of np.packbits, zeros after units[l]
    bits; or soft gates: floating (rows, units[l]).
    """

    layers: tuple[NDArray[Any], ...]
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        for n, (layer, units) in enumerate(zip(self.layers, self.units, strict=True), 1):
            kept = layer.shape[1:] == ((-(-units // 64),) if packed(layer) else (units,))
            if layer.ndim != 2 or not kept or len(layer) != len(self):
                raise WrongShape(
                    f"gate layer {n} is {layer.dtype} {layer.shape}; {units} gates of {len(self)} "
                    f"rows are uint64 ({len(self)}, {-(-units // 64)}), or floating for soft gates"
                )

    def __len__(self) -> int:
        return len(self.layers[0]) if self.layers else 0

    def only(self, *which: int) -> Gates:
        """Some of the layers, in the order given."""
        return Gates(tuple(self.layers[i] for i in which), tuple(self.units[i] for i in which))


def packed(layer: NDArray[Any]) -> bool:
    """Are these words of bits, not soft gates?"""
    return bool(layer.dtype == np.uint64)


def pack(masks: Sequence[Any]) -> Gates:
    """Gates from one array or tensor (rows, ...) a layer: bits if bool, kept as numbers if not."""
    flat = [np.asarray(m).reshape(len(m), math.prod(m.shape[1:])) for m in masks]
    layers = [words(np.packbits(m, axis=1)) if m.dtype == bool else m for m in flat]
    return Gates(tuple(layers), tuple(m.shape[1] for m in flat))


def from_pattern(pattern: Pattern, sites: Sequence[Site]) -> Gates:
    """The masks of the sites at the rows of a pattern; plain gates are copied, not unpacked."""
    fields = {field.name: field for field in pattern.fields}
    layers = []
    for site in sites:
        field = fields[site.gate]
        if field.width == 1 and site.table == (False, True):
            layers.append(words(pattern.bits[:, field.start : field.stop]))
        else:
            layers.append(pack([mask_of(site, pattern)]).layers[0])
    return Gates(tuple(layers), tuple(site.units for site in sites))


def words(bits: NDArray[np.uint8]) -> Words:
    """Bytes (rows, any) as whole words, zeros at the end."""
    whole = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole.view(np.uint64)


def unpack(layer: NDArray[Any], units: int) -> NDArray[np.uint8]:
    """0 or 1, (rows, units)."""
    return np.unpackbits(layer.view(np.uint8), axis=1, count=units)


def on_counts(layer: NDArray[Any]) -> NDArray[np.float64]:
    """o(x, x) of each row: its gates that are on; of soft gates the sum of squares."""
    if packed(layer):
        return np.asarray(np.bitwise_count(layer).sum(1, dtype=np.float64))
    return np.asarray(np.square(layer, dtype=np.float64).sum(1))


def without_dead(gates: Gates, gates2: Gates) -> tuple[Gates, Gates]:
    """Both sides less the gates that no row of one of them turns on, where that saves time."""
    same = gates is gates2
    pairs = len(gates) * len(gates2) / (2 if same else 1)
    left, right = [], []
    for a, b, units in zip(gates.layers, gates2.layers, gates.units, strict=True):
        live = _live(a, b, units)
        saves = (units - len(live)) * pairs > REPACK * units * (len(gates) + len(gates2))
        keep = live if saves else None
        left.append(_kept(a, units, keep))
        right.append(left[-1] if same else _kept(b, units, keep))
    first = Gates(*zip(*left, strict=True)) if left else gates
    return first, first if same else Gates(*zip(*right, strict=True)) if right else gates2


def _live(a: NDArray[Any], b: NDArray[Any], units: int) -> NDArray[np.int64]:
    """The gates on at some row of a and at some row of b; of soft gates all."""
    if not (packed(a) and packed(b)):
        return np.arange(units)
    both = np.bitwise_or.reduce(a, axis=0) & np.bitwise_or.reduce(b, axis=0)
    return np.flatnonzero(unpack(both[None], units)[0])


def _kept(
    layer: NDArray[Any], units: int, keep: NDArray[np.int64] | None
) -> tuple[NDArray[Any], int]:
    if keep is None:
        return layer, units
    return words(np.packbits(unpack(layer, units)[:, keep], axis=1)), len(keep)


# -- layouts of the kernels --


def side_by_side(gates: Gates, halves: bool) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All layers in one array (rows, S) of words, or of half-bytes; layer l from starts[l] on."""
    pairs = zip(gates.layers, gates.units, strict=True)
    layers = [_half_bytes(layer, units) if halves else layer for layer, units in pairs]
    starts = np.cumsum([0, *(layer.shape[1] for layer in layers)], dtype=np.int64)
    return np.concatenate(layers, axis=1), starts


def _half_bytes(layer: Words, units: int) -> NDArray[np.uint8]:
    """Four gates in each byte, (rows, units / 4)."""
    whole = layer.view(np.uint8)
    both = np.stack([whole >> 4, whole & 15], axis=2).reshape(len(whole), -1)
    return both[:, : -(-units // 4)]


def grouped(codes: NDArray[Any], wide: int) -> NDArray[Any]:
    """Codes (rows, S) as groups of `wide` rows, transposed: (groups, S, wide), zeros at the end."""
    groups = -(-len(codes) // wide)
    whole = np.zeros((groups * wide, codes.shape[1]), codes.dtype)
    whole[: len(codes)] = codes
    return np.ascontiguousarray(whole.reshape(groups, wide, -1).transpose(0, 2, 1))
