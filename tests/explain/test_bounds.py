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
from balls import domain, points, preactivations
from cases import CASES, PIECEWISE
from gatewise.errors import NotPiecewiseAffine
from gatewise.explain.recourse.bounds import Domain, OneHot, Reach, carried, intervals, reach
from gatewise.explain.recourse.kernels import lines
from gatewise.explain.recourse.milp_form import rectified
from nets import mlp

GATES = st.sampled_from(["relu", "leaky", "hardtanh", "abs"])


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


def slow_carry(form, low, high, row):
    """One row carried back unit by unit, in the plainest way: (row over x, constant)."""
    row, constant = row.copy(), 0.0
    for stage in reversed(form.stages):
        for i in reversed(range(stage.start, stage.stop)):
            a, row[form.inputs + i] = row[form.inputs + i], 0
            if high[i] <= 0 or (a < 0 and low[i] < 0 and high[i] <= -low[i]):
                continue
            slope = 1.0 if low[i] >= 0 or a < 0 else high[i] / (high[i] - low[i])
            row += a * slope * form.pre[i]
            constant += a * slope * (form.bias[i] - (low[i] if 0 < slope < 1 else 0))
    return row[: form.inputs], constant


@settings(max_examples=30)
@given(st.integers(0, 10_000), GATES)
def test_carrying_rows_is_the_plain_substitution(seed, gate):
    rng = np.random.default_rng(seed)
    form = rectified(mlp(4, 6, 5, 2, gate=gate, seed=seed))
    low, high = rng.normal(size=(2, form.units))
    low, high = np.minimum(low, high), np.maximum(low, high)
    rows = rng.normal(size=(3, form.inputs + form.units)) * (rng.random((3, 1)) < 0.9)
    over, constant = carried(form, Reach(low, high), rows, np.zeros(3))
    for row, got, c in zip(rows, over, constant, strict=True):
        want, k = slow_carry(form, low, high, row)
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert c == pytest.approx(k, abs=1e-12)


@settings(max_examples=40)
@given(st.floats(-2, 2), st.floats(0, 3), st.floats(0, 1))
def test_lines_hold_a_rectifier_between_them(low, width, share):
    slope, rise, lower = lines(low, low + width)
    z = low + share * width
    assert lower * z <= max(0, z) + 1e-15
    assert max(0, z) <= slope * z + rise + 1e-15 * (1 + abs(low) + width)


def test_a_unit_without_an_end_has_lines():
    assert lines(-1.0, np.inf) == (0.0, np.inf, 1.0)
    assert lines(-np.inf, 2.0) == (0.0, 2.0, 0.0)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_the_support_with_a_cut_is_between_the_lps_and_the_free_one(seed, largest):
    rng = np.random.default_rng(seed)
    dom = domain(rng, 4, largest=largest).within(rng.uniform(0.5, 3))
    g = rng.normal(size=4)
    k = -float(g @ dom.centre) - 0.3 * float((np.abs(g) * (dom.high - dom.low)).max())
    c = rng.normal(size=(3, 4))
    free, found = dom.support(c), replace(dom, cut=(g, k)).support(c)
    w, h, eye = dom.weight, dom.home, np.eye(4)
    for row, loose, value in zip(c, free, found, strict=True):
        a = np.block([[eye, -np.diag(1 / w)], [-eye, -np.diag(1 / w)]])
        spend = np.r_[np.zeros(4), np.ones(4)] * (0 if largest else 1)
        a = np.concatenate([a, spend[None], np.r_[-g, np.zeros(4)][None]])
        box = [*zip(dom.low, dom.high, strict=True), *[(0, None)] * 4]
        lp = linprog(np.r_[-row, np.zeros(4)], a, np.r_[h, -h, dom.radius, k], bounds=box)
        assert value <= loose + 1e-12
        if lp.status == 0:
            assert -lp.fun <= value + 1e-6  # of the LP's own tolerance


def test_a_cut_lowers_the_support():
    dom = Domain(np.zeros(2), -np.ones(2), np.ones(2), np.ones(2), np.zeros(2, bool)).within(1.0)
    away = replace(dom, cut=(np.array([1.0, 0.0]), -0.5))  # half of the budget goes to x0
    c = np.array([[0.0, 1.0]])
    assert dom.support(c) == [1]
    assert 0.5 <= away.support(c)[0] <= 0.6


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
