"""Networks of many gates: maps and patterns against torch, nothing of size gates x inputs built."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import gatewise as gw
import shared
from gatewise.ir.pattern import layout, row_bytes
from gatewise.regions import halfspaces, margins
from gatewise.regions.constraints import frozen
from nets import mlp

F64 = torch.float64
SPEC = importlib.util.spec_from_file_location("large", shared.ROOT / "benchmarks" / "large.py")
large = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(large)


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation made, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.untyped_storage().nbytes() // 8)
        return out


@pytest.fixture(scope="module")
def resnet():
    """ResNet-18 for 32 x 32 images, 8 channels in place of 64: 69,632 gate units, 3,072 inputs."""
    module, x = large.resnet18(8, 10, small=True), large.images(32, 2)
    return module, gw.read(module, x[:1]), x


@pytest.fixture(scope="module")
def dense():
    """An MLP 4 x 512."""
    module, x = large.mlp(512), large.vectors(20)
    return module, gw.read(module, x[:1]), x


def hooked(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The signs of what goes into every ReLU, in order of the calls."""
    seen: list[torch.Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(1)))
        for m in module.modules()
        if isinstance(m, nn.ReLU)
    ]
    module(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("which", ["resnet", "dense"])
def test_patterns_are_what_hooks_see_and_maps_what_autograd_does(which, request):
    module, net, x = request.getfixturevalue(which)
    assert sum(s[0].numel() for s in hooked(module, x)) == sum(f.units for f in layout(net))
    with Largest() as seen:
        found = gw.census(net, x)
        maps = found.maps[found.ids]
        y = maps.mv(x.flatten(1))
        weight, offset = maps.rows([3])
        g = torch.randn(len(x), 10, generator=torch.Generator().manual_seed(0), dtype=F64)
        pulled = maps.rmv(g)
        told = gw.explain(net, x[:1].flatten(1).numpy(), output=3, margin=False)
    units, inputs = found.pattern.units, net.inputs
    assert 2 * seen.numbers < units * inputs
    assert found.pattern.bits.shape[1] == row_bytes(found.pattern.fields) < units / 7
    assert not found.undecided.any()
    for name, z in zip(found.pattern, hooked(module, x), strict=True):
        codes = found.pattern[found.ids].codes(name).flatten(1)
        assert (codes == (z > 0))[z.abs() > 1e-9].all()
    rows = x.clone().requires_grad_()
    out = module(rows)
    (truth,) = torch.autograd.grad(out[:, 3].sum(), rows, retain_graph=True)
    (vjp,) = torch.autograd.grad((out * g).sum(), rows)
    top = truth.abs().max()
    assert (y - out).abs().max() < 1e-12
    assert (weight[:, 0] - truth.flatten(1)).abs().max() < 1e-13 * top
    assert (pulled - vjp.flatten(1)).abs().max() < 1e-13 * vjp.abs().max()
    assert ((weight[:, 0] * x.flatten(1)).sum(1) + offset[:, 0] - out[:, 3]).abs().max() < 1e-11
    assert np.abs(told.slopes[:, :, 0] - weight[:1, 0].numpy()).max() < 1e-13 * top


def test_the_recorder_sees_gates_by_inputs_where_they_are_asked_for(dense):
    _, net, x = dense
    with Largest() as seen:
        gw.region(net, x[:1]).halfspaces()
    assert seen.numbers >= 4 * 512 * 784


def test_what_does_not_fit_is_refused_by_name(dense, monkeypatch):
    _, net, x = dense
    home = gw.region(net, x[:1])
    monkeypatch.setattr(halfspaces, "MOST_BYTES", 1 << 20)
    with pytest.raises(gw.GatewiseError, match=r"2,048 rows or more of 784 numbers.*\.verdict"):
        home.halfspaces()
    monkeypatch.setattr(margins, "A_ROW", 1000)
    with pytest.raises(gw.GatewiseError, match=r"walks through a network.*leave margins out"):
        home.margin()


def test_margins_from_some_inputs_at_a_time_are_those_from_all(monkeypatch):
    net = mlp(6, 9, 8, 7, 1)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    f, scale = frozen(net, gw.pattern(net, x)), torch.linspace(0, 2, 6, dtype=F64)
    whole = margins.dense(f, x, scale)
    monkeypatch.setattr(margins, "CHUNK_COLUMNS", 5 * 24 * 2)
    for a, b in zip(margins.dense(f, x, scale), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def test_a_job_of_the_benchmark_runs():
    """On the small dense network; the answer checks itself against torch."""
    told = large.measured(large.SMALL[1], "one row of W each")
    assert told["ours"] > 0
    assert float(told["said"].split()[-1]) < 1e-13
