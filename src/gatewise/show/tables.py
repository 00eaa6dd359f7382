"""The tables of an Explanation, as pyarrow tables in the units of the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.errors import missing
from gatewise.explain.explanation import CHUNK_ROWS, Explanation
from gatewise.explain.export import row_columns

if TYPE_CHECKING:
    import pyarrow as pa


def arrow() -> Any:
    """The pyarrow module, or a sentence about how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing("pyarrow", "report", "writing Parquet") from None
    return pyarrow


def rules(e: Explanation) -> pa.Table:
    """A row a cluster and output: size, share, mean, intercept, coefficients, importance, gates.

    Columns: cluster, pattern, output, rows, share, first_row, mean_output[, mean_target],
    intercept, coef:<feature>..., importance:<feature>..., active:<gate>..., max_error, max_bound.
    """
    many = len(e.outputs)
    per_cluster: dict[str, Any] = {
        "cluster": np.arange(e.clusters),
        "pattern": np.array(e.census.names),
        "rows": e.census.counts,
        "share": e.share,
        "first_row": e.matrix.index[e.census.first],
    }
    if e.target is not None and e.target.dtype.kind in "biuf":
        per_cluster["mean_target"] = e.cluster_mean(e.target)[:, 0]
    columns = {name: np.repeat(column, many) for name, column in per_cluster.items()}
    columns["output"] = np.tile(np.array(e.output_names), e.clusters)
    columns["mean_output"] = e.cluster_mean(e.output).reshape(-1)
    columns["intercept"] = e.intercepts.reshape(-1)
    columns |= _wide("coef", e.feature_names, e.coefficients)
    columns |= _wide("importance", e.feature_names, e.importance)
    columns |= {f"active:{gate}": np.repeat(n, many) for gate, n in e.active.items()}
    columns["max_error"] = _cluster_max(e, e.error).reshape(-1)
    columns["max_bound"] = _cluster_max(e, e.bound).reshape(-1)
    return arrow().table(columns)


def rows(e: Explanation, cohort: np.ndarray[Any, Any] | None = None) -> Iterator[pa.Table]:
    """A row an input, in pieces: row, cluster, outputs, contributions, base value, margin, error.

    Columns: row (position in the data given), cluster[, cohort], output:<o>, base_value:<o>,
    contribution:<feature> (or contribution:<o>:<feature> when several outputs are explained),
    margin, margin_l2, margin_linf, error, bound, undecided_units.
    """
    for start in range(0, len(e), CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, len(e)))
        yield arrow().table(_row_columns(e, part, cohort))


def _row_columns(
    e: Explanation, part: slice, cohort: np.ndarray[Any, Any] | None
) -> dict[str, Any]:
    columns = row_columns(e, part)
    if cohort is None:
        return columns
    place = {name: columns[name] for name in ("row", "cluster")}
    return {**place, "cohort": cohort[part], **columns}


def _wide(prefix: str, features: tuple[str, ...], values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """(clusters, outputs, features) as one column a feature, cluster by cluster."""
    flat = values.reshape(-1, len(features))
    return {f"{prefix}:{f}": flat[:, j] for j, f in enumerate(features)}


def _cluster_max(e: Explanation, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(clusters, outputs) the largest of a per-row column in each cluster."""
    found = np.zeros((e.clusters, values.shape[1]))
    np.maximum.at(found, e.ids, values)
    return found
