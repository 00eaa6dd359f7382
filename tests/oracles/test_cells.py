"""The slow oracles of geometry are right where the answer is known in closed form."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import comb, prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import degenerate_nets
from oracles.cells import cells, cuboid, dot, layers_of, neighbours, on_slice, rational
from oracles.grid import patterns_on_grid
from oracles.plane import plane

UNIT = ((-1.0, -1.0), (1.0, 1.0))


def random(*sizes: int, seed: int = 0) -> list:
    """Weights of normal numbers, large enough that second walls bend."""
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((b, a)) / a**0.5, rng.standard_normal(b) / 2)
        for a, b in pairwise(sizes)
    ]


def default(*sizes: int) -> list:
    """torch's own initialisation at seed 0."""
    torch.manual_seed(0)
    return [
        (m.weight.detach().double().numpy(), m.bias.detach().double().numpy())
        for m in (torch.nn.Linear(a, b) for a, b in pairwise(sizes))
    ]


def forward(layers, x) -> tuple[tuple[int, ...], tuple[Fraction, ...]]:
    """Pattern and output at a rational point."""
    h, bits = x, []
    for k, (w, b) in enumerate(layers):
        z = [dot(rational(row), h) + c for row, c in zip(w, rational(b), strict=True)]
        if k == len(layers) - 1:
            return tuple(bits), tuple(z)
        bits += [int(v > 0) for v in z]
        h = [max(v, Fraction(0)) for v in z]
    raise AssertionError


def check(layers, lower, upper) -> list:
    """All cells of a box, after every law that holds of them."""
    found = cells(layers, lower, upper)
    sides = [Fraction(b) - Fraction(a) for a, b in zip(lower, upper, strict=True)]
    assert sum(c.body.volume() for c in found) == prod(sides)
    assert len({c.pattern for c in found}) == len(found)
    for cell in found:
        inside = cell.body.interior()
        pattern, output = forward(layers, inside)
        assert cell.pattern == pattern
        assert output == tuple(
            dot(row, inside) + c for row, c in zip(cell.weight, cell.offset, strict=True)
        )
    return found


@pytest.mark.parametrize("d, n", [(1, 5), (2, 4), (2, 9), (3, 5), (3, 7), (4, 6)])
def test_one_layer_in_general_position_has_the_binomial_count(d, n):
    layers = random(d, n, 1, seed=d * n)
    found = check(layers, [-1e6] * d, [1e6] * d)
    assert len(found) == sum(comb(n, i) for i in range(d + 1))
    # a wall is an arrangement of n - 1 hyperplanes in d - 1 dimensions, and each of its cells a
    # facet between two cells
    walls = n * sum(comb(n - 1, i) for i in range(d))
    assert len(neighbours(found)) == walls


def test_identity_has_four_quadrants():
    layers = [(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
    found = check(layers, *UNIT)
    assert {c.pattern for c in found} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert [c.body.volume() for c in found] == [1] * 4
    assert len(neighbours(found)) == 4


def test_walls_on_the_box_through_a_corner_or_twice_split_nothing_more():
    w = np.array([[1, 0], [1, 1], [1, -1], [-2, 2], [0, 0], [0, 0]], float)
    b = np.array([1, 2, 0, 0, 0, 3], float)
    found = check([(w, b), (np.ones((1, 6)), np.zeros(1))], *UNIT)
    assert {c.pattern for c in found} == {(1, 1, 1, 0, 0, 1), (1, 1, 0, 1, 0, 1)}


def test_a_unit_that_vanishes_on_a_cell_is_off_there():
    layers = [(np.array([[1.0, 0.0]]), np.zeros(1)), (np.eye(1), np.zeros(1)), (np.eye(1), [0.0])]
    assert {c.pattern for c in check(layers, *UNIT)} == {(0, 0), (1, 1)}


def test_counts_that_others_found():
    """2-32-32-1 in the box: seven programs agree on 795."""
    found = cells(default(2, 32, 32, 1), *UNIT)
    assert len(found) == 795
    # Euler in the plane: vertices - edges + cells = 1
    corners = {v for c in found for v in c.body.vertices}
    edges = {f for c in found for f in c.body.facets()}
    assert (len(corners), len(edges)) == (855, 1649)
    inner = len(neighbours(found))
    on_box = sum(any(all(abs(v[i]) == 1 for v in f) for i in (0, 1)) for f in edges)
    assert inner + on_box == len(edges)


@pytest.mark.parametrize("kind", degenerate_nets.TRUTH)
def test_the_seven_degenerate_networks_have_their_counts(kind):
    layers = layers_of(degenerate_nets.net(kind))
    found = check(layers, degenerate_nets.LOWER, degenerate_nets.UPPER)
    assert len(found) == degenerate_nets.TRUTH[kind]
    seen = patterns_on_grid(layers, *UNIT, 300)
    assert {tuple(p) for p in seen.tolist()} <= {c.pattern for c in found}
    assert len(seen) > 0.7 * len(found)


@settings(max_examples=20)
@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 99))
def test_cells_tile_the_box_and_meet_in_whole_facets(d, hidden, seed):
    rng = np.random.default_rng(seed)
    sizes = [d, *hidden, 1]
    layers = [
        (rng.integers(-2, 3, (b, a)).astype(float), rng.integers(-1, 2, b).astype(float))
        for a, b in pairwise(sizes)
    ]
    found = check(layers, [-1.5] * d, [1.0] * d)
    joined = neighbours(found)
    inner = sum(len(c.body.facets()) for c in found) - 2 * len(joined)
    outer = sum(
        any(all(v[i] == s for v in f) for i in range(d) for s in (-1.5, 1))
        for c in found
        for f in c.body.facets()
    )
    assert inner == outer  # a facet of one cell only is on the box


def test_a_slice_is_the_network_on_the_plane():
    layers = random(5, 6, 4, 2)
    rng = np.random.default_rng(3)
    origin, ways = rng.standard_normal(5), rng.standard_normal((2, 5))
    for cell in cells(on_slice(layers, origin, ways), *UNIT):
        t = cell.body.interior()
        x = [
            o + t[0] * a + t[1] * b for o, a, b in zip(*map(rational, (origin, *ways)), strict=True)
        ]
        assert forward(layers, x)[0] == cell.pattern
    on_grid = patterns_on_grid(layers, *UNIT, 50, place=(origin, ways))
    direct = {c.pattern for c in cells(on_slice(layers, origin, ways), *UNIT)}
    assert {tuple(p) for p in on_grid.tolist()} <= direct


def test_membership_and_volume_of_a_simplex():
    body = cuboid(rational([0, 0, 0]), rational([1, 1, 1]))
    row = (rational([1, 1, 1]), Fraction(-1))
    low, high = body.split(row, 6)
    assert (low.volume(), high.volume()) == (Fraction(1, 6), Fraction(5, 6))
    assert len(low.facets()) == 4
    assert len(high.facets()) == 7
    cell = cells([(np.ones((1, 3)), [-1.0]), (np.eye(1), [0.0])], [0, 0, 0], [1, 1, 1])[0]
    assert cell.contains([0.2, 0.2, 0.2])
    assert cell.contains([0.5, 0.5, 0])
    assert not cell.contains([0.5, 0.5, 0.01])
    assert not cell.contains([-0.1, 0.2, 0.2])


def test_points_on_a_wall_are_left_out_of_the_grid():
    layers = [(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
    assert len(patterns_on_grid(layers, *UNIT, 2)) == 4
    only_walls = [(np.array([[1.0, 0.0]]), np.array([-0.3])), (np.ones((1, 1)), np.zeros(1))]
    assert len(patterns_on_grid(only_walls, (0.3, 0), (0.3, 1), 4)) == 0


def test_other_networks_and_boxes_without_a_side_are_refused():
    with pytest.raises(ValueError, match="Linear, ReLU"):
        layers_of(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()))
    with pytest.raises(ValueError, match="a length"):
        cells(random(2, 2, 1), [0, 0], [0, 1])


@pytest.mark.parametrize("sizes", [(2, 16, 16, 1), (2, 9, 4, 7, 2)])
def test_the_fast_reference_finds_the_exact_cells(sizes):
    layers = default(*sizes)
    exact = cells(layers, *UNIT)
    fast = plane(layers, *map(np.array, UNIT))
    assert len(fast) == len(exact)
    assert sorted(fast.areas()) == pytest.approx(sorted(float(c.body.volume()) for c in exact))


@pytest.mark.parametrize("sizes, count", [((64,) * 3, 6668), ((128,) * 3, 20714)])
def test_the_fast_reference_has_the_published_counts(sizes, count):
    layers = default(2, *sizes, 1)
    found = plane(layers, *map(np.array, UNIT))
    assert len(found) == count
    assert found.areas().sum() == pytest.approx(4, abs=1e-12)


def test_the_fast_reference_says_when_there_is_no_room():
    with pytest.raises(ValueError, match="more than 60 regions"):
        plane(default(2, 16, 16, 1), *map(np.array, UNIT), most=60)
