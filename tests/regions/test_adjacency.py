"""The dual graph: the pairs an exact oracle finds, no facet inside the box without a region."""

from __future__ import annotations

import dataclasses

import networkx
import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.errors import InternalError
from gatewise.regions.polyhedral import adjacency
from gatewise.regions.polyhedral.adjacency import jumps, shared
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from nets import F64, Chain, mixed, mlp
from oracles import degenerate_nets
from oracles.cells import cells, neighbours


def patterns(complex) -> list[tuple[int, ...]]:
    n = len(complex)
    codes = [complex.pattern.codes(name).reshape(n, -1).int() for name in complex.pattern]
    return list(map(tuple, torch.cat(codes, 1).tolist()))


def pairs_of(complex) -> set[frozenset]:
    p = patterns(complex)
    return {frozenset((p[a], p[b])) for a, b in shared(complex).cells.tolist()}


def exact_pairs(layers, d: int) -> set[frozenset]:
    found = cells(layers, [-1] * d, [1] * d)
    return {frozenset((found[a].pattern, found[b].pattern)) for a, b in neighbours(found)}


def layers(network) -> list:
    return [
        (n.kind.weights[0].numpy(), n.kind.bias.numpy())
        for n in network.nodes
        if n not in network.gates
    ]


@pytest.mark.parametrize("kind", degenerate_nets.PUBLISHED)
def test_pairs_where_rows_lie_badly(kind):
    network = gw.read(degenerate_nets.net(kind), torch.zeros(1, 2, dtype=F64))
    found = pairs_of(enumerate_regions(network, (-1, 1)))
    assert found == exact_pairs(degenerate_nets.arrays(kind), 2)


@pytest.mark.parametrize("sizes", [(1, 6, 6, 1), (2, 8, 6, 1), (3, 6, 4, 1), (4, 5, 3, 1)], ids=str)
def test_pairs_of_random_networks(sizes):
    network = mlp(*sizes, seed=3)
    assert pairs_of(enumerate_regions(network, (-1, 1))) == exact_pairs(layers(network), sizes[0])


@pytest.mark.parametrize("sizes", [(2, 12, 12, 1), (3, 9, 8, 1), (4, 7, 6, 1), (5, 6, 5, 1)])
@pytest.mark.parametrize("gate", ["relu", "hardtanh", "abs"])
def test_every_facet_is_a_wall_or_has_a_region_beyond(sizes, gate):
    complex = enumerate_regions(mlp(*sizes, gate=gate, seed=1), (-1, 1))
    found = shared(complex)
    assert len(found.open) == 0
    assert ((found.partner < 0) == (complex.who < 0)).all()
    assert networkx.is_connected(found.to_networkx())
    for i in range(0, len(found), 7):
        assert found.changed(i) == (found.unit(i),)  # in general position one unit changes


def test_six_dimensions():
    complex = enumerate_regions(mlp(6, 7, 3, 1), (-1, 1))
    found = shared(complex)
    assert ((found.partner < 0) == (complex.who < 0)).all()


def test_residual_maxout_and_products_of_steps():
    complex = enumerate_regions(mixed(2), ((-1, -1, -1, 0), (1, 1, 1, 0)))
    assert len(shared(complex).open) == 0


def test_the_matrix_is_the_graph():
    complex = enumerate_regions(mlp(2, 12, 12, 1), (-1, 1))
    found, graph = shared(complex), complex.to_networkx()
    matrix = complex.adjacency()
    assert matrix.dtype == bool and matrix.shape == (len(complex), len(complex))
    assert (matrix != matrix.T).nnz == 0 and not matrix.diagonal().any()
    sides = {frozenset(pair) for pair in found.cells.tolist()}
    assert {frozenset(e) for e in networkx.Graph(matrix).edges} == sides
    assert {frozenset(e) for e in graph.edges} == sides
    a, b = found.cells[5].tolist()
    assert (graph[a][b]["gate"], graph[a][b]["unit"]) == found.unit(5)
    assert matrix.nnz == 2 * len(found) == 2 * graph.number_of_edges()


def test_equal_units_change_together():
    """The last quarter of each layer is the first, so its creases are crossed by two units."""
    network = gw.read(degenerate_nets.net("duplicated neurons"), torch.zeros(1, 2, dtype=F64))
    found = shared(enumerate_regions(network, (-1, 1)))
    first = network.gates[0].name
    for i in range(len(found)):
        units = {u for g, u in found.changed(i) if g == first}
        assert {u + 9 for u in units if u < 3} == {u for u in units if u >= 9}


def test_vertices_are_compared_and_no_hash_trusted(monkeypatch):
    """With one hash for all facets the answer is the same."""
    complex = enumerate_regions(mlp(3, 6, 5, 1), (-1, 1))
    want = shared(complex).partner
    monkeypatch.setattr(adjacency, "_hash", lambda *arrays: arrays[-1].fill(7))
    assert (shared(complex).partner == want).all()


def test_what_is_missing_is_said():
    whole = enumerate_regions(mlp(2, 12, 12, 1), (-1, 1))
    torn = whole.cells._replace(vertex=_torn(whole))
    part = shared(dataclasses.replace(whole, cells=torn, complete=False))
    assert len(part.open) > 0 and "without a region beyond" in repr(part)
    cut = dataclasses.replace(whole, cells=torn)
    with pytest.raises(InternalError, match="facets inside the box have no region beyond"):
        shared(cut)


def _torn(complex) -> np.ndarray:
    """The vertices of the cells, with those of the first one replaced by ones nobody has."""
    vertex = complex.cells.vertex.copy()
    vertex[: complex.cells.ptr[1]] += len(complex.vertices)
    return vertex


def test_a_step_before_another_gate_jumps():
    chain = Chain(2)
    chain.linear(4)
    chain.gate("step")
    assert not jumps(chain.network()) and jumps(chain.network(), at_end=True)
    chain.linear(3)
    chain.gate("relu")
    assert jumps(chain.network())
    assert not jumps(mlp(2, 3, 1, gate="hardtanh"), at_end=True)
    complex = enumerate_regions(chain.network(), (-1, 1))
    assert len(shared(complex)) > 0  # what does not meet face to face is listed, not an error
