"""Reason codes: the factors that pushed a row towards the adverse decision, most first.

A factor's contribution is W_j (x_j - reference_j), summed over a group; towards the adverse
decision it is that times the adverse side's sign. Exact on the row's whole region, so the codes of
a row are a property of its rule; whether they survive is asked of the rule across the nearest wall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.explain.groups import columns_of, groups_of, settled
from gatewise.explain.names import output_index
from gatewise.explain.references import reference_row
from gatewise.explain.stops import stops
from gatewise.numeric import whole_number
from gatewise.tables import counted

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reasons:
    """For R rows, at most k codes each; entries past a row's `count` are -1, 0 or False.

    factors: names, one a group or single feature; codes (R, k) positions in them, most adverse
    first; amounts (R, k) contributions towards the adverse decision, all > 0, in output units.
    share (R,): part of the row's whole adverse contribution that its codes carry (nan: none).
    tied (R, k): within the tolerance of the next factor in order, listed or not: the order of the
    two says nothing. left_out (R,): factors not listed that are tied with the last code, so that
    nothing principal is dropped unseen. survives (R, k): is the factor among the k codes of the
    rule across the nearest wall; known (R,): was there such a rule.
    error (R,): below which a contribution is rounding; tie: the relative tolerance.
    """

    rows: Ids
    factors: tuple[str, ...]
    codes: Ids
    amounts: Floats
    count: Ids
    share: Floats
    tied: Flags
    left_out: Ids
    survives: Flags
    known: Flags
    error: Floats
    tie: float
    output_name: str
    adverse: str
    reference_name: str
    values: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, i: int) -> list[dict[str, Any]]:
        """The codes of the i-th row as records."""
        return [
            {
                "rank": r + 1,
                "factor": self.factors[self.codes[i, r]],
                "value": self.values[i][r],
                "amount": float(self.amounts[i, r]),
                "tied": bool(self.tied[i, r]),
                "survives": bool(self.survives[i, r]) if self.known[i] else None,
            }
            for r in range(int(self.count[i]))
        ]

    def table(self) -> dict[str, list[Any]]:
        """One record a code, as columns: row, rank, factor, value, amount, tied, survives."""
        names = ("row", "rank", "factor", "value", "amount", "tied", "survives")
        lines = [
            {"row": int(row), **code} for i, row in enumerate(self.rows) for code in self.of(i)
        ]
        return {name: [line[name] for line in lines] for name in names}

    def say(self, i: int) -> str:
        """One row in words."""
        return "\n".join(self._lines(i))

    def _lines(self, i: int) -> Iterator[str]:
        side = f"{self.output_name} {self.adverse}, against {self.reference_name}"
        if not self.count[i]:
            yield f"Row {self.rows[i]}: no factor pushes towards {side}"
            return
        yield f"Row {self.rows[i]}: {self.share[i]:.0%} of what pushes towards {side}"
        for code in self.of(i):
            marks = ["tied with the next"] * code["tied"]
            marks += ["not beyond the nearest wall"] * (code["survives"] is False)
            said = f" ({'; '.join(marks)})" if marks else ""
            what = f"{code['factor']} = {code['value']}"
            yield f"  {code['rank']}. {what}: {code['amount']:.4g}{said}"
        if self.left_out[i]:
            yield f"  {counted(int(self.left_out[i]), 'factor')} more matter as much as the last"

    def __repr__(self) -> str:
        there = self.known & (self.count > 0)
        kept = np.asarray((self.survives | (self.codes < 0)).all(1))[there]
        share = self.share[self.count > 0]
        return (
            f"Reasons: {counted(len(self), 'row')}, at most {self.codes.shape[1]} codes towards "
            f"{self.output_name} {self.adverse}, against {self.reference_name}\n"
            f"  they carry {_percent(share)} of the adverse contribution (median); "
            f"{counted(int((self.left_out > 0).sum()), 'row')} with more that matter as much as "
            f"the last\n"
            f"  all codes stay beyond the nearest wall for {_percent(kept, np.mean)} of the "
            f"{counted(int(there.sum()), 'row')} with one"
        )


def _percent(part: NDArray[Any], of: Any = np.median) -> str:
    return f"{float(of(part)):.0%}" if len(part) else "none"


def reason_codes(
    exp: Explanation,
    k: int = 4,
    *,
    rows: Sequence[int] | slice | NDArray[Any] | None = None,
    reference: Any = None,
    output: int | str = 0,
    adverse: str = "low",
    groups: Mapping[str, Sequence[int | str]] | None = None,
    tie: float = 0.01,
    walls: bool = True,
) -> Reasons:
    """At most k codes for some rows (all by default), for one of the explained outputs.

    reference: what a factor is compared with: None for the Explanation's own, "mean", "median",
    "zero", "row 17", a mask of rows (their mean: the approved ones, say), or a row of numbers.
    adverse: the side of the output that is the bad decision, "low" or "high".
    groups: inputs that are one factor, besides the Explanation's own. tie: relative difference
    below which two factors matter as much. walls=False skips the question across the wall.
    Raises DataError where k, rows, reference, adverse or groups make no sense.
    """
    require_explanation(exp, "reason_codes", ", and rows= for some of its rows")
    _require(k, adverse, tie)
    o = output_index(output, exp.output_names)
    picked = _rows(exp, rows)
    base, name = _reference(exp, reference)
    folds = exp.groups
    if groups is not None:
        folds = settled(groups_of(exp.network, exp.feature_names, groups), exp.data)
    members = columns_of(folds, exp.feature_names)
    named = {g.members: g.name for g in folds}
    factors = tuple(named.get(m) or exp.feature_names[m[0]] for m in members)
    sign = -1.0 if adverse == "low" else 1.0
    away = exp.data[picked] - base
    amount = sign * _folded(exp.coefficients[exp.ids[picked], o] * away, members)
    error = exp.bound[picked, o] + exp.error[picked, o]
    ranked = _ranked(amount, error, k)
    survives, known = _survival(exp, picked, o, base, members, sign, ranked[0], k, walls)
    said = {g.members: g.said(exp.data[picked]) for g in folds}
    return Reasons(
        picked,
        factors,
        *ranked,
        *_ties(amount, error, ranked[0], ranked[2], tie),
        survives,
        known,
        error,
        tie,
        exp.output_names[o],
        adverse,
        name,
        _values(exp, picked, members, said, ranked[0]),
    )


def _require(k: Any, adverse: str, tie: float) -> None:
    whole_number(k, "k")
    if adverse not in ("low", "high"):
        raise DataError(
            f"adverse is {adverse!r}: say which side of the output is the adverse decision, 'low' "
            "or 'high'"
        )
    if not isinstance(tie, int | float) or not 0 <= tie < 1:
        raise DataError(f"tie must be a relative difference from 0 to below 1, got {tie!r}")


def _rows(exp: Explanation, rows: Any) -> Ids:
    every = np.arange(len(exp))
    if rows is None:
        return every
    try:
        return np.atleast_1d(every[rows if isinstance(rows, slice) else np.asarray(rows)])
    except IndexError:
        raise DataError(
            f"rows= picks a row that is not there: the data hold {counted(len(exp), 'row')}, "
            "counted from 0"
        ) from None


def _reference(exp: Explanation, given: Any) -> tuple[Floats, str]:
    if given is None:
        return exp.reference, exp.reference_name
    return reference_row(exp.matrix, exp.feature_names, given)


def _folded(values: Floats, members: Sequence[tuple[int, ...]]) -> Floats:
    """(R, factors) sums over the members of each factor."""
    order = np.array([j for m in members for j in m], np.int64)
    starts = np.cumsum([0, *(len(m) for m in members[:-1])])
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def _ranked(amount: Floats, error: Floats, k: int) -> tuple[Ids, Floats, Ids, Floats]:
    """codes, amounts, count, share: only what is adverse by more than rounding."""
    scored = np.where(amount > error[:, None], amount, 0.0)
    order = np.argsort(-scored, axis=1, kind="stable")[:, :k]
    top = np.take_along_axis(scored, order, 1)
    pad = ((0, 0), (0, max(0, k - order.shape[1])))
    order, top = np.pad(order, pad), np.pad(top, pad)
    total = scored.sum(1)
    share = np.divide(top.sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
    return np.where(top > 0, order, -1), top, (top > 0).sum(1), share


def _ties(amount: Floats, error: Floats, codes: Ids, count: Ids, tie: float) -> tuple[Flags, Ids]:
    """Codes within the tolerance of the next factor; factors left out that tie with the last."""
    scored = np.where(amount > error[:, None], amount, 0.0)
    ordered = -np.sort(-scored, axis=1)
    ordered = np.pad(ordered, ((0, 0), (0, codes.shape[1] + 1)))[:, : scored.shape[1] + 1]
    k = min(codes.shape[1], scored.shape[1])
    here, following = ordered[:, :k], ordered[:, 1 : k + 1]
    near = (here - following <= np.maximum(tie * here, 2 * error[:, None])) & (following > 0)
    tied = np.pad(near, ((0, 0), (0, codes.shape[1] - k))) & (codes >= 0)
    last = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None], 1)
    rest = ordered[:, k:]
    close = (last - rest <= np.maximum(tie * last, 2 * error[:, None])) & (rest > 0)
    return tied, close.sum(1)


def _survival(
    exp: Explanation,
    picked: Ids,
    o: int,
    base: Floats,
    members: Sequence[tuple[int, ...]],
    sign: float,
    codes: Ids,
    k: int,
    walls: bool,
) -> tuple[Flags, Flags]:
    """Is each code among the k codes of the neighbour's rule, at the nearest wall's point?"""
    kept, known = np.zeros(codes.shape, bool), np.zeros(len(picked), bool)
    if not walls or not len(picked) or not exp.network.gates:
        return kept, known
    found = stops(exp, picked, output=o)
    known = found.flips > 0
    across = np.where(known[:, None], found.across, 0.0)
    step = np.where(known[:, None], found.step, 0.0)
    beyond = sign * _folded(across * (exp.data[picked] + step - base), members)
    top = np.argsort(-beyond, axis=1, kind="stable")[:, :k]
    top = np.where(np.take_along_axis(beyond, top, 1) > 0, top, -2)
    kept = (codes[:, :, None] == top[:, None, :]).any(2) & known[:, None]
    return kept, known


def _values(
    exp: Explanation,
    picked: Ids,
    members: Sequence[tuple[int, ...]],
    said: Mapping[tuple[int, ...], NDArray[np.object_]],
    codes: Ids,
) -> tuple[tuple[str, ...], ...]:
    """What the row says of each code: a number, or the level of a group."""

    def value(i: int, code: int) -> str:
        factor = members[code]
        return str(said[factor][i]) if factor in said else f"{exp.data[picked[i], factor[0]]:.6g}"

    return tuple(
        tuple(value(i, code) for code in row if code >= 0) for i, row in enumerate(codes.tolist())
    )
