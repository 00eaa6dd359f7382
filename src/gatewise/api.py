"""The façade: models and tables in, Networks and results out. Everything else is a room below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
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
from gatewise.tables import Matrix, as_matrix, is_table

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
    network, x = _inputs(model, X)
    return _census(network, x, batch_size=_positive(batch_size, "batch_size"))


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
    reference: the input that contributions are measured from, the mean of the data by default.
    Raises DataError (BadRows, WrongColumns, ...) and NotPiecewiseAffine, each in one sentence.
    """
    network = as_network(model)
    table, truth, name = split_target(X, target)
    matrix = inputs_of(network, table, on_bad_rows)
    if truth is not None and len(truth) != len(matrix.values) + len(matrix.skipped):
        raise DataError(f"target has {len(truth)} values for {len(matrix.values)} rows of data")
    return _explain(
        network,
        matrix,
        outputs=output,
        margin=margin,
        progress=progress,
        target=None if truth is None else truth[matrix.index],
        target_name=name,
        reference=None if reference is None else np.asarray(reference, np.float64).reshape(-1),
        batch_size=_positive(batch_size, "batch_size"),
    )


def report(
    explanation: Explanation, path: str | Path, *, top: int = 10, title: str | None = None
) -> Path:
    """Write an Explanation as one self-contained HTML file, whole or not at all."""
    from gatewise.show.report import report as write

    return write(explanation, path, top=top, title=title)


def save(explanation: Explanation, folder: str | Path, *, top: int = 10, **files: Any) -> Path:
    """Write rules.parquet, rows.parquet, maps.safetensors, meta.json and report.html."""
    from gatewise.show.save import save as write

    return write(explanation, folder, top=top, **files)


def as_network(model: Model) -> Network:
    """The model itself when it is a Network, else what `read` makes of it."""
    return model if isinstance(model, Network) else read(model)


def inputs_of(network: Network, X: Any, on_bad_rows: OnBadRows = "raise") -> Matrix:
    """X as the network's input matrix, through its preparation where it has one."""
    if network.prepare is not None:
        return as_matrix(network.prepare(X), network.feature_names, network.inputs, on_bad_rows)
    return as_matrix(X, network.feature_names, network.inputs, on_bad_rows)


def split_target(
    X: Any, target: str | Sequence[Any] | None
) -> tuple[Any, np.ndarray[Any, Any] | None, str]:
    """The table without its target column, the target's values, and its name."""
    if target is None:
        return X, None, ""
    if not isinstance(target, str):
        return X, np.asarray(target), "target"
    if not is_table(X):
        raise DataError(
            f"target '{target}' names a column, but the data are an array: give a table"
        )
    import narwhals.stable.v2 as nw

    frame = nw.from_native(X)
    if target not in frame.columns:
        raise DataError(
            f"no column '{target}' to use as target: the table has "
            f"{', '.join(map(str, frame.columns[:20]))}"
        )
    return frame.drop(target).to_native(), frame[target].to_numpy(), target


def _inputs(model: Model, X: Any) -> tuple[Network, torch.Tensor]:
    network = as_network(model)
    return network, network.rows(inputs_of(network, X).values)


def _positive(value: int | None, name: str) -> int | None:
    if value is not None and value < 1:
        raise DataError(f"{name} must be at least 1, got {value}")
    return value


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
