"""Patterns by plain products: every code that is not flagged is that of exact arithmetic."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError
from torch import nn

import gatewise as gw
from gatewise.ir.pattern import layout, row_bytes
from gatewise.patterns import tile
from gatewise.patterns.streaming.abreast import abreast
from gatewise.patterns.streaming.reading import Block, Place
from gatewise.patterns.streaming.watch import Watch
from gatewise.patterns.sure import Sure, chain
from gatewise.patterns.thresholds import thresholds
from gatewise.patterns.tile import CLOSE, OUTSIDE
from nets import F64

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def network(widths: list[int], act: nn.Module, seed: int, bias: bool = True) -> gw.Network:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), act]
    return gw.read(nn.Sequential(*layers, nn.Linear(widths[-1], 1)).double())


def exact_bits(net: gw.Network, x: np.ndarray) -> np.ndarray:
    """Codes in rational arithmetic, layer after layer, packed."""
    rows = []
    for row in x:
        h, bits = [Fraction(float(v)) for v in row], []
        for node in net.nodes[:-1]:
            if node.name in {g.name for g in net.gates}:
                slope = Fraction(float(node.kind.slopes[0]))
                codes = [u > 0 for u in h]
                bits.append(np.packbits(codes))
                h = [u if u > 0 else slope * u for u in h]
            else:
                w, b = node.kind.weights[0], node.kind.bias
                c = (
                    [Fraction(0)] * len(w)
                    if b is None
                    else [Fraction(float(v)) for v in b.flatten()]
                )
                h = [
                    c[i] + sum(Fraction(float(v)) * u for v, u in zip(w[i], h, strict=True))
                    for i in range(len(w))
                ]
        rows.append(np.concatenate(bits))
    return np.stack(rows)


def sure(net: gw.Network, dtype: torch.dtype, reach: np.ndarray) -> Sure:
    """A look at rows with |x| <= reach."""
    found = chain(net, dtype)
    assert found is not None
    look = Sure(net, found, exact_input=dtype == F64)
    assert look.widen(reach)
    return look


def looked(net: gw.Network, dtype: torch.dtype, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits without padding, and the rows flagged."""
    look = sure(net, dtype, np.abs(x).max(0))
    bits = np.zeros((len(x), row_bytes(layout(net))), np.uint8)
    said = look(list(x.T), bits)
    assert not (said & OUTSIDE).any()
    return bits[:, : layout(net)[-1].stop], said > 0


def shift(net: gw.Network, x: np.ndarray, far: float) -> np.ndarray:
    """What to take from x so that the first unit comes about so near its knot."""
    kind = net.nodes[0].kind
    w = kind.weights[0][0].numpy()
    c = 0.0 if kind.bias is None else float(kind.bias.flatten()[0])
    return np.outer(x @ w + c - np.random.default_rng(0).normal(size=len(x)) * far, w / (w @ w))


@settings(max_examples=10)
@given(st.data())
def test_every_code_that_is_not_flagged_is_exact(data):
    """Rows on which a unit of the first layer is within 1e-7 of its knot are among them."""
    widths = data.draw(st.lists(st.sampled_from([1, 3, 8, 13]), min_size=2, max_size=4))
    act = data.draw(st.sampled_from([nn.ReLU(), nn.LeakyReLU(0.1)]))
    net = network(widths, act, data.draw(st.integers(0, 99)), data.draw(st.booleans()))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(6, widths[0]))
    x -= shift(net, x, 1e-7)
    expected = exact_bits(net, x)
    for dtype in DTYPES:
        bits, near = looked(net, dtype, x)
        assert np.array_equal(bits[~near], expected[~near])


def test_float32_is_wrong_on_rows_that_are_flagged():
    """So the test above can fail: without the flag there are wrong codes."""
    net = network([5, 16, 16], nn.ReLU(), 0)
    x = np.random.default_rng(0).normal(size=(2000, 5))
    on_knots = x[:1000]
    on_knots -= shift(net, on_knots, 1e-8)
    bits, near = looked(net, torch.float32, x)
    truth = gw.pattern(net, x).bits[:, : layout(net)[-1].stop]
    assert np.array_equal(bits[~near], truth[~near])
    assert near[:1000].all()
    assert (bits[:1000] != truth[:1000]).any(1).sum() > 100
    assert near[1000:].mean() < 0.05
    assert not looked(net, F64, x[1000:])[1].any()


def dense(w: list[list[float]], c: list[float], slope: float = 0.0) -> gw.Network:
    """One layer of these weights, a gate, and an output."""
    first = nn.Linear(len(w[0]), len(w))
    first.weight.data, first.bias.data = torch.tensor(w, dtype=F64), torch.tensor(c, dtype=F64)
    act = nn.LeakyReLU(slope)
    return gw.read(nn.Sequential(first, act, nn.Linear(len(w), 1).double(), act))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_limit_pays_for_every_rounding_counted_one_by_one(dtype):
    """x, each weight, its product and sums, the bias and its sum; and one that is to spare."""
    rng, u = np.random.default_rng(0), Fraction(float(torch.finfo(dtype).eps)) / 2
    w, c = rng.normal(size=(40, 4)), rng.normal(size=40)
    c[::2] = 0  # of a bias more is said than it needs
    net, x = dense(w.tolist(), c.tolist(), 0.01), rng.uniform(0.5, 2, 4)
    look = sure(net, dtype, x)
    first, last = look.limits[:40].tolist(), look.limits[40:41].tolist()
    before = 0 if dtype == F64 else 1
    behind, wide = [], []
    for row, b, limit in zip(w.tolist(), c.tolist(), first, strict=True):
        size = sum(abs(Fraction(a) * Fraction(v)) for a, v in zip(row, x.tolist(), strict=True))
        n = len(row) + 2 + before + 1
        off = size * ((1 + u) ** n - 1) + abs(Fraction(b)) * ((1 + u) ** 2 - 1)
        assert off <= Fraction(limit) < 2 * off
        behind.append(off)
        wide.append(size + abs(Fraction(b)))
    weight = net.nodes[2].kind.weights[0][0].tolist()
    scale = abs(Fraction(net.nodes[2].kind.bias.item()))
    slope = (1 + u) ** 2  # of the gate, rounded, and its product
    off = sum(
        abs(Fraction(a)) * ((w + e) * slope * (1 + u) ** 43 - w)
        for a, w, e in zip(weight, wide, behind, strict=True)
    )
    off += scale * ((1 + u) ** 2 - 1)
    assert off <= Fraction(last[0]) < 2 * off


def test_a_reach_grows_input_by_input():
    net = network([3, 5, 4], nn.ReLU(), 0)
    look = sure(net, torch.float32, np.array([1.0, 1.0, 1e-3]))
    assert look.widen(np.array([2.0, 1e-3, 1.0]))
    whole = sure(net, torch.float32, np.array([2.0, 1.0, 1.0]))
    assert np.array_equal(look.limits, whole.limits)


TINY = 2.0**-149  # float32's smallest number


@pytest.mark.parametrize(
    ("weights", "bias", "x"),
    [
        ([0.9 * TINY, -0.6 * TINY], 0.0, [1e30, 1.2e30]),  # becomes TINY, -TINY
        ([1e-46], -1e-17, [1e30]),  # becomes 0
        ([1.0, 1e-46], -0.25, [0.25, 1e30]),
        ([1.0, -1.0], TINY / 2, [1e-30, 1e-30]),
        ([1.0, -1.0], 0.0, [1 + 2.0**-40, 1.0]),
    ],
)
def test_what_float32_cannot_hold_is_flagged(weights, bias, x):
    net, rows = dense([weights], [bias]), np.array([x])
    bits, near = looked(net, torch.float32, rows)
    assert near[0]
    assert exact_bits(net, rows)[0, 0] != bits[0, 0]


def test_weights_beyond_float32_are_left_to_float64():
    for net in (dense([[1e39]], [-100.0]), dense([[1.0]], [1e39]), dense([[1.0]], [0.0], 1e39)):
        assert chain(net, torch.float32) is None
        assert chain(net, F64) is not None


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.1), nn.Hardsigmoid(), nn.Hardtanh()])
def test_a_gate_at_the_end_keeps_the_threshold_of_its_input(act):
    """Behind it the error may be a sixth."""
    first, reach = nn.Linear(5, 3), torch.ones(1, 5, dtype=F64)
    ends = gw.read(nn.Sequential(first, act))
    goes_on = gw.read(nn.Sequential(first, act, nn.Linear(3, 1)))
    assert torch.equal(*(thresholds(net, reach)[net.gates[0].name] for net in (ends, goes_on)))


def test_terms_that_a_sum_loses_one_by_one_are_reckoned_with_at_the_last_gate():
    """3 - 1.2 n u and n - 1 terms of almost 2 u: above the knot, and below it in floating point."""
    u, n = 2.0**-53, 200
    first = nn.Linear(n, 12, bias=False).double()
    first.weight.data[:] = 1
    x = np.full((16, n), 1.98 * u)
    x[:, 0] = 3 - 1.2 * n * u
    assert sum(map(Fraction, x[0].tolist())) > 3
    net = gw.read(nn.Sequential(first, nn.Hardsigmoid()))
    assert (gw.pattern(net, x).codes(net.gates[0].name) == 2).all()


def test_what_is_no_chain_of_dense_layers_is_left_to_float64():
    relu = network([3, 4], nn.ReLU(), 0)
    assert chain(relu, F64) is not None
    for act in (nn.ReLU6(), nn.Hardtanh()):
        assert chain(network([3, 4], act, 0), F64) is None
    conv = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1)).double()
    assert chain(gw.read(conv, torch.zeros(1, 1, 3).double()), F64) is None


def test_a_reach_near_the_largest_float32_is_left_to_float64():
    net = network([3, 4], nn.ReLU(), 0)
    look = Sure(net, chain(net, torch.float32), exact_input=False)
    assert look.widen(np.full(3, 1e20))
    limits = look.limits.copy()
    assert not look.widen(np.array([1e20, 1e37, 1e20]))
    assert not look.widen(np.full(3, np.inf))
    assert np.array_equal(look.limits, limits) and (look.reach == 1e20).all()


def by_numpy(look: Sure, net: gw.Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same layer after layer, in the look's dtype: bits, and the rows near a knot."""
    near, bits, h = np.zeros(len(x), bool), [], x
    layers = zip(net.nodes[::2], net.gates, look.chain.plan, look.chain.slopes, strict=False)
    for dense, gate, (*_, first, _), slope in layers:
        W, c = (t.to(look.dtype).numpy() for t in (dense.kind.weights[0], dense.kind.bias))
        u = h @ W.T + c
        limits = look.limits[first : first + len(W)]
        near |= ~(np.abs(u) > limits).all(1)
        bits.append(np.packbits(u > 0, axis=1))
        h = np.where(u > 0, u, slope * u)
        assert gate.inputs == (dense.name,)
    return np.concatenate(bits, 1), near


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("rows", [1, 5, 8, 9, 300])
def test_the_compiled_layers_are_numpys(dtype, units, rows):
    """Small whole numbers: no sum is rounded, so every code and every row near a knot is known."""
    rng = np.random.default_rng(units)
    model = nn.Sequential(
        nn.Linear(3, units), nn.LeakyReLU(0.25), nn.Linear(units, 5), nn.ReLU(), nn.Linear(5, 1)
    ).double()
    for p in model.parameters():
        p.data = torch.from_numpy(rng.integers(-2, 3, p.shape).astype(float))
    net, x = gw.read(model), rng.integers(-3, 4, (rows, 3)).astype(float)
    look = sure(net, dtype, np.full(3, 3.0))
    for limits in (look.limits, np.minimum(look.limits, 0)):
        look.limits = limits
        bits = np.zeros((rows, row_bytes(layout(net))), np.uint8)
        said = look(list(x.T), bits)
        expected, close = by_numpy(look, net, x.astype(DTYPES[dtype]))
        assert np.array_equal(bits[:, : expected.shape[1]], expected)
        assert not bits[:, expected.shape[1] :].any()
        assert np.array_equal(said, CLOSE * close)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0001, -1.0001])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_beyond_the_reach_are_told(dtype, value):
    look = sure(dense([[1.0, -1.0], [0.5, 1.0]], [0.0, 5.0]), dtype, np.ones(2))
    x = np.array([[0.25, 0.5]] * 9 + [[1.0, -1.0]])
    x[4], x[7, 0] = value, value
    said = look(list(x.T), np.zeros((10, 8), np.uint8))
    assert np.flatnonzero(said & OUTSIDE).tolist() == [4, 7]
    assert not (said[[0, 9]]).any()


def test_a_changed_tile_is_compiled_anew():
    """Numba's cache asks only for the file of the function: what it is made of is there."""
    assert tile.looked.py_func.__code__.co_filename == tile.__file__


def test_columns_that_do_not_fit_are_refused():
    """Compiled vectors walk flat memory."""
    look = sure(network([3, 9], nn.ReLU(), 0), torch.float32, np.ones(3))
    x, bits = np.random.default_rng(0).uniform(-1, 1, (40, 6)), np.zeros((40, 8), np.uint8)
    apart, together = (bits.copy() for _ in range(2))
    look(list(x[:, ::2].T), apart)
    look(list(np.ascontiguousarray(x[:, ::2].T)), together)
    assert np.array_equal(apart, together)
    with pytest.raises(ValueError, match="3 columns of 40 rows"):
        look(list(x[:, :2].T), bits)
    with pytest.raises(ValueError, match="3 columns of 40 rows"):
        look(list(x[:39, :3].T), bits)
    with pytest.raises(ValueError, match="no room in 1 bytes"):
        look(list(x[:, :3].T), np.zeros((40, 1), np.uint8))
    with pytest.raises(TypingError):
        look(list(x[:, :3].T), np.zeros((40, 16), np.uint8)[:, ::2])


def test_a_float32_network_and_rows_on_a_tie_streamed_as_in_memory(tmp_path):
    """Inputs are rounded to the network's dtype; a unit that is exactly zero is no doubt."""
    torch.manual_seed(0)
    first = nn.Linear(4, 9)
    with torch.no_grad():
        first.weight[0], first.bias[0] = torch.tensor([1.0, -1.0, 0.0, 0.0]), 0.0
    net = gw.read(nn.Sequential(first, nn.ReLU(), nn.Linear(9, 1)))
    x = np.random.default_rng(0).normal(size=(5000, 4))
    x[::3, 1] = x[::3, 0]
    pa.parquet.write_table(
        pa.table({f"x{j}": x[:, j] for j in range(4)}), tmp_path / "x.parquet", row_group_size=700
    )
    found, whole = gw.census(net, tmp_path), gw.census(net, x.astype(np.float32))
    assert np.array_equal(found.counts, whole.counts)
    assert np.array_equal(found.first, whole.first)
    assert np.array_equal(found.pattern.bits, whole.pattern.bits)
    assert found.undecided == (whole.undecided > 0).sum() == 0


@pytest.mark.parametrize(("rows", "kept"), [(1, 2), (1000, 2), (5000, 0)])
def test_a_look_is_given_up_for_many_ties_and_not_for_those_of_a_small_file(rows, kept):
    net = network([3, 4], nn.ReLU(), 0, bias=False)
    watch = Watch(net, "raise", None)
    seen = watch(Block(Place(), (np.zeros(rows),) * 3), "x")
    assert not seen.bits.any() and not seen.units.any()
    assert len(watch.looks) == kept


@pytest.mark.parametrize("far", [1e3, 1e30, 1e300])
def test_few_large_numbers_spoil_no_bound_for_the_others(far):
    """Their rows are looked at more closely; what they are is the census's of rows in memory."""
    net, rng = network([6, 20, 20], nn.ReLU(), 0), np.random.default_rng(0)
    watch = Watch(net, "raise", None)
    for _ in range(3):
        x = rng.normal(size=(5000, 6))
        x[rng.integers(5000, size=4), rng.integers(6, size=4)] = far
        block = Block(Place(), tuple(np.ascontiguousarray(c) for c in x.T))
        assert np.array_equal(watch(block, "x").bits, gw.pattern(net, x).bits)
        assert watch.looks[0].reach.max() < 10 and watch.looks[1].reach.max() < 30
    assert len(watch.looks) == 2


def test_a_reach_follows_rows_that_grow():
    net, rng = network([3, 9], nn.ReLU(), 0), np.random.default_rng(0)
    watch, widened = Watch(net, "raise", None), []
    for k in range(40):
        x = rng.normal(size=(500, 3)) * (1 + k) + [0, 0, 500 * k]
        block = Block(Place(), tuple(np.ascontiguousarray(c) for c in x.T))
        assert np.array_equal(watch(block, "x").bits, gw.pattern(net, x).bits)
        widened.append(float(watch.looks[0].reach[2]))
    assert widened == sorted(widened)
    assert 5 < len(set(widened)) < 20


def test_answers_come_in_order_and_the_first_error_in_its_turn():
    threads, seen = torch.get_num_threads(), []

    def make():
        def work(i: int) -> int:
            time.sleep(0.002 * (5 - i % 5))
            seen.append(threading.get_ident())
            if i in (11, 13):
                raise ValueError(str(i))
            return i * i

        return work

    assert list(abreast(make, iter(range(10)), 3)) == [i * i for i in range(10)]
    assert len(set(seen)) > 1
    answers = []
    with pytest.raises(ValueError, match="11"):
        answers.extend(abreast(make, iter(range(20)), 3))
    assert torch.get_num_threads() == threads
