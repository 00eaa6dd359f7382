"""Is what a report was given beside the explanation of this explanation, and not of another?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.evaluation.evaluate import Evaluation
from gatewise.explain.explanation import Explanation
from gatewise.explain.reasons import Reasons, reason_codes
from gatewise.explain.recourse.recourse import Recourse
from gatewise.ir.network import fingerprint
from gatewise.tables import listed

KINDS = {"cohorts": Cohorts, "evaluation": Evaluation, "reasons": Reasons}
MAKERS = {"cohorts": "cohorts", "evaluation": "evaluate", "reasons": "reason_codes"}
KNOWN = (*KINDS, "recourse")
RTOL = 1e-6  # of what is computed again


def require_known(objects: Mapping[str, Any]) -> None:
    """Names of what a report shows, and no others."""
    unknown = sorted(set(objects) - set(KNOWN))
    if unknown:
        raise DataError(
            f"report takes no {unknown[0]}=: beside the explanation it shows "
            f"{', '.join(f'{name}=' for name in KNOWN)}; give one of these"
        )


def require_own(e: Explanation, objects: Mapping[str, Any]) -> None:
    """Every object of the kind its name says, and made from this explanation."""
    for name, kind in KINDS.items():
        given = objects.get(name)
        if given is not None and not isinstance(given, kind):
            raise DataError(
                f"{name}= is {_kind(given)}: give what gatewise.{MAKERS[name]} returns for this "
                "explanation"
            )
    checks: dict[str, Callable[[Explanation, Any], str]] = {
        "cohorts": _cohorts,
        "evaluation": _evaluation,
        "reasons": _reasons,
    }
    for name, why in checks.items():
        found = "" if objects.get(name) is None else why(e, objects[name])
        if found:
            raise DataError(
                f"{name}= is not of this explanation ({found}): ask gatewise.{MAKERS[name]} for "
                "those of this one"
            )
    if objects.get("recourse") is not None:
        _require_recourse(e, objects["recourse"])


def _cohorts(e: Explanation, given: Cohorts) -> str:
    other = given.explanation
    if other is e:
        return ""
    if fingerprint(other.network) != fingerprint(e.network):
        return "it is of another network"
    return "" if np.array_equal(other.data, e.data) else "it is of other rows"


def _evaluation(e: Explanation, given: Evaluation) -> str:
    if given.output not in e.output_names:
        return f"it is of output '{given.output}', which is not explained here"
    if given.rows > len(e):
        return f"it used {given.rows} rows, and here are {len(e)}"
    known = given.fingerprint in ("", fingerprint(e.network))
    return "" if known else "it is of another network"


def _reasons(e: Explanation, given: Reasons) -> str:
    """Codes hold no fingerprint: their rounding bounds and, where they can be, amounts tell."""
    if given.output_name not in e.output_names:
        return f"it is of output '{given.output_name}', which is not explained here"
    if len(given) and not 0 <= given.rows.min() <= given.rows.max() < len(e):
        return f"it is of row {given.rows.max()}, and here are {len(e)}"
    o = e.output_names.index(given.output_name)
    bound = e.bound[given.rows, o]  # given.error is this plus an error that is at most as large
    if not ((given.error >= bound * (1 - RTOL)) & (given.error <= bound * (2 + RTOL))).all():
        return "its rounding bounds are those of another network or other rows"
    size = max(1, given.codes.shape[1])
    again = reason_codes(
        e, size, rows=given.rows, output=o, adverse=given.adverse, walls=False, tie=given.tie
    )
    same = (again.factors, again.reference_name) == (given.factors, given.reference_name)
    if same and not np.allclose(again.amounts, given.amounts, rtol=RTOL, atol=2 * bound.max()):
        return "its amounts are those of another network or other rows"
    return ""


def _require_recourse(e: Explanation, given: Any) -> None:
    """{row of the data: Recourse}, each of that row and of this network."""
    whole = isinstance(given, Mapping) and all(
        isinstance(row, int | np.integer) and isinstance(answer, Recourse)
        for row, answer in given.items()
    )
    if not whole:
        raise DataError(
            f"recourse= is {_kind(given)}, not answers by row: give {{row: what gatewise.recourse "
            "returns}, with rows as in the data, counted from 0"
        )
    place = {int(row): i for i, row in enumerate(e.matrix.index)}
    for row, answer in given.items():
        if int(row) not in place:
            continue  # said in `row_facts.recourses`
        found = _recourse(e, place[int(row)], answer)
        if found:
            raise DataError(
                f"the recourse of row {row} is not of this explanation ({found}): ask "
                "gatewise.recourse about that row of this model"
            )


def _recourse(e: Explanation, i: int, answer: Recourse) -> str:
    if tuple(answer.names) != e.feature_names:
        return f"its features are {listed(answer.names)}"
    if not np.allclose(answer.home, e.data[i], rtol=RTOL, atol=RTOL * np.abs(e.data).max()):
        return "it starts from another row"
    here = e.census.output[i].double().cpu().numpy()
    near = answer.before.shape == here.shape and np.allclose(answer.before, here, RTOL, RTOL)
    return "" if near else "the output it starts from is another network's"


def _kind(given: Any) -> str:
    name = type(given).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
