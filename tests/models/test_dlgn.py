"""DLGN: gates as half-spaces, regions as an arrangement of lines, layers that may change places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.models import DLGN, DLGNShallow, gate_permutations, permuted
from oracles import gated
from oracles.gated import rows, with_biases

FAMILIES = {"dlgn": DLGN, "shallow": DLGNShallow}


@pytest.mark.parametrize("kind", FAMILIES)
@settings(max_examples=20)
@given(bias=st.booleans(), seed=st.integers(0, 1000))
def test_every_gate_is_its_half_space(kind, bias, seed):
    net = with_biases(FAMILIES[kind]((3, 5, 5, 5, 2), bias=bias, order=(2, 0, 1), seed=seed), seed)
    X = rows(50, 3, seed=seed)
    for (a, c), mask in zip(net.effective_halfspaces(), net.gates(X), strict=True):
        q = X @ a.T + c
        clear = q.abs() > 1e-9
        assert torch.equal((q > 0)[clear], (mask > 0)[clear])


def test_half_spaces_are_products_of_the_layers():
    net = with_biases(DLGN((2, 3, 4, 1), bias=True, seed=1))
    (a, c), (b, d) = [(w, v) for w, v in gated.arrays(net.features)]
    first, second = net.effective_halfspaces()
    np.testing.assert_allclose(first[0], a)
    np.testing.assert_allclose(second[0], b @ a)
    np.testing.assert_allclose(second[1], b @ c + d)
    assert not second[0].requires_grad


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("value_input", ["x", "ones"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_regions_are_the_cells_of_the_arrangement_and_no_more(kind, value_input, seed):
    net = with_biases(
        FAMILIES[kind]((2, 5, 4, 2), value_input=value_input, bias=True, seed=seed), seed
    )
    low, high = np.array([-2.0, -2.0]), np.array([2.0, 2.0])
    found = gw.regions.enumerate_regions(gw.read(net), (low, high))
    halves = net.effective_halfspaces()
    lines = np.vstack([a for a, _ in halves]), np.concatenate([c for _, c in halves])
    assert len(found) == gated.cells_of_lines(lines, low, high)


def test_lines_through_the_origin_cut_the_plane_into_two_sectors_each():
    net = DLGN((2, 4, 3, 1), seed=5).double()
    found = gw.regions.enumerate_regions(gw.read(net), (-np.ones(2), np.ones(2)))
    assert len(found) == 2 * 7


# ---------------------------------------------------------------- order


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), soft=st.booleans())
def test_every_order_of_gate_layers_has_the_same_path_kernel(seed, soft):
    net = DLGN((2, 3, 3, 3, 1), "sigmoid" if soft else "hard", seed=seed).double()
    X = rows(2, 2, seed=seed)
    x, y = X.numpy()
    own = None
    for order in [None, *gate_permutations(net)]:
        masks = [g.detach().numpy() for g in permuted(net, order).gates(X)]
        kernel = gated.path_kernel(x, y, [g[0] for g in masks], [g[1] for g in masks])
        own = kernel if own is None else own
        assert kernel == pytest.approx(own, rel=1e-12, abs=1e-15)


def test_an_order_says_which_gates_mask_which_values():
    net = DLGN((3, 4, 4, 4, 2), "sigmoid", seed=3).double()
    X = rows(6, 3)
    own, moved = net.gates(X), permuted(net, (2, 0, 1))
    for layer, source in enumerate((2, 0, 1)):
        torch.testing.assert_close(moved.gates(X)[layer], own[source], rtol=0, atol=0)
    assert not torch.allclose(moved(X), net(X))
    assert net.order == (0, 1, 2)


def test_constant_values_leave_a_piecewise_constant_function():
    net = DLGN((2, 6, 6, 1), value_input="ones", seed=4).double()
    explanation = gw.explain(gw.read(net), rows(60, 2).numpy())
    assert len(explanation.coefficients) > 3
    np.testing.assert_allclose(explanation.coefficients, 0, atol=1e-15)
