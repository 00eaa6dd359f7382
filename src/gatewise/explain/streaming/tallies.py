"""What is added up while rows are explained: for each cohort or large cluster, and the extremes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.explain.cohorts.cohorts import said as rule_says
from gatewise.explain.explanation import Explanation
from gatewise.explain.streaming.asked import Question
from gatewise.explain.streaming.labels import Wanted, numbers
from gatewise.explain.streaming.reading import Floats, Ids
from gatewise.explain.streaming.sums import Sums
from gatewise.given.labels import winners
from gatewise.tables.writing import whole_file

TABLE = 1 << 22  # numbers in the sums of all groups


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums by group (the last: all rows in none of the others), the largest error and bound, and
    of cohorts the largest |rule - network|. A commutative monoid under `merge`.
    """

    sums: Sums
    max_error: float = 0.0
    max_bound: float = 0.0
    furthest: Floats | None = None

    def merge(self, other: Tally) -> Tally:
        """Of the rows of both."""
        far = None
        if self.furthest is not None and other.furthest is not None:
            far = np.maximum(self.furthest, other.furthest)
        return Tally(
            self.sums.merge(other.sums),
            max(self.max_error, other.max_error),
            max(self.max_bound, other.max_bound),
            far,
        )


def columns_of(q: Question) -> tuple[str, ...]:
    """The names of what is summed."""
    fields = [f"input:{f}" for f in q.feature_names]
    fields += [f"output:{o}" for o in q.output_names]
    several = len(q.output_names) > 1
    named = [f"{o}:{f}" if several else f for o in q.output_names for f in q.feature_names]
    fields += [f"{kind}:{name}" for kind in ("contribution", "|contribution|") for name in named]
    folded = [f"{o}:{g.name}" if several else g.name for o in q.output_names for g in q.groups]
    fields += [f"|group contribution|:{name}" for name in folded]
    if q.asked.target:
        fields += ["known", "target", "right", "|error|", "error²"]
    if q.asked.cohorts is not None:
        fields += ["|rule - network|", "(rule - network)²"]
    return tuple(fields)


def groups_of(q: Question, clusters: int) -> int:
    """How many groups: the cohorts, or as many of the largest clusters as were asked for and fit;
    and the rest."""
    if q.asked.cohorts is not None:
        return len(q.asked.cohorts) + 1
    return min(q.asked.top, clusters, TABLE // len(columns_of(q))) + 1


def nothing(q: Question, clusters: int) -> Tally:
    """Of no row."""
    groups = groups_of(q, clusters)
    far = None if q.asked.cohorts is None else np.zeros(groups)
    return Tally(Sums.none(columns_of(q), groups), furthest=far)


def of(
    q: Question,
    clusters: int,
    e: Explanation,
    ids: Ids,
    cohort: Ids | None,
    target: Any,
    wanted: Wanted | None,
) -> Tally:
    """Of some rows that were explained."""
    groups = groups_of(q, clusters)
    group = np.minimum(ids, groups - 1) if cohort is None else cohort
    parts = [e.data, e.output]
    values = e.values.transpose(0, 2, 1).reshape(len(e), -1)
    parts += [values, np.abs(values)]
    parts += [
        np.abs(e.values[:, list(g.members), o].sum(1))[:, None]
        for o in range(len(q.outputs))
        for g in q.groups
    ]
    if wanted is not None:
        parts.append(_against(e, target, wanted))
    far = None
    if q.asked.cohorts is not None and cohort is not None:
        c = q.asked.cohorts
        network = e.census.output[:, c.explanation.outputs[c.output]].cpu().numpy()
        away = np.abs(rule_says(c.coefficients, c.intercepts, cohort, e.data) - network)
        parts.append(np.stack([away, away**2], 1))
        far = np.zeros(groups)
        np.maximum.at(far, cohort, away)
    sums = Sums.of(columns_of(q), group, groups, np.hstack(parts))
    return Tally(sums, e.max_error, e.max_bound, far)


def _against(e: Explanation, target: Any, wanted: Wanted) -> Floats:
    """(rows, 5) known, target, right, |error|, error²; 0 where it is unknown, NaN where the target
    has no such thing.

    target: a quantity, or the place of the label among the network's answers; right: of labels;
    errors: of a quantity against the only output.
    """
    found = np.zeros((len(e), 5))
    found[:, [2] if wanted.measured else [3, 4]] = np.nan
    if wanted.measured:
        y = numbers(target)
        known = np.isfinite(y)
        found[:, 0], found[known, 1] = known, y[known]
        found[:, 3:] = np.nan
        if e.network.outputs == 1:
            away = np.where(known, y, 0.0) - np.where(known, e.output[:, 0], 0.0)
            found[:, 3], found[:, 4] = np.abs(away), away**2
    elif wanted.reading is None:
        found[:, 1:3] = np.nan
    else:
        place = wanted.places(target)
        found[:, 0], found[:, 1] = place >= 0, np.maximum(place, 0)
        found[:, 2] = winners(e.census.output.cpu().numpy()) == place
    return found


# -- on the disk, until all parts are there --


def write(path: Path, tally: Tally, facts: dict[str, Any]) -> None:
    """As safetensors, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {"counts": tally.sums.counts, "pairs": tally.sums.pairs}
    if tally.furthest is not None:
        arrays["furthest"] = tally.furthest
    said = facts | {"names": tally.sums.names, "error": tally.max_error, "bound": tally.max_bound}
    with whole_file(path) as draft:
        save_file(arrays, draft, metadata={"gatewise": json.dumps(said)})


def read(path: Path) -> Tally:
    """What `write` wrote."""
    from safetensors.numpy import load_file

    facts, arrays = facts_of(path), load_file(path)
    sums = Sums(tuple(facts["names"]), arrays["counts"], arrays["pairs"])
    return Tally(sums, facts["error"], facts["bound"], arrays.get("furthest"))


def facts_of(path: Path) -> dict[str, Any]:
    """What was said of a part when its sums were written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found: dict[str, Any] = json.loads(file.metadata()["gatewise"])
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None
    return found
