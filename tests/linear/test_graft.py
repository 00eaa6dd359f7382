"""Grafted units: lines by numpy, outputs by hand, and a Network that every room can use."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
import nets
from gatewise.errors import BadRows, DataError, EmptyData
from gatewise.ir.kinds import Pieces
from gatewise.linear import graft, grafting
from gatewise.linear.affine_map import AffineMap
from gatewise.linear.collapse import collapse
from gatewise.linear.freeze import freeze
from gatewise.patterns.observe import pattern

F64 = torch.float64


def by_hand(network, x: torch.Tensor, found) -> torch.Tensor:
    """The grafted forward pass, gate by gate, with the lines that were found."""
    values = {"input": x}
    for node in network.nodes:
        ins = [values[name] for name in node.inputs]
        value = node.kind(*ins)
        if node.name in found.units:
            z, flat = ins[0].flatten(1), value.flatten(1).clone()
            for u, a, b in zip(
                found.units[node.name], found.slopes[node.name], found.offsets[node.name],
                strict=True,
            ):  # fmt: skip
                flat[:, u] = a * z[:, u] + b
            value = flat.reshape(value.shape)
        values[node.name] = value
    return values[network.output].flatten(1)


@settings(max_examples=15, deadline=None)
@given(nets.networks(), st.floats(0.05, 1), st.integers(0, 99))
def test_the_grafted_network_computes_its_lines_and_says_what_they_cost(network, share, seed):
    x = nets.rows(network, 25, seed)
    if not any(isinstance(n.kind, Pieces) for n in network.gates):
        with pytest.raises(DataError, match="no gate of single units"):
            graft(network, x, share=share)
        return
    found = graft(network, x, share=share)
    before, after = network(x), found.network(x)
    torch.testing.assert_close(after, by_hand(network, x, found), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.error, (after - before).square().mean(0).sqrt(),
                               rtol=1e-6, atol=1e-9)  # fmt: skip
    assert found.largest == pytest.approx(float((after - before).abs().max()), abs=1e-9)
    kept = sum(np.prod(n.shape) for n in found.network.gates if isinstance(n.kind, Pieces))
    assert found.grafted == round(share * found.gates) == found.gates - kept


def test_the_lines_of_a_first_layer_are_least_squares():
    network = nets.mlp(3, 8, 2, seed=4)
    x = nets.rows(network, 40)
    gate = network.gates[0]
    found = graft(network, x, units={gate.name: range(8)})
    z = network.nodes[0].kind(x).numpy()
    for u in range(8):
        a, b = np.polyfit(z[:, u], np.maximum(z[:, u], 0), 1)
        assert float(found.slopes[gate.name][u]) == pytest.approx(a)
        assert float(found.offsets[gate.name][u]) == pytest.approx(b)
    assert not found.network.gates  # one affine map is left
    W, c = collapse(found.network)
    torch.testing.assert_close(x @ W[0].T + c[0], found.network(x))


def test_units_that_do_not_bend_on_the_data_cost_nothing():
    """Planted: two always on, one always off, one that nothing reads; they are taken first."""
    module = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    torch.manual_seed(0)
    with torch.no_grad():
        module[0].weight.normal_()
        module[0].bias.copy_(torch.tensor([50.0, 60, -50, 0, 0, 0, 0, 0]))
        module[2].weight.normal_()
        module[2].weight[:, 3] = 0
    x = torch.randn(60, 2, dtype=F64)
    network = gw.read(module, x[:1])
    found = graft(network, x, share=0.5)
    (units,) = found.units.values()
    assert units.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found.network(x), network(x), rtol=1e-12, atol=1e-12)
    assert found.largest < 1e-12 and found.agree == 1.0 and float(found.r2.min()) > 1 - 1e-15
    assert "4 of 8 gate units grafted" in str(found) and "100.00% keep their class" in str(found)
    assert graft(network, x, share=1.0).largest > 0.01


def test_later_gates_are_fitted_to_the_original_from_what_now_reaches_them():
    """By hand through both layers."""
    network = nets.mlp(4, 16, 16, 1, seed=1)
    x = nets.rows(network, 200)
    first, second = (n.name for n in network.gates)
    both = graft(network, x, units={first: range(16), second: range(16)})
    one, gate, two, *_ = (n.kind for n in network.nodes)
    new = two(both.slopes[first] * one(x) + both.offsets[first])
    old = gate(two(gate(one(x))))
    for u in range(16):
        a, b = np.polyfit(new[:, u].numpy(), old[:, u].numpy(), 1)
        assert float(both.slopes[second][u]) == pytest.approx(a)
        assert float(both.offsets[second][u]) == pytest.approx(b)


def test_every_room_takes_a_grafted_network():
    """Patterns, frozen maps and their bounds: convolutional gates of three branches, too."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.PReLU(3), nn.Conv2d(3, 2, 2), nn.Hardtanh(), nn.Flatten(),
        nn.Linear(8, 2),
    ).double()  # fmt: skip
    x = torch.randn(20, 1, 5, 5, dtype=F64) + 0.2
    network = gw.read(module, x[:1])
    x = network.rows(x)
    half = graft(network, x, share=0.5).network
    codes = pattern(half, x)
    assert codes.units == 35 - 18  # 27 and 8 units
    maps = AffineMap(half, codes)
    error = (maps.mv(x) - half(x)).abs()
    assert (error <= maps.bound(x) + 1e-15).all() and float(error.max()) < 1e-12
    W, c = collapse(freeze(half, codes))
    torch.testing.assert_close((W @ x.flatten(1)[:, :, None])[..., 0] + c, half(x))
    assert graft(network.to(torch.float32), x, share=0.5).network.dtype == torch.float32


def test_in_batches_it_is_the_same(monkeypatch):
    """Sums over seven batches and over one; far from 0, where sums of squares would cancel."""
    network = nets.mlp(4, 16, 12, 2, seed=1)
    x = nets.rows(network, 50)
    network.nodes[0].kind.bias.add_(1e6)
    network.nodes[2].kind.bias.sub_(network.nodes[2].kind.weights[0].sum(1) * 1e6)
    whole = graft(network, x, share=0.7)
    monkeypatch.setattr(grafting, "NUMBERS", 8 * (4 + 2 * (16 + 12) + 2))
    parts = graft(network, x, share=0.7)
    for name, units in whole.units.items():
        assert torch.equal(units, parts.units[name])
        torch.testing.assert_close(whole.slopes[name], parts.slopes[name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(whole.error, parts.error, rtol=1e-5, atol=1e-7)


def test_the_grafted_network_says_that_it_is_another_and_keeps_its_names():
    network = dataclasses.replace(nets.mlp(3, 5, 2), feature_names=("a", "b", "c"), notes=("one",))
    found = graft(network, nets.rows(network, 20), share=0.4)
    assert found.network.feature_names == network.feature_names
    assert found.network.notes == (
        "one",
        "grafted: 2 of 5 gate units are lines, so it is another function",
    )


def test_what_cannot_be_grafted_is_refused():
    network = nets.mlp(3, 5, 2)
    x, name = nets.rows(network, 10), network.gates[0].name
    for wanted, message in (
        ({}, "give either `units` or `share`"),
        ({"share": 0.5, "units": {name: [0]}}, "give either `units` or `share`"),
        ({"share": 0}, "`share` is above 0 and at most 1, got 0"),
        ({"share": True}, "`share` is above 0 and at most 1, got True"),
        ({"units": {"relu": [0]}}, f"there is no gate 'relu' to graft: the gates are {name}"),
        ({"units": {name: [5]}}, f"gate '{name}' has units 0 .. 4: give their numbers or a mask"),
        ({"units": {name: [0.5]}}, "give their numbers or a mask"),
        ({"units": {name: [True, False]}}, "give their numbers or a mask of 5"),
        ({"units": {name: "all"}}, "are numbers or a mask, got 'all'"),
        ({"units": [0]}, r"`units` is {gate: numbers or mask of its units}, got \[0\]"),
    ):
        with pytest.raises(DataError, match=message):
            graft(network, x, **wanted)
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 2: fill them in"):
        graft(network, x.index_fill(0, torch.tensor([2]), torch.nan), share=0.5)
    with pytest.raises(EmptyData, match="X has 0 rows"):
        graft(network, x[:0], share=0.5)
    with pytest.raises(DataError, match="give a Network"):
        graft(nn.ReLU(), x, share=0.5)
    with pytest.raises(DataError, match="the network has no gate of single units"):
        graft(nets.mlp(2, 1), torch.zeros(3, 2), share=0.5)
