"""What recourse was asked, as goals over outputs and a domain of inputs; or what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.groups import Group, groups_of
from gatewise.explain.names import output_index, output_names, whole
from gatewise.explain.recourse.bounds import Domain, OneHot
from gatewise.explain.recourse.box import box_of, one_way, places_of
from gatewise.explain.recourse.milp import Goal
from gatewise.ir.network import Network
from gatewise.tables import as_row, counted, listed

Floats = NDArray[np.float64]
NORMS = ("l1", "linf", "weighted")
FLIP = "a flip of the decision"


@dataclass(frozen=True, eq=False)
class Problem:
    """Home, the domain around it, and the goals of which one must be met.

    told: the target in words; `fixed` (features,) inputs that may not change; notes: choices made.
    """

    names: tuple[str, ...]
    domain: Domain
    goals: tuple[Goal, ...]
    told: str
    notes: tuple[str, ...] = ()

    @property
    def home(self) -> Floats:
        return self.domain.home


# -- goals --


def goals_of(
    network: Network,
    before: Floats,
    target: Any,
    output: Any,
    at_least: float | None,
    at_most: float | None,
    threshold: float | None,
    margin: float,
    model: Any = None,
) -> tuple[tuple[Goal, ...], str]:
    """Goals of which one must be met, and the target in words; before: f(home)."""
    if threshold is None and target is None and at_least is None and at_most is None:
        _require_decision(network, model)
    threshold = 0.0 if threshold is None else _number(threshold, "threshold")
    margin = _number(margin, "margin")
    if margin < 0:
        raise DataError(f"margin must be at least 0, got {margin:g}")
    names = output_names(network)
    if at_least is not None or at_most is not None:
        if target is not None:
            raise DataError(
                "target= names a class and at_least=/at_most= a value: give one or the other"
            )
        return _value_goal(names, output, at_least, at_most, margin)
    if len(names) == 1 or output is not None:
        what = "logit of " if network.head and not _is_log(network) else ""
        return _sign_goal(names, before, target, output, threshold, margin, what)
    return _class_goals(names, before, target, margin)


def _require_decision(network: Network, model: Any) -> None:
    """A regression has no decision to flip; a network that does not say what it is has a sign."""
    if _regresses(network, model):
        names = output_names(network)
        raise DataError(
            f"the model is a regression ({listed(names)}), which has no decision to flip: say what "
            f"value it shall reach with at_least= or at_most="
        )


def _regresses(network: Network, model: Any) -> bool:
    """Does the network, or where it is silent the model that is asked, say regression?"""
    if network.task is None and hasattr(model, "predict"):
        decides = ("classes_", "predict_proba", "decision_function")
        return not any(hasattr(model, name) for name in decides)
    return network.task == "regression"


def _is_log(network: Network) -> bool:
    """Is the head an exp, so that outputs are logarithms of a prediction, and no logits?"""
    return bool(network.head) and network.head[-1].layer == "Exp"


def _value_goal(
    names: Sequence[str], output: Any, least: float | None, most: float | None, margin: float
) -> tuple[tuple[Goal, ...], str]:
    place = _one_output(names, output)
    row = np.eye(len(names))[place]
    rows, offsets, words = [], [], []
    if least is not None:
        rows, offsets = [row], [-_number(least, "at_least") - margin]
        words = [f"{names[place]} >= {least:g}"]
    if most is not None:
        rows, offsets = [*rows, -row], [*offsets, _number(most, "at_most") - margin]
        words.append(f"{names[place]} <= {most:g}")
    if least is not None and most is not None and least + 2 * margin > most:
        raise DataError(
            f"at_least={least:g} and at_most={most:g} contradict each other"
            f"{f' with margin {margin:g}' if least <= most else ''}: no value is between them"
        )
    return (Goal(np.array(rows), np.array(offsets)),), " and ".join(words)


def _one_output(names: Sequence[str], output: Any) -> int:
    if output is not None:
        return output_index(output, names)
    if len(names) > 1:
        raise DataError(
            f"the network has {len(names)} outputs ({listed(names)}): say which with output="
        )
    return 0


def _sign_goal(
    names: Sequence[str],
    before: Floats,
    target: Any,
    output: Any,
    threshold: float,
    margin: float,
    what: str,
) -> tuple[tuple[Goal, ...], str]:
    """One score against a threshold: to the other side of it, or to the side that is named."""
    place = _one_output(names, output)
    up = before[place] <= threshold if target is None else _wants_up(target, names[place])
    sign = 1.0 if up else -1.0
    row = sign * np.eye(len(names))[place]
    words = f"{what}'{names[place]}' {'above' if up else 'below'} {threshold:g}"
    goal = Goal(row[None], np.array([-sign * threshold - margin]))
    return (goal,), f"{words}, {FLIP}" if target is None else words


def _wants_up(target: Any, name: str) -> bool:
    if isinstance(target, str) and target == name:
        return True
    asked = int(target) if isinstance(target, bool | np.bool_) else whole(target)
    if asked not in (0, 1):
        raise DataError(
            f"target is {target!r}: a network with one score has two sides, 1 ({name}, above the "
            f"threshold) and 0 (below it)"
        )
    return asked == 1


def _class_goals(
    names: Sequence[str], before: Floats, target: Any, margin: float
) -> tuple[tuple[Goal, ...], str]:
    """Class t beats all others; or, where none is named, some class beats the present one."""
    eye, now = np.eye(len(names)), int(before.argmax())
    if target is not None:
        t = output_index(target, names)
        rows = np.array([eye[t] - eye[j] for j in range(len(names)) if j != t])
        return (Goal(rows, np.full(len(rows), -margin)),), f"'{names[t]}' the largest output"
    others = [j for j in np.argsort(-before).tolist() if j != now]
    goals = tuple(Goal((eye[j] - eye[now])[None], np.array([-margin])) for j in others)
    return goals, f"'{names[now]}' no longer the largest output, {FLIP}"


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"{what} must be a finite number, got {value!r}")
    return number


def seconds_of(time_limit: Any) -> float:
    """A time limit as a number of seconds above 0 (NumPy's numbers too)."""
    if not isinstance(time_limit, Real) or not float(time_limit) > 0:
        raise DataError(f"time_limit must be a number of seconds above 0, got {time_limit!r}")
    return float(time_limit)


# -- the domain --


def domain_of(
    network: Network,
    home: Floats,
    names: tuple[str, ...],
    *,
    immutable: Any = (),
    bounds: Any = None,
    integers: Any = (),
    categories: Mapping[str, Sequence[int | str]] | None = None,
    monotone: Mapping[Any, Any] | None = None,
    norm: str = "l1",
    scale: Any = None,
) -> tuple[Domain, tuple[str, ...]]:
    """The box, the whole numbers, the groups and the cost, checked; and what a user should know."""
    found = _groups(network, names, categories)
    low, high = box_of(bounds, names)
    hot = _one_hot(found, home, names, categories or {})
    _require_binary(hot, low, high, names, categories or {})
    integer = np.zeros(len(home), bool)
    integer[places_of(integers, names, found, "integers")] = True
    fixed = places_of(immutable, names, found, "immutable")
    weight, still = _weights(norm, scale, names, home)
    integer[[*fixed, *still]] = False  # what stays as it is stays so, whole number or not
    for group in hot:
        members = list(group.members)
        integer[members] = True
        low[members] = np.maximum(low[members], 0)
        high[members] = np.minimum(high[members], 1)
    one_way(monotone, home, names, low, high)
    _require_consistent(low, high, integer, names)
    _fix(fixed, still, home, names, low, high)
    _require_levels(hot, low, high)
    if (low == high).all():
        what = f"immutable= covers all {counted(len(names), 'input')}"
        if len(set(fixed)) < len(names):
            what = "immutable=, bounds=, monotone= and scale= together leave no input free"
        raise DataError(f"{what}: nothing is left to change, so free at least one input")
    notes = (
        () if not still else (f"held fixed, for their scale is 0: {listed(_named(still, names))}",)
    )
    return Domain(home, low, high, weight, integer, hot, norm == "linf"), notes


def _one_hot(
    groups: Sequence[Group], home: Floats, names: Sequence[str], given: Mapping[str, Any]
) -> tuple[OneHot, ...]:
    """The groups that are categories at home: zeros with at most one 1."""
    hot = []
    for group in groups:
        level = int(group.level(home[None])[0])
        if level < 0:
            if group.name in {str(k) for k in given}:
                raise DataError(
                    f"category '{group.name}' is not 0/1 columns with one 1 at most in this row "
                    f"({listed([f'{names[j]} = {home[j]:g}' for j in group.members])}): name the "
                    f"one-hot columns of one category, or leave it out of categories="
                )
            continue
        none = group.dropped is not None or level == len(group.levels)
        hot.append(OneHot(group.name, group.members, none, group.levels, group.dropped or "none"))
    return tuple(hot)


def _groups(network: Network, names: Sequence[str], categories: Any) -> tuple[Group, ...]:
    if categories is not None and not isinstance(categories, Mapping):
        raise DataError(
            f"categories is a {type(categories).__name__}: give a dict, each category with its "
            f"0/1 columns, {{'colour': ['red', 'blue']}}"
        )
    return groups_of(network, names, categories)


def _require_binary(
    hot: Sequence[OneHot], low: Floats, high: Floats, names: Sequence[str], given: Mapping[str, Any]
) -> None:
    """Members of a category that the user named are 0/1 columns: no bound says otherwise."""
    asked = {str(name) for name in given}
    for group in (g for g in hot if g.name in asked):
        for j in group.members:
            if not {low[j], high[j]} <= {0.0, 1.0, -np.inf, np.inf}:
                raise DataError(
                    f"category '{group.name}' holds '{names[j]}', whose bounds are {low[j]:g} to "
                    f"{high[j]:g}: categories= takes 0/1 columns, of which one is 1, so leave it "
                    f"out"
                )


def _require_consistent(
    low: Floats, high: Floats, integer: NDArray[np.bool_], names: Sequence[str]
) -> None:
    for j in np.flatnonzero(~(low <= high)).tolist():
        raise DataError(
            f"the bounds of '{names[j]}' contradict each other: at least {low[j]:g} and at most "
            f"{high[j]:g} (what monotone= says included)"
        )
    empty = integer & (np.ceil(low) > np.floor(high))
    for j in np.flatnonzero(empty).tolist():
        raise DataError(
            f"the bounds of '{names[j]}' contradict integers=: there is no whole number from "
            f"{low[j]:g} to {high[j]:g}"
        )
    low[integer], high[integer] = np.ceil(low[integer]), np.floor(high[integer])


def _fix(
    fixed: Sequence[int],
    still: Sequence[int],
    home: Floats,
    names: Sequence[str],
    low: Floats,
    high: Floats,
) -> None:
    """Immutable inputs stay as they are, which their bounds must allow."""
    for j in [*fixed, *still]:
        if not low[j] <= home[j] <= high[j]:
            raise DataError(
                f"'{names[j]}' may not change from {home[j]:g}, which contradicts its bounds "
                f"{low[j]:g} to {high[j]:g}"
            )
        low[j] = high[j] = home[j]


def _require_levels(groups: Sequence[OneHot], low: Floats, high: Floats) -> None:
    """Every category can take some level."""
    for group in groups:
        members = list(group.members)
        must, may = int((low[members] >= 1).sum()), int((high[members] >= 1).sum())
        if must > 1 or (may == 0 and not group.none):
            raise DataError(
                f"the bounds of group '{group.name}' contradict each other: they "
                f"{'ask for more than one level' if must > 1 else 'leave it no level'}"
            )


def _weights(
    norm: str, scale: Any, names: tuple[str, ...], home: Floats
) -> tuple[Floats, list[int]]:
    """The cost of one unit of each input, and the inputs whose scale is 0."""
    if norm not in NORMS:
        raise DataError(
            f"norm is {norm!r}: costs are 'l1' (sum of changes), 'linf' (largest change) or "
            f"'weighted' (sum of changes over scale=)"
            f"{', each linear; the Euclidean norm is not' if str(norm) in ('l2', '2') else ''}"
        )
    if scale is None:
        if norm == "weighted":
            raise DataError(
                "norm='weighted' needs scale=, the size of one step of each input: the deviations "
                "of the data (an Explanation's .scale), say"
            )
        return np.ones(len(home)), []
    size = as_row(scale, names, "scale")
    if (size < 0).any():
        bad = [names[j] for j in np.flatnonzero(size < 0).tolist()]
        raise DataError(f"scale is negative at {listed(bad)}: give sizes of at least 0")
    still = np.flatnonzero(size == 0).tolist()
    return 1 / np.where(size == 0, 1, size), still


def _named(places: Sequence[int], names: Sequence[str]) -> list[str]:
    return [names[j] for j in places]
