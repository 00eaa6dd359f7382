"""Facets: the same as one linear program a row, every verdict with a proof that can be checked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.regions.halfspaces import region
from gatewise.regions.local.irredundant import facets
from nets import mlp, networks, rows
from oracles import polyhedra
from oracles.polyhedra import assert_proofs


def firsts(found) -> list[int]:
    return found.row.tolist()


def check(network, x, undecided=0):
    home = region(network, x)
    found = facets(home)
    assert len(found.undecided) == undecided
    assert firsts(found) == polyhedra.facet_rows(*polyhedra.float_rows(home.halfspaces()))
    assert_proofs(found, home)
    return found


SHAPES = [
    ((1, 9, 1), "relu"), ((2, 12, 12, 2), "relu"), ((3, 16, 16, 1), "relu"),
    ((4, 10, 10, 10, 1), "relu"), ((6, 20, 20, 1), "relu"), ((9, 5, 12, 1), "relu"),
    ((3, 10, 10, 1), "hardtanh"), ((5, 12, 12, 1), "abs"), ((4, 14, 8, 1), "leaky"),
    ((8, 20, 20, 1), "relu"),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sizes, gate", SHAPES)
def test_the_same_as_one_program_a_row(sizes, gate, seed):
    network = mlp(*sizes, gate=gate, seed=seed)
    check(network, rows(network, 1, seed))


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_the_same_as_one_program_a_row_on_any_network(network, seed):
    x = rows(network, 1, seed)
    found = facets(region(network, x))
    h = region(network, x).halfspaces()
    if not len(found.undecided):
        assert firsts(found) == polyhedra.facet_rows(*polyhedra.float_rows(h))
    assert_proofs(found, region(network, x))
