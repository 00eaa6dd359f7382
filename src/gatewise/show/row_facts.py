"""What is said of single rows, packed for the page: where the rule stops, and reason codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.explain.reasons import Reasons, reason_codes
from gatewise.explain.recourse.recourse import Recourse
from gatewise.explain.stops import Stops, stops
from gatewise.show import embed
from gatewise.show.words import count, number, percent, plain

Ids = NDArray[np.int64]
LEADING = 3  # features of the way to a wall


def stopping(e: Explanation, rows: Ids) -> tuple[Stops, dict[str, Any]] | None:
    """The Stops of some rows, and its columns for the page; None where no margin was asked for."""
    if e.margin is None:
        return None
    found = stops(e, rows)
    names = sorted(set(found.gate))
    leading = np.argsort(-found.part, axis=1, kind="stable")[:, :LEADING]
    steps = np.take_along_axis(found.step, leading, 1)
    more = (found.part > 0).sum(1) > LEADING
    columns = {
        "gate": np.array([names.index(g) for g in found.gate]),
        "unit": found.unit,
        "change": found.change,
        "cosine": found.cosine,
        "same": found.same_top,
        "flips": found.flips,
        "here": found.in_region,
        "there": found.in_neighbour,
        "leading": np.where(np.take_along_axis(found.part, leading, 1) > 0, leading, -1),
        "steps": steps,
        "more": more,
    }
    packed: dict[str, Any] = {name: _packed(c) for name, c in columns.items()}
    each = leading.shape[1]
    return found, {
        **packed,
        "gates": [plain(n) for n in names],
        "each": each,
        "few": found.few,
        "top": found.top,
    }


def reasons(e: Explanation, rows: Ids, given: Reasons | None) -> dict[str, Any]:
    """Reason codes of the page's rows: those given, else at most 4 towards the low side."""
    found = given or reason_codes(e, 4, rows=rows, walls=e.margin is not None)
    place = np.full(len(e), -1)
    place[found.rows] = np.arange(len(found.rows))
    at = place[rows]
    count = np.where(at >= 0, found.count[at], -1)
    kind = "logit of " if e.network.head else "output "
    side = f"a {plain(found.adverse)} {kind}{plain(found.output_name)}"
    whole = f"At most {found.codes.shape[1]} factors that push the row towards {side}"
    return {
        "says": f"{whole}, against {plain(found.reference_name)}.",
        "side": side,
        "factors": [plain(f) for f in found.factors],
        "each": int(found.codes.shape[1]),
        "count": _packed(count),
        "codes": _packed(found.codes[at]),
        "amounts": _packed(found.amounts[at]),
        "tied": _packed(found.tied[at]),
        "survives": _packed(found.survives[at]),
        "known": _packed(found.known[at]),
        "left": _packed(found.left_out[at]),
        "share": _packed(found.share[at]),
    }


def recourses(e: Explanation, given: Mapping[int, Recourse]) -> dict[str, Any]:
    """Answers of `gatewise.recourse` by row of the data, as the page shows them."""
    unknown = sorted(set(given) - set(e.matrix.index.tolist()))
    if unknown:
        raise DataError(
            f"recourse names row {unknown[0]}, which is not explained: give {{row: answer}} with "
            "rows as in the data, counted from 0"
        )
    return {
        "says": f"The nearest change found to reach its target, for {count(len(given), 'row')}.",
        "rows": {int(row): _recourse(e, answer) for row, answer in given.items()},
    }


def _recourse(e: Explanation, r: Recourse) -> dict[str, Any]:
    """One answer: what it reaches, its changes, how sure it is, and the point itself."""
    place = {name: j for j, name in enumerate(e.feature_names)}
    moved = [(place[name], *pair) for name, pair in r.changes.items() if name in place]
    return {
        "target": plain(r.target),
        "status": r.status,
        "sure": _sure(r),
        "changes": [[j, number(a), number(b)] for j, a, b in moved],
        "point": None if r.point is None else r.point.tolist(),
    }


def _sure(r: Recourse) -> str:
    """What is proven, in a sentence."""
    cost = f"{r.norm} cost {number(r.cost)}"
    said = {
        "already": "The row meets it already.",
        "optimal": f"Proven least: {cost}.",
        "feasible": f"{cost}; the least is at least {number(r.bound)}.",
        "infeasible": "None exists within the bounds given: proven.",
        "unknown": f"None was found; none is cheaper than {number(r.bound)}.",
    }[r.status]
    gap = (
        f" Rule and network differ there by {number(r.replay_error, 2)}." if r.replay_error else ""
    )
    return said[:1].upper() + said[1:] + gap


def stops_say(found: Stops) -> list[tuple[str, str]]:
    """The whole of it, in a few lines for the page of the model."""
    there = found.flips > 0
    lines = []
    if there.any():
        lines = [
            ("Median change of the slopes", percent(float(np.median(found.change[there])))),
            (
                f"Rows whose {found.top} strongest features stay",
                percent(float(found.same_top[there].mean())),
            ),
        ]
    few = float(found.too_few.mean())
    return [*lines, (f"Rows in a region of fewer than {found.few} rows", percent(few))]


def _packed(column: NDArray[Any]) -> dict[str, Any]:
    """Whole numbers as they are, others to float32."""
    if column.dtype.kind == "f":
        return embed.packed(embed.rounded(column))
    return embed.packed(np.asarray(column, np.int64))
