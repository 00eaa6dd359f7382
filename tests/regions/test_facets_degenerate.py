"""Facets where floats cannot tell: against polygons in rational arithmetic; and what is refused."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.errors import DataError, MissingExtra, WrongShape
from gatewise.ir.kinds import Affine, Winner
from gatewise.ir.network import Network, Node
from gatewise.patterns.exact import rational
from gatewise.regions.halfspaces import region
from gatewise.regions.local.irredundant import facets
from gatewise.regions.local.redundant import exact, lp
from gatewise.regions.local.redundant.frame import cut, frame
from gatewise.regions.local.redundant.proofs import Claims, proven
from gatewise.regions.local.redundant.rational import follows
from nets import F64, GATES, Chain, dense, mixed, mlp, rows
from oracles import polyhedra
from oracles.polyhedra import assert_proofs


def layered(*weights, gate="relu") -> Network:
    """A chain of (W, b) with a gate between."""
    chain = Chain(weights[0][0].shape[1])
    for k, (w, b) in enumerate(weights):
        w, b = w.to(F64), b.to(F64)
        chain.put(Affine(dense, (w,), b, w.shape[1], len(w)), shape=(len(w),))
        if k < len(weights) - 1:
            chain.gate(gate)
    return chain.network()


def random_layers(sizes, seed):
    rng = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(b, a, generator=rng, dtype=F64), torch.randn(b, generator=rng, dtype=F64) / 2)
        for a, b in pairwise(sizes)
    ]


def degenerate(kind: str, seed: int):
    """Layers of a 2-6-6-1 net with one thing wrong with it."""
    layers = random_layers((2, 6, 6, 1), seed)
    (w, b), (v, c), last = layers
    if kind == "zero biases":
        return [(w, 0 * b), (v, 0 * c), last]
    if kind == "duplicated":
        w, b = w[[0, 1, 2, 0, 1, 2]], b[[0, 1, 2, 0, 1, 2]]
        return [(w, b), (v[[0, 1, 2, 2, 1, 0]], c[[0, 1, 2, 2, 1, 0]]), last]
    if kind == "negated":
        w, b = torch.cat([w[:3], -w[:3]]), torch.cat([b[:3], -b[:3]])
        return [(w, b), (torch.cat([v[:3], -v[:3]]), torch.cat([c[:3], -c[:3]])), last]
    if kind == "scaled copies":
        s = torch.tensor([1, 1, 1, 2, 3, 0.25], dtype=F64)
        return [(w[[0, 1, 2, 0, 1, 2]] * s[:, None], b[[0, 1, 2, 0, 1, 2]] * s), (v, c), last]
    if kind == "parallel":
        return [(w[[0, 1, 2, 0, 1, 2]], b), (v, c), last]
    if kind == "small integers":
        return [((w * 2).round(), (b * 2).round()), ((v * 2).round(), (c * 2).round()), last]
    if kind == "axis grid":
        eye = torch.eye(2, dtype=F64)
        return [(torch.cat([eye, -eye, eye]), (b * 2).round()), (v, c), last]
    if kind == "dead":
        return [(w, b - 50), (v, c), last]
    if kind == "zero weights":
        return [(w * 0, b), (v, c), last]
    assert kind == "cancelling"
    w, b = w[[0, 1, 2, 0, 1, 2]], b[[0, 1, 2, 0, 1, 2]]
    return [(w, b), (torch.cat([v[:, :3], -v[:, :3]], 1), c), last]


KINDS = [
    *("zero biases", "duplicated", "negated", "scaled copies", "parallel", "small integers"),
    *("axis grid", "dead", "zero weights", "cancelling"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_polygons_of_degenerate_networks(kind, seed):
    layers = degenerate(kind, seed)
    network = layered(*layers)
    x = rows(network, 1, seed) * 2
    truth = polyhedra.exact_rows(layers, x[0])
    edges, zero = polyhedra.edges(truth)
    home = region(network, x)
    found = facets(home)
    assert not len(found.undecided)
    mine = [(found.member == k).nonzero().flatten().tolist() for k in range(len(found))]
    assert mine == edges
    assert set(zero) <= set(found.redundant.tolist())
    assert [len(found.units(k)) for k in range(len(found))] == [len(e) for e in edges]
    assert_proofs(found, home)


def test_several_units_are_one_facet():
    w = torch.tensor([[1.0, 2.0], [3.0, 6.0], [-1.0, -2.0], [1.0, 0.0]])
    network = layered((w, torch.tensor([-1.0, -3.0, 1.0, 5.0])), (torch.ones(1, 4), torch.ones(1)))
    found = facets(region(network, torch.tensor([[2.0, 2.0]], dtype=F64)))
    assert len(found) == 2
    assert found.units(0) == (("n1", 0), ("n1", 1), ("n1", 2))
    assert found.units(1) == (("n1", 3),)
    assert found.member.tolist() == [0, 0, 0, 1]


def test_a_flat_region_is_refused():
    """z >= 0 and -z >= 0, the one by its tie rule: a line."""
    w = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    network = layered((w, torch.zeros(2)), (torch.ones(1, 2), torch.ones(1)))
    on_line = torch.tensor([[1.0, -1.0]], dtype=F64)
    with pytest.raises(DataError, match="it is a point, flat, or thinner"):
        facets(region(network, on_line))


def test_a_region_that_is_a_point_is_refused():
    w = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    network = layered((w, torch.zeros(4)), (torch.ones(1, 4), torch.ones(1)))
    with pytest.raises(DataError, match="it is a point, flat, or thinner"):
        facets(region(network, torch.zeros(1, 2, dtype=F64)))


def test_home_may_lie_on_a_wall():
    network = mlp(3, 12, 12, 1, seed=2)
    h = region(network, rows(network, 1, 5)).halfspaces()
    free = facets(region(network, rows(network, 1, 5)))
    r = int(free.row[0])
    x = free.inner - h.a[r] * (h.a[r] @ free.inner + h.b[r]) / h.a[r].square().sum()
    x = x + 1e-14 * h.a[r]
    home = region(network, rows(network, 1, 5))
    moved = type(home)(network, x[None], home.pattern)
    if (h.a @ x + h.b).min() > -1e-12:
        assert facets(moved).row.tolist() == free.row.tolist()


def test_a_network_without_gates_has_no_facets():
    found = facets(region(mlp(3, 2), torch.zeros(1, 3, dtype=F64)))
    assert len(found) == 0 and len(found.status) == 0
    assert found.point.shape == (0, 3)


def test_a_network_that_is_constant():
    layers = [(torch.zeros(4, 3), torch.ones(4)), (torch.ones(1, 4), torch.zeros(1))]
    found = facets(region(layered(*layers), torch.zeros(1, 3, dtype=F64)))
    assert len(found) == 0
    assert found.redundant.tolist() == [0, 1, 2, 3]
    assert all(found.multipliers(i) == {} for i in range(4))


def test_maxout_whose_candidates_coincide():
    chain = Chain(3, 4)
    w, b = chain.random(3, 3), chain.random(3)
    w, b = w[[0, 1, 2, 0, 1, 2]], b[[0, 1, 2, 0, 1, 2]]
    chain.put(Affine(dense, (w,), b, 3, 6), shape=(6,))
    chain.put(Winner(torch.arange(6).reshape(1, 6)), shape=(1,))
    network = chain.network()
    home = region(network, rows(network, 1))
    found = facets(home)
    assert not len(found.undecided)
    assert len(found) == 2
    assert all(len(found.units(k)) == 2 for k in range(2))


def test_rows_that_floats_cannot_decide_in_a_network_without_exact_values_stay_open():
    """A DLGN's product has no rational form here: equal units are then two rows in doubt."""
    chain = Chain(2, 0)
    w, b = chain.random(3, 2), chain.random(3)
    w, b = w[[0, 0, 1, 2]], b[[0, 0, 1, 2]]
    gates = chain.put(Affine(dense, (w,), b, 2, 4), shape=(4,))
    chain.gate("step")
    steps = chain.at
    chain.linear(4, source="input")
    chain.product(steps)
    chain.linear(4)
    chain.gate("relu")
    network = chain.network()
    assert gates and rational(network) is None
    found = facets(region(network, rows(network, 1, 3)))
    assert {0, 1} <= set(found.undecided.tolist()) | set(found.redundant.tolist())


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize("seed", range(6))
def test_in_a_box(seed):
    network = mlp(4, 12, 12, 1, seed=seed)
    x = rows(network, 1, seed).clamp(-0.9, 0.9)
    home, box = region(network, x), (-1.0, torch.tensor([1.0, 1, 1, 2], dtype=F64))
    found = facets(home, box=box)
    h, eye = home.halfspaces(), torch.eye(4, dtype=F64)
    a = torch.cat([h.a, eye, -eye])
    b = torch.cat([h.b, torch.ones(4, dtype=F64), torch.tensor([1.0, 1, 1, 2], dtype=F64)])
    assert found.row.tolist() == polyhedra.facet_rows(a.numpy(), b.numpy())
    assert found.gate[-8:] == ("box low",) * 4 + ("box high",) * 4
    assert_proofs(found, home, box)


def test_a_knot_through_a_corner_of_the_box():
    """x + y >= -2 touches the box at one point only: redundant, exactly."""
    network = layered((torch.ones(1, 2), 2 * torch.ones(1)), (torch.ones(1, 1), torch.ones(1)))
    found = facets(region(network, torch.zeros(1, 2, dtype=F64)), box=(-1, 1))
    assert found.status.tolist() == [-1, 1, 1, 1, 1]
    assert bool(found.exact[0])
    assert found.multipliers(0) == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize(
    "box, error, words",
    [
        ((0, 0), DataError, "the box is empty or flat: input 0 runs from 0 to 0"),
        ((1, [2, 0.5]), DataError, "the box is empty or flat: input 1 runs from 1 to 0.5"),
        ((0, [1, 2, 3]), WrongShape, "must be one number or 2"),
        (3, WrongShape, "a pair"),
    ],
)
def test_boxes_that_are_none(box, error, words):
    network = mlp(2, 4, 1)
    with pytest.raises(error, match=words):
        facets(region(network, torch.full((1, 2), 0.25, dtype=F64)), box=box)


def test_an_infinite_side_is_no_row():
    network = mlp(2, 4, 1)
    home = region(network, torch.zeros(1, 2, dtype=F64))
    found = facets(home, box=([-math.inf, -3], math.inf))
    assert found.gate[-1:] == ("box low",) and len(found.status) == 5


# ---------------------------------------------------------------- the parts


def test_the_cut_is_the_shortest_value_that_all_gates_see():
    head, tail = cut(mlp(9, 4, 7, 2))
    assert (head.inputs, head.outputs, tail.inputs) == (9, 4, 4)
    assert len(tail.gates) == 2
    assert cut(mlp(3, 4, 7, 2)) is None
    assert cut(mixed(0)) is None


def test_a_first_layer_that_is_not_onto_is_not_cut():
    layers = random_layers((5, 3, 6, 1), 0)
    w, b = layers[0]
    layers[0] = (torch.stack([w[0], w[1], w[0] + w[1]]), b)
    network = layered(*layers)
    home = region(network, rows(network, 1))
    assert frame(home, 0).lift is None
    found = facets(home)
    assert found.row.tolist() == polyhedra.facet_rows(*polyhedra.float_rows(home.halfspaces()))


@pytest.mark.parametrize("network", [mlp(3, 6, 5, 1), mlp(3, 5, 4, 1, gate="hardtanh")])
def test_rows_in_whole_numbers_are_the_rows(network):
    home = region(network, rows(network, 1))
    h = home.halfspaces()
    found = exact.rows(rational(network), home.pattern)
    value = np.array([[float(Fraction(int(v), 2**found.scale)) for v in r] for r in found.whole])
    np.testing.assert_allclose(value[:, :-1], h.a.numpy(), atol=1e-14)
    np.testing.assert_allclose(value[:, -1], h.b.numpy(), atol=1e-14)
    x = rows(network, 4, 8)
    at = exact.values(rational(network), home.pattern, x)
    value = np.array([[float(Fraction(int(v), 2**at.scale)) for v in r] for r in at.whole])
    np.testing.assert_allclose(value, (x @ h.a.T + h.b).T.numpy(), atol=1e-13)


@settings(max_examples=60)
@given(st.data())
def test_follows_is_decided_with_a_witness(data):
    d = data.draw(st.integers(1, 3))
    entry = st.integers(-3, 3)
    row = st.lists(entry, min_size=d + 1, max_size=d + 1)
    others = data.draw(st.lists(row, min_size=0, max_size=7))
    mine = data.draw(row)
    answer = follows(others, mine)
    if answer.multipliers is not None:
        total = [
            sum(v * r[k] for v, r in zip(answer.multipliers, others, strict=True))
            for k in range(d + 1)
        ]
        assert all(v >= 0 for v in answer.multipliers)
        assert total[:d] == mine[:d] and total[d] <= mine[d]
    else:
        w = answer.point
        assert w[-1] >= 0 and sum(p * q for p, q in zip(w, mine, strict=True)) < 0
        assert all(sum(p * q for p, q in zip(w, r, strict=True)) >= 0 for r in others)


def test_a_tableau_that_is_too_large_is_not_started():
    assert follows([[1] * 100] * 1000, [1] * 100) is None


def claim_of(network, x):
    """A region's frame at home, and its claims as they were proven."""
    f = frame(region(network, x), 0)
    found = facets(region(network, x))
    return f.walls, [c for c in found.claims if len(c.target)]


def test_false_claims_are_not_proven():
    walls, claims = claim_of(mlp(3, 16, 16, 1, seed=1), rows(mlp(3, 16, 16, 1, seed=1), 1, 1))
    assert claims
    for c in claims:
        assert len(proven(walls, c).target) == len(c.target)
        facet = Claims(c.by[:1], c.by[1:], torch.ones(1, len(c.by) - 1, dtype=F64))
        assert not len(proven(walls, facet).target)
        negative = Claims(c.target, c.by, -c.multipliers)
        assert not len(proven(walls, negative).target)
        a, s, spread, error = walls.a, walls.s, walls.spread, walls.error
        loose = type(walls)(a, s, spread + 10.0, error)
        assert not len(proven(loose, c).target)
        low = s.clone()
        low[c.target] = 1e-3 * low[c.target]
        assert len(proven(type(walls)(a, low, spread, error), c).target) < len(c.target)


def test_without_the_solver_what_needs_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(MissingExtra, match=r"gatewise\[lp\]"):
        lp.solver("this")


def test_an_index_beyond_the_regions():
    network = mlp(2, 4, 1)
    with pytest.raises(DataError, match="there are 1 regions, counted from 0; got index 3"):
        facets(region(network, rows(network, 1)), 3)


def test_multipliers_of_a_facet_are_refused():
    network = mlp(2, 4, 1)
    found = facets(region(network, rows(network, 1)))
    with pytest.raises(DataError, match="is not redundant"):
        found.multipliers(int(found.row[0]))
    assert repr(found).startswith(f"Facets({len(found)} of 4 rows")


def test_gates_that_are_not_used_are_no_trouble():
    """A unit that only a dead node looks at still has a row."""
    chain = Chain(3, 1)
    chain.linear(4)
    chain.gate("relu")
    first = chain.at
    chain.linear(5, source="input")
    chain.gate("relu")
    chain.nodes.append(Node("out", "x", chain.nodes[0].kind, ("input",), (4,)))
    network = Network(tuple(chain.nodes), (3,), "out")
    home = region(network, rows(network, 1))
    assert first and GATES
    assert facets(home).row.tolist() == polyhedra.facet_rows(
        *polyhedra.float_rows(home.halfspaces())
    )
