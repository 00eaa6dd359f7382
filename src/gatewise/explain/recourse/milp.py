"""The nearest point of a domain that meets a goal, over the whole network, by HiGHS.

min cost(x) subject to r_i = max(0, p_i) for every unit that is open on the domain, with a binary
z_i: r >= p, r >= 0, r <= p - l (1 - z), r <= u z; l and u from `bounds.reach`. Units that are known
to be on or off are substituted, so the program holds the inputs, their costs and the open units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import missing
from gatewise.explain.recourse.bounds import Domain, Reach
from gatewise.explain.recourse.milp_form import Rectified

Floats = NDArray[np.float64]
TOLERANCE = 1e-9  # of HiGHS, for rows, columns and whole numbers
GAP = 1e-7  # relative: an answer this near its bound is called optimal


@dataclass(frozen=True, eq=False)
class Goal:
    """matrix f(x) + offset >= 0, row by row."""

    matrix: Floats
    offset: Floats

    def short(self, f: Floats) -> float:
        """By how much the worst row misses; at most 0 where the goal is met."""
        return float(-(self.matrix @ f + self.offset).min())

    def raised(self, by: float) -> Goal:
        """The same goal, harder by `by`."""
        return Goal(self.matrix, self.offset - by)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a program came to: status is optimal, feasible, infeasible or unknown.

    x: the best point or None; bound: a lower bound of the cost; open: binaries there were.
    """

    status: str
    x: Floats | None
    cost: float
    bound: float
    nodes: int = 0
    open: int = 0


@dataclass(eq=False)
class Rows:
    """Rows low <= a . columns <= high of a program, gathered in blocks (a builder)."""

    columns: int
    blocks: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)

    def add(self, low: Floats | float, high: Floats | float, **parts: tuple[int, Floats]) -> None:
        """One block; each part is (first column, matrix)."""
        count = len(next(iter(parts.values()))[1])
        block = np.zeros((count, self.columns))
        for start, matrix in parts.values():
            block[:, start : start + matrix.shape[1]] += matrix
        self.blocks.append((block, np.full(count, low), np.full(count, high)))

    def joined(self) -> tuple[Floats, Floats, Floats]:
        """All rows, and their ends."""
        a, low, high = zip(*self.blocks, strict=True)
        return np.concatenate(a), np.concatenate(low), np.concatenate(high)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Columns of the inputs and costs that every program starts with: x = base + unit column.

    Columns 0..d-1 the inputs, in units of their cost where they are not whole; then the costs: one
    an input, or a single one that is at least each.
    """

    domain: Domain
    base: Floats
    unit: Floats

    @classmethod
    def of(cls, domain: Domain) -> Inputs:
        """Inputs are counted from home, in steps that cost 1; whole numbers as they are."""
        whole = domain.integer
        return cls(domain, np.where(whole, 0, domain.home), np.where(whole, 1, 1 / domain.weight))

    @property
    def costs(self) -> int:
        return 1 if self.domain.largest else len(self.base)

    @property
    def width(self) -> int:
        return len(self.base) + self.costs

    def x(self, columns: Floats) -> Floats:
        """The inputs from the columns, whole numbers rounded, inside the box."""
        d = self.domain
        x = self.base + self.unit * columns[: len(self.base)]
        return np.clip(np.where(d.integer, np.round(x), x), d.low, d.high)

    def columns(self, x: Floats) -> Floats:
        """The columns of a point, costs included."""
        each = self.domain.weight * np.abs(x - self.domain.home)
        cost = np.array([each.max(initial=0)]) if self.domain.largest else each
        return np.concatenate([(x - self.base) / self.unit, cost])

    def ends(self) -> tuple[Floats, Floats]:
        """Bounds of the columns."""
        low = (self.domain.low - self.base) / self.unit
        high = (self.domain.high - self.base) / self.unit
        top = np.full(self.costs, self.domain.radius)
        return np.r_[low, np.zeros(self.costs)], np.r_[high, top]

    def over(self, matrix: Floats, offset: Floats) -> tuple[Floats, Floats]:
        """matrix x + offset in the columns of the inputs."""
        return matrix * self.unit, offset + matrix @ self.base

    def fill(self, rows: Rows) -> None:
        """cost >= +- weight (x - home), the ball, and the one-hot groups."""
        d = len(self.base)
        slope = np.diag(self.domain.weight * self.unit)
        start = self.domain.weight * (self.base - self.domain.home)
        cost = np.ones((d, 1)) if self.domain.largest else np.eye(d)
        rows.add(start, np.inf, cost=(d, cost), x=(0, -slope))
        rows.add(-start, np.inf, cost=(d, cost), x=(0, slope))
        if np.isfinite(self.domain.radius) and not self.domain.largest:
            rows.add(-np.inf, self.domain.radius, cost=(d, np.ones((1, d))))
        for group in self.domain.groups:
            ones = np.zeros((1, d))
            ones[0, list(group.members)] = 1
            rows.add(0.0 if group.none else 1.0, 1.0, x=(0, ones))


def nearest(domain: Domain, rows: tuple[Floats, Floats], time_limit: float = np.inf) -> Answer:
    """The cheapest x of the domain with A x + b >= 0: an LP (a MILP with whole numbers)."""
    inputs = Inputs.of(domain)
    program = Rows(inputs.width)
    inputs.fill(program)
    a, b = inputs.over(*rows)
    size = np.maximum(np.abs(a).max(1, initial=0), 1e-300)
    program.add(-b / size, np.inf, x=(0, a / size[:, None]))
    return _solve(inputs, program, np.r_[domain.integer, np.zeros(inputs.costs, bool)], time_limit)


def whole(
    form: Rectified,
    domain: Domain,
    known: Reach,
    goal: Goal,
    *,
    time_limit: float = np.inf,
    start: Floats | None = None,
) -> Answer:
    """The cheapest x of the domain with goal(f(x)), over every region at once."""
    inputs = Inputs.of(domain)
    seen = substituted(form, known)
    n, w = len(seen.open), inputs.width
    program = Rows(w + 2 * n)
    inputs.fill(program)
    p, b = inputs.over(seen.pre[seen.open, : form.inputs], seen.bias[seen.open])
    earlier = seen.pre[seen.open, form.inputs :]
    low, high = known.low[seen.open], known.high[seen.open]
    eye = np.eye(n)
    if n:
        program.add(b, np.inf, x=(0, -p), r=(w, eye - earlier))
        program.add(-np.inf, b - low, x=(0, -p), r=(w, eye - earlier), z=(w + n, -np.diag(low)))
        program.add(-np.inf, 0.0, r=(w, eye), z=(w + n, -np.diag(high)))
    g, c = goal.matrix @ seen.matrix, goal.matrix @ seen.offset + goal.offset
    g_x, c = inputs.over(g[:, : form.inputs], c)
    program.add(-c, np.inf, x=(0, g_x), r=(w, g[:, form.inputs :]))
    bounds = (np.zeros(2 * n), np.r_[high, np.ones(n)])
    integer = np.r_[domain.integer, np.zeros(inputs.costs + n, bool), np.ones(n, bool)]
    begin = None if start is None else _start(inputs, form, seen, start)
    return _solve(inputs, program, integer, time_limit, bounds, begin)


@dataclass(frozen=True, eq=False)
class Substituted:
    """The network over (x, open units) alone: p = pre v + bias of every unit, and the output."""

    open: NDArray[np.int64]
    pre: Floats
    bias: Floats
    matrix: Floats
    offset: Floats


def substituted(form: Rectified, known: Reach) -> Substituted:
    """Units known to be on replaced by their affine form, those known to be off by 0."""
    d, open_ = form.inputs, known.open
    value = np.zeros((form.units, d + len(open_)))  # every unit's r, and its constant
    value[open_, d + np.arange(len(open_))] = 1
    constant = np.zeros(form.units)
    pre, bias = np.zeros_like(value), np.zeros(form.units)
    on = known.low >= 0
    for s in form.stages:
        before = form.pre[s][:, d : d + s.start]
        pre[s] = before @ value[: s.start]
        pre[s, :d] += form.pre[s][:, :d]
        bias[s] = form.bias[s] + before @ constant[: s.start]
        taken = s.start + np.flatnonzero(on[s])
        value[taken], constant[taken] = pre[taken], bias[taken]
    out = form.matrix[:, d:] @ value
    out[:, :d] += form.matrix[:, :d]
    return Substituted(open_, pre, bias, out, form.offset + form.matrix[:, d:] @ constant)


def settled(on: NDArray[np.bool_]) -> Reach:
    """The Reach of one pattern: every unit known."""
    return Reach(np.where(on, 0.0, -1.0), np.where(on, 1.0, 0.0))


def _start(inputs: Inputs, form: Rectified, seen: Substituted, x: Floats) -> Floats:
    """The columns of a known point: a first answer for the solver."""
    v = np.concatenate([x, np.zeros(len(seen.open))])
    for k in range(len(seen.open)):
        unit = seen.open[k]
        v[form.inputs + k] = max(0.0, float(seen.pre[unit] @ v + seen.bias[unit]))
    r = v[form.inputs :]
    return np.concatenate([inputs.columns(x), r, (r > 0).astype(float)])


def _solve(
    inputs: Inputs,
    rows: Rows,
    integer: NDArray[np.bool_],
    time_limit: float,
    more: tuple[Floats, Floats] = (np.empty(0), np.empty(0)),
    start: Floats | None = None,
) -> Answer:
    """Hand the program to HiGHS and say what it found."""
    highspy = highs()
    low, high = (np.concatenate(pair) for pair in zip(inputs.ends(), more, strict=True))
    cost = np.zeros(len(low))
    cost[len(inputs.base) : inputs.width] = 1
    solver = solver_of(time_limit)
    solver.passModel(program_of(rows.joined(), low, high, cost, integer))
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = start.tolist()
        solver.setSolution(solution)
    solver.run()
    return _read(highspy, solver, inputs, bool(integer.any()))


def program_of(
    rows: tuple[Floats, Floats, Floats],
    low: Floats,
    high: Floats,
    cost: Floats,
    integer: NDArray[np.bool_] | None = None,
) -> Any:
    """The HighsLp: min cost . columns between low and high; rows: (matrix, lowest, highest)."""
    highspy, (a, below, above) = highs(), rows
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(low), len(a)
    lp.col_lower_, lp.col_upper_ = low, high
    lp.row_lower_, lp.row_upper_ = below, above
    filled = a != 0
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.r_[0, np.cumsum(filled.sum(1))]
    lp.a_matrix_.index_ = np.nonzero(filled)[1]
    lp.a_matrix_.value_ = a[filled]
    lp.col_cost_ = cost
    if integer is not None and integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(i)] for i in integer]
    return lp


def solver_of(time_limit: float) -> Any:
    """HiGHS, silent, the same in every run, as exact as it goes."""
    solver = highs().Highs()
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
        "mip_feasibility_tolerance": TOLERANCE,
        "mip_rel_gap": GAP / 2,
        "mip_abs_gap": 0.0,
        "time_limit": time_limit,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    return solver


def _read(highspy: Any, solver: Any, inputs: Inputs, mixed: bool) -> Answer:
    """The solver's verdict in our words; a point is read where there is one."""
    status, info = solver.getModelStatus(), solver.getInfo()
    kinds = highspy.HighsModelStatus
    nodes = max(0, int(info.mip_node_count)) if mixed else 0
    if status == kinds.kInfeasible:
        return Answer("infeasible", None, np.inf, np.inf, nodes)
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    bound = float(info.mip_dual_bound) if mixed else float(info.objective_function_value)
    if not found:
        return Answer("unknown", None, np.inf, bound if mixed else 0.0, nodes)
    x = inputs.x(np.array(solver.getSolution().col_value))
    best = status == kinds.kOptimal
    return Answer("optimal" if best else "feasible", x, inputs.domain.cost(x), bound, nodes)


def highs() -> Any:
    """The solver's package, or the sentence that says how to install it."""
    try:
        import highspy
    except ImportError:
        raise missing("highspy", "lp", "recourse") from None
    return highspy
