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
from torch import nn

import gatewise as gw
from gatewise.ir.pattern import layout, row_bytes
from gatewise.patterns.compiled import gated
from gatewise.patterns.streaming.abreast import abreast
from gatewise.patterns.sure import Sure, chain
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


def looked(net: gw.Network, dtype: torch.dtype, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits without padding, and the rows flagged."""
    layers = chain(net, dtype)
    assert layers is not None
    look = Sure(net, layers, exact_input=dtype == F64)
    assert look.widen(torch.from_numpy(np.abs(x).max(0)))
    bits = np.zeros((len(x), row_bytes(layout(net))), np.uint8)
    given = torch.from_numpy(np.ascontiguousarray(x.T.astype(DTYPES[dtype])))
    near = look(given.T, bits)
    return bits[:, : layout(net)[-1].stop], near


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
    x = rng.normal(size=(12, widths[0]))
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


def test_what_is_no_chain_of_dense_layers_is_left_to_float64(monkeypatch):
    relu = network([3, 4], nn.ReLU(), 0)
    assert chain(relu, F64) is not None
    for act in (nn.ReLU6(), nn.Hardtanh()):
        assert chain(network([3, 4], act, 0), F64) is None
    conv = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1)).double()
    assert chain(gw.read(conv, torch.zeros(1, 1, 3).double()), F64) is None
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert chain(relu, torch.float32) is None
    assert chain(relu, F64) is not None


def test_a_reach_near_the_largest_float32_is_left_to_float64():
    net = network([3, 4], nn.ReLU(), 0)
    look = Sure(net, chain(net, torch.float32), exact_input=False)
    assert look.widen(torch.full((3,), 1e20, dtype=F64))
    assert not look.widen(torch.full((3,), 1e37, dtype=F64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 7, 8, 9, 40])
def test_the_compiled_gate_is_numpys(dtype, units):
    rng = np.random.default_rng(units)
    z = rng.normal(size=(300, units)).astype(dtype)
    z[3, 0], z[5, -1] = np.nan, np.inf
    bias = rng.normal(size=units).astype(dtype)
    limits = np.full(units, 0.01, dtype)
    bits, near, out = np.zeros((300, 8), np.uint8), np.zeros(300, bool), z.copy()
    gated(out, bias, limits, dtype(0.25), bits, 1, near)
    u = z + bias
    assert np.array_equal(bits[:, 1 : 1 + -(-units // 8)], np.packbits(u > 0, axis=1))
    assert not bits[:, 0].any() and not bits[:, 1 + -(-units // 8) :].any()
    assert np.array_equal(near, ~(np.abs(u) > limits).all(1))
    assert np.array_equal(out, np.where(u > 0, u, dtype(0.25) * u), equal_nan=True)


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
