"""Rows that an analysis can work on, or a plain refusal."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gatewise.errors import BadRows, DataError, EmptyData
from gatewise.ir.network import Network
from gatewise.tables.matrix import numbers_of
from gatewise.tables.words import counted, listed


def rows_of(network: Network, X: Any, name: str = "X", least: int = 1) -> Tensor:
    """X as (rows, *input_shape) in the network's type: finite, and `least` rows or more.

    Columns of a table are matched by name; a tensor is taken for prepared rows.
    """
    require_network(network)
    if isinstance(X, Tensor):
        return finite(network.rows(X.detach()), name, least=least)
    table = X if network.prepare is None else network.prepare(X)
    numbers, _ = numbers_of(table, network.feature_names, network.inputs)
    return finite(network.rows(numbers), name, least=least)


def require_network(network: Any) -> None:
    """Models are read at the library's one door, and this room has none."""
    if not isinstance(network, Network):
        kind = type(network).__name__
        raise DataError(f"give a Network, as gw.read(model) makes it; got a {kind}")


def finite(x: Tensor, name: str = "X", start: int = 0, least: int = 1) -> Tensor:
    """x itself; its rows are counted from `start`."""
    if len(x) < least:
        raise EmptyData(f"{name} has {counted(len(x), 'row')}: give {least} or more")
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten() + start
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
