"""Specifications are read for what they say, and polygons are clipped where they say unsafe."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from oracles import vnnlib
from oracles.cells import cells, on_slice, rational
from oracles.pieces import check, forward, onnx_layers
from oracles.properties import (
    Case,
    cases,
    clipped,
    example,
    instances,
    planes,
    unsafe_parts,
    witness,
)

TEXT = """; a comment (with a bracket
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (or (and (<= X_0 1) (>= X_0 -1)) (and (<= X_0 5.5) (>= X_0 4))))
(assert (<= X_1 2e-1)) (assert (>= X_1 -2))
(assert (or (and (<= Y_0 Y_1) (>= Y_1 0.5)) (and (>= 3 Y_0))))
"""


def network(*sizes: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((b, a)) / a**0.5, rng.standard_normal(b) / 2)
        for a, b in pairwise(sizes)
    ]


def polygons(layers, found) -> tuple:
    """ptr, points, values of exact cells of two inputs, in float64."""
    points = [np.array(c.body.vertices, float) for c in found]
    ptr = np.concatenate([[0], np.cumsum([len(p) for p in points])])
    return ptr, np.concatenate(points), forward(layers, np.concatenate(points))


def test_a_specification_is_a_disjunction_of_boxes_and_half_spaces():
    found = cases(TEXT)
    assert len(found) == 4
    assert [(c.lower.tolist(), c.upper.tolist()) for c in found[::2]] == [
        ([-1, -2], [1, 0.2]),
        ([4, -2], [5.5, 0.2]),
    ]
    assert found[0].rows.tolist() == [[1, -1], [0, -1]]
    assert found[0].bound.tolist() == [0, -0.5]
    assert found[1].rows.tolist() == [[1, 0]]
    assert found[1].bound.tolist() == [3]
    assert found[0].margin(np.array([[1.0, 2], [2, 1], [0, 0.25]])).tolist() == [1, -1, -0.25]
    assert found[0].holds(np.array([[1, 0.2], [1.1, 0]])).tolist() == [True, False]


@pytest.mark.parametrize("bad", ["(assert (<= X_0 1)", ")", "(assert (=> X_0 1))"])
def test_what_is_not_understood_is_refused(bad):
    with pytest.raises(ValueError, match=r"closed|not known"):
        cases(bad)


def test_mixed_conditions_are_refused():
    with pytest.raises(ValueError, match="neither"):
        cases("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 Y_0))")


@pytest.mark.parametrize("path", shared.params("onnx/acasxu/vnnlib/*.vnnlib"))
def test_the_first_box_is_that_of_the_other_reader(path):
    lower, upper = vnnlib.read_box(path)
    first = cases(path.read_text())[0]
    assert (first.lower == lower).all()
    assert (first.upper == upper).all()
    assert len(cases(path.read_text())) == {"prop_6": 8, "prop_7": 2, "prop_5": 4, "prop_9": 4}.get(
        path.stem, 1
    )


@pytest.mark.real_data
def test_recorded_counterexamples_are_unsafe(shared_data):
    seen = 0
    for instance in instances(shared_data / "onnx" / "acasxu"):
        if instance.counterexample is None:
            continue
        x = example(instance.counterexample)[None]
        y = forward(onnx_layers(instance.net), x)
        seen += 1
        assert any(
            c.margin(y)[0] >= 0 and np.abs(x.clip(c.lower, c.upper) - x).max() < 2e-8
            for c in instance.cases()
        )  # 2e-8: one is recorded that far beyond its box
    assert seen == 21


def test_clipping_keeps_the_part_and_carries_the_columns():
    square = np.array([[0, 0, 1.0], [1, 0, 2], [1, 1, 4], [0, 1, 3]])  # third: 1 + x + 2 y
    part = clipped(square, 1.5 - square[:, 2])  # x + 2 y <= 1/2
    assert sorted(part[:, :2].tolist()) == [[0, 0], [0, 0.25], [0.5, 0]]
    np.testing.assert_allclose(part[:, 2], 1 + part[:, 0] + 2 * part[:, 1])
    assert len(clipped(square, square[:, 2] - 10)) == 0


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 3), st.floats(-1.5, 1.5))
def test_a_slice_is_falsified_where_the_exact_cells_say(seed, conditions, shift):
    layers, rng = network(4, 5, 4, 3, seed=seed), np.random.default_rng(seed)
    flat = on_slice(layers, rng.standard_normal(4), rng.standard_normal((2, 4)))
    found = cells(flat, [-1, -1], [1, 1])
    floats = [(np.array(w, float), np.array(b, float)) for w, b in flat]
    rows = rng.standard_normal((conditions, 3))
    case = Case(-np.ones(2), np.ones(2), rows, rng.standard_normal(conditions) / 2 + shift)
    parts = unsafe_parts(*polygons(floats, found), case)
    assert {r for r, _, _ in parts} == {k for k, c in enumerate(found) if exactly_unsafe(c, case)}
    for region, points, outputs in parts:
        np.testing.assert_allclose(forward(floats, points), outputs, atol=1e-9)
        assert found[region].contains(points.mean(0))
    best = witness(parts, case)
    assert (best is None) == (not parts)
    if best is not None:
        assert case.margin(forward(floats, best[0][None]))[0] == pytest.approx(best[1], abs=1e-9)


def exactly_unsafe(cell, case: Case) -> bool:
    """Does the cell meet all half-spaces? In fractions."""
    body = cell.body
    for k, (row, bound) in enumerate(zip(case.rows, case.bound, strict=True)):
        r = rational(row)
        gradient = tuple(
            -sum((a * w[i] for a, w in zip(r, cell.weight, strict=True)), Fraction(0))
            for i in range(2)
        )
        level = Fraction(bound) - sum(
            (a * c for a, c in zip(r, cell.offset, strict=True)), Fraction(0)
        )
        value = [gradient[0] * v[0] + gradient[1] * v[1] + level for v in body.vertices]
        if max(value) < 0:
            return False
        if min(value) < 0:
            body = body.split((gradient, level), 1000 + k)[1]
    return True


def test_planes_go_through_the_centre_and_then_the_corners():
    case = Case(np.zeros(5), np.arange(1.0, 6), np.ones((1, 1)), np.ones(1))
    found = list(planes(case))
    assert len(found) == 10 + 10 * 8
    assert all((low < high).sum() == 2 for low, high in found)
    assert (found[0][0] == [0, 0, 1.5, 2, 2.5]).all()
    assert (found[0][1] == [1, 2, 1.5, 2, 2.5]).all()
    low, high = found[-1]
    assert (low == [1, 2, 3, 0, 0]).all()
    assert (high == [1, 2, 3, 4, 5]).all()


def test_a_knot_left_out_or_put_in_is_found():
    layers = network(2, 6, 5, 1, seed=4)
    x, way = np.zeros((1, 2)), np.array([[1.0, 0.3]])
    t = walls(layers, x[0], way[0])
    assert len(t) > 5
    place = x + t[:, None] * way
    line = np.zeros(len(t), int)
    good = check(layers, x, way, line, t, forward(layers, place))
    assert (good.pieces, good.missed, good.invented) == (len(t) - 1, 0, 0)
    assert good.gap < 1e-13
    assert len(good.patterns) == len(t) - 1
    for k in range(1, len(t) - 1):
        fewer = np.delete(t, k)
        bad = check(layers, x, way, line[1:], fewer, forward(layers, x + fewer[:, None] * way))
        assert bad.missed == 1
        more = np.insert(t, k, (t[k - 1] + t[k]) / 2)
        bad = check(
            layers, x, way, np.zeros(len(more), int), more, forward(layers, x + more[:, None] * way)
        )
        assert (bad.missed, bad.invented) == (0, 1)


def walls(layers, x, way) -> np.ndarray:
    """Places on x + t way, -2 <= t <= 2, where a unit changes: of exact cells on the line."""
    found = cells(on_slice(layers, x, [way]), [-2], [2])
    return np.array(sorted({float(v[0]) for c in found for v in c.body.vertices}))
