"""An Explanation as a table, a Parquet file or JSON: columns in the units of the input.

A column's name says what it holds: output:<o>, base_value:<o>, contribution:<feature> (or
contribution:<o>:<feature>, where several outputs are explained), as in the files of a run.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gatewise.errors import DataError, missing
from gatewise.explain.compute import Floats
from gatewise.ir.network import fingerprint
from gatewise.tables import Origin
from gatewise.tables.writing import whole_file

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation
    from gatewise.explain.folded import Folded

SCHEMA_VERSION = 1
Columns = dict[str, Any]


def to_frame(
    exp: Explanation,
    *,
    inputs: bool = False,
    slopes: bool = False,
    folded: bool = False,
    library: str | None = None,
) -> Any:
    """A row an input, in the kind of table that was explained; its index is kept.

    Columns: row (position in the data given), cluster, target (if any), output, base_value and
    contribution of each feature; margin, margin_l2, margin_linf, error, bound, undecided_units.
    inputs: also input:<feature>; slopes: also slope:<feature> and intercept:<o>; folded: inputs and
    contributions with one column a group (slopes stay one an input: a category has none).
    For arrays, a dict of columns, which any table library takes; library= "pandas", "polars" or
    "pyarrow" asks for one of them.
    """
    origin = exp.matrix.origin
    if library is not None and library != origin.library:
        origin = _origin(library)
    columns = row_columns(exp, inputs=inputs, slopes=slopes, folded=folded)
    return origin.table(columns, exp.matrix.index)


def to_parquet(exp: Explanation, path: str | Path, **options: Any) -> Path:
    """`to_frame` as a Parquet file, whole or not at all; its schema's metadata has `describe`.

    The index of a pandas table is kept, as pandas keeps it: `pandas.read_parquet` has it again.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise missing("pyarrow", "report", "writing Parquet") from None
    table = _arrow(exp, row_columns(exp, **options), pa)
    said = json.dumps(describe(exp), ensure_ascii=False, allow_nan=False)
    with whole_file(Path(path)) as draft:
        known = {**(table.schema.metadata or {}), b"gatewise": said.encode()}
        parquet.write_table(table.replace_schema_metadata(known), draft)
    return Path(path)


def _arrow(exp: Explanation, columns: Columns, pa: Any) -> Any:
    """The columns as an Arrow table, with the index of the pandas table that was explained."""
    origin = exp.matrix.origin
    if origin.library != "pandas":
        return pa.table(columns)
    try:
        return pa.Table.from_pandas(origin.table(columns, exp.matrix.index))
    except pa.ArrowException as error:
        raise DataError(
            f"the table cannot be written with its index ({str(error).splitlines()[0]}): give its "
            "rows labels of one kind, or reset_index() before it is explained"
        ) from None


def to_json(exp: Explanation, path: str | Path | None = None) -> str:
    """JSON text: `describe`, the rule of every cluster, and every row; also written to `path`.

    f(row) = rules.intercepts[c] + rules.coefficients[c] . inputs[row], c = rows.cluster[row].
    Numbers read back as they were (float64); an infinite margin is null.
    """
    rules = {
        "rows": exp.census.counts.tolist(),
        "intercepts": exp.intercepts.tolist(),
        "coefficients": exp.coefficients.tolist(),
    }
    rows = {name: _plain(column) for name, column in _facts(exp).items()}
    rows["inputs"], rows["output"] = exp.data.tolist(), exp.output.tolist()
    whole = {**describe(exp), "rules": rules, "data": rows}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    if path is not None:
        with whole_file(Path(path)) as draft:
            draft.write_text(text + "\n", "utf-8")
    return text


def describe(exp: Explanation) -> dict[str, Any]:
    """Enough to know what was explained, by what, and how exactly."""
    network = exp.network
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "gatewise.explanation",
        "network": {
            "fingerprint": fingerprint(network),
            "inputs": network.inputs,
            "outputs": network.outputs,
            "parameters": network.parameters,
            "gate_units": exp.census.pattern.units,
            "head": [n.layer for n in network.head],
            "task": network.task,
            "classes": list(network.classes),
            "notes": list(exp.notes),
        },
        "features": list(exp.feature_names),
        "units": list(exp.units),
        "groups": [
            {"name": g.name, "members": g.members, "levels": g.levels, "dropped": g.dropped}
            for g in exp.groups
        ],
        "explained_outputs": list(exp.output_names),
        "target": exp.target_name or None,
        "reference": {"name": exp.reference_name, "values": exp.reference.tolist()},
        "scale": exp.scale.tolist(),
        "rows": len(exp),
        "skipped_rows": list(exp.matrix.skipped),
        "clusters": exp.clusters,
        "undecided_rows": exp.matrix.index[exp.undecided].tolist(),
        "max_error": exp.max_error,
        "max_bound": exp.max_bound,
        "dtype": str(network.dtype).removeprefix("torch."),
        "versions": versions(),
    }


def versions() -> Mapping[str, str]:
    """Versions of what computed the result."""
    return {
        "gatewise": metadata.version("gatewise"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def row_columns(
    exp: Explanation,
    part: slice = slice(None),
    *,
    inputs: bool = False,
    slopes: bool = False,
    folded: bool = False,
) -> Columns:
    """The columns of `to_frame`, for some rows."""
    facts = _facts(exp, part)
    front = {str(k): facts.pop(k) for k in ("row", "cluster", "target") if k in facts}
    pairs: list[tuple[str, Any]] = [*front.items()]
    for o, name in enumerate(exp.output_names):
        pairs.append((f"output:{name}", exp.output[part, o]))
        pairs.append((f"base_value:{name}", exp.base_values[part, o]))
        if slopes:
            pairs.append((f"intercept:{name}", exp.intercept[part, o]))
    if inputs:
        pairs += _inputs(exp, part, folded)
    whole = exp.folded() if folded else exp
    pairs += _named(whole, "contribution", whole.contributions(part))
    if slopes:
        pairs += _named(exp, "slope", exp.slopes[part])
    return _distinct([*pairs, *facts.items()])


def _facts(exp: Explanation, part: slice = slice(None)) -> Columns:
    """What is known of a row besides its numbers."""
    columns: Columns = {"row": exp.matrix.index[part], "cluster": exp.ids[part]}
    if exp.target is not None:
        columns["target"] = exp.target[part]
    if exp.margin is not None:
        pairs = (("margin", "scaled"), ("margin_l2", "l2"), ("margin_linf", "linf"))
        columns |= {name: getattr(exp.margin, key)[part].cpu().numpy() for name, key in pairs}
    columns["error"], columns["bound"] = exp.error[part].max(1), exp.bound[part].max(1)
    columns["undecided_units"] = exp.census.undecided[part]
    return columns


def _inputs(exp: Explanation, part: slice, folded: bool) -> list[tuple[str, Any]]:
    """Each input as numbers; of a folded group, the names of levels."""
    rows, groups = exp.data[part], exp.groups if folded else ()
    names = {g.members[0]: g for g in groups}
    inside = {j for g in groups for j in g.members}
    shown = ((j, f) for j, f in enumerate(exp.feature_names) if j in names or j not in inside)
    return [
        (f"input:{names[j].name}", names[j].said(rows).astype(str))
        if j in names
        else (f"input:{f}", rows[:, j])
        for j, f in shown
    ]


def _named(exp: Explanation | Folded, prefix: str, values: Floats) -> list[tuple[str, Any]]:
    """(rows, features, outputs) as named columns, output by output."""
    several = len(exp.output_names) > 1
    return [
        (f"{prefix}:{o}:{f}" if several else f"{prefix}:{f}", values[:, j, k])
        for k, o in enumerate(exp.output_names)
        for j, f in enumerate(exp.feature_names)
    ]


def _distinct(pairs: list[tuple[str, Any]]) -> Columns:
    names = sorted(name for name, _ in pairs)
    twice = next((a for a, b in pairwise(names) if a == b), None)
    if twice is not None:
        raise DataError(
            f"two columns of the table would be called '{twice}': rename a feature or an output"
        )
    return dict(pairs)


def _plain(column: Any) -> list[Any]:
    """Python's own numbers; what JSON cannot say (an infinite margin, a missing target) is None."""
    values = column.tolist()
    return [None if isinstance(v, float) and not np.isfinite(v) else v for v in values]


def _origin(library: str) -> Origin:
    known = ("pandas", "polars", "pyarrow")
    if library not in known:
        raise DataError(f"library must be one of {', '.join(known)}; got {library!r}")
    return Origin(library)
