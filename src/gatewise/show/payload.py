"""What the page's script works with, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.show import dense, embed, facts, truth, words

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
AGREE = 1e-7  # of the size of the outputs: a page that computes something else is not shown


@dataclass(frozen=True, eq=False)
class Embedded:
    """The rows and the network of a page, and how well the two agree.

    rows: positions among the explanation's rows; layers: None where the network is left out,
    and `without` then says why; error: largest |page - model| over the rows.
    """

    rows: Ids
    layers: tuple[dense.Layer, ...] | None
    without: str
    error: float


def embedded(e: Explanation) -> Embedded:
    """The rows that fit, and the network if it is small and of a kind a page can evaluate."""
    rows = embed.rows(e)
    shown = [e.outputs[o] for o in facts.outputs(e)]
    found = dense.dense(e.network, shown)
    if isinstance(found, str):
        return Embedded(rows, None, found, 0.0)
    there = e.output[rows][:, : len(shown)]
    error = float(np.abs(dense.evaluate(found, e.data[rows]) - there).max())
    if not error <= AGREE * max(1.0, float(np.abs(there).max())):
        why = f"written as dense layers it differs from the model by {words.number(error, 2)}"
        return Embedded(rows, None, why, error)
    return Embedded(rows, found, "", error)


def payload(e: Explanation, page: Embedded, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the pages' own parts, which are in `extra`."""
    return {
        "features": [_feature(e, j) for j in range(len(e.feature_names))],
        "groups": _groups(e),
        "outputs": [words.plain(e.output_names[o]) for o in facts.outputs(e)],
        "head": words.plain(e.network.head[0].layer) if e.network.head else "",
        "unit": facts.unit(e),
        "scale": facts.scale(e).tolist(),
        "reference": e.reference.tolist(),
        "reference_name": words.plain(e.reference_name),
        "importance": facts.importance(e, 0).tolist(),
        "network": None if page.layers is None else embed.network(page.layers),
        "rows": _rows(e, page, extra.get("cohort_ids")),
        **{name: value for name, value in extra.items() if name != "cohort_ids"},
    }


def _feature(e: Explanation, j: int) -> dict[str, Any]:
    column = e.data[:, j]
    return {
        "name": words.plain(e.feature_names[j]),
        "low": float(column.min()),
        "high": float(column.max()),
        "integer": bool((column == np.round(column)).all()),
    }


def _groups(e: Explanation) -> list[dict[str, Any]]:
    """Groups whose inputs are the 0/1 columns of one category, in every row."""
    found = []
    for group in getattr(e, "groups", ()):
        cells = e.data[:, list(group.members)]
        plain = ((cells == 0) | (cells == 1)).all() and (cells.sum(1) <= 1).all()
        if group.levels and plain:
            levels = [words.plain(level) for level in group.levels]
            dropped = None if group.dropped is None else words.plain(group.dropped)
            found.append(
                {
                    "name": words.plain(group.name),
                    "members": [int(j) for j in group.members],
                    "levels": levels,
                    "dropped": dropped,
                }
            )
    return found


def _rows(e: Explanation, page: Embedded, cohorts: Ids | None) -> dict[str, Any]:
    """The rows, column by column; slopes only where there is no network to work them out."""
    rows, far = page.rows, facts.margins(e)
    found: dict[str, Any] = {
        "index": embed.packed(e.matrix.index[rows]),
        "data": [embed.packed(column) for column in e.data[rows].T],
        "outputs": [embed.packed(e.output[rows, o]) for o in facts.outputs(e)],
        "cluster": embed.packed(e.ids[rows]),
        "target": _target(e, rows),
    }
    if far is not None:
        found["margin"] = embed.packed(embed.rounded(far[rows]))
    if cohorts is not None:
        found["cohort"] = embed.packed(cohorts[rows])
    if page.layers is None:
        slopes = e.coefficients[e.ids[rows], 0]
        if slopes.size * 6 < embed.BYTES:
            found["slopes"] = [embed.packed(embed.rounded(column)) for column in slopes.T]
    return found


def _target(e: Explanation, rows: Ids) -> dict[str, Any] | None:
    found = truth.target(e)
    if found is None:
        return None
    values = found.values[rows] if found.measured else found.codes[rows].astype(np.float64)
    return {
        "name": words.plain(e.target_name or "target"),
        "names": [words.plain(name) for name in found.names],
        "values": embed.packed(values),
    }
