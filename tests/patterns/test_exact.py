"""Exact arithmetic and ties, against fractions and against the pattern of each row on its own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.patterns import ties
from gatewise.patterns.census import census
from gatewise.patterns.degenerate import zero_rows
from gatewise.patterns.dyadic import Dyadic, dyadic, sparse
from gatewise.patterns.exact import exact_codes, rational
from gatewise.patterns.observe import pattern
from nets import F64, Chain, rows

floats = st.floats(allow_nan=False, allow_infinity=False)


def fractions(d: Dyadic) -> list[Fraction]:
    return [Fraction(w, 1 << d.scale) for w in d.whole.ravel()]


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=6))
def test_dyadic_arithmetic_is_that_of_fractions(pairs):
    a, b = ([Fraction(p[i]) for p in pairs] for i in (0, 1))
    x, y = (dyadic([p[i] for p in pairs]) for i in (0, 1))
    assert fractions(x) == a
    assert fractions(x * y) == [p * q for p, q in zip(a, b, strict=True)]
    assert fractions(x + y) == [p + q for p, q in zip(a, b, strict=True)]
    assert x.compare(y).tolist() == [(p > q) - (p < q) for p, q in zip(a, b, strict=True)]


@given(st.integers(0, 999))
def test_sparse_rows_are_the_matrix_product(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(4, 3)) * (rng.random((4, 3)) < 0.5)
    offset, x = rng.normal(size=4), rng.normal(size=(3, 2))
    found = fractions(sparse(matrix, offset)(dyadic(x), dyadic([0.0, 1.0])))
    naive = [
        sum((Fraction(w) * Fraction(v) for w, v in zip(row, column, strict=True)), Fraction(c) * k)
        for row, c in zip(matrix, offset, strict=True)
        for k, column in enumerate(x.T)
    ]
    assert found == naive


def lattice(seed: int, gate: str = "relu"):
    """The larger of pairs of affine functions that repeat: ties on whole regions, at depth too."""
    chain = Chain(2, seed)
    chain.linear(3)
    copies = torch.randint(3, (8,), generator=chain.rng)
    chain.linear(8, bias=False)
    chain.nodes[-1].kind.weights[0].copy_(torch.eye(3, dtype=F64)[copies])
    if gate == "maxout":
        chain.maxout(4)
        chain.maxout(2)
    else:
        for pairs in (4, 2):
            # max(a, b) = a + relu(b - a), with a = relu(a) - relu(-a)
            chain.linear(3 * pairs, bias=False)
            w = chain.nodes[-1].kind.weights[0].zero_()
            for k in range(pairs):
                w[3 * k, 2 * k + 1], w[3 * k, 2 * k] = 1, -1
                w[3 * k + 1, 2 * k], w[3 * k + 2, 2 * k] = 1, -1
            chain.gate(gate)
            chain.linear(pairs, bias=False)
            w = chain.nodes[-1].kind.weights[0].zero_()
            for k in range(pairs):
                w[k, 3 * k : 3 * k + 3] = torch.tensor([1.0, 1, -1])
    chain.linear(1)
    return chain.network()


@given(st.integers(0, 500), st.sampled_from(["relu", "abs", "maxout"]))
def test_ties_on_regions_give_the_exact_pattern_of_every_row(seed, gate):
    network = lattice(seed, gate)
    x = rows(network, 12, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatewise.patterns.exact.AT_ONCE", 0)  # no row is decided on its own
        found = pattern(network, x)
        seen = census(network, x)
    exact = exact_codes(rational(network), x)
    assert not seen.undecided.any()
    for name in found:
        assert torch.equal(found.codes(name).long(), exact[name].long())


def test_a_region_is_looked_at_once_for_all_its_rows(monkeypatch):
    network, looked = lattice(3), []
    x = rows(network, 500)

    def counting(exact, at):
        looked.append(at.bits.tobytes())
        return zero_rows(exact, at)

    monkeypatch.setattr(ties, "zero_rows", counting)
    found = census(network, x, batch_size=50)
    assert len(looked) == len(set(looked)) == len(found)
    assert not found.undecided.any()


def test_a_unit_near_its_knot_that_does_not_vanish_is_no_tie(monkeypatch):
    """Rows on a wall, up to rounding, are left to the decision row by row."""
    monkeypatch.setattr("gatewise.patterns.exact.AT_ONCE", 0)
    network = lattice(3)
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    x = rows(network, 30)
    w, c = w[0] - w[1], c[0] - c[1]
    on_wall = x - ((x @ w + c) / (w @ w))[:, None] * w
    assert census(network, on_wall).undecided.any()


@given(st.integers(0, 500), st.sampled_from(["relu", "maxout"]))
def test_rows_that_vanish_are_those_whose_fractions_are_zero(seed, gate):
    """At three points that span the plane, exactly: a row is zero on all of them, or nowhere."""
    network = lattice(seed, gate)
    exact = rational(network)
    home = pattern(network, rows(network, 1, seed))
    zero = zero_rows(exact, home)
    spots = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=F64)
    values = frozen_values(network, home, spots)
    for name, wanted in values.items():
        assert zero[name][:, 0, 0].tolist() == wanted


def frozen_values(network, home, spots) -> dict[str, list[list[bool]]]:
    """For each gate, row by row and unit by unit: is it zero at all the spots? By fractions."""
    values = {"input": [[Fraction(v) for v in spot] for spot in spots.tolist()]}
    found = {}
    for node in network.nodes:
        (z,) = (values[name] for name in node.inputs)
        if node.layer == "Affine":
            w = node.kind.weights[0].tolist()
            c = node.kind.bias.tolist() if node.kind.bias is not None else [0.0] * len(w)
            values[node.name] = [
                [
                    sum((Fraction(p) * q for p, q in zip(row, h, strict=True)), Fraction(b))
                    for row, b in zip(w, c, strict=True)
                ]
                for h in z
            ]
        elif node.layer == "Winner":
            codes = home.codes(node.name)[0].long().tolist()
            groups = node.kind.index.tolist()
            won = [[h[g[c]] for g, c in zip(groups, codes, strict=True)] for h in z]
            values[node.name] = won
            found[node.name] = [
                [
                    all(h[g[m]] == y[u] for h, y in zip(z, won, strict=True))
                    for u, g in enumerate(groups)
                ]
                for m in range(len(groups[0]))
            ]
        else:
            on = home.codes(node.name)[0].tolist()
            values[node.name] = [
                [v if k else Fraction(0) for v, k in zip(h, on, strict=True)] for h in z
            ]
            found[node.name] = [[all(h[u] == 0 for h in z) for u in range(len(on))]]
    return found
