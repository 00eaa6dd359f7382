"""The nearest wall, found by bounds, is the nearest of all walls; and it is a facet."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import shared
from cases import CASES, PIECEWISE
from gatewise.ir.kinds import Pieces
from gatewise.patterns.observe import pattern
from gatewise.regions import margins as room
from gatewise.regions.constraints import frozen
from gatewise.regions.halfspaces import region
from gatewise.regions.lines import trace
from gatewise.regions.nearest import nearest_facets
from gatewise.regions.norms import continuous, plan
from nets import F64, mlp, networks, rows, tensor
from oracles import vnnlib


def scales(network, seed=0):
    return (
        torch.rand(network.inputs, dtype=F64, generator=torch.Generator().manual_seed(seed)) + 0.1
    )


def slow(network, x, scale):
    """(3, rows) from every row of every region, one region at a time."""
    found, home = [], region(network, x)
    for i in range(len(x)):
        h = home.halfspaces(i)
        slack = (h.a @ x[i].flatten() + h.b).clamp(min=0)
        norms = torch.stack([h.a.norm(dim=1), h.a.abs().sum(1), (h.a * scale).norm(dim=1)])
        each = torch.where(norms > 0, slack / norms, torch.inf)
        found.append(each.amin(1) if len(h) else torch.full((3,), torch.inf, dtype=F64))
    return torch.stack(found, 1)


def quick(network, x, scale):
    found = region(network, x).margin(scale)
    return torch.stack([found.l2, found.linf, found.scaled])


def compare(network, x, scale):
    torch.testing.assert_close(
        quick(network, x, scale), slow(network, x, scale), rtol=1e-8, atol=1e-12
    )


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_bounds_leave_out_no_wall(network, seed):
    compare(network, rows(network, 6, seed), scales(network, seed))


@settings(max_examples=30)
@given(networks(), st.integers(0, 99))
def test_features_that_do_not_count_in_the_scale_count_in_the_other_metrics(network, seed):
    """A scale of 0 holds a feature fixed in that metric alone; all may be 0."""
    scale = scales(network, seed)
    for held in (scale > scale.median(), scale > 0):
        compare(network, rows(network, 4, seed), torch.where(held, 0.0, scale))


@pytest.mark.parametrize("name", PIECEWISE)
def test_named_modules(name):
    """Convolutions, maximum pooling, residual blocks, batch norms, a DLGN."""
    case = CASES[name]
    network = gw.read(case.module(), case.rows(3)).to(F64)
    compare(network, network.rows(case.rows(5)), scales(network))


@pytest.mark.parametrize("name", ["residual", "pooled_view", "max_pool", "hardtanh"])
def test_matrices_that_are_too_large_change_nothing(name, monkeypatch):
    monkeypatch.setattr("gatewise.regions.norms.ENTRIES", 0)
    case = CASES[name]
    network = gw.read(case.module(), case.rows(3)).to(F64)
    compare(network, network.rows(case.rows(5)), scales(network))


def test_when_too_many_walls_are_left_all_rows_are_taken(monkeypatch):
    """Two inputs and 200 units: more walls near than inputs."""
    network = mlp(1, 60, 60, 60, 1, seed=3)
    taken = []
    whole = room.dense
    monkeypatch.setattr(room, "dense", lambda *args: taken.append(1) or whole(*args))
    compare(network, rows(network, 4), scales(network))
    assert taken


def test_few_rows_are_worked_out(monkeypatch):
    network = mlp(20, 64, 64, 64, 1, seed=1)
    x, scale = rows(network, 50), scales(network)
    pairs = []
    low = room._lower
    monkeypatch.setattr(room, "_lower", lambda *args: pairs.append(len(args[3])) or low(*args))
    compare(network, x, scale)
    assert 0 < sum(pairs) < 50 * 128 / 4


@pytest.mark.parametrize("power", [-120, -70, 70, 120])
def test_sizes_that_float32_does_not_hold(power):
    network = mlp(3, 8, 8, 8, 2, seed=5)
    for node in network.nodes:
        if node.name in ("n0", "n2"):
            node.kind.weights[0].mul_(2.0**power)
            node.kind.bias.mul_(2.0**power)
    compare(network, rows(network, 10), scales(network))


def test_a_float32_network_has_its_margins_too():
    network = mlp(5, 16, 16, 1, seed=2)
    x = rows(network, 20)
    found = region(network.to("float32"), x.float()).margin().l2
    torch.testing.assert_close(found.double(), region(network, x).margin().l2, rtol=1e-3, atol=1e-6)


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_bounds_hold_under_every_pattern(network, seed):
    """|row| <= norms and |g A| <= |g| size, for the maps of every gate's inputs at many points."""
    scale = scales(network, seed)
    known = plan(network, scale).known
    x = rows(network, 30, seed)
    f = frozen(network, pattern(network, x))
    eye = torch.eye(network.inputs, dtype=F64).reshape(1, -1, *network.input_shape)
    values = {}
    room.visit(f, eye, room._without_bias, lambda n, zs: values.update(zip(n.inputs, zs)))  # noqa: B905
    for name, columns in values.items():
        a = columns.reshape(len(columns), network.inputs, -1).mT
        truth = torch.stack([a.norm(dim=-1), a.abs().sum(-1), (a * scale).norm(dim=-1)])
        assert (truth <= known[name].norms[:, None] * (1 + 1e-9)).all()
        g = torch.randn(len(a), 1, a.shape[1], dtype=F64)
        seen = (g @ a)[:, 0] / g.norm(dim=-1)
        size = torch.stack([seen.norm(dim=-1), seen.abs().sum(-1), (seen * scale).norm(dim=-1)])
        assert (size <= known[name].sizes[:, None] * (1 + 1e-9)).all()


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_the_nearest_wall_is_a_facet(network, seed):
    """A step just short of its foot stays in the region, one just beyond it changes its unit."""
    x, scale = rows(network, 8, seed), scales(network, seed)
    home = region(network, x)
    found = nearest_facets(network, x, home.pattern, scale)
    torch.testing.assert_close(found.distance, quick(network, x, scale)[2], rtol=1e-9, atol=1e-13)
    for i in range(8):
        if found.gate[i] < 0:
            assert found.distance[i] == torch.inf
            continue
        foot, size = found.foot[i], found.distance[i]
        torch.testing.assert_close((foot / scale).norm(), size, rtol=1e-9, atol=1e-13)
        if size < 1e-6:
            continue
        near = torch.stack([x[i] + 0.9999 * foot, x[i] + 1.0001 * foot])
        assert home[i : i + 1].verdict(near)[0].tolist() == [1, -1]
        gate = network.gates[int(found.gate[i])]
        before, after = (
            pattern(network, v[None]).codes(gate.name).flatten() for v in (x[i], near[1])
        )
        assert before[found.unit[i]] != after[found.unit[i]]


def test_a_feature_that_is_held_fixed_does_not_move():
    network = mlp(4, 12, 12, 1, seed=4)
    x, scale = rows(network, 10), scales(network)
    scale[2] = 0
    found = nearest_facets(network, x, pattern(network, x), scale)
    assert (found.foot[:, 2] == 0).all()
    assert (found.foot[:, [0, 1, 3]] != 0).any(1).all()


def test_progress_is_told():
    network, told = mlp(4, 12, 1, seed=4), []
    x = rows(network, 50_000)
    found = region(network, x).margin(progress=told.append)
    assert told[-1] == len(found.l2) == 50_000
    assert told == sorted(told)
    assert len(told) > 1


REAL = [
    "acasxu/ACASXU_run2a_1_1_batch_2000",
    "mnist_fc/mnist-net_256x2",
    "oval21_cifar/cifar_base_kw",
]


@pytest.mark.real_data
@pytest.mark.skipif(not shared.folder().is_dir(), reason=shared.reason())
@pytest.mark.parametrize("name", REAL)
def test_real_networks(name):
    """Against every row of every region, and lines through their own inputs."""
    path = shared.folder() / "onnx" / f"{name}.onnx"
    network = gw.read(path).to(F64)
    x = network.rows(vnnlib.inputs(path, 2, network.inputs))
    scale = scales(network)
    truth = torch.stack(room.dense(frozen(network, pattern(network, x)), x, scale))
    torch.testing.assert_close(quick(network, x, scale), truth, rtol=1e-9, atol=0)
    line = trace(network, x, rows(network, 2), -2, 3)
    assert line.error.max() <= 1e-12 * (1 + line.values.abs().max())
    assert len(line.t) > 100


def test_steps_are_the_gates_that_are_not_continuous():
    """Slopes may be one a unit while knots are one for all."""
    for gate in ("relu", "leaky", "hardtanh", "abs", "step"):
        network = mlp(2, 4, 1, gate=gate)
        assert all(map(continuous, network.nodes)) == (gate != "step")
    wide = Pieces(
        torch.tensor([-1.0, 1.0], dtype=F64),
        torch.tensor([[0.0, 0, 0], [1, 2, 3], [0, 0, 0]], dtype=F64),
        torch.tensor([[-1.0, -2, -3], [0, 0, 0], [1, 2, 3]], dtype=F64),
        (False, False),
    )
    node = dataclasses.replace(network.nodes[0], kind=wide)
    assert continuous(node)
    jump = dataclasses.replace(wide, offsets=wide.offsets + torch.tensor([0, 0, 1e-9]))
    assert not continuous(dataclasses.replace(node, kind=jump))


@pytest.mark.parametrize("slope", [1e-25, 1e14, 1e20])
def test_slopes_whose_squares_float32_does_not_hold(slope):
    network = mlp(3, 8, 8, 8, 2, seed=5, gate="leaky")
    kind = Pieces(tensor(0), tensor(slope, 1), tensor(0, 0), (False,))
    nodes = [
        dataclasses.replace(n, kind=kind) if isinstance(n.kind, Pieces) else n
        for n in network.nodes
    ]
    compare(dataclasses.replace(network, nodes=tuple(nodes)), rows(network, 10), scales(network))
