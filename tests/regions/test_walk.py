"""Neighbours, balls and paths: against arrangements whose numbers are known, and dense samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError, WrongShape
from gatewise.ir.kinds import Affine
from gatewise.patterns.observe import pattern
from gatewise.regions.halfspaces import region
from gatewise.regions.local.beyond import changes, neighbours
from gatewise.regions.local.walk import ball, path
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from nets import F64, Chain, dense, mixed, mlp, networks, rows


def one_layer(w, b):
    chain = Chain(w.shape[1])
    chain.put(Affine(dense, (w.to(F64),), b.to(F64), w.shape[1], len(w)), shape=(len(w),))
    chain.gate("relu")
    chain.linear(1)
    return chain.network()


def keys(p):
    return {row.tobytes() for row in p.bits}


@settings(max_examples=30)
@given(networks(), st.integers(0, 99))
def test_each_neighbour_is_across_its_facet(network, seed):
    home = region(network, rows(network, 1, seed))
    found = neighbours(home)
    assert len(found) + len(found.missed) == len(found.facets)
    if not len(found):
        return
    at = pattern(network, found.point.reshape(-1, *network.input_shape))
    assert (at.bits == found.pattern.bits).all()
    assert home.pattern.bits.tobytes() not in keys(found.pattern)
    for k, facet in enumerate(found.facet.tolist()):
        # not all of them: behind an |z| a unit can come to 0 and go back
        assert set(found.facets.units(facet)) & set(found.changed[k])
        assert found.changed[k] == changes(home.pattern, found.pattern[k : k + 1])
        h = home.halfspaces()
        row = found.facets.row[facet]
        assert h.a[row] @ found.point[k] + h.b[row] <= 1e-12 * (1 + h.b[row].abs())


@pytest.mark.parametrize("seed", range(4))
def test_in_general_position_one_unit_changes_and_the_way_back_is_there(seed):
    network = mlp(3, 10, 10, 1, seed=seed)
    home = region(network, rows(network, 1, seed))
    found = neighbours(home)
    assert len(found) == len(found.facets) > 2
    assert all(len(c) == 1 for c in found.changed)
    back = neighbours(region(network, found.point), 1)
    assert home.pattern.bits.tobytes() in keys(back.pattern)


@pytest.mark.parametrize("lines", [1, 3, 6, 9])
def test_all_regions_of_lines_in_the_plane(lines):
    """n lines in general position: 1 + n + n(n-1)/2 regions and n^2 pairs of neighbours."""
    rng = torch.Generator().manual_seed(lines)
    network = one_layer(torch.randn(lines, 2, generator=rng), torch.randn(lines, generator=rng))
    found = ball(network, [0.0, 0.0], 99)
    assert found.complete
    assert len(found) == 1 + lines + lines * (lines - 1) // 2
    assert len(found.edges) == lines**2


@pytest.mark.parametrize("planes", [3, 5])
def test_all_regions_of_planes_in_space(planes):
    rng = torch.Generator().manual_seed(planes)
    network = one_layer(torch.randn(planes, 3, generator=rng), torch.randn(planes, generator=rng))
    found = ball(network, [0.0, 0.0, 0.0], 99)
    assert len(found) == sum(math.comb(planes, k) for k in range(4))


def test_a_ball_holds_every_pattern_of_a_dense_grid():
    network = mlp(2, 8, 8, 1, seed=3)
    found = ball(network, [0.1, 0.2], 99)
    side = torch.linspace(-3, 3, 300, dtype=F64)
    grid = torch.cartesian_prod(side, side)
    assert keys(pattern(network, grid)) <= keys(found.pattern)
    assert (pattern(network, found.point).bits == found.pattern.bits).all()
    assert found.complete and len(keys(found.pattern)) == len(found)
    for i, j in found.edges.tolist():
        assert len(changes(found.pattern[i : i + 1], found.pattern[j : j + 1])) == 1


def test_hops_are_counted_and_a_limit_is_said():
    network = mlp(3, 10, 10, 1, seed=1)
    near, wide = ball(network, np.zeros(3), 1), ball(network, np.zeros(3), 2)
    assert near.complete and wide.complete
    assert near.hops.tolist() == [0] + [1] * (len(near) - 1)
    assert keys(near.pattern) < keys(wide.pattern)
    cut = ball(network, np.zeros(3), 2, max_regions=len(near) + 1)
    assert len(cut) <= len(near) + 1 and cut.open and not cut.complete
    assert "not looked beyond" in repr(cut)
    alone = ball(network, np.zeros(3), 0)
    assert len(alone) == 1 and alone.complete


def test_duplicate_and_negated_units_change_together():
    w = torch.tensor([[1.0, 0.5], [1.0, 0.5], [-2.0, -1.0], [0.0, 1.0]])
    network = one_layer(w, torch.tensor([0.25, 0.25, -0.5, 1.0]))
    found = neighbours(region(network, torch.tensor([[1.0, 1.0]], dtype=F64)))
    assert found.changed == ((("n1", 0), ("n1", 1), ("n1", 2)), (("n1", 3),))
    everything = ball(network, [1.0, 1.0], 9)
    assert len(everything) == 4 and len(everything.edges) == 4


def test_a_unit_that_wakes_up_across_the_facet_is_named():
    """Behind a unit that is off the next has the value 0 everywhere; beyond, it is on."""
    chain = Chain(2)
    eye = torch.eye(2, dtype=F64)
    chain.put(Affine(dense, (eye,), torch.zeros(2, dtype=F64), 2, 2), shape=(2,))
    chain.gate("relu")
    chain.put(Affine(dense, (eye,), torch.zeros(2, dtype=F64), 2, 2), shape=(2,))
    chain.gate("relu")
    network = chain.network()
    found = neighbours(region(network, torch.tensor([[-1.0, -1.0]], dtype=F64)))
    assert found.changed == ((("n1", 0), ("n3", 0)), (("n1", 1), ("n3", 1)))
    assert not found.missed


def test_only_facets_inside_a_box_are_crossed():
    network = mlp(2, 8, 1, seed=4)
    home = region(network, torch.zeros(1, 2, dtype=F64))
    free, boxed = neighbours(home), neighbours(home, box=(-0.05, 0.05))
    assert keys(boxed.pattern) <= keys(free.pattern)
    assert len(boxed) < len(boxed.facets)
    assert bool((boxed.point.abs() < 1).all())


def test_a_facet_on_a_wall_of_the_box_is_not_crossed():
    """relu(x - 1) and relu(x) in [-1, 1]: the knot at 1 is the wall, so only 0 is crossed."""
    network = one_layer(torch.tensor([[1.0], [1.0]]), torch.tensor([-1.0, 0.0]))
    found = neighbours(region(network, torch.full((1, 1), 0.5, dtype=F64)), box=(-1, 1))
    assert len(found) == 1 and not found.missed
    assert -1 < float(found.point) < 0
    walked = ball(network, [0.5], radius=9, box=(-1, 1))
    assert len(walked) == 2 and walked.complete


def test_what_is_beyond_a_facet_is_not_on_it():
    """Weights in quarters: units of both layers change at 0, where a pattern is that no region
    with an inside has. Along a line, regions have their two neighbours and no other."""
    torch.manual_seed(1)
    sizes = ((1, 10), (10, 10), (10, 2))
    linear = [torch.nn.Linear(a, b, dtype=F64) for a, b in sizes]
    with torch.no_grad():
        for p in (p for layer in linear for p in layer.parameters()):
            p.copy_((4 * p).round() / 4)
    relu = torch.nn.ReLU()
    model = torch.nn.Sequential(linear[0], relu, linear[1], torch.nn.ReLU(), linear[2])
    network = gw.read(model, torch.zeros(1, 1, dtype=F64))
    listed = keys(enumerate_regions(network, (-1, 1)).pattern)
    walked = ball(network, [0.25], radius=99, box=(-1, 1))
    assert walked.complete and keys(walked.pattern) == listed


# ---------------------------------------------------------------- paths


@settings(max_examples=30)
@given(networks(), st.integers(0, 99))
def test_a_segment_meets_the_patterns_of_a_dense_sample(network, seed):
    a, b = rows(network, 2, seed).reshape(2, -1)
    found = path(network, a, b)
    t = torch.linspace(0, 1, 4001, dtype=F64)[:, None]
    sample = pattern(network, (a + t * (b - a)).reshape(-1, *network.input_shape))
    assert keys(sample) <= keys(found.pattern)
    assert (pattern(network, found.point).bits == found.pattern.bits).all()
    assert found.complete and bool((found.t.diff() >= 0).all())
    assert found.t[0] == 0 and found.t[-1] == 1 and len(found.t) == len(found) + 1
    first = pattern(network, a.reshape(1, *network.input_shape))
    assert first.bits.tobytes() == found.pattern.bits[0].tobytes()


def test_a_segment_in_an_arrangement_flips_what_differs():
    network = mlp(4, 20, 1, seed=2)
    a, b = rows(network, 2, 5)
    along, best = path(network, a, b), path(network, a, b, fewest=True)
    differ = len(changes(along.pattern[:1], along.pattern[-1:]))
    assert along.flips == best.flips == differ > 2
    assert best.complete and best.t is None


def test_the_fewest_flips_are_no_more_than_the_segment_needs():
    network = mlp(2, 8, 8, 1, seed=6)
    a, b = rows(network, 2, 9) * 2
    along, best = path(network, a, b), path(network, a, b, fewest=True)
    assert best.complete and best.flips <= along.flips
    assert best.flips >= len(changes(along.pattern[:1], along.pattern[-1:]))
    for k, units in enumerate(best.changed):
        assert units == changes(best.pattern[k : k + 1], best.pattern[k + 1 : k + 2])
    assert best.pattern.bits[-1].tobytes() == along.pattern.bits[-1].tobytes()
    cut = path(network, a, b, fewest=True, max_regions=1)
    assert not cut.complete and "limit" in repr(cut)


def test_a_path_within_one_region():
    network = mlp(3, 4, 1)
    found = path(network, np.zeros(3), np.zeros(3) + 1e-9)
    assert len(found) == 1 and found.flips == 0 and found.t.tolist() == [0, 1]


def test_a_constant_network_is_one_region():
    network = one_layer(torch.zeros(3, 2), torch.ones(3))
    assert len(ball(network, [0.0, 0.0], 5)) == 1
    assert len(path(network, [0.0, 0.0], [9.0, 9.0])) == 1
    assert len(neighbours(region(network, torch.zeros(1, 2, dtype=F64)))) == 0


@pytest.mark.parametrize(
    "act, error, words",
    [
        (lambda n: ball(n, [0.0, 0.0], -1), DataError, "radius must be 0 or more"),
        (lambda n: ball(n, [0.0]), WrongShape, "one point of 2 numbers, got 1"),
        (lambda n: path(n, [0.0, math.nan], [0, 1]), DataError, "NaN or infinity"),
    ],
)
def test_bad_starts(act, error, words):
    with pytest.raises(error, match=words):
        act(mlp(2, 4, 1))


def test_networks_with_jumps_are_walked_too():
    network = mixed(1)
    found = ball(network, np.zeros(4), 1, max_regions=200)
    assert len(found) > 1
    assert (pattern(network, found.point).bits == found.pattern.bits).all()
