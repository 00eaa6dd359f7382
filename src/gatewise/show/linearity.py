"""The section *How linear is it?* of the report: an audit where a target is known, else one fit."""

from __future__ import annotations

from typing import Any, NamedTuple

from gatewise.auditing.audit import Audit, audit
from gatewise.auditing.nearest import Nearest, nearest
from gatewise.auditing.units import effective_rules, gate_uses
from gatewise.errors import GatewiseError
from gatewise.explain.explanation import Explanation
from gatewise.linear.fits.newton import EXACT
from gatewise.show import truth
from gatewise.show.audit import words as audit_words
from gatewise.show.results import Table
from gatewise.show.truth import Target
from gatewise.show.words import number, percent

WORK = 1e9  # multiplications of a pass over the rows of the linear fits
LEAST, MOST = 1000, 20_000  # rows to fit them on, and to test on
DRAWS = 500
UNKNOWNS = 4000  # of a linear model of classes: about three seconds
MANY = 1000  # features: a linear fit of more takes longer than the page may


class Found(NamedTuple):
    """The audit, or why there is none; both empty where there is no target."""

    audit: Audit | None
    why: str = ""


def section(e: Explanation, t: Target | None) -> dict[str, Any]:
    """What the template shows: sentences, a table, the gates."""
    found = audited(e, t)
    return {
        "linear_says": says(e, t, found),
        "linear_table": table(e, t, found),
        "linear_notes": [] if found.audit is None else [*found.audit.notes, *_stopped(found.audit)],
        "gate_uses": gate_uses(e),
    }


def audited(e: Explanation, t: Target | None) -> Found:
    """The audit of the explanation's own rows, a part of them split off to test on."""
    if t is None or not t.known.any():
        return Found(None)
    unknowns = max(1, len(t.names)) * (e.data.shape[1] + 1)
    if e.data.shape[1] > MANY or (not t.measured and unknowns > UNKNOWNS):
        return Found(
            None,
            f"a linear model of {unknowns:,} unknowns takes longer than a page may; gatewise audit "
            "fits it",
        )
    passes = len(t.names) if unknowns > EXACT and not t.measured else 1  # a search: one a class
    width = e.data.shape[1]
    rows = int(min(MOST, max(LEAST, 4 * width, WORK / passes / (width + 1) ** 2)))
    try:
        return Found(audit(e, rules=(), repeats=DRAWS, rows=rows))
    except GatewiseError as why:
        return Found(None, str(why))


def _stopped(a: Audit) -> list[str]:
    """How exactly the linear model was found, where it was not solved."""
    unknowns = a.linear.coefficients.size + a.linear.intercepts.size
    if not a.classes or unknowns <= EXACT:
        return []
    return [
        f"the linear model has {unknowns:,} unknowns and was found by {a.linear.steps} L-BFGS "
        f"steps: the largest entry of its gradient there is {number(a.linear.residual, 1)}"
    ]


def says(e: Explanation, t: Target | None, found: Found) -> list[str]:
    """One paragraph each."""
    rules = (
        f"The rules in use weigh as much as {number(effective_rules(e))} clusters of equal size "
        "would (the exponential of the entropy of the cluster sizes)."
    )
    if found.audit is not None:
        return [audit_words.verdict(found.audit), f"{audit_words.affine_says(found.audit)} {rules}"]
    close = _nearest_says(e, _nearest(e, t)) if _fits(e) else ""
    odd = f" The target is left out here: {found.why}." if found.why else ""
    return [f"{close}{rules}{odd}"]


def table(e: Explanation, t: Target | None, found: Found) -> Table | None:
    """The models of the audit, or the network beside one affine rule."""
    if found.audit is not None:
        return audit_words.models_table(found.audit)
    if not _fits(e):
        return None
    fit = _nearest(e, t)
    rows = [("Variance of the network's output explained", percent(1), percent(fit.explained))]
    if fit.same is not None:
        rows.append(("Same decision as the network", percent(1), percent(fit.same)))
    return Table("Network against one affine rule", ("", "Network", "One affine rule"), tuple(rows))


def _fits(e: Explanation) -> bool:
    """Is one affine rule for all rows worth fitting for the page?"""
    return len(e) > 1 and e.data.shape[1] <= MANY


def _nearest(e: Explanation, t: Target | None) -> Nearest:
    return nearest(e, truth.decides(e, t))


def _nearest_says(e: Explanation, fit: Nearest) -> str:
    same = "" if fit.same is None else f" and decides alike on {percent(fit.same)} of them"
    part = "" if fit.rows == len(e) else f" (fitted on {fit.rows:,} evenly spaced rows)"
    return (
        f"The one affine rule that comes closest to the network explains {percent(fit.explained)} "
        f"of the variance of its output on these rows{same}{part}. "
    )
