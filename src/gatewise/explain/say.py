"""An Explanation in words: the card of one row, and what a notebook shows."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.tables import counted

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation
    from gatewise.explain.slices import SlicedExplanation

TOP = 10  # features shown before "and N more"
Table = list[tuple[str, ...]]


def card(part: SlicedExplanation) -> str:
    """The rule of one row and output, its largest contributions first; else shape and error."""
    title = _title(part)
    if not _is_one(part):
        return title
    rows = _rows(part)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(_aligned(cell, widths[k], k) for k, cell in enumerate(row)).rstrip()
        for row in rows
    ]
    return "\n".join([title, *lines, f"  {_foot(part)}"])


def card_html(part: SlicedExplanation) -> str:
    """The same as HTML; every text is escaped."""
    if not _is_one(part):
        return f"<p>{escape(_title(part))}</p>"
    return f"<p>{escape(_title(part))}</p>{_table(_rows(part))}<p>{escape(_foot(part))}</p>"


def overview_html(exp: Explanation) -> str:
    """What the Explanation prints, and the features that matter most, as HTML; all escaped."""
    said = "<br>".join(escape(line) for line in repr(exp).splitlines())
    return f"<p>{said}</p>" + "".join(
        _table(_ranking(exp, o), f"{name}: importance over all rows")
        for o, name in enumerate(exp.output_names[:TOP])
    )


def _ranking(exp: Explanation, o: int) -> Table:
    """Features by share of |W_j| sd_j, with how far their coefficient varies among rows."""
    share = exp.global_importance[o]
    best = np.argsort(-share, kind="stable")[:TOP]
    found = exp.importances(kind="coefficient", features=best.tolist())
    rows: Table = [("feature", "importance", "coefficient", "5 % to 95 % of rows")]
    for k, j in enumerate(best):
        low, mid, high = (a[0, k, o] for a in (found.low, found.values, found.high))
        spread = f"{low:.3g} to {high:.3g}"
        rows.append((exp.feature_names[j], f"{share[j]:.1%}", f"{mid:.3g}", spread))
    return rows


def _is_one(part: SlicedExplanation) -> bool:
    rows, _, outputs = part.block.values.shape
    return bool(rows == 1 == outputs)


def _title(part: SlicedExplanation) -> str:
    b = part.block
    if not _is_one(part):
        n, f, o = b.values.shape
        return (
            f"SlicedExplanation: {counted(n, 'row')}, {counted(f, 'feature')}, "
            f"{counted(o, 'output')}; largest error {part.max_error:.2g}"
        )
    total = b.output[0, 0] - b.base_values[0, 0]
    return (
        f"row {b.rows[0]}, {b.output_names[0]}: {b.output[0, 0]:.4g} = {b.base_values[0, 0]:.4g} "
        f"at {b.reference_name} {'-' if total < 0 else '+'} {abs(total):.4g}"
    )


def _rows(part: SlicedExplanation) -> Table:
    """Feature, its value, slope and contribution; the smaller contributions in one line."""
    b = part.block
    values = b.values[0, :, 0]
    order = np.argsort(-np.abs(values), kind="stable")
    shown = b.data if b.display_data is None else b.display_data
    head = ("feature", "value", *(("slope",) if b.slopes is not None else ()), "contribution")
    rows: Table = [head]
    for j in order[:TOP]:
        slope = () if b.slopes is None else (f"{b.slopes[0, j, 0]:.4g}",)
        rows.append((b.feature_names[j], _said(shown[0, j]), *slope, f"{values[j]:+.4g}"))
    rest = order[TOP:]
    if len(rest):
        gap = ("",) * (len(head) - 2)
        rows.append((f"{len(rest)} more", *gap, f"{values[rest].sum():+.4g}"))
    return rows


def _foot(part: SlicedExplanation) -> str:
    error = f"error {part.max_error:.2g}"
    if part.block.margin is None:
        return error
    return f"margin {part.block.margin[0]:.3g} {part.block.margin_unit}, {error}"


def _said(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _table(rows: Table, caption: str = "") -> str:
    head, *body = ("".join(f"<{t}>{escape(c)}</{t}>" for c in row) for t, row in _tagged(rows))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _tagged(rows: Table) -> list[tuple[str, tuple[str, ...]]]:
    return [("td" if k else "th", row) for k, row in enumerate(rows)]
