"""Closed forms against least squares, searches against brute force, words against rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import gatewise as gw
from gatewise.explain.cohorts import merge
from gatewise.explain.cohorts import sample as sampling
from gatewise.explain.cohorts import search as searching
from gatewise.explain.cohorts import tree as trees
from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.cohorts.words import _conjunction, described, formula, joined, together
from gatewise.explain.groups import Group

SEEDS = st.integers(0, 10_000)


def made(seed, n=40, features=3, values=8):
    """A Sample of few values, so that every threshold is tried."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, values, (n, features)).astype(float)
    cuts = sampling.cuts_of(x)
    y = np.where(x[:, 0] > 3, x[:, 1], -x[:, 1]) + rng.normal(size=n)
    z = sampling.scaling(x)(x)
    return x, sampling.Sample(z, y, sampling.coded(x, cuts), cuts, np.ones(n, bool))


def slow_cost(z, y, ridge):
    """min |y - z b|² + b R b, by least squares on augmented rows."""
    wide = np.vstack([z, np.diag(np.sqrt(ridge))])
    tall = np.r_[y, np.zeros(z.shape[1])]
    beta = np.linalg.lstsq(wide, tall, rcond=None)[0]
    return beta, float(((tall - wide @ beta) ** 2).sum())


@given(SEEDS)
def test_a_rule_and_its_cost_are_those_of_least_squares(seed):
    _, s = made(seed)
    ridge = np.array([1e-6, 0.3, 0.3, 0.3])
    beta, cost = trees.solve(trees.moments(s.z, s.y), ridge)
    slow, least = slow_cost(s.z, s.y, ridge)
    np.testing.assert_allclose(beta, slow, rtol=1e-6, atol=1e-8)
    assert cost == pytest.approx(least, rel=1e-8)


@settings(max_examples=30)
@given(SEEDS)
def test_the_best_split_is_the_best_of_all(seed):
    x, s = made(seed)
    ridge = np.array([1e-6, 0.3, 0.3, 0.3])
    whole = slow_cost(s.z, s.y, ridge)[1]
    slow = {}
    for j in range(3):
        for c, t in enumerate(s.cuts[j]):
            left = x[:, j] <= t
            if min(left.sum(), (~left).sum()) >= trees.LEAF_ROWS:
                parts = [slow_cost(s.z[m], s.y[m], ridge)[1] for m in (left, ~left)]
                slow[j, c] = whole - sum(parts)
    found = trees.best_split(s, np.arange(len(x)), ridge, np.random.default_rng(0))
    assert found.gain == pytest.approx(max(slow.values()), rel=1e-6)
    assert slow[found.feature, found.cut] == pytest.approx(found.gain, rel=1e-6)


@settings(max_examples=50)
@given(SEEDS)
def test_the_best_cut_is_the_best_of_all(seed):
    _, s = made(seed)
    loss = np.random.default_rng(seed).normal(size=len(s))
    slow = {}
    for j in range(3):
        for c in range(len(s.cuts[j])):
            left = s.codes[:, j] <= c
            if min(left.sum(), (~left).sum()) >= trees.LEAF_ROWS:
                slow[j, c] = loss[left].sum()
    worst = max(slow, key=slow.get)
    found = merge._best_cut(s.codes, loss, s.real, worst)
    assert slow[found] == pytest.approx(min(slow.values()))


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 6))
def test_alternation_never_costs_more(seed, count):
    _, s = made(seed, 200)
    ridge = trees.ridge_of(3, 200, 200)
    tree = trees.grow(s, 8, ridge, np.random.default_rng(0))
    start = merge.fitted(s, tree, count, ridge)
    end = merge.refined(s, start, ridge)
    assert merge._cost(s, end) <= merge._cost(s, start) * (1 + 1e-12)
    assert len(end.beta) <= count


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 7))
def test_the_tree_of_fewer_leaves_is_its_beginning(seed, leaves):
    _, s = made(seed, 200)
    ridge = trees.ridge_of(3, 200, 200)
    whole = trees.grow(s, 7, ridge, np.random.default_rng(0))
    part = trees.grow(s, leaves, ridge, np.random.default_rng(0))
    first = whole.first(leaves)
    np.testing.assert_array_equal(first.route(s.codes), part.route(s.codes))
    assert len(first.leaves) == min(leaves, len(whole.leaves))


def test_two_leaves_of_one_law_are_merged_first():
    rng = np.random.default_rng(0)
    laws = np.array([[0, 1], [1, -1], [0, 1], [3, 0], [1, -1]], float)
    z = np.column_stack([np.ones(500), rng.normal(size=500)])
    leaf = np.repeat(np.arange(5), 100)
    y = (z * laws[leaf]).sum(1)
    m = trees.moments_by(z, y, leaf, 5)
    labels = merge.agglomerate(m, 3, np.array([1e-9, 1e-9]))
    assert labels[0] == labels[2] and labels[1] == labels[4]
    assert len(set(labels.tolist())) == 3
    wrong = np.array([0, 1, 1, 2, 1])
    mended = merge.reassigned(m, wrong, np.array([1e-9, 1e-9]))
    assert mended[0] == mended[2] and mended[1] == mended[4]


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=2, max_size=9, unique=True))
def test_a_threshold_parts_its_neighbours(values):
    v = np.sort(np.array(values))
    t = sampling.between(v[:-1], v[1:])
    assert (v[:-1] <= t).all() and (t < v[1:]).all()


def test_a_threshold_is_short():
    low, high = np.array([29.0, 0.1234567, 0.0, 38000.0]), np.array([31.0, 0.1934567, 1, 42000])
    assert sampling.between(low, high).tolist() == [30, 0.16, 0, 40000]


def test_a_made_row_takes_whole_categories_from_two_rows():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.arange(50.0), np.eye(3)[rng.integers(0, 3, 50)]])
    rows = sampling.mixtures(x, [(0,), (1, 2, 3)], 400, rng)
    assert (rows[:, 1:].sum(1) == 1).all()
    assert set(rows[:, 0]) <= set(range(50))
    known = {tuple(r) for r in x}
    assert 20 < sum(tuple(r) not in known for r in rows) < 390
    assert len(sampling.mixtures(x[:1], [(0,)], 10, rng)) == 0


def test_rules_on_scaled_inputs_are_put_in_original_units():
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 100, 0] + [0, 5, 2]
    scale = sampling.scaling(x)
    beta = np.array([[1.0, 2, 3, 4], [0, 1, 0, 1]])
    slopes, start = scale.undo(beta)
    np.testing.assert_allclose(x @ slopes.T + start, scale(x) @ beta.T, atol=1e-12)


PORT = Group("port", (1, 2, 3), ("C", "Q", "S"))
SEX = Group("sex", (4,), ("male",), "female")


def said(*path):
    """The words of a path of (feature, cut, below)."""
    cuts = (np.array([5.0, 10.0, 20.0]), *[np.array([0.0])] * 4)
    names = ["age", "port=C", "port=Q", "port=S", "sex=male"]
    nodes = len(path)
    feature = np.array([f for f, _, _ in path] + [-1] * (nodes + 1))
    cut = np.array([c for _, c, _ in path] + [0] * (nodes + 1))
    on = np.array([k + 1 for k in range(nodes - 1)] + [2 * nodes], int)
    off = np.arange(nodes) + nodes
    left = np.array([a if p[2] else b for a, b, p in zip(on, off, path, strict=True)])
    right = np.array([b if p[2] else a for a, b, p in zip(on, off, path, strict=True)])
    pad = np.zeros(nodes + 1, int)
    tree = trees.Tree(feature, cut, np.r_[left, pad], np.r_[right, pad])
    label = np.where(feature < 0, np.arange(len(feature)), -1)
    rules = merge.Rules(tree, label, np.zeros((len(feature), 2)))
    found = described(rules, cuts, names, (PORT, SEX))
    return next(c for c, k in found if k == 2 * nodes)


def test_conditions_are_the_tightest_and_name_levels():
    assert joined([said((0, 2, True), (0, 1, True), (0, 0, False))]) == "age > 5 and age <= 10"
    assert joined([said((4, 0, False))]) == "sex is male"
    assert joined([said((4, 0, True))]) == "sex is female"
    assert joined([said((1, 0, True))]) == "port is not C"
    assert joined([said((1, 0, True), (3, 0, True))]) == "port is Q"
    assert joined([said((1, 0, True), (2, 0, False))]) == "port is Q"
    (condition,) = said((1, 0, True))
    assert condition.levels == ("Q", "S")
    x = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], float)
    assert condition.holds(x).tolist() == [False, True, True]
    assert said((4, 0, True))[0].levels == ("female",)
    assert joined([()]) == "all rows"
    assert joined([said((4, 0, True)), said((1, 0, True))]) == "sex is female, or port is not C"


@given(SEEDS)
def test_boxes_put_together_hold_the_same_points(seed):
    rng = np.random.default_rng(seed)
    tiles = [(a, b) for a in range(4) for b in range(4)]
    boxes = [{0: (a, a), 1: (b, b)} for a, b in tiles if rng.random() < 0.7]
    found = together(boxes, [3, 3])

    def points(some):
        sides = [(b.get(0, (0, 3)), b.get(1, (0, 3))) for b in some]
        return sorted(
            (a, b) for x, y in sides for a in range(x[0], x[1] + 1) for b in range(y[0], y[1] + 1)
        )

    assert points(found) == points(boxes)
    assert len(found) <= len(boxes)


def test_touching_boxes_are_one():
    assert together([{0: (0, 1)}, {0: (2, 3)}], [3, 5]) == [{0: (0, 3)}]
    assert together([{0: (0, 1), 1: (0, 5)}, {0: (2, 3)}], [3, 5]) == [{0: (0, 3), 1: (0, 5)}]
    apart = [{0: (0, 0)}, {0: (2, 3)}]
    assert together(apart, [3, 5]) == apart


def test_a_formula_names_the_terms_that_move_most():
    text = formula(np.array([0.5, -2, 0, 1e-3]), 1.25, list("abcd"), np.array([1.0, 1, 9, 1]), 2)
    assert text == "1.25 - 2 b + 0.5 a + 1 smaller term"


def test_made_rows_count_less_where_the_data_are_enough():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 2))
    grown = searching.search(lambda rows: np.abs(rows[:, 0]), x, [(0,), (1,)], 1, rng)
    s = grown.sample
    assert s.real.sum() == 1000 and len(s) == 17_000
    weight = np.where(s.real, 1, searching.ENOUGH * 3 / 1000)
    found = grown.fit(1)
    beta = found.rules.beta[0] - grown.base
    ridge = trees.ridge_of(2, weight.sum(), 1000)
    slow = np.linalg.solve((s.z.T * weight) @ s.z + np.diag(ridge), s.z.T @ (weight * s.y))
    np.testing.assert_allclose(beta, slow, rtol=1e-6, atol=1e-9)
    many, _ = grown._weighed(64)
    np.testing.assert_array_equal(many.z, s.z)


def test_numbered_categories_are_said_by_name():
    x = np.array([[0.0], [1], [2], [3]])
    size = "size (S < M < L < XL)"
    levels = {size: ("S", "M", "L", "XL")}
    cuts = (np.array([0.5, 1.5, 2.5]),)
    for op, cut, words, passed in (
        ("<=", 1, "size is S or M", [True, True, False, False]),
        (">", 1, "size is L or XL", [False, False, True, True]),
        (">", 2, "size is XL", [False, False, False, True]),
    ):
        sides = {0: (0, cut) if op == "<=" else (cut + 1, 3)}
        (found,) = _conjunction(sides, cuts, [size], {}, levels)
        assert (str(found), found.op, found.threshold) == (words, op, cuts[0][cut])
        assert found.holds(x).tolist() == passed
    (plain,) = _conjunction({0: (0, 1)}, cuts, [size], {}, {})
    assert str(plain) == f"{size} <= 1.5"


def test_cohorts_of_a_pipeline_say_ordinal_categories():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.choice(["S", "M", "L"], 400), "a": rng.normal(size=400)})
    code = table["size"].map({"S": 0, "M": 1, "L": 2}).to_numpy()
    y = np.where(code > 0.5, 3 * table.a, -3 * table.a)
    parts = ColumnTransformer(
        [("o", OrdinalEncoder(categories=[["S", "M", "L"]]), ["size"])], remainder="passthrough"
    )
    net = MLPRegressor(hidden_layer_sizes=(16, 16), max_iter=300, random_state=0, alpha=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(parts, net).fit(table, y)
    found = cohorts(gw.explain(model, table), max_rules=4)
    said = {c.text for some in found.conditions for one in some for c in one if c.text}
    assert said and said <= {"size is S", "size is L", "size is M or L", "size is S or M"}
    assert (found.assign(table) == found.ids).all()
