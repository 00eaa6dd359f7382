"""`gram` on a GPU: the gates go there packed, a bit each, and every panel comes back whole.

Gates are multiplied as float32 matrices of 0 and 1: exact below 2^24 units whatever the precision
torch multiplies float32 in, since 0 and 1 have no digits to lose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.dual.kernels.packed import packed
from gatewise.dual.kernels.panels import Both, Floats
from gatewise.dual.kernels.sides import Side
from gatewise.ir.pattern import digits
from gatewise.numeric import multiplies_float32

PANEL = 1024  # rows that come back together


@dataclass(frozen=True, eq=False)
class Half:
    """One side there: x (N, d) or None; gates (N, units) a layer; b and c (2, steps, N)."""

    x: Tensor | None
    gates: tuple[Tensor, ...]
    factors: Tensor
    log: Tensor

    def __len__(self) -> int:
        return self.factors.shape[2]


def fill(answer: Floats, sides: Both, there: torch.device) -> None:
    """The kernel of two sides into answer (N, N'), a panel of rows at a time; of a symmetric one
    the columns up to the panel's last row."""
    work = sides.work
    mine = half(sides.left, work, there)
    theirs = mine if sides.right is sides.left else half(sides.right, work, there)
    for start in range(0, len(mine), PANEL):
        rows = slice(start, min(start + PANEL, len(mine)))
        stop = rows.stop if sides.symmetric else len(theirs)
        found = panel(mine, theirs, rows, slice(0, stop), work)
        if sides.log:
            found = found.abs_().log_().add_(mine.log[rows, None]).add_(theirs.log[:stop])
        answer[rows, :stop] = found.cpu().numpy()


def half(side: Side, work: torch.dtype, there: torch.device) -> Half:
    """A side on the device."""
    layers = zip(side.gates.layers, side.gates.units, strict=True)
    gates = [_bits(a, n, there) if packed(a) else _soft(a, work, there) for a, n in layers]
    x = None if side.x is None else side.x.to(there, work)
    factors = torch.from_numpy(side.factors.copy()).to(there, work)
    return Half(x, tuple(gates), factors, torch.from_numpy(side.log.copy()).to(there, work))


def _bits(words: Floats, units: int, there: torch.device) -> Tensor:
    held = torch.from_numpy(words.view("uint8")).to(there)
    return digits(held, 8).flatten(1)[:, :units].float()


def _soft(values: Floats, work: torch.dtype, there: torch.device) -> Tensor:
    return torch.from_numpy(values).to(there, work)


def panel(a: Half, b: Half, rows: slice, cols: slice, work: torch.dtype) -> Tensor:
    """Entries [rows, cols] of the kernel: one step a layer, and one without gates."""
    size = rows.stop - rows.start, cols.stop - cols.start
    k = torch.ones(size, dtype=work, device=a.factors.device)
    if a.x is not None and b.x is not None:
        k = _product(a.x[rows], b.x[cols])
    for n, ((c1, d1), (c2, d2)) in enumerate(
        zip(a.factors[:, :, rows].unbind(1), b.factors[:, :, cols].unbind(1), strict=True)
    ):
        k.addr_(c1, c2)
        if n < len(a.gates):
            k.mul_(_counts(a.gates[n][rows], b.gates[n][cols]))
        k.mul_(d1[:, None]).mul_(d2)
    return k


def _counts(g: Tensor, g2: Tensor) -> Tensor:
    """o_l of some rows; of a soft side in its own type."""
    if g.dtype == g2.dtype == torch.float32:
        return _product(g, g2)
    kind = torch.promote_types(g.dtype, g2.dtype)
    return _product(g.to(kind), g2.to(kind))


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x yᵀ; float32 in float64 where torch would multiply it in fewer digits (TF32)."""
    if x.dtype == torch.float64 or multiplies_float32():
        return x @ y.mT
    return (x.double() @ y.double().mT).float()
