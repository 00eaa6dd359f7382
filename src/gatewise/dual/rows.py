"""Rows that an analysis can work on, or a plain refusal."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gatewise.errors import BadRows, EmptyData
from gatewise.ir.network import Network
from gatewise.tables.words import counted, listed


def rows_of(network: Network, X: Any, name: str = "X", least: int = 1) -> Tensor:
    """X as (rows, *input_shape) in the network's type: finite, and `least` rows or more."""
    return finite(network.rows(X), name, least=least)


def finite(x: Tensor, name: str = "X", start: int = 0, least: int = 1) -> Tensor:
    """x itself; its rows are counted from `start`."""
    if len(x) < least:
        raise EmptyData(f"{name} has {counted(len(x), 'row')}: give {least} or more")
    bad = (~x.isfinite()).reshape(len(x), -1).any(1).nonzero().flatten() + start
    if len(bad):
        found = tuple(bad.tolist())
        raise BadRows(
            f"{name} holds NaN or infinity in rows {listed(found)}: fill them in or drop them",
            found,
        )
    return x


def sides_of(network: Network, X: Any, X2: Any = None) -> list[Tensor]:
    """The rows of a kernel's one or two sides."""
    return [rows_of(network, X)] + ([] if X2 is None else [rows_of(network, X2, "X2")])
