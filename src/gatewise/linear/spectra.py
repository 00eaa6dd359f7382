"""Rank, condition and spread of a matrix from its singular values, without an overflow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gatewise.linear.chains import Scaled, times_power

EPS = float(torch.finfo(torch.float64).eps)


@dataclass(frozen=True, eq=False)
class Layer:
    """A matrix 2**exponent * value (out, in), known to within ||dW||_F <= error, in the same units.

    name: the node it is of, or the last node of a stretch; diagonal: `value` is (n,) alone.
    """

    name: str
    layer: str
    matrix: Scaled
    error: float = 0.0
    diagonal: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        sizes = self.matrix.value.shape
        return (sizes[0], sizes[0]) if self.diagonal else (sizes[0], sizes[1])

    @cached_property
    def _values(self) -> Tensor:
        """Singular values, largest first, in units of 2**exponent."""
        A = self.matrix.value
        return A.abs().sort(descending=True).values if self.diagonal else torch.linalg.svdvals(A)

    @property
    def singular_values(self) -> Tensor:
        """Largest first; infinite or 0 where they leave the range of floats."""
        return times_power(self._values, self.matrix.exponent)

    @property
    def norm(self) -> float:
        """||W||_2: the largest of them."""
        return float(self.singular_values[0])

    @property
    def log2_norm(self) -> float:
        """log2 ||W||_2, whatever its size; -inf for zeros."""
        top = float(self._values[0])
        return math.log2(top) + self.matrix.exponent if top else -math.inf

    @property
    def rank(self) -> int:
        """How many singular values are above max(out, in) eps times the largest (NumPy's rule)."""
        s = self._values
        return int((s > max(self.shape) * EPS * s[0]).sum())

    @property
    def proven_rank(self) -> int:
        """How many are above all that rounding can have made: the rank is no less (Weyl)."""
        s = self._values
        return int((s > self.error + max(self.shape) * EPS * s[0]).sum())

    @property
    def condition(self) -> float:
        """Largest over smallest singular value; infinite where the rank is not full."""
        s = self._values
        return float(s[0] / s[-1]) if self.rank == len(s) and len(s) else math.inf

    @property
    def stable_rank(self) -> float:
        """||W||_F^2 / ||W||_2^2: no larger than the rank, and steady under small changes."""
        s = self._values
        return float(s.square().sum() / s[0].square()) if self.rank else 0.0

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values, scaled to sum 1 (Roy & Vetterli 2007)."""
        s = self._values
        if not self.rank:
            return 0.0
        p = s / s.sum()
        return float(torch.special.entr(p).sum().exp())


HEADER = ("", "outputs x inputs", "norm", "condition", "rank", "stable", "effective")


def table(layers: list[Layer]) -> str:
    """A line a layer."""
    lines = [HEADER, *(_line(one) for one in layers)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(one: Layer) -> tuple[str, ...]:
    norm = one.log2_norm
    size = f"{2.0**norm:.3g}" if abs(norm) < 1000 or norm == -math.inf else f"2^{norm:.0f}"
    return (
        one.name,
        f"{one.shape[0]} x {one.shape[1]}",
        size,
        f"{one.condition:.3g}",
        str(one.rank),
        f"{one.stable_rank:.1f}",
        f"{one.effective_rank:.1f}",
    )
