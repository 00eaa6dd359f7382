"""Hull cuts hold at every point, are the hull, and leave the least cost what it is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from balls import domain, points, preactivations
from gatewise.explain.recourse import relaxation as relaxing
from gatewise.explain.recourse import search as searching
from gatewise.explain.recourse.bounds import Domain, reach
from gatewise.explain.recourse.hulls import Hulls, Polytope, Unit, hull_cut, split
from gatewise.explain.recourse.milp import Goal, solver_of
from gatewise.explain.recourse.milp_form import rectified
from gatewise.explain.recourse.recourse import recourse
from gatewise.explain.recourse.relaxation import Relaxation
from nets import mlp

GATES = st.sampled_from(["relu", "leaky", "hardtanh", "abs"])


def polytope(rng, d=3):
    """0 <= y <= most, a budget and a row at random, all of which 0 meets."""
    most = rng.uniform(0.3, 2, d)
    a = np.concatenate([np.eye(d), np.ones((1, d)), rng.normal(size=(1, d))])
    return Polytope(a, np.r_[most, rng.uniform(0.3, 3), rng.uniform(0.1, 1)], most)


def vertices(inside):
    """Every vertex, by solving each choice of d rows."""
    d = inside.a.shape[1]
    a, b = np.concatenate([inside.a, -np.eye(d)]), np.r_[inside.b, np.zeros(d)]
    found = []
    for rows in map(list, itertools.combinations(range(len(b)), d)):
        if abs(np.linalg.det(a[rows])) > 1e-9:
            y = np.linalg.solve(a[rows], b[rows])
            if (a @ y <= b + 1e-9).all():
                found.append(y)
    return np.array(found)


def envelope(corners, values, y):
    """The least concave function above the values at the corners, at y: an LP over mixtures."""
    whole = np.concatenate([corners.T, np.ones((1, len(corners)))])
    return -linprog(-values, A_eq=whole, b_eq=np.r_[y, 1.0]).fun


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_a_cut_is_the_concave_hull_of_the_unit(seed):
    rng = np.random.default_rng(seed)
    inside, slope, start = polytope(rng), rng.normal(size=3), rng.normal() / 2
    corners = vertices(inside)
    values = np.maximum(0, corners @ slope + start)
    y = rng.dirichlet(np.ones(len(corners))) @ corners
    top = envelope(corners, values, y)
    unit = Unit(slope, start, top + 1e-3)
    ((g, c),) = split(solver_of(np.inf), inside, y, [unit])
    assert g @ y + c == pytest.approx(top, abs=1e-6)
    assert (corners @ g + c >= values).all()
    assert split(solver_of(np.inf), inside, y, [replace(unit, r=top)]) == [None]


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_any_multipliers_make_a_true_cut(seed):
    rng = np.random.default_rng(seed)
    inside, slope, start = polytope(rng), rng.normal(size=3), rng.normal()
    corners = vertices(inside)
    for _ in range(20):
        on, off = rng.normal(size=(2, len(inside.b))) * 10.0 ** rng.integers(-12, 2)
        g, c = hull_cut(inside, Unit(slope, start, 0.0), on, off)
        assert (corners @ g + c >= np.maximum(0, corners @ slope + start)).all()


def moved(dom, x):
    """The moves up and down that lead from home to points."""
    step = (x - dom.home) * dom.weight
    return np.concatenate([step.clip(min=0), (-step).clip(min=0)], 1)


@settings(max_examples=12)
@given(st.integers(0, 10_000), GATES, st.booleans())
def test_cuts_of_a_ball_hold_at_all_its_points(seed, gate, largest):
    rng = np.random.default_rng(seed)
    form = rectified(mlp(4, 6, 5, 1, gate=gate, seed=seed))
    ball = domain(rng, 4, largest=largest).within(rng.uniform(0.5, 3))
    known = reach(form, ball)
    x = points(ball, rng)
    level = float(np.quantile(form(x)[:, 0], 0.9))
    relaxed = Relaxation(form, ball, known, Goal(np.eye(1), np.array([-level])))
    found = relaxed.solve(ball, known, np.inf)
    assert found is not None  # some points meet the goal
    tighter = relaxed.tightened(ball, known, found, np.inf, 6)
    hulls = relaxed.hulls
    r = np.maximum(0, preactivations(form, x))[:, relaxed.seen.open]
    v = np.concatenate([moved(ball, x), r], 1)
    assert (v @ hulls.rows.T <= hulls.ends + 1e-9).all()
    met = form(x)[:, 0] >= level
    least = min(ball.cost(one) for one in x[met])
    assert found.cost - 1e-7 <= tighter.cost <= least + 1e-7


def far_goal(until=np.inf):
    """A relaxation, its ball and what is known there, for a goal met in few points."""
    form, rng = rectified(mlp(4, 9, 8, 1, seed=3)), np.random.default_rng(3)
    ball = domain(rng, 4).within(2.5)
    known = reach(form, ball)
    level = float(form(points(ball, rng))[:, 0].max())
    return Relaxation(form, ball, known, Goal(np.eye(1), np.array([-level])), until), ball, known


def test_there_are_cuts_in_both_stages_and_they_raise_the_bound():
    relaxed, ball, known = far_goal()
    found = relaxed.solve(ball, known, np.inf)
    tighter = relaxed.tightened(ball, known, found, np.inf, 10)
    hulls: Hulls = relaxed.hulls
    assert set(hulls.stage[hulls.of]) == {0, 1}
    assert tighter.cost > 1.2 * found.cost
    relaxed._bare()  # what an LP that ends badly falls back on
    assert relaxed.solve(ball, known, np.inf).cost == pytest.approx(found.cost, abs=1e-9)


def test_cuts_that_left_come_back_where_they_are_missed(monkeypatch):
    relaxed, ball, known = far_goal()
    first = relaxed.solve(ball, known, np.inf)
    tighter = relaxed.tightened(ball, known, first, np.inf, 6)
    relaxed._bare()
    assert len(relaxed.used) == 0
    again = relaxed.tightened(ball, known, relaxed.solve(ball, known, np.inf), np.inf, 0)
    assert len(relaxed.used) > 0
    assert first.cost < again.cost <= tighter.cost + 1e-7
    monkeypatch.setattr(relaxing, "IDLE", -1)
    monkeypatch.setattr(relaxing, "MANY", 0)
    relaxed._use(np.arange(1))  # every other cut leaves
    assert relaxed.used.tolist() == [0]


def test_no_cuts_are_looked_for_once_it_is_late():
    relaxed, ball, known = far_goal(until=0.0)
    found = relaxed.solve(ball, known, np.inf)
    assert relaxed.tightened(ball, known, found, np.inf, 6) is found


@pytest.fixture(params=[0, 3])
def eager(request, monkeypatch):
    """Cuts at every node from the first on (or never), so that small networks meet them."""
    monkeypatch.setattr(searching, "PATIENCE", 0)
    monkeypatch.setattr(searching, "ROUNDS", (request.param, request.param))
    return request.param


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(4))
def test_with_cuts_and_without_the_least_cost_is_the_milps(eager, norm, seed):
    network = mlp(5, 12, 10, 1, seed=seed)
    home, edge = np.random.default_rng(seed).normal(size=5), np.full(5, 3.0)
    sign = 1.0 if network(home[None])[0, 0] > 0 else -1.0
    ask = {
        "bounds": (home - edge, home + edge),
        "norm": norm,
        "at_most" if sign > 0 else "at_least": -0.1 * sign,
    }
    ours, theirs = (recourse(network, home, method=m, **ask) for m in ("exact", "milp"))
    assert ours.status == theirs.status
    if ours.point is not None:
        assert ours.cost == pytest.approx(theirs.cost, rel=1e-6, abs=1e-6)


def test_cuts_respect_whole_numbers_and_categories(eager):
    network = mlp(6, 12, 8, 1, seed=7)
    home = np.array([0.2, 3.0, 1.0, 0.0, 0.0, -0.4])
    colour = {"colour": [2, 3, 4]}
    bounds = {"x0": (-2, 2), "x1": (0, 6), "x5": (-2, 2)}
    ask = {"bounds": bounds, "integers": ["x1"], "categories": colour}
    f = float(network(home[None])[0, 0])
    target = {"at_least": f + 1.5} if f < 0 else {"at_most": f - 1.5}
    ours, theirs = (recourse(network, home, method=m, **ask, **target) for m in ("exact", "milp"))
    assert (ours.status, theirs.status) == ("optimal", "optimal")
    assert ours.cost == pytest.approx(theirs.cost, abs=1e-6)


def test_a_box_without_home_has_cuts_too():
    """Every point of the box is away from home: moves start above 0."""
    form, rng = rectified(mlp(3, 8, 6, 1, seed=1)), np.random.default_rng(1)
    home = np.zeros(3)
    dom = Domain(home, home + 0.5, home + 2, np.ones(3), np.zeros(3, bool)).within(4.0)
    known = reach(form, dom)
    x = points(dom, rng)
    level = float(form(x)[:, 0].max())
    relaxed = Relaxation(form, dom, known, Goal(np.eye(1), np.array([-level])))
    found = relaxed.solve(dom, known, np.inf)
    relaxed.tightened(dom, known, found, np.inf, 6)
    v = np.concatenate([moved(dom, x), np.maximum(0, preactivations(form, x))], 1)
    seen = np.r_[np.arange(6), 6 + relaxed.seen.open]
    assert (v[:, seen] @ relaxed.hulls.rows.T <= relaxed.hulls.ends + 1e-9).all()
