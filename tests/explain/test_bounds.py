"""Bounds of units hold at every point of the domain, and the closed forms are the LPs' values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import gatewise as gw
from cases import CASES, PIECEWISE
from gatewise.errors import NotPiecewiseAffine
from gatewise.explain.recourse.bounds import Domain, OneHot, carried, intervals, reach
from gatewise.explain.recourse.milp_form import rectified
from nets import mlp

GATES = st.sampled_from(["relu", "leaky", "hardtanh", "abs"])


def domain(rng, d, **more):
    home = rng.normal(size=d)
    low, high = home - rng.uniform(0, 2, d), home + rng.uniform(0, 2, d)
    return Domain(home, low, high, rng.uniform(0.5, 2, d), np.zeros(d, bool), **more)


def points(dom, rng, count=400):
    """Points of the domain: of the box, drawn towards its centre until they are in the ball."""
    x = rng.uniform(dom.low, dom.high, (count, len(dom.low)))
    moved = x - dom.centre
    keep = rng.random(moved.shape) < rng.random((count, 1))
    moved = moved * keep
    cost = dom.weight * np.abs(moved)
    spent = cost.max(1) if dom.largest else cost.sum(1)
    spare = dom.radius - (0 if dom.largest else dom.cost(dom.centre))
    share = np.minimum(1, spare / np.maximum(spent, 1e-300))
    return dom.centre + moved * (share * np.where(rng.random(count) < 0.5, 1, 0.7))[:, None]


def preactivations(form, x):
    """(rows, units) P v + b at points."""
    v = np.concatenate([x, np.zeros((len(x), form.units))], 1)
    z = np.zeros((len(x), form.units))
    for s in form.stages:
        z[:, s] = v @ form.pre[s].T + form.bias[s]
        v[:, form.inputs + s.start : form.inputs + s.stop] = np.maximum(0, z[:, s])
    return z


@settings(max_examples=40)
@given(st.integers(0, 10_000), GATES, st.booleans(), st.sampled_from([0.3, 1.0, 4.0, np.inf]))
def test_units_stay_within_their_bounds(seed, gate, largest, radius):
    rng = np.random.default_rng(seed)
    form = rectified(mlp(4, 6, 5, 2, gate=gate, seed=seed))
    dom = domain(rng, 4, largest=largest).within(radius)
    if np.isinf(radius):
        assert np.isinf(dom.radius)
    z = preactivations(
        form, points(dom, rng) if dom.radius < np.inf else rng.uniform(dom.low, dom.high, (400, 4))
    )
    for found in (reach(form, dom), intervals(form, dom)):
        assert (found.low <= z.min(0)).all() and (z.max(0) <= found.high).all()


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(-1, 1))
def test_a_cut_only_leaves_out_points_that_miss_it(seed, level):
    rng = np.random.default_rng(seed)
    form = rectified(mlp(4, 6, 5, 1, seed=seed))
    dom = domain(rng, 4).within(1.5)
    x = points(dom, rng)
    good = form(x)[:, 0] >= level
    known = reach(form, dom)
    g, c = carried(form, known, form.matrix, form.offset - level)
    assert (x[good] @ g[0] + c[0] >= -1e-9).all()  # a line above the goal: what meets it is kept
    cut = reach(form, replace(dom, cut=(g[0], float(c[0]))), known)
    if good.any():
        z = preactivations(form, x[good])
        assert (cut.low <= z.min(0)).all() and (z.max(0) <= cut.high).all()
    assert (cut.low >= known.low).all() and (cut.high <= known.high).all()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_support_of_a_box_and_a_ball_is_the_lps(seed):
    rng = np.random.default_rng(seed)
    dom = domain(rng, 4).within(rng.uniform(0.1, 3))
    c = rng.normal(size=(3, 4))
    found = dom.support(c)
    w, h = dom.weight, dom.home
    for row, value in zip(c, found, strict=True):
        a = np.block([[np.eye(4), -np.diag(1 / w)], [-np.eye(4), -np.diag(1 / w)]])
        a = np.concatenate([a, np.r_[np.zeros(4), np.ones(4)][None]])
        box = [*zip(dom.low, dom.high, strict=True), *[(0, None)] * 4]
        lp = linprog(np.r_[-row, np.zeros(4)], a, np.r_[h, -h, dom.radius], bounds=box)
        assert -lp.fun == pytest.approx(value, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_the_support_of_a_category_covers_every_level(seed, none):
    rng = np.random.default_rng(seed)
    home = np.array([0.3, 1.0, 0.0, 0.0])
    low, high = np.array([-1, 0, 0, 0.0]), np.array([1, 1, 1, 1.0])
    whole = np.array([False, True, True, True])
    w = rng.uniform(0.5, 2, 4)
    group = OneHot("g", (1, 2, 3), none)
    dom = Domain(home, low, high, w, whole, (group,)).within(rng.uniform(0.2, 5))
    c = rng.normal(size=(5, 4))
    found = dom.support(c)
    levels = [np.eye(3)[k] for k in range(3)] + [np.zeros(3)] * none
    for a in np.linspace(-1, 1, 41):
        for level in levels:
            x = np.r_[a, level]
            if dom.cost(x) <= dom.radius:
                assert (c @ x <= found + 1e-9).all()


@pytest.mark.parametrize("name", PIECEWISE)
def test_rectified_units_are_the_network(name):
    case = CASES[name]
    network = gw.read(case.module().eval(), example=case.rows())
    x = case.rows(7).double().reshape(7, -1)
    if name == "dlgn":
        with pytest.raises(NotPiecewiseAffine, match=r"node '\w+' .* jumps at a knot"):
            rectified(network)
        return
    form = rectified(network)
    np.testing.assert_allclose(form(x.numpy()), network(x).numpy(), atol=1e-12)
    assert form.stages == () or form.stages[-1].stop == form.units


def test_a_product_has_no_such_form():
    case = CASES["glu"]
    with pytest.raises(NotPiecewiseAffine, match="needs gates over affine nodes, but node"):
        rectified(gw.read(case.module().eval(), example=case.rows()))


def test_a_network_too_large_is_told_so(monkeypatch):
    from gatewise.errors import DataError
    from gatewise.explain.recourse import milp_form

    monkeypatch.setattr(milp_form, "ENTRIES", 100)
    with pytest.raises(DataError, match="more than 100 numbers: use method='region'"):
        rectified(mlp(4, 40, 40, 1))
    assert torch.get_default_dtype() == torch.float32
