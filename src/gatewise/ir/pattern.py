"""Activation patterns: the branch each gate picked, packed to as few bits as it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import InternalError
from gatewise.ir.kinds import Pieces, Shape, Winner
from gatewise.ir.network import Network

WORD = 8  # bytes: rows of bits are padded to whole 64-bit words, which is what gets hashed


@dataclass(frozen=True)
class Field:
    """Where one gate's codes lie in a packed row: `width` bits a unit, from byte `start` on."""

    name: str
    shape: Shape
    branches: int
    start: int

    @property
    def units(self) -> int:
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        return max(1, math.ceil(math.log2(self.branches)))

    @property
    def stop(self) -> int:
        return self.start + -(-self.units * self.width // 8)


Layout = tuple[Field, ...]


def layout(network: Network) -> Layout:
    """The place of every gate of the network in a packed row, each from a byte of its own."""
    fields: list[Field] = []
    for node in network.gates:
        assert isinstance(node.kind, Pieces | Winner)
        start = fields[-1].stop if fields else 0
        fields.append(Field(node.name, node.shape, node.kind.branches, start))
    return tuple(fields)


def row_bytes(fields: Layout) -> int:
    """Bytes of one packed row: whole words, and never none."""
    return max(1, -(-(fields[-1].stop if fields else 0) // WORD)) * WORD


@dataclass(frozen=True, eq=False)
class Pattern:
    """The codes of every gate at some rows: bits is uint8, (rows, bytes)."""

    bits: NDArray[np.uint8]
    fields: Layout

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, rows: slice | NDArray[np.int64] | Tensor) -> Pattern:
        if isinstance(rows, slice):
            return Pattern(self.bits[rows], self.fields)
        where = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
        return Pattern(np.atleast_2d(self.bits[where]), self.fields)

    def __iter__(self) -> Iterator[str]:
        return (f.name for f in self.fields)

    @property
    def units(self) -> int:
        """Number of gate units."""
        return sum(f.units for f in self.fields)

    def codes(self, name: str, device: torch.device | None = None) -> Tensor:
        """(rows, *shape) codes of one gate: bool when it has two branches, else integers.

        device: where they are wanted; they go there packed and are unpacked there.
        """
        field = next(f for f in self.fields if f.name == name)
        packed = np.ascontiguousarray(self.bits[:, field.start : field.stop])
        if device is not None and device.type != "cpu":
            return unpacked(torch.from_numpy(packed).to(device), field)
        flat = np.unpackbits(packed, axis=1, count=field.units * field.width)
        if field.width == 1:
            return torch.from_numpy(flat.view(bool)).reshape(-1, *field.shape)
        return torch.from_numpy(_undo(flat, field)).reshape(-1, *field.shape)

    def active(self) -> Mapping[str, NDArray[np.int64]]:
        """For each gate, how many of its units are off their first branch, row by row."""
        return {f.name: self._active(f) for f in self.fields}

    def _active(self, field: Field) -> NDArray[np.int64]:
        if field.width == 1:
            bits = np.bitwise_count(self.bits[:, field.start : field.stop])
            return np.asarray(bits.sum(1, dtype=np.int64))
        codes = self.codes(field.name).reshape(len(self), -1)
        return np.asarray((codes > 0).sum(1).numpy())

    def equal(self, other: Pattern) -> NDArray[np.bool_]:
        """Row by row: is the pattern the same? (One row on either side is repeated.)"""
        return np.asarray((self.bits == other.bits).all(1))


def _undo(flat: NDArray[np.uint8], field: Field) -> NDArray[np.int64]:
    """Codes from their bits, most significant first."""
    weights = 1 << np.arange(field.width - 1, -1, -1, dtype=np.int64)
    return flat.reshape(len(flat), field.units, field.width) @ weights


class Packer:
    """Collects the codes of one batch, gate by gate, into packed rows (a builder, not a value).

    Codes on another device than the CPU are packed there: `there`, uint8 (rows, bytes).
    """

    def __init__(self, fields: Layout, rows: int) -> None:
        self.fields = {f.name: f for f in fields}
        self.shape = (rows, row_bytes(fields))
        self.there: Tensor | None = None
        self._bits: NDArray[np.uint8] | None = None

    @property
    def on_host(self) -> bool:
        """Have the bits been asked for, or been packed, on the host? They may be written there."""
        return self._bits is not None

    @property
    def bits(self) -> NDArray[np.uint8]:
        """uint8 (rows, bytes) on the host; asked for once all gates have been put."""
        if self._bits is None:
            there = self.there
            self._bits = np.zeros(self.shape, np.uint8) if there is None else there.cpu().numpy()
        return self._bits

    def put(self, name: str, codes: Tensor) -> None:
        """Store the (rows, *shape) codes of one gate."""
        field = self.fields[name]
        flat = codes.reshape(len(codes), math.prod(codes.shape[1:]))
        if flat.shape[1] != field.units:
            raise InternalError(f"gate '{name}' has {field.units} units, got {flat.shape[1]}")
        if codes.device.type == "cpu":
            self.bits[:, field.start : field.stop] = _packed_here(flat.numpy(), field.width)
            return
        if self.there is None:
            self.there = torch.zeros(*self.shape, dtype=torch.uint8, device=codes.device)
        self.there[:, field.start : field.stop] = packed(flat, field.width)


def _packed_here(flat: NDArray[Any], width: int) -> NDArray[np.uint8]:
    if width > 1:
        shifts = np.arange(width - 1, -1, -1)
        bits = (flat[:, :, None].astype(np.int64) >> shifts) & 1
        flat = bits.reshape(len(flat), width * flat.shape[1])
    return np.packbits(flat.astype(bool, copy=False), axis=1)


# -- the same bits by torch, on the device that holds the codes --


def packed(codes: Tensor, width: int) -> Tensor:
    """uint8 (rows, bytes): codes (rows, units) in `width` bits each, the first bit the highest."""
    bits = codes.to(torch.uint8) if width == 1 else digits(codes, width).flatten(1)
    bits = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8))
    bits = bits.reshape(len(bits), bits.shape[1] // 8, 8)
    weights = 1 << torch.arange(7, -1, -1, dtype=torch.uint8, device=codes.device)
    whole: Tensor = (bits * weights).sum(-1, dtype=torch.uint8)
    return whole


def digits(codes: Tensor, width: int) -> Tensor:
    """(rows, units, width) binary digits, the highest first."""
    kind = torch.uint8 if width <= 8 else torch.int64
    shifts = torch.arange(width - 1, -1, -1, device=codes.device, dtype=kind)
    return ((codes.to(kind).unsqueeze(-1) >> shifts) & 1).to(torch.uint8)


def unpacked(bits: Tensor, field: Field) -> Tensor:
    """(rows, *shape): the codes in one gate's bytes (rows, bytes), as `Pattern.codes` gives."""
    flat = digits(bits, 8).flatten(1)[:, : field.units * field.width]
    if field.width == 1:
        return flat.bool().reshape(-1, *field.shape)
    weights = 1 << torch.arange(field.width - 1, -1, -1, device=bits.device)
    codes = (flat.reshape(len(flat), field.units, field.width) * weights).sum(-1)
    return codes.reshape(-1, *field.shape)
