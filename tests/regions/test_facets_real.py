"""Facets of regions of real networks: every row proven, the same as one linear program a row."""

from __future__ import annotations

import pytest
import torch

import gatewise as gw
import shared
from gatewise.regions.halfspaces import region
from gatewise.regions.local.irredundant import facets
from oracles import polyhedra, vnnlib
from oracles.polyhedra import assert_proofs


@pytest.mark.real_data
@pytest.mark.skipif(not shared.folder().is_dir(), reason=shared.reason())
def test_a_network_of_acas_xu():
    path = shared.folder() / "onnx" / "acasxu" / "ACASXU_run2a_1_1_batch_2000.onnx"
    network = gw.read(path).to(torch.float64)
    x = network.rows(vnnlib.inputs(path, 2, network.inputs))
    home = region(network, x)
    for k in range(len(x)):
        found = facets(home, k)
        assert not len(found.undecided)
        truth = polyhedra.facet_rows(*polyhedra.float_rows(home.halfspaces(k)))
        assert found.row.tolist() == truth


@pytest.mark.real_data
@pytest.mark.skipif(not shared.folder().is_dir(), reason=shared.reason())
def test_a_network_of_mnist_in_its_first_layer():
    """784 inputs: its rows are looked at in 256 coordinates, and all of them proven."""
    path = shared.folder() / "onnx" / "mnist_fc" / "mnist-net_256x2.onnx"
    network = gw.read(path).to(torch.float64)
    x = network.rows(vnnlib.inputs(path, 1, network.inputs))
    home = region(network, x)
    found = facets(home)
    assert not len(found.undecided) and len(found) > 100
    assert_proofs(found, home)
