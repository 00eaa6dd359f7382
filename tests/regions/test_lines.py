"""A line through a network: every knot is found, and between two of them nothing bends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from cases import CASES, PIECEWISE
from gatewise.errors import DataError, NotPiecewiseAffine, WrongShape
from gatewise.regions.lines import mean_slopes, trace
from nets import F64, Chain, mixed, mlp, rows
from oracles.plain import jacobian


def residual(seed: int = 0) -> gw.Network:
    """A skip connection, a maximum of groups, and a gate of three pieces, all continuous."""
    chain = Chain(4, seed)
    chain.linear(6)
    first = chain.gate("relu")
    chain.linear(6)
    chain.gate("hardtanh")
    chain.skip(first)
    chain.linear(12)
    chain.maxout(4)
    chain.linear(5)
    chain.gate("leaky")
    chain.linear(3)
    return chain.network()


@st.composite
def continuous(draw) -> gw.Network:
    """Any small network without a step."""
    seed = draw(st.integers(0, 10_000))
    if draw(st.booleans()):
        return residual(seed)
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=5))
    gate = draw(st.sampled_from(["relu", "leaky", "hardtanh", "abs"]))
    return mlp(*sizes, gate=gate, seed=seed, bias=draw(st.booleans()))


def interpolated(t: torch.Tensor, values: torch.Tensor, s: torch.Tensor) -> np.ndarray:
    """The polyline through (t, values) at s."""
    return np.stack([np.interp(s, t, column) for column in values.T.numpy()], 1)


@settings(max_examples=40)
@given(continuous(), st.integers(0, 99), st.sampled_from([0.5, 4.0, 50.0]))
def test_the_polyline_is_the_network_everywhere(network, seed, far):
    x, way = rows(network, 3, seed), rows(network, 3, seed + 1)
    found = trace(network, x, way, -far, far)
    size = 1 + found.values.abs().max()
    assert len(found) == 3
    assert (found.error <= 1e-12 * size).all()
    s = torch.linspace(-far, far, 301, dtype=F64)
    for i in range(3):
        t, values = found[i]
        assert t[0] == -far
        assert t[-1] == far
        assert (t.diff() > 0).all()
        truth = network(x[i] + s[:, None] * way[i])
        np.testing.assert_allclose(interpolated(t, values, s), truth, atol=1e-11 * float(size))


@settings(max_examples=40)
@given(continuous(), st.integers(0, 99))
def test_each_piece_has_the_gradient_at_its_middle(network, seed):
    x, way = rows(network, 2, seed), rows(network, 2, seed + 1)
    found = trace(network, x, way, -2.0, 2.0)
    slopes = found.slopes
    for i in range(2):
        first, last = found.ptr[i : i + 2].tolist()
        for k in range(first, last - 1):
            length = found.t[k + 1] - found.t[k]
            middle = x[i] + (found.t[k] + length / 2) * way[i]
            truth = jacobian(lambda v: network(v), middle[None])[0] @ way[i]
            error = (slopes[k] - truth).abs().max() * length
            assert error < 1e-11 * (1 + truth.abs().max())
        assert slopes[last - 1].isnan().all()


@settings(max_examples=40)
@given(continuous(), st.integers(0, 99))
def test_mean_slopes_are_the_sum_over_pieces_of_the_gradient(network, seed):
    x, way = rows(network, 3, seed), 2 * rows(network, 3, seed + 1)
    every = list(range(network.outputs))
    found, knots = mean_slopes(network, x, way, every), trace(network, x, way)
    for i in range(3):
        t = knots[i][0]
        middle = x[i] + (t[:-1] + t.diff() / 2)[:, None] * way[i]
        each = jacobian(lambda v: network(v), middle)
        truth = (each * t.diff()[:, None, None]).sum(0)
        np.testing.assert_allclose(found[i], truth, atol=1e-11 * (1 + float(each.abs().max())))


@pytest.mark.parametrize("name", [n for n in PIECEWISE if n != "dlgn"])
def test_named_modules(name):
    case = CASES[name]
    network = gw.read(case.module(), case.rows(3)).to(F64)
    x, way = (case.rows(3, seed).double().reshape(3, -1) for seed in (1, 2))
    found = trace(network, x, way, -2, 2)
    s = torch.linspace(-2, 2, 101, dtype=F64)
    for i in range(3):
        truth = network(x[i] + s[:, None] * way[i])
        np.testing.assert_allclose(interpolated(*found[i], s), truth, atol=1e-12)
    gain = network(x + way) - network(x)
    slopes = mean_slopes(network, x, way, list(range(network.outputs)))
    torch.testing.assert_close(torch.einsum("rki,ri->rk", slopes, way), gain, atol=1e-12, rtol=0)


@settings(max_examples=40)
@given(continuous(), st.integers(0, 99))
def test_a_ray_tells_the_behaviour_at_infinity(network, seed):
    x, way = rows(network, 3, seed), rows(network, 3, seed + 1)
    found = trace(network, x, way, -torch.inf, torch.inf)
    edge = 10 * float(found.t.abs().max()) + 10
    inside = trace(network, x, way, -edge, edge)
    for end, sign, slope in (("first", -1, found.before), ("last", 1, found.after)):
        near, far = (network(x + sign * k * edge * way) for k in (2, 3))
        tolerance = 1e-9 * (1 + near.abs().max()) / edge
        assert ((far - near) * sign / edge - slope).abs().max() < tolerance, end
    kept = (inside.t.abs() < edge).sum()
    assert kept == len(found.t) or (found.t == 0).any()  # 0 is held where a line has no knot
    for t in (-3 * edge, -edge, 0.0, edge, 3 * edge):
        truth = network(x + t * way)
        np.testing.assert_allclose(found.at(t), truth, atol=1e-10 * (1 + float(truth.abs().max())))


def test_a_known_line():
    """ReLU on (-1, 3) -> (3, -1): knots 0, 1/4, 3/4, 1 with stated images (SyReNN's own test)."""
    chain = Chain(2)
    chain.gate("relu")
    network = chain.network()
    found = trace(network, torch.tensor([[-1.0, 3.0]]), torch.tensor([[4.0, -4.0]]))
    assert found.t.tolist() == [0, 0.25, 0.75, 1]
    assert found.values.tolist() == [[0, 3], [0, 2], [2, 0], [3, 0]]
    assert found.bends.tolist() == [False, True, True, False]
    assert found.at(0.5).tolist() == [[1, 1]]


def test_a_line_along_a_wall_and_a_line_of_one_point():
    network = mlp(2, 6, 1, seed=3)
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    on = -c[0] * w[0] / (w[0] @ w[0])
    along = torch.stack([-w[0, 1], w[0, 0]])
    for way in (along, 0 * along):
        found = trace(network, on, way, -1, 1)
        truth = network(on + found.t[:, None] * way)
        torch.testing.assert_close(found.values, truth, atol=1e-14, rtol=0)
    slopes = mean_slopes(network, on, along, [0])[0] @ along
    torch.testing.assert_close(slopes, (network(on + along[None]) - network(on[None]))[0])


def test_two_units_that_are_one_have_one_knot():
    network = mlp(2, 4, 1, seed=2)
    kind = network.nodes[0].kind
    kind.weights[0][1], kind.bias[1] = kind.weights[0][0], kind.bias[0]
    found = trace(network, rows(network, 20), rows(network, 20, 1), -50, 50)
    assert (found.t.diff()[found.row.diff() == 0] > 0).all()
    assert found.ptr.diff().max() <= 5


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    network = residual(4)
    x, way = rows(network, 40), rows(network, 40, 1)
    whole, slopes = trace(network, x, way), mean_slopes(network, x, way, [0, 2])
    monkeypatch.setattr("gatewise.regions.lines.CHUNK_BYTES", 1)
    for a, b in zip(vars(whole).values(), vars(trace(network, x, way)).values(), strict=True):
        assert (a is b) or torch.allclose(a, b, rtol=0, atol=1e-13)
    torch.testing.assert_close(mean_slopes(network, x, way, [0, 2]), slopes)


def test_each_line_may_have_its_own_ends():
    network = mlp(3, 6, 1)
    x, way = rows(network, 3), rows(network, 1, 1)
    stop = torch.tensor([1.0, 2.0, torch.inf])
    found = trace(network, x, way, 0, stop)
    assert [found[i][0][-1].item() for i in range(2)] == [1, 2]
    assert found.after[:2].isnan().all()
    assert found.after[2].isfinite().all()
    assert found.before is None
    assert "3 lines" in repr(found)


def test_what_cannot_be_traced_is_refused_in_words():
    with pytest.raises(NotPiecewiseAffine, match=r"node 'n8' is Pieces, which jumps"):
        trace(mixed(0), rows(mixed(0)), rows(mixed(0)))
    gelu = CASES["gelu"]
    with pytest.raises(NotPiecewiseAffine, match="GELU"):
        trace(gw.read(gelu.module(), gelu.rows(2)), gelu.rows(2), gelu.rows(2))
    network = mlp(3, 4, 1)
    x = rows(network, 3)
    with pytest.raises(WrongShape, match="x must have rows of 3 numbers"):
        trace(network, x[:, :2], x)
    with pytest.raises(WrongShape, match="x has 3 rows and direction 2"):
        trace(network, x, x[:2])
    with pytest.raises(DataError, match="direction holds NaN or infinity"):
        trace(network, x, x / 0)
    with pytest.raises(DataError, match="start must not be beyond stop"):
        trace(network, x, x, 1, 0)
    with pytest.raises(DataError, match="start must not be beyond stop"):
        trace(network, x, x, float("nan"), 0)
    with pytest.raises(WrongShape, match="one for each of 3 lines"):
        trace(network, x, x, torch.zeros(2), 1)
    assert len(trace(network, x[:0], x[:0])) == 0
    assert mean_slopes(network, x[:0], x[:0], [0]).shape == (0, 1, 3)


def test_values_are_given_where_the_line_is_and_nowhere_else():
    network = mlp(3, 6, 2, seed=5)
    x, way = rows(network, 4), rows(network, 4, 9)
    found = trace(network, x, way)
    for t in (0.0, 0.3, 1, np.float32(0.5), np.array([0.1, 0.9, 0.0, 1.0]), [0.2] * 4):
        at = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)
        np.testing.assert_allclose(found.at(t), network(x + at * way), atol=1e-12)
    one, many = trace(network, x[:1], way[:1]), np.linspace(0, 1, 11)
    truth = network(x[:1] + torch.from_numpy(many)[:, None] * way[:1])
    np.testing.assert_allclose(one.at(many), truth, atol=1e-12)
    for t in (-0.1, 1.5, np.array([0, 0, 0, 1.01])):
        with pytest.raises(DataError, match=r"is beyond [01], where the line ends"):
            found.at(t)
    with pytest.raises(DataError, match="finite number"):
        found.at(float("nan"))
    with pytest.raises(WrongShape, match="t has 3 numbers for 4 lines"):
        found.at([0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="t must be a number"):
        found.at("far")
    with pytest.raises(DataError, match="start must be a number"):
        trace(network, x, way, "a", 1)


def test_an_infinite_end_is_open_and_the_other_is_not():
    network = mlp(3, 6, 2, seed=5)
    x, way = rows(network, 2), rows(network, 2, 9)
    ends = torch.tensor([torch.inf, 2.0], dtype=torch.float64)
    found = trace(network, x, way, 0, ends)
    t = torch.tensor([1e3, 2.0], dtype=torch.float64)
    np.testing.assert_allclose(found.at(t), network(x + t[:, None] * way), rtol=1e-9)
    with pytest.raises(DataError, match="t = -1 is beyond 0"):
        found.at(-1)
    with pytest.raises(DataError, match="t = 3 is beyond 2"):
        found.at(3)
