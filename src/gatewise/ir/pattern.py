"""Activation patterns: the branch each gate picked, packed to as few bits as it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
        return Pattern(
            np.atleast_2d(
                self.bits[np.asarray(rows)] if not isinstance(rows, slice) else self.bits[rows]
            ),
            self.fields,
        )

    def __iter__(self) -> Iterator[str]:
        return (f.name for f in self.fields)

    @property
    def units(self) -> int:
        """Number of gate units."""
        return sum(f.units for f in self.fields)

    def codes(self, name: str) -> Tensor:
        """(rows, *shape) codes of one gate: bool when it has two branches, else integers."""
        field = next(f for f in self.fields if f.name == name)
        packed = np.ascontiguousarray(self.bits[:, field.start : field.stop])
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
    """Collects the codes of one batch, gate by gate, into packed rows (a builder, not a value)."""

    def __init__(self, fields: Layout, rows: int) -> None:
        self.fields = {f.name: f for f in fields}
        self.bits = np.zeros((rows, row_bytes(fields)), np.uint8)

    def put(self, name: str, codes: Tensor) -> None:
        """Store the (rows, *shape) codes of one gate."""
        field = self.fields[name]
        flat = codes.reshape(len(codes), -1).cpu().numpy()
        if flat.shape[1] != field.units:
            raise InternalError(f"gate '{name}' has {field.units} units, got {flat.shape[1]}")
        if field.width > 1:
            shifts = np.arange(field.width - 1, -1, -1)
            flat = ((flat[:, :, None].astype(np.int64) >> shifts) & 1).reshape(len(flat), -1)
        self.bits[:, field.start : field.stop] = np.packbits(flat.astype(bool, copy=False), axis=1)
