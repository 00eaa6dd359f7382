"""recourse(network, x): the nearest change that meets a target, with a bound that proves how near.

min cost(x' - x) over x' with target(f(x')) and the user's bounds, whole numbers and categories.
`region`: an LP in the row's own region and those met on a short walk: fast, an upper bound.
`exact`: branch and bound over the whole network: the least cost, or the proof that there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, InternalError, NotPiecewiseAffine
from gatewise.explain.inputs import inputs_of
from gatewise.explain.recourse.bounds import Domain, OneHot, intervals, reach
from gatewise.explain.recourse.local import Walk, pattern_at, piece_at, piece_of_form, walk
from gatewise.explain.recourse.milp import GAP, TOLERANCE, Answer, Goal, whole
from gatewise.explain.recourse.milp_form import Rectified, rectified
from gatewise.explain.recourse.problem import Problem, domain_of, goals_of, seconds_of
from gatewise.explain.recourse.replay import Replay, repaired, replay
from gatewise.explain.recourse.search import search
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.tables import as_row, counted, open_table

Floats = NDArray[np.float64]
METHODS = ("region", "exact", "milp")


@dataclass(frozen=True, eq=False)
class Recourse:
    """The answer, its cost, and how sure it is.

    status: "already" (the row meets the target), "optimal" (cost is within `gap` of the least),
    "feasible" (a change, and `bound` below the least cost), "infeasible" (none exists in these
    bounds: proven), "unknown" (none found, none excluded below `bound`).
    point (features,) or None; bound: no cheaper point exists, up to the solver's tolerance;
    before, after (outputs,) f at both; short: by how much the solver's own point missed the target
    before it was repaired; replay_error: |rule used by the solver - network| at the point;
    model_error: |model - network|, head included, or None where no model was given.
    """

    names: tuple[str, ...]
    target: str
    norm: str
    method: str
    status: str
    home: Floats
    point: Floats | None
    cost: float
    bound: float
    before: Floats
    after: Floats | None
    short: float = 0.0
    replay_error: float | None = None
    model_error: float | None = None
    seconds: float = 0.0
    nodes: int = 0
    open: int = 0
    notes: tuple[str, ...] = ()
    categories: tuple[OneHot, ...] = ()

    @property
    def change(self) -> Floats | None:
        """(features,) point - home."""
        return None if self.point is None else self.point - self.home

    @property
    def gap(self) -> float:
        """(cost - bound) / cost: 0 is a proof, 1 no knowledge; infinite where there is no point."""
        if self.point is None:
            return 0.0 if self.status == "infeasible" else float("inf")
        return 0.0 if self.cost == 0 else max(0.0, (self.cost - self.bound) / self.cost)

    @property
    def changes(self) -> dict[str, tuple[float, float]]:
        """{name: (from, to)} of the inputs that change."""
        if self.point is None:
            return {}
        moved = np.flatnonzero(self.point != self.home).tolist()
        return {self.names[j]: (float(self.home[j]), float(self.point[j])) for j in moved}

    def __repr__(self) -> str:
        lines = [f"Recourse to {self.target}: {self._verdict()}"]
        lines += [f"  {name}: {a} -> {b}" for name, a, b in self._told()]
        if self.point is not None and self.status != "already":
            assert self.after is not None
            model = "" if self.model_error is None else f", model - network {self.model_error:.1g}"
            lines.append(
                f"  replayed: {_numbers(self.before)} -> {_numbers(self.after)} "
                f"(rule - network {self.replay_error or 0:.1g}{model})"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _told(self) -> list[tuple[str, str, str]]:
        """Every change in words, a category's columns as one."""
        if self.point is None:
            return []
        inside = {self.names[j] for g in self.categories for j in g.members}
        told = [
            (n, f"{a:.6g}", f"{b:.6g}") for n, (a, b) in self.changes.items() if n not in inside
        ]
        levels = [(g.name, g.said(self.home), g.said(self.point)) for g in self.categories]
        return told + [one for one in levels if one[1] != one[2]]

    def _verdict(self) -> str:
        cost = f"{self.norm} cost {self.cost:.6g}"
        nodes = f"{counted(self.nodes, 'node')}, {self.seconds:.2g} s"
        if self.status == "already":
            return "the row meets it already"
        if self.status == "optimal":
            return f"{cost}, proven least to {max(self.gap, GAP):.0e} ({nodes})"
        if self.status == "feasible":
            return f"{cost}; the least is at least {self.bound:.6g} (gap {self.gap:.0%}, {nodes})"
        if self.status == "infeasible":
            return f"none exists in these bounds (proven to {TOLERANCE:.0e}: {nodes})"
        return f"none found; none is cheaper than {self.bound:.6g} ({nodes})"


def _numbers(f: Floats) -> str:
    return ", ".join(f"{v:.4g}" for v in f[:5]) + (", ..." if len(f) > 5 else "")


@dataclass(frozen=True, eq=False)
class Setting:
    """What the methods share: f of many rows, the normal form (None: no need), the deadline."""

    many: Callable[[Floats], Floats]
    form: Rectified | None
    network: Network
    until: float

    def f(self, x: Floats) -> Floats:
        """(outputs,) f of one row."""
        return np.asarray(self.many(x[None])[0])

    def piece(self, x: Floats) -> Any:
        """The region around x, and the rule on it."""
        if self.form is None:
            return piece_at(self.network, x)
        return piece_of_form(self.form, pattern_at(self.form, x))

    def walk(self, domain: Domain, goal: Goal) -> Walk:
        """A walk towards one goal."""
        return Walk(domain, goal, self.form or self.many, self.piece, self.form, self.until)


def recourse(
    network: Network,
    x: Any,
    *,
    target: Any = None,
    output: int | str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    threshold: float | None = None,
    margin: float = 1e-6,
    immutable: Any = (),
    bounds: Any = None,
    integers: Any = (),
    categories: Mapping[str, Sequence[int | str]] | None = None,
    monotone: Mapping[Any, str] | None = None,
    norm: str = "l1",
    scale: Any = None,
    method: str = "exact",
    time_limit: float = 60.0,
    model: Any = None,
) -> Recourse:
    """The nearest point to x that meets the target; see `Recourse` for what comes back.

    x: one row: numbers in the order of the inputs, by name, or a raw table of one row.
    target: None flips the decision (the score to the other side of `threshold`, by default 0, or
    any other class to the top; a regression has none); 1 or 0 names the side of a single score, an
    index or name the class that shall be largest; at_least, at_most: a value that `output` shall
    reach. All by at least `margin`.
    immutable: inputs (or categories) that stay, exactly; bounds: {name: (lowest, highest)}, or
    (lows, highs) by name or in order; None, NaN or infinity is an open end, and nothing is limited
    where nothing is said; integers: inputs that become whole numbers (a fraction at home moves to
    one, unless it is held); categories: {name: 0/1 columns}, besides those of the Pipeline;
    monotone: {name: "increase"}.
    norm: "l1" sum of |changes|, "linf" the largest, each over `scale` where it is given;
    "weighted" is l1 over `scale`, which it needs.
    method: "region", "exact", or "milp" (HiGHS's own branch and bound, to compare with);
    time_limit: seconds. model: what the network was read from, to replay the answer on.
    Raises DataError for contradictory bounds, unknown names, nothing left to change.
    """
    started = time.monotonic()
    if method not in METHODS:
        raise DataError(f"method is {method!r}: say 'region' (fast), 'exact' (proven) or 'milp'")
    seconds = seconds_of(time_limit)
    require_piecewise_affine(network, "recourse")
    network = network.to("float64", "cpu")
    home, raw, names = _row(network, x)
    many = _function(network)
    before = many(home[None])[0]
    goals, told = goals_of(
        network, before, target, output, at_least, at_most, threshold, margin, model
    )
    domain, notes = domain_of(
        network,
        home,
        names,
        immutable=immutable,
        bounds=bounds,
        integers=integers,
        categories=categories,
        monotone=monotone,
        norm=norm,
        scale=scale,
    )
    problem = Problem(names, domain, goals, told, notes)
    form = _form(network, method)
    setting = Setting(many, form, network, started + seconds)
    found = _answer(setting, problem, before, norm, method)
    found = _replayed(found, setting, model, raw)
    return replace(found, seconds=time.monotonic() - started)


def _row(network: Network, x: Any) -> tuple[Floats, Any, tuple[str, ...]]:
    """Home (features,), the raw row behind it (or None), and the names of the inputs."""
    names = tuple(network.feature_names) or tuple(f"x{j}" for j in range(network.inputs))
    frame = open_table(x)
    if frame is None or network.prepare is None:
        return as_row(x, names, "x"), None, names
    if len(frame) != 1:
        raise DataError(f"x is a table of {counted(len(frame), 'row')}: give one row")
    return inputs_of(network, x).values[0], frame.to_native(), names


def _function(network: Network) -> Callable[[Floats], Floats]:
    def many(x: Floats) -> Floats:
        return np.asarray(network(x).numpy())

    return many


def _form(network: Network, method: str) -> Rectified | None:
    """The network as rectified units, which all but the walk need; steps and products have none."""
    try:
        return rectified(network)
    except (DataError, NotPiecewiseAffine):
        if method != "region":
            raise
        return None


def _answer(setting: Setting, problem: Problem, before: Floats, norm: str, method: str) -> Recourse:
    """The best over the goals of which one must be met, each within what is known so far."""
    start = Recourse(
        problem.names,
        problem.told,
        norm,
        method,
        "unknown",
        problem.home,
        None,
        np.inf,
        np.inf,
        before,
        None,
        notes=problem.notes,
        categories=problem.domain.groups,
    )
    if _at_home(problem, before):
        return replace(
            start, status="already", point=problem.home, cost=0.0, bound=0.0, after=before
        )
    best, answers = start, []
    for goal in problem.goals:
        found = METHOD[method](setting, problem.domain, goal, best.cost)
        answers.append(found)
        best = _kept(best, found, setting, problem.domain, goal)
    return _joined(best, answers)


def _at_home(problem: Problem, before: Floats) -> bool:
    return problem.domain.holds(problem.home) and any(
        goal.short(before) <= 0 for goal in problem.goals
    )


def _kept(best: Recourse, found: Answer, setting: Setting, domain: Domain, goal: Goal) -> Recourse:
    """The better of what there was and a new answer, once that has been repaired."""
    if found.x is None or found.cost >= best.cost:
        return best
    point = repaired(found.x, domain, goal, setting.f, setting.piece)
    if point is None:
        return best
    point = point + 0.0  # -0 is 0
    if not domain.holds(point):
        raise InternalError("the answer of recourse leaves what it may change: please report it")
    short = max(0.0, goal.short(setting.f(found.x)))
    return replace(best, point=point, cost=domain.cost(point), after=setting.f(point), short=short)


def _joined(best: Recourse, answers: list[Answer]) -> Recourse:
    """One verdict over all goals: the least bound holds, and all must be done for a proof."""
    bound = min(a.bound for a in answers)
    done = all(a.status in ("optimal", "infeasible", "dearer") for a in answers)
    nodes, most = sum(a.nodes for a in answers), max(a.open for a in answers)
    if best.point is None:
        none = all(a.status == "infeasible" for a in answers)
        return replace(best, status="infeasible" if none else "unknown", bound=bound, nodes=nodes)
    bound = min(bound, best.cost)
    proven = done and best.cost - bound <= 10 * GAP * max(best.cost, 1e-9)
    status = "optimal" if proven else "feasible"
    return replace(best, status=status, bound=bound, nodes=nodes, open=most)


def _region(setting: Setting, domain: Domain, goal: Goal, cutoff: float) -> Answer:
    """A walk, and the bound that lines give."""
    x = walk(setting.walk(domain, goal))
    cost = np.inf if x is None else domain.cost(x)
    bound = 0.0
    if setting.form is not None:
        found = search(setting.form, domain, goal, best=x, cutoff=cutoff, until=0.0)
        bound = found.bound
        if found.status == "infeasible":
            return found
    return Answer("unknown" if x is None else "feasible", x, cost, bound)


def _exact(setting: Setting, domain: Domain, goal: Goal, cutoff: float) -> Answer:
    """The walk's answer, then the proof (or a better answer)."""
    assert setting.form is not None
    steps = setting.walk(domain, goal)
    first = walk(steps)

    def improve(x: Floats) -> Floats | None:
        found = steps.inside(setting.piece(x))
        return None if found is None or goal.short(setting.f(found)) > TOLERANCE else found

    return search(
        setting.form,
        domain,
        goal,
        best=first,
        cutoff=cutoff,
        until=setting.until,
        improve=improve,
    )


def _milp(setting: Setting, domain: Domain, goal: Goal, cutoff: float) -> Answer:
    """HiGHS's own branch and bound, in the ball of the walk's answer."""
    assert setting.form is not None
    first = walk(setting.walk(domain, goal))
    return solved_by_milp(setting.form, domain, goal, first, setting.until - time.monotonic())


def solved_by_milp(
    form: Rectified,
    domain: Domain,
    goal: Goal,
    first: Floats | None,
    seconds: float,
    plain: bool = False,
) -> Answer:
    """One MILP in the ball of a known point; plain: with big-M from intervals, not from lines."""
    ball = domain if first is None else domain.within(domain.cost(first) * (1 + 1e-9))
    known = intervals(form, ball) if plain else reach(form, ball)
    if not np.isfinite(known.low).all() or not np.isfinite(known.high).all():
        raise DataError(
            "method='milp' needs finite bounds where the walk finds no answer: give bounds= for "
            "every input that may change, or use method='exact'"
        )
    found = whole(form, ball, known, goal, time_limit=max(0.1, seconds), start=first)
    open_ = len(known.open)
    if found.x is None and first is not None:
        status = "optimal" if found.status == "infeasible" else "feasible"
        bound = domain.cost(first) if status == "optimal" else max(0.0, found.bound)
        return Answer(status, first, domain.cost(first), bound, found.nodes, open_)
    return replace(found, open=open_)


METHOD: dict[str, Callable[[Setting, Domain, Goal, float], Answer]] = {
    "region": _region,
    "exact": _exact,
    "milp": _milp,
}


def _replayed(found: Recourse, setting: Setting, model: Any, raw: Any) -> Recourse:
    """With the gap between the solver's rule, the network, and the model."""
    if found.point is None or found.after is None:
        return found
    piece = setting.piece(found.point)
    error = float(np.abs(piece.weight @ found.point + piece.offset - found.after).max())
    if model is None:
        return replace(found, replay_error=error)
    again: Replay = replay(setting.network, model, found.point, raw)
    notes = (*found.notes, again.why) if again.why else found.notes
    return replace(found, replay_error=error, model_error=again.gap, notes=notes)
