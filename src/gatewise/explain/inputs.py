"""From what a user gives (a table, an array, a target, a background) to a network's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, EmptyData
from gatewise.explain.compute import Floats
from gatewise.explain.names import feature_names
from gatewise.explain.references import mask_of, reference_row
from gatewise.given.labels import is_missing
from gatewise.ir.network import Network
from gatewise.tables import Matrix, Origin, as_matrix, counted, listed, open_table, origin_of

OnBadRows = Literal["raise", "skip"]


def inputs_of(network: Network, X: Any, on_bad_rows: OnBadRows = "raise") -> Matrix:
    """X as the network's input matrix, through its preparation where it has one."""
    frame = open_table(X)  # collected once where lazy, and its names are known to be distinct
    table = X if frame is None else frame.to_native()
    prepared = table if network.prepare is None else network.prepare(table)
    matrix = as_matrix(prepared, network.feature_names, network.inputs, on_bad_rows)
    return replace(matrix, origin=origin_of(frame))


def reference_of(
    network: Network, matrix: Matrix, reference: Any, target_name: str = ""
) -> tuple[Floats, str]:
    """The reference row and its name: see `reference_row`; a raw row goes through the Pipeline."""
    names = feature_names(network, matrix)
    prepared = network.prepare is None or mask_of(reference, names) is not None
    raw = None if prepared else _raw_row(reference, names, matrix, target_name)
    given = reference if raw is None else inputs_of(network, raw).values
    return reference_row(matrix, names, given, target_name)


def _raw_row(given: Any, names: Sequence[str], matrix: Matrix, ignored: str) -> Any:
    """A row of raw columns as a table of one row, for a Pipeline; None where it is none."""
    frame = open_table(given)
    if frame is not None:
        return frame.drop(ignored, strict=False).to_native() if len(frame) == 1 else None
    held = given if isinstance(given, Mapping) else getattr(given, "to_dict", dict)()
    raw = {str(k): [v] for k, v in held.items() if str(k) != ignored}
    if not raw or not matrix.origin.library or set(raw) == set(names):
        return None
    return Origin(matrix.origin.library).table(raw, slice(None))


def split_target(
    X: Any, target: str | Sequence[Any] | None
) -> tuple[Any, NDArray[Any] | None, str]:
    """The table without its target column, the target's values, and its name."""
    if target is None:
        return X, None, ""
    frame = open_table(X)
    if not isinstance(target, str):
        rows = len(frame) if frame is not None else len(X) if hasattr(X, "__len__") else None
        table = X if frame is None else frame.to_native()
        return table, _labels(target, rows), "target"
    if frame is None:
        raise DataError(
            f"target '{target}' names a column, but the data are an array: give a table"
        )
    if target not in frame.columns:
        raise DataError(
            f"no column '{target}' to use as target: the table has {listed(frame.columns)}"
        )
    return frame.drop(target).to_native(), _labels(frame[target].to_numpy(), len(frame)), target


def _labels(target: Any, rows: int | None) -> NDArray[Any]:
    """One number or one text a row; anything else is refused before any work."""
    kind = type(target).__name__
    if isinstance(target, dict | set | bytes) or not hasattr(target, "__len__"):
        raise DataError(
            f"target is a {kind}: give the name of a column, or a list or array of one value a row"
        )
    try:
        values = np.asarray(target.detach().cpu() if isinstance(target, torch.Tensor) else target)
    except (TypeError, ValueError) as error:
        raise DataError(f"target is not one value a row: {str(error).splitlines()[0]}") from None
    if values.ndim != 1:
        raise DataError(
            f"target has shape {values.shape}: give one value a row, shape (rows,), "
            "so target.ravel() for a single column"
        )
    if rows is not None and len(values) != rows:
        raise DataError(
            f"target has {counted(len(values), 'value')} for {counted(rows, 'row')} of data: "
            "give one value a row"
        )
    if not len(values):
        raise EmptyData("the data hold 0 rows: give at least one")
    _require_one_kind(target, values)
    return values


def _require_one_kind(target: Any, values: NDArray[Any]) -> None:
    """All numbers, or all texts (a missing one may be None or NaN)."""
    mixable = values.dtype == object or isinstance(target, list | tuple)
    cells = [c for c in target if not is_missing(c)] if mixable else []
    texts = sum(isinstance(c, str) for c in cells)
    if (
        0 < texts < len(cells)
        or (values.dtype == object and not texts)
        or values.dtype.kind in "cV"
    ):
        names = sorted({type(c).__name__ for c in cells}) or [str(values.dtype)]
        raise DataError(
            f"target holds {' and '.join(names)}: give numbers alone or text alone, one value a row"
        )
