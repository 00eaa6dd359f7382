"""What a conversion gives: the network, and how it does beside the one it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from gatewise.bilinear.conversion.blocks import Block
from gatewise.bilinear.conversion.measure import Fit, Measured, measured
from gatewise.bilinear.conversion.quadratic import sides_joined
from gatewise.given.labels import Truth
from gatewise.ir.network import Network
from gatewise.tables.words import counted

LITTLE = 0.95  # R2 below which a refit is worth a hint
Rows = tuple[Tensor, Truth | None]


@dataclass(frozen=True, eq=False)
class Converted:
    """network: products in the place of activations; original: as it was, in float64.

    tied: the same function as network, each product's sides a scale of one pre-activation, where
    network has dense layers for both: what `fine_tune` trains.
    blocks: what was replaced; fitted: both networks on the rows X, held: on X_test (None without);
    notes: what a user should know.
    """

    network: Network
    original: Network
    tied: Network
    blocks: tuple[Block, ...]
    fitted: Measured
    held: Measured | None
    how: str
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(
        original: Network,
        network: Network,
        blocks: tuple[Block, ...],
        rows: tuple[Rows, Rows | None],
        how: str,
        batch: int,
        notes: tuple[str, ...] = (),
    ) -> Converted:
        """Both networks, measured; the sides of products become dense layers after that."""
        fitted, held = (
            None if r is None else measured(original, network, blocks, r, batch) for r in rows
        )
        assert fitted is not None
        return Converted(sides_joined(network), original, network, blocks, fitted, held, how, notes)

    @property
    def measured(self) -> Measured:
        """On the held-out rows where there are some, else in-sample."""
        return self.held or self.fitted

    def module(self) -> nn.Module:
        """The converted network as a torch module: weights, biases and units' products train."""
        from gatewise.bilinear.conversion.module import NetworkModule

        return NetworkModule(self.network)

    def __str__(self) -> str:
        seen = self.measured
        held = "held-out rows" if self.held else "rows it was fitted to"
        lines = [
            f"{counted(len(self.blocks), 'block')} as products ({self.how}); R2 on {seen.rows} "
            f"{held}",
            f"{'block':24}{'layer':12}{'units':>7}{'of units':>11}{'read-out':>11}",
        ]
        lines += [_line(fit) for fit in seen.blocks]
        lines.append(f"outputs: {_explained(seen.r2)}{_decided(seen)}")
        if seen.r2 < LITTLE and "refitted" not in self.how:
            lines.append("little is kept: refit=True fits the read-outs to the rows")
        return "\n".join([*lines, *self.notes])


def _line(fit: Fit) -> str:
    out = "-" if fit.r2 is None else _number(fit.r2)
    return (
        f"{fit.name[:23]:24}{fit.layer[:11]:12}{fit.units:7d}{_number(fit.r2_units):>11}{out:>11}"
    )


def _explained(r2: float) -> str:
    if math.isnan(r2):
        return "constant but for rounding, so there is nothing to explain"
    return f"R2 {_number(r2)}"


def _number(r2: float) -> str:
    if math.isnan(r2):
        return "constant"
    return f"{r2:.4f}" if abs(r2) < 100 else f"{r2:.3g}"


def _decided(seen: Measured) -> str:
    parts = [] if seen.agreement is None else [f"decided alike {seen.agreement:.2%}"]
    if seen.score is not None:
        parts.append(f"score {seen.score[0]:.4f} before, {seen.score[1]:.4f} after")
    return "".join(f"; {part}" for part in parts)
