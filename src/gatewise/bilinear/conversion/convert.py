"""`to_bilinear`: every MLP block of a trained network as a bilinear layer of the same hidden size.

Under the mean and covariance of what enters a block, the best quadratic of each unit has one
product (see `quadratic`). It asks only for moments of pre-activations, each unit's own, so rows
may be fewer than inputs, and memory is that of a batch. (Belrose & Rigg 2025 for ReLU and GELU
under N(0, I); here any mean and covariance, and GLUs.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gatewise.bilinear.conversion.blocks import Block, blocks_of
from gatewise.bilinear.conversion.converted import Converted
from gatewise.bilinear.conversion.gaussian import hermite
from gatewise.bilinear.conversion.moments import Moments, moments, streamed
from gatewise.bilinear.conversion.quadratic import (
    Coefficients,
    closed_form,
    least_squares,
    replaced,
)
from gatewise.bilinear.conversion.refit import refitted
from gatewise.errors import DataError
from gatewise.given.labels import Truth, truth_of
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.network import Network
from gatewise.numeric import whole_number
from gatewise.tables.words import counted

How = Literal["gaussian", "data"]
BATCH = 2048  # rows at once
Rows = tuple[Tensor, Truth | None]
Given = tuple[Any, Any]


def to_bilinear(
    net: Network,
    X: Any,
    y: Any = None,
    *,
    fit: How = "gaussian",
    refit: bool = False,
    blocks: Sequence[str] | None = None,
    X_test: Any = None,
    y_test: Any = None,
    batch: int = BATCH,
) -> Converted:
    """The network with products in the place of its activations, and how much that changes.

    X: rows of the network's input, from which the moments are taken; X_test: others, to measure
    on. y, y_test: labels (or targets of a regression) for the scores before and after. fit:
    "gaussian", in closed form, or "data", each unit by least squares on the rows. refit: then the
    dense layer behind each block, by least squares to what it gave before. blocks: names of the
    activations (or of a GLU's products) to convert; by default all, and what is curved and cannot
    be converted is refused by its name: winners, softmax, norms, steps, convolutions.
    """
    require_network(net)
    network = net.to(torch.float64, "cpu")
    if fit not in get_args(How):
        raise DataError(f"fit must be 'gaussian' or 'data', got {fit!r}")
    if not isinstance(refit, bool):
        raise DataError(f"refit must be True or False, got {refit!r}")
    whole_number(batch, "batch")
    found = blocks_of(network, blocks)
    fitted, held = both_rows(network, (X, y), (X_test, y_test))
    made, notes = _converted(network, found, fitted[0], (fit, refit, batch))
    said = f"{fit} fit, read-outs refitted" if refit else f"{fit} fit"
    return Converted.of(network, made, found, (fitted, held), said, batch, notes)


def both_rows(network: Network, fitted: Given, held: Given) -> tuple[Rows, Rows | None]:
    """The rows with their labels, and the held-out ones with theirs, if any."""
    if held[0] is None:
        if held[1] is not None:
            raise DataError("y_test was given without its rows; give X_test too")
        return _rows(network, fitted, ""), None
    return _rows(network, fitted, ""), _rows(network, held, "_test")


def _rows(network: Network, given: Given, which: str) -> Rows:
    x = rows_of(network, given[0], f"X{which}", least=2)
    y = given[1]
    return x, None if y is None else truth_of(network, y, len(x), f"y{which}")


def _converted(
    network: Network, blocks: tuple[Block, ...], x: Tensor, how: tuple[How, bool, int]
) -> tuple[Network, tuple[str, ...]]:
    """Block by block, each under the moments of what the converted ones before it give."""
    fit, refit, batch = how
    made, notes = network, []
    for block in blocks:
        seen = moments(_sides(made, block, x, batch))
        still = int((seen.std == 0).sum())
        if still:
            notes.append(
                f"{counted(still, 'unit')} of '{block.name}' read one value on every row: each "
                f"is a constant (or linear, in a GLU)"
            )
        c = _coefficients(made, block, seen, x, fit, batch)
        made = replaced(made, block, c, seen)
        if refit:
            made = refitted(network, made, block.name, x, batch)
    names = ", ".join(f"'{block.name}'" for block in blocks)
    said = f"products in the place of {names}, under the moments of {counted(len(x), 'row')}"
    return dataclasses.replace(made, notes=(*network.notes, said)), tuple(notes)


def _coefficients(
    network: Network, block: Block, seen: Moments, x: Tensor, fit: How, batch: int
) -> Coefficients:
    if fit == "gaussian":
        return closed_form(hermite(block, seen).g, seen, block.other is not None)
    values = streamed(network, [block.name], x, batch)
    sides = _sides(network, block, x, batch)
    found = least_squares(
        ((y, z, block.by_unit(v)) for (y, z), (v,) in zip(sides, values, strict=True)), seen
    )
    if not bool(found.const.isfinite().all()):
        raise DataError(
            f"node '{block.name}' ({block.layer}) gives NaN or infinity on the rows, so nothing "
            f"can be fitted to it: leave those rows out"
        )
    return found


def _sides(
    network: Network, block: Block, x: Tensor, batch: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(y, z) of a block over the rows, a batch at a time, each (rows x positions, h)."""
    names = [block.root] if block.other is None else [block.root, block.other]
    for values in streamed(network, names, x, batch):
        y, *z = (block.by_unit(v) for v in values)
        yield y, z[0] if z else None
