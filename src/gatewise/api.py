"""The façade: models and tables in, Networks and results out. Everything else is a room below."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gatewise.errors import DataError
from gatewise.explain.explanation import (
    Explanation,
    feature_names,
    pick_outputs,
    require_finite,
)
from gatewise.explain.explanation import explain as _explain
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns import observe
from gatewise.patterns.census import Census
from gatewise.patterns.census import census as _census
from gatewise.read import read
from gatewise.regions.halfspaces import Region
from gatewise.regions.halfspaces import region as _region
from gatewise.tables import Matrix, as_matrix, as_row, counted, listed, open_table

Model = Any
OnBadRows = Literal["raise", "skip"]


def pattern(model: Model, X: Any) -> Pattern:
    """The branch every gate picks at every row of X, bit-packed.

    model: a Network, or anything `read` takes; X: (rows, inputs), an array or a table.
    """
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "a pattern")
    return observe.pattern(network, x)


def affine(model: Model, X: Any) -> AffineMap:
    """f(x) = W x + b around every row of X: `.matrix()` is (rows, outputs, inputs).

    Exact on the whole region of each row, up to `.bound(x)`, which is rigorous.
    """
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "an affine map")
    return AffineMap(network, observe.pattern(network, x))


def census(model: Model, X: Any, *, batch_size: int | None = None) -> Census:
    """The distinct patterns of X: cluster ids, counts, first rows, units in doubt, maps.

    Memory beyond X and the answer is one batch and the distinct patterns.
    """
    size = _positive(batch_size, "batch_size")
    network, x = _inputs(model, X)
    found = _census(network, x, batch_size=size)
    require_finite(np.arange(len(x)), found.output.cpu())
    return found


def region(model: Model, X: Any) -> Region:
    """The polyhedron around every row of X on which its affine map holds: rows a.x + b >= 0."""
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "a region")
    flat = x.reshape(len(x), -1)
    return _region(network, x, (flat.amin(0), flat.amax(0)))


def explain(
    model: Model,
    X: Any,
    *,
    target: str | Sequence[Any] | None = None,
    output: Sequence[int | str] | int | str | None = None,
    reference: Any = None,
    margin: bool = True,
    batch_size: int | None = None,
    on_bad_rows: OnBadRows = "raise",
    progress: Callable[[str, int, int], None] | None = None,
) -> Explanation:
    """Exact rules for the data: clusters, an affine map each, importance, reach, certificate.

    model: a Network, or anything `read` takes (a torch module, a scikit-learn estimator or
    Pipeline, a .onnx or .pt2 file, a list of (W, b)). X: a table or an array.
    target: a column of X (left out of the inputs) or a sequence, to compare with;
    output: index or name of the output(s) to explain, all by default;
    reference: the input that contributions are measured from, the mean of the data by default;
    a table of one row, a Series or a dict is matched by name, as X is.
    Raises DataError (BadRows, WrongColumns, ...) and NotPiecewiseAffine, each in one sentence.
    """
    size = _positive(batch_size, "batch_size")
    network = as_network(model)
    pick_outputs(network, output)
    table, truth, name = split_target(X, target)
    matrix = inputs_of(network, table, on_bad_rows)
    base = None if reference is None else reference_of(network, matrix, reference, name)
    return _explain(
        network,
        matrix,
        outputs=output,
        margin=margin,
        progress=progress,
        target=None if truth is None else truth[matrix.index],
        target_name=name,
        reference=base,
        batch_size=size,
    )


def report(
    explanation: Explanation, path: str | Path, *, top: int = 10, title: str | None = None
) -> Path:
    """Write an Explanation as one self-contained HTML file, whole or not at all."""
    from gatewise.show.report import report as write

    return write(explanation, path, top=_positive(top, "top") or 10, title=title)


def save(explanation: Explanation, folder: str | Path, *, top: int = 10, **files: Any) -> Path:
    """Write rules.parquet, rows.parquet, maps.safetensors, meta.json and report.html."""
    from gatewise.show.save import save as write

    return write(explanation, folder, top=_positive(top, "top") or 10, **files)


def as_network(model: Model) -> Network:
    """The model itself when it is a Network, else what `read` makes of it."""
    return model if isinstance(model, Network) else read(model)


def inputs_of(network: Network, X: Any, on_bad_rows: OnBadRows = "raise") -> Matrix:
    """X as the network's input matrix, through its preparation where it has one."""
    frame = open_table(X)  # collected once where lazy, and its names are known to be distinct
    table = X if frame is None else frame.to_native()
    prepared = table if network.prepare is None else network.prepare(table)
    return as_matrix(prepared, network.feature_names, network.inputs, on_bad_rows)


def reference_of(
    network: Network, matrix: Matrix, reference: Any, target_name: str = ""
) -> np.ndarray[Any, Any]:
    """The reference row: by the names of the features, or a raw row through the preparation."""
    frame = open_table(reference)
    if frame is not None and network.prepare is not None and len(frame) == 1:
        raw = frame.drop(target_name, strict=False).to_native() if target_name else reference
        reference = inputs_of(network, raw).values
    return as_row(reference, feature_names(network, matrix), "reference", target_name)


def split_target(
    X: Any, target: str | Sequence[Any] | None
) -> tuple[Any, np.ndarray[Any, Any] | None, str]:
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


def _labels(target: Any, rows: int | None) -> np.ndarray[Any, Any]:
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
    _require_one_kind(target, values)
    return values


def _require_one_kind(target: Any, values: np.ndarray[Any, Any]) -> None:
    """All numbers, or all texts (a missing one may be None or NaN)."""
    mixable = values.dtype == object or isinstance(target, list | tuple)
    cells = [c for c in target if c is not None and c == c] if mixable else []
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


def _inputs(model: Model, X: Any) -> tuple[Network, torch.Tensor]:
    network = as_network(model)
    x = network.rows(inputs_of(network, X).values)
    require_finite(np.arange(len(x)), x.cpu())  # 1e300 does not fit a float32 network
    return network, x


def _positive(value: int | None, name: str) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise DataError(f"{name} must be a whole number, at least 1, got {value!r}")
    return number


__all__ = [
    "affine",
    "census",
    "explain",
    "pattern",
    "read",
    "region",
    "report",
    "save",
]
