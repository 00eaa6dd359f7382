"""ACAS Xu on slices along two axes: every region, so a property that is false there is found false.

The slices are chosen by the box alone (its centre, then its corners). FIRST is the number of the
first one that falsifies a property, so that the test need not look at those before it;
`benchmarks/acasxu.py slices` looks at all.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

import gatewise as gw
import shared
from acasxu_slices import polygons
from oracles import pieces
from oracles.cells import cells, on_slice
from oracles.plane import plane
from oracles.properties import instances, planes, unsafe_parts, witness

FIRST = {"1_3-prop_2": 12, "1_5-prop_2": 45, "5_3-prop_2": 47, "1_9-prop_7": 26, "3_7-prop_2": 1}
FOLDER = shared.folder() / "onnx" / "acasxu"
KNOWN = list(instances(FOLDER)) if FOLDER.is_dir() else []


def some(answer: str, step: int = 1) -> list:
    chosen = [i for i in KNOWN if i.answer == answer][::step]
    return [pytest.param(i, id=i.name, marks=pytest.mark.real_data) for i in chosen]


def test_all_known_answers_are_here(shared_data):
    assert len(some("sat")) == 21
    assert len(some("unsat")) == 52


@pytest.mark.parametrize("instance", some("sat"))
def test_a_false_property_is_found_false_on_a_slice(instance):
    case = instance.cases()[0]
    low, high = next(islice(planes(case), FIRST.get(instance.name, 0), None))
    network, layers = gw.read(instance.net), pieces.onnx_layers(instance.net)
    found, expected = polygons(network, low, high), plane(layers, low, high)
    assert len(found) == len(expected)
    assert found.areas().sum() == pytest.approx(np.prod((high - low)[low < high]), rel=1e-9)
    parts = unsafe_parts(*found, case)
    assert len(parts) == len(unsafe_parts(*expected, case)) > 0
    point, margin = witness(parts, case)
    x = low.copy()
    x[low < high] = point
    assert case.holds(x[None])[0]
    truth = case.margin(pieces.forward(layers, x[None]))[0]
    assert truth > 5e-5
    assert truth == pytest.approx(margin, abs=1e-12)


@pytest.mark.parametrize("instance", some("unsat", step=3))
def test_no_true_property_is_found_false(instance):
    network, all_cases = gw.read(instance.net), instance.cases()
    low, high = next(planes(all_cases[0]))
    found = polygons(network, low, high)
    same = [c for c in all_cases if (c.lower == all_cases[0].lower).all()]
    assert all(unsafe_parts(*found, case) == [] for case in same)


@pytest.mark.parametrize("instance", [p for p in some("sat") if p.id.endswith("prop_3")])
def test_small_slices_have_the_exact_regions(instance):
    low, high = next(planes(instance.cases()[0]))
    free = np.flatnonzero(low < high)
    flat = on_slice(pieces.onnx_layers(instance.net), np.where(low < high, 0, low), np.eye(5)[free])
    exact = cells(flat, low[free], high[free])
    found = polygons(gw.read(instance.net), low, high)
    areas = sorted(float(c.body.volume()) for c in exact)
    assert sorted(found.areas()) == pytest.approx(areas, rel=1e-6)
