"""Where a rule stops: the facet is where it is said, the rule across it the network's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.stops import stops
from nets import mixed, mlp, networks, rows
from oracles.plain import jacobian


@settings(max_examples=25)
@given(networks(), st.integers(0, 99))
def test_the_neighbour_is_the_network_just_beyond_the_facet(network, seed):
    e = gw.explain(network, rows(network, 12, seed).numpy())
    found = stops(e)
    np.testing.assert_allclose(found.distance, e.margin.scaled.numpy(), rtol=1e-9, atol=1e-13)
    for i in range(12):
        if not found.gate[i]:
            assert np.isinf(found.distance[i])
            assert "nothing stops" in found.say(i)
            continue
        np.testing.assert_allclose(found.part[i].sum(), 1)
        if not found.flips[i] or found.distance[i] < 1e-6:
            continue
        x, foot = torch.from_numpy(e.data[i]), torch.from_numpy(found.step[i])
        inside, outside = (
            jacobian(lambda v: network(v), (x + k * foot)[None])[0, 0].numpy()
            for k in (0.999, 1.0001)
        )
        np.testing.assert_allclose(found.slope[i], inside, atol=1e-9)
        if found.distance[i] > 1e-3 and found.flips[i] == 1 and _thick(e, found, i):
            np.testing.assert_allclose(found.across[i], outside, atol=1e-9)


def _thick(e, found, i):
    """No second wall between the facet and the point where the neighbour was looked at."""
    x, foot = e.data[i], found.step[i]
    near, far = (gw.pattern(e.network, (x + k * foot)[None]) for k in (1 + 1e-7, 1.0001))
    return near.equal(far).all()


def test_continuous_rules_meet_on_the_facet():
    network = mlp(4, 10, 10, 1, seed=3)
    e = gw.explain(network, rows(network, 60).numpy())
    found = stops(e)
    assert (found.flips == 1).all()
    gap = found.across - found.slope
    beyond = e.network(found.point + 1e-6 * found.step)[:, 0].numpy()
    here = e.intercepts[e.ids, 0] + (found.slope * (found.point + 1e-6 * found.step)).sum(1)
    there = here + (gap * 1e-6 * found.step).sum(
        1
    )  # equal on the facet, so only beyond it do they part
    np.testing.assert_allclose(beyond, there, atol=1e-12)


def test_changes_are_measured_in_deviations():
    network = mlp(4, 10, 10, 1, seed=3)
    x = rows(network, 60).numpy() * [1, 10, 0.1, 3]
    e = gw.explain(network, x)
    found = stops(e, top=2)
    a, b = found.slope * e.scale, found.across * e.scale
    change = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(found.change, change)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(found.cosine, cosine)
    top = [set(np.argsort(-np.abs(v))[:2]) for v in a]
    other = [set(np.argsort(-np.abs(v))[:2]) for v in b]
    assert found.same_top.tolist() == [p == q for p, q in zip(top, other, strict=True)]
    assert not found.same_top.all()


def test_rows_here_and_there_are_counted():
    network = mlp(2, 3, 1, seed=5)
    x = rows(network, 300)
    e = gw.explain(network, x.numpy())
    found = stops(e, few=30)
    bits = gw.pattern(network, x).bits
    beyond = gw.pattern(network, found.point + 1e-7 * found.step).bits
    here = [(bits == b).all(1).sum() for b in bits]
    there = [(bits == b).all(1).sum() for b in beyond]
    assert found.in_region.tolist() == here
    assert found.in_neighbour.tolist() == there
    np.testing.assert_array_equal(found.too_few, np.array(here) < 30)
    assert stops(e).few == 3


def test_several_units_may_share_a_facet():
    network = mlp(3, 6, 1, seed=2)
    kind = network.nodes[0].kind
    kind.weights[0][1:], kind.bias[1:] = kind.weights[0][:1].clone(), kind.bias[:1].clone()
    kind.weights[0][3] *= -2
    kind.bias[3] *= -2
    e = gw.explain(network, rows(network, 10).numpy())
    found = stops(e)
    assert (found.flips == 6).all()
    outside = e.network(found.point + found.step)
    rule = (found.across * (found.point + found.step)).sum(1)
    offset = outside[:, 0].numpy() - rule
    assert len(np.unique(offset.round(9))) <= 2  # one rule on either side of the one wall


def test_rows_outputs_and_words():
    network = mlp(3, 9, 9, 2, seed=2)
    e = gw.explain(network, rows(network, 30).numpy())
    found = stops(e, [4, -1], output=1)
    assert found.rows.tolist() == [4, 29]
    np.testing.assert_array_equal(found.slope, e.coefficients[e.ids[[4, 29]], 1])
    for word in (
        "Row 29: unit",
        "of gate",
        "standard deviations away",
        "across it the slope differs",
    ):
        assert word in found.say(1)
    name, by = found.top_features(0, 1)[0]
    j = e.feature_names.index(name)
    assert found.part[0].argmax() == j
    assert by == found.step[0, j]
    assert "Stops: 2 rows, median distance" in repr(found)
    assert len(stops(e, slice(0, 7))) == 7
    with pytest.raises(DataError, match="picks a row that is not there"):
        stops(e, [30])


def test_a_network_without_gates_stops_nowhere():
    network = mlp(3, 2)
    found = stops(gw.explain(network, rows(network, 5).numpy()))
    assert np.isinf(found.distance).all()
    assert found.gate == ("",) * 5
    assert (found.step == 0).all()
    assert "5 rows" in repr(found)


def test_a_jump_is_a_facet_too():
    e = gw.explain(mixed(3), rows(mixed(3), 40).numpy())
    found = stops(e)
    assert set(found.gate) <= {n.name for n in e.network.gates}
    assert (found.flips > 0).any()
