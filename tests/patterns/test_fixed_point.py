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


def by_hand(network, x, every=False):
    """The output (or every node) at one row in fractions: rows of an Affine off unit vectors."""

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
            tables = [_spread(t, node.shape) for t in (kind.knots, kind.slopes, kind.offsets)]
            return [_piece(kind.closed, v, *at) for v, *at in zip(z, *tables, strict=True)]
        index = kind.index.reshape(-1, kind.branches).tolist()
        return [kind.sign * max(kind.sign * z[i] for i in group if i >= 0) for group in index]

    names = [n.name for n in network.nodes] if every else []
    found = fold(network, [Fraction(v) for v in x.flatten().tolist()], step, keep=names)
    return found if every else found[network.output]


def _spread(table, shape):
    """For each unit its knots (slopes, offsets)."""
    whole = table.reshape(len(table), *[1] * (len(shape) + 1 - table.ndim), *table.shape[1:])
    return whole.expand(len(table), *shape).flatten(1).T.tolist()


def _piece(closed, v, knots, slopes, offsets):
    k = sum(v >= t if c else v > t for t, c in zip(knots, closed, strict=True))
    return Fraction(slopes[k]) * v + Fraction(offsets[k])


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


class Block(nn.Module):
    """A convolution in two groups, padded, with a sum around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)

    def forward(self, x):
        return x - torch.nn.functional.leaky_relu(self.conv(x), 0.01)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_values_of_every_node_of_an_image_network_lie_within_their_error(dtype):
    """Weights of many sizes, some far below the rest; padded pools of both kinds; a norm."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.PReLU(2), nn.MaxPool2d(2, 2, 1),
        Block(), nn.AvgPool2d(2, 1, 1, count_include_pad=False), nn.Conv2d(2, 2, 2), nn.Hardtanh(),
        nn.Flatten(), nn.Linear(18, 3), nn.ReLU(), nn.Linear(3, 1),
    ).eval().to(dtype)  # fmt: skip
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2.0 ** torch.randint(-3, 3, p.shape))
        module[1].running_mean.normal_()
        module[6].weight[0] *= 2.0**-40
        module[9].weight[1] *= 2.0**60
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    net = before_gates(gw.read(module, x))
    truth = [by_hand(net, row, every=True) for row in x.double()]
    for bits in (20, 60, 100):
        base = base_of(net, bits)
        values, open_ = run(net, base, x.double(), every=True)
        assert not open_ or bits == 20
        if open_:
            continue
        for name, y in values.items():
            assert (y.digits == y.digits.round()).all()
            assert (2 * y.digits.abs() <= 2.0**base.beta).all()
            exact = [v for row in truth for v in row[name]]
            found = zip(exact_values(y, base), exact, y.error.flatten().tolist(), strict=True)
            assert all(abs(a - b) <= Fraction(e) for a, b, e in found)


def test_floats_are_their_digits_and_what_was_cut_off():
    base, floats = Base(21, 40), torch.tensor([[1 / 3, 1e-30, -0.7, 2.0**-42, 0.0]], dtype=F64)
    y = base.number(floats)
    for v, found, e in zip(
        floats[0].tolist(), exact_values(y, base), y.error[0].tolist(), strict=True
    ):
        assert abs(found - Fraction(v)) == Fraction(e)
    assert (y.error > 0).tolist() == [[True, True, True, False, False]]
    assert (2 * y.digits.abs() <= 2.0**base.beta).all()
    nothing = Fixed(torch.zeros(1, 1, 5, dtype=F64), 0, torch.full((1, 5), 1e-300, dtype=F64))
    y = base.affine(Affine(torch.clone, (), floats[0]), [nothing])
    for v, found, e in zip(
        floats[0].tolist(), exact_values(y, base), y.error[0].tolist(), strict=True
    ):
        assert abs(found - Fraction(v)) <= Fraction(e)
    assert y.error[0, 1] > 0.9e-30  # a constant beside an error is held to 53 bits or so


def test_digits_of_sums_at_the_largest_are_carried_without_loss():
    """Whole numbers up to 2**52 on either side, at every place: the sum is the same."""
    base, first = Base(21, 100), 3
    rng = np.random.default_rng(0)
    sums = torch.from_numpy(rng.integers(-(2**52), 2**52, (5, 1, 200)).astype(float))
    sums[:, 0, :2] = torch.tensor([2.0**52, -(2.0**52)])
    sums[:, 0, 2:4] = torch.tensor([2.0**20, -(2.0**20)])  # half a base: digits stay as they are
    y = base.carried(sums, first, torch.zeros(1, 200, dtype=F64))
    assert (2 * y.digits.abs() <= 2.0**base.beta).all()
    assert exact_values(y, base) == exact_values(Fixed(sums, first, y.error), base)


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


def run(net, base, x, every=False):
    """The output (or every node) in fixed point, and whether some unit is undecided."""
    open_ = []

    def step(node, xs):
        if isinstance(node.kind, Affine):
            return base.affine(node.kind, xs)
        pieces = isinstance(node.kind, Pieces)
        y, _, near = base.pieces(node.kind, xs[0]) if pieces else base.winner(node.kind, xs)
        open_.append(bool(near.any()))
        return y

    found = fold(net, base.number(x), step, keep=[n.name for n in net.nodes])
    found.pop("input", None)
    return found if every else found[net.output], any(open_)


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
    for w in (1e300, 1e-300):  # or their products are
        huge = Affine(lambda s, x: s * x, (torch.full((3,), w, dtype=F64),), None, 1, 1)
        relu = dataclasses.replace(net.nodes[1], inputs=("big",), shape=(3,))
        big = dataclasses.replace(net.nodes[0], name="big", kind=huge, shape=(3,))
        far = dataclasses.replace(net, nodes=(big, relu), output=relu.name)
        assert not settle(far, x * (1e130 if w > 1 else 1e-130))[1].any()
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
