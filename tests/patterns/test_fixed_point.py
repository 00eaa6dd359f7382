"""Fixed point against rationals: values within their error, patterns that are proven, ties left."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
from gatewise.ir.kinds import Affine, Pieces, Product
from gatewise.ir.network import fold
from gatewise.ir.pattern import Packer, Pattern, layout
from gatewise.patterns import fixed_point
from gatewise.patterns.exact import exact_codes, rational
from gatewise.patterns.fixed_point import Base, Fixed, base_of, before_gates, settle
from gatewise.patterns.observe import observe_running
from nets import F64, Chain, mlp


def exact_values(x: Fixed, base: Base) -> list[Fraction]:
    """The digits added up as fractions."""
    b = Fraction(2) ** base.beta
    places = [d.double().flatten().tolist() for d in x.digits]
    return [
        sum(Fraction(d) / b ** (x.first + k) for k, d in enumerate(column))
        for column in zip(*places, strict=True)
    ]


def by_hand(network, x):
    """Every node at one row, in fractions: the rows of each Affine read off unit vectors."""

    def step(node, xs):
        kind, z = node.kind, [v for x in xs for v in x]
        if isinstance(kind, Affine):
            sizes = [len(x) for x in xs]
            eye = torch.eye(sum(sizes), dtype=F64).split(sizes, 1)
            unit = [e.reshape(-1, *network.shape(n)) for e, n in zip(eye, node.inputs, strict=True)]
            rows = kind.linear(*unit).reshape(len(z), -1).T.tolist()
            bias = torch.zeros(()) if kind.bias is None else kind.bias
            c = bias.double().broadcast_to(node.shape).flatten().tolist()
            return [
                sum((Fraction(w) * v for w, v in zip(row, z, strict=True) if w), Fraction(k))
                for row, k in zip(rows, c, strict=True)
            ]
        if isinstance(kind, Pieces):
            return [_piece(kind, v) for v in z]
        index = kind.index.reshape(-1, kind.branches).tolist()
        return [kind.sign * max(kind.sign * z[i] for i in group if i >= 0) for group in index]

    return fold(network, [Fraction(v) for v in x.flatten().tolist()], step)[network.output]


def _piece(kind, v):
    k = sum(v >= t if c else v > t for t, c in zip(kind.knots.tolist(), kind.closed, strict=True))
    return Fraction(float(kind.slopes[k])) * v + Fraction(float(kind.offsets[k]))


def deep(seed: int, gate: str = "relu"):
    """Dense layers, a residual sum, maxout, another gate, an odd scale."""
    chain = Chain(3, seed)
    chain.linear(6)
    first = chain.gate(gate)
    chain.linear(6, bias=False)
    chain.skip(first)
    chain.linear(8)
    chain.maxout(4)
    chain.put(Affine(lambda s, x: s * x, (chain.random(4),), chain.random(4) * 1e-9, 1, 1))
    chain.gate("relu")
    return chain.network()


@given(st.integers(0, 10_000), st.sampled_from(["relu", "leaky", "hardtanh", "abs"]))
@settings(max_examples=12)
def test_values_lie_within_their_error_at_any_precision(seed, gate):
    net = deep(seed, gate)
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    truth = by_hand(net, x)
    for bits in (20, 60, 120):
        base = base_of(net, bits)
        y, open_ = run(net, base, x)
        if open_ and bits < 120:
            continue  # a unit may be on another branch: then nothing is said
        assert not open_
        off = [abs(a - b) for a, b in zip(exact_values(y, base), truth, strict=True)]
        assert all(o <= Fraction(e) for o, e in zip(off, y.error.flatten().tolist(), strict=True))
        assert max(off) <= Fraction(2) ** (24 - bits)  # the bits that were asked for, nearly


def run(net, base, x):
    """The value of the output in fixed point, and whether some unit is undecided."""
    open_ = []

    def step(node, xs):
        if isinstance(node.kind, Affine):
            return base.affine(node.kind, xs)
        pieces = isinstance(node.kind, Pieces)
        y, _, near = base.pieces(node.kind, xs[0]) if pieces else base.winner(node.kind, xs)
        open_.append(bool(near.any()))
        return y

    return fold(net, base.number(x), step)[net.output], any(open_)


def test_what_is_cut_off_is_no_less_than_what_is_said():
    """A bound of nothing would be found out: at 20 bits values are off by as much as 2**-30."""
    net, x = deep(1), torch.tensor([[0.1, -0.7, 1.3]], dtype=F64)
    base = base_of(net, 20)
    off = zip(exact_values(run(net, base, x)[0], base), by_hand(net, x), strict=True)
    assert max(abs(a - b) for a, b in off) > Fraction(2) ** -70


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_patterns_next_to_walls_are_those_of_rationals(layer):
    """Rows moved onto a unit's knot by Newton's steps, and their neighbours in float64."""
    net = mlp(3, 7, 6, 5, 1, seed=layer)
    node = net.nodes[2 * layer]
    before = dataclasses.replace(net, nodes=net.nodes[: 2 * layer + 1], output=node.name)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    unit = int(before(x).abs().amin(0).argmin())
    for _ in range(8):
        x = x.detach().requires_grad_()
        z = before(x)[:, unit]
        (g,) = torch.autograd.grad(z.sum(), x)
        x = (x - g * (z / g.square().sum(1).clamp(min=1e-9))[:, None]).detach()
    x = x[before(x)[:, unit].abs() < 1e-14][:4]
    assert len(x)
    x = torch.cat([x, torch.nextafter(x, torch.ones_like(x)), torch.zeros(1, 3, dtype=F64)])
    bits, done = settle(net, x)
    assert done[:-1].all()
    assert (bits[done] == by_rationals(net, x)[done]).all()


def by_rationals(net, x):
    """Packed patterns, every row in rationals."""
    packer = Packer(layout(net), len(x))
    for name, codes in exact_codes(rational(net, budget=10**7), x).items():
        packer.put(name, codes)
    return packer.bits


def test_rows_of_a_deep_network_are_decided_where_float64_decides_none():
    """Twenty layers of 128: too many products for rationals, which are the truth here."""
    net = mlp(8, *[128] * 20, 1)
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    open_ = observe_running(net, layout(net), x)
    assert (open_.undecided > 0).all()
    truth = by_rationals(net, x)
    bits, done = settle(net, x)
    assert done.all()
    assert (bits == truth).all()
    assert rational(net) is None
    found = gw.census(net, x)
    assert not found.undecided.any()
    assert (found.pattern.bits[found.ids] == truth).all()
    inside = gw.region(net, x[:1]).verdict(x)
    assert inside.tolist() == [[1, -1]]


def test_what_cannot_be_settled_is_given_up_at_once(monkeypatch):
    net = mlp(3, 5, 5, 1)
    x = torch.ones(2, 3, dtype=F64)
    monkeypatch.setattr(fixed_point, "A_ROW", 10)
    assert not settle(net, x)[1].any()
    monkeypatch.undo()
    assert not settle(net, x * 1e-200)[1].any()  # beyond the places that floats hold
    chain = Chain(2)
    left = chain.linear(3)
    chain.linear(3, source="input")
    chain.put(Product(torch.mul), left, chain.at, shape=(3,))
    chain.gate("relu")
    assert before_gates(chain.network()) is None
    mean = nn.Sequential(nn.Conv1d(1, 2, 2), nn.AvgPool1d(3), nn.ReLU(), nn.Flatten())
    read = gw.read(mean.double(), torch.zeros(1, 1, 7).double())
    assert before_gates(read) is None  # a third is no float
    after = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.AvgPool1d(3), nn.Flatten())
    assert before_gates(gw.read(after.double(), torch.zeros(1, 1, 7).double())) is not None


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_a_unit_on_its_knot_is_decided_if_nothing_was_cut_off(value):
    """0 + 0 is exactly 0, off by the rule; 0.1 + 0.2 - 0.3 in floats has a sign of its own."""
    chain = Chain(3)
    weight = torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.0, 1e-9]], dtype=F64)
    chain.put(Affine(lambda w, x: F.linear(x, w), (weight,), None, 3, 2), shape=(2,))
    chain.gate("relu")
    net = chain.network()
    x = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, value]], dtype=F64)
    bits, done = settle(net, x)
    assert done.all()
    exact = exact_codes(rational(net), x)
    assert torch.equal(Pattern(bits, layout(net)).codes("n1").long(), exact["n1"].long())
    assert np.array_equal(bits[1], bits[1] * (value > 0))
