"""Fewer parameters, one function: BatchNorms, planted units, bottlenecks, data and boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
import shared
from cases import CASES
from gatewise.errors import BadRows, DataError, EmptyData, InternalError, WrongShape
from gatewise.ir.kinds import Affine, scale
from gatewise.ir.network import Network, Node
from gatewise.linear.folding.blocks import Joined
from gatewise.linear.folding.difference import difference
from gatewise.linear.folding.fold import fold
from gatewise.regions import constant_units
from nets import F64, Chain, mixed, mlp

BOX = (-1.0, 1.0)
LIMITS = ([-1.0] * 6, [1.0] * 6)


def planted() -> Network:
    """6-20-20-2: in the box 5 units are dead and 6 always on, and 4 of the second layer dead."""
    network = mlp(6, 20, 20, 2, seed=2)
    first, second = network.nodes[0].kind.bias, network.nodes[2].kind.bias
    first[:5], first[5:11], second[:4] = -50, 50, -2000
    return network


def shuffled(module: nn.Module) -> nn.Module:
    """In evaluation, every batch norm with statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(m.running_mean)
                nn.init.uniform_(m.running_var, 0.5, 2)
                nn.init.normal_(m.weight)
                nn.init.normal_(m.bias)
    return module.eval().double()


def torchs(module: nn.Module, *shape: int) -> Network:
    return gw.read(shuffled(module), torch.zeros(1, *shape, dtype=F64))


def same(network: Network, other: Network, x: torch.Tensor) -> None:
    assert torch.allclose(network(x), other(x), rtol=0, atol=1e-10)


def layers(network: Network) -> list[str]:
    return [n.layer for n in network.nodes]


def test_batch_norms_vanish_into_their_neighbours():
    network = torchs(
        nn.Sequential(
            nn.BatchNorm2d(3),  # before a convolution without padding
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 2, stride=2),
            nn.BatchNorm2d(3),
            nn.Flatten(),
            nn.Linear(432, 5),
            nn.BatchNorm1d(5),
            nn.ReLU(),
            nn.Linear(5, 2),
        ),
        3,
        8,
        8,
    )
    found = fold(network)
    assert layers(network).count("BatchNorm") == 5
    assert "BatchNorm" not in layers(found.network)
    assert found.parameters[1] == found.parameters[0] - (2 * 3 + 2 * 4 + 8 + 2 * 3 + 2 * 5)
    same(network, found.network, torch.randn(9, 192, dtype=F64))
    assert found.apart.error <= found.apart.bound < 1e-7
    assert found.where == "everywhere" and len(found.merged) == 5


def test_a_shift_before_padding_stays():
    """Its effect differs at the border, so it is no one number a channel."""
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten())
    network = torchs(module, 2, 5, 5)
    found = fold(network)
    assert layers(found.network) == layers(network)


def test_a_batch_norm_that_two_look_at_stays():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.a, self.b = nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            return self.a(x) + torch.relu(self.b(x))

    network = torchs(Two(), 4)
    assert layers(fold(network).network) == layers(network)


@pytest.mark.parametrize("path", shared.params("onnx/*_resnet/*.onnx"))
def test_a_resnet_with_the_batch_norms_it_was_trained_with(path):
    """The exporter folded them away: they are put back, random, and folding finds its weights."""
    network = gw.read(path)
    nodes: list[Node] = []
    for node in network.nodes:
        if node.layer != "Conv":
            nodes.append(node)
            continue
        s = torch.linspace(-2, 3, len(node.kind.weights[0]), dtype=F64)
        s[s.abs() < 0.1] = 1.0
        w = node.kind.weights[0] / s.reshape(-1, 1, 1, 1)
        plain = dataclasses.replace(node.kind, weights=(w,), bias=None)
        norm = Affine(scale, (s.reshape(-1, 1, 1),), node.kind.bias, 1)
        bare = f"{node.name}.conv"
        nodes.append(dataclasses.replace(node, name=bare, kind=plain))
        nodes.append(dataclasses.replace(node, layer="BatchNorm", kind=norm, inputs=(bare,)))
    whole = dataclasses.replace(network, nodes=tuple(nodes))
    found = fold(whole)
    assert layers(whole).count("BatchNorm") == layers(network).count("Conv") >= 6
    assert layers(found.network) == layers(network)
    assert found.network.parameters == network.parameters < whole.parameters
    for ours, theirs in zip(found.network.nodes, network.nodes, strict=True):
        if theirs.layer == "Conv":
            assert torch.allclose(ours.kind.weights[0], theirs.kind.weights[0], rtol=1e-14, atol=0)
    assert found.apart.error <= found.apart.bound


def test_planted_units_go_in_the_box():
    network = planted()
    constant = constant_units(network, LIMITS)
    found = fold(network, constant=constant, box=BOX)
    assert sum(found.off.values()) >= 9 and sum(found.on.values()) >= 6
    assert found.units[1] <= found.units[0] - 15
    assert found.parameters[1] < found.parameters[0] - 200
    x = torch.rand(3000, 6, dtype=F64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    same(network, found.network, x)
    assert found.where == "in the box" and "in the box" in found.network.notes[-1]
    assert not torch.allclose(network(300 * x), found.network(300 * x))  # and only there


def test_planted_units_go_on_the_data():
    network = planted()
    x = torch.randn(500, 6, dtype=F64, generator=torch.Generator().manual_seed(1)) / 3
    found = fold(network, x)
    assert found.units[1] <= 25
    assert found.parameters[1] < found.parameters[0] - 200
    same(network, found.network, x)
    assert found.apart.rows == 500 and found.where == "on the 500 rows given"
    told = str(found)
    assert "parameters" in told and "always off" in told and "on the 500 rows given" in told


def test_dead_channels_and_a_layer_that_is_always_on():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
        nn.ReLU(),
        nn.Linear(10, 2),
    )
    module[0].bias.data[:2] = -100
    module[2].bias.data[1] = -100
    module[5].bias.data[:] = 100
    network = torchs(module, 2, 6, 6)
    x = torch.rand(200, 72, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = fold(network, x)
    shapes = [n.shape for n in found.network.nodes]
    assert (1, 4, 6, 6) in shapes and (1, 3, 4, 4) in shapes and (1, 48) in shapes
    assert layers(found.network) == ["Conv", "ReLU", "Conv", "ReLU", "Reshape", "Linear"]
    same(network, found.network, x)


@pytest.mark.parametrize("gate", ["leaky", "hardtanh", "abs", "step"])
def test_gates_whose_constant_value_is_not_zero(gate):
    network = mlp(4, 12, 12, 2, gate=gate, seed=3)
    network.nodes[0].kind.bias[:6] = 40
    network.nodes[2].kind.bias[:5] = -900
    x = torch.randn(300, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = fold(network, x)
    assert found.units[1] < found.units[0] and found.parameters[1] < found.parameters[0]
    same(network, found.network, x)


def test_a_bottleneck_stays_and_a_wasteful_chain_goes():
    narrow = Chain(64)
    for width in (4, 64):
        narrow.linear(width)
    network = narrow.network()
    assert fold(network).parameters == (network.parameters, network.parameters)
    narrow.linear(64)  # 64 -> 4 -> 64 -> 64: the last two are one of rank 4
    found = fold(narrow.network())
    assert [n.shape for n in found.network.nodes] == [(4,), (64,)]
    same(narrow.network(), found.network, torch.randn(9, 64, dtype=F64))


def test_units_that_nothing_reads_go():
    network = mlp(3, 8, 2)
    network.nodes[2].kind.weights[0][:, 5:] = 0
    x = torch.randn(100, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    network.nodes[0].kind.bias[0] = -99  # one constant unit, so that units are looked at
    found = fold(network, x)
    assert found.units[1] <= 4
    same(network, found.network, torch.cat([x, x / 3]))


SOME = (
    "batch_norm_before batch_norm_after grouped_conv max_pool residual reused_relu concat prelu "
    "tied_weights dlgn glu"
)


@pytest.mark.parametrize("name", SOME.split())
def test_every_case_keeps_its_function(name):
    case = CASES[name]
    network = gw.read(case.module().double().eval(), case.rows(1).double())
    x = case.rows(40).double()
    for found in (fold(network), fold(network, x)):
        same(network, found.network, x)
        assert found.parameters[1] <= found.parameters[0]
        assert np.allclose(network.predict(x), found.network.predict(x), rtol=0, atol=1e-10)


def test_a_folded_network_is_folded_again():
    """Blocks over all before them, multiplied and cut like any other layers; and pulled back."""
    for seed in range(4):
        network = mlp(4, 12, 9, 3, seed=seed)
        network.nodes[0].kind.bias[:4], network.nodes[0].kind.bias[4:6] = -90, 90
        network.nodes[2].kind.bias[:4] = 900
        x = torch.randn(60, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))
        once = fold(network, x).network
        on = Chain(3, seed)  # behind it a scaling by columns and a layer of another size
        on.linear(1)
        on.linear(2)
        after = [dataclasses.replace(n, inputs=(once.output,)) if n.inputs == ("input",) else n
                 for n in on.nodes]  # fmt: skip
        after = [dataclasses.replace(n, name=f"{n.name}.b", inputs=tuple(
            i if i == once.output else f"{i}.b" for i in n.inputs)) for n in after]  # fmt: skip
        longer = dataclasses.replace(once, nodes=(*once.nodes, *after), output=after[-1].name)
        again = fold(longer, x[:20]).network
        same(longer, again, x[:20])
        maps = gw.affine(again, x[:20])
        assert torch.allclose(maps.mv(x[:20]), again(x[:20]), atol=1e-10)
        assert torch.allclose(
            (maps.matrix() @ x[:20, :, None])[..., 0] + maps.offset, again(x[:20])
        )


def test_a_rule_that_knows_its_size_is_not_multiplied():
    """3 -> 2 by a rule that says so, and 2 -> 1: the product would be refused by the rule."""
    chain = Chain(3)
    chain.linear(2)
    chain.linear(1)
    first, second = chain.nodes
    rule = Joined((3,), ((3,),), (2,))
    first = dataclasses.replace(
        first, kind=dataclasses.replace(first.kind, rule=rule, pullback=rule.back)
    )
    network = Network((first, second), (3,), second.name)
    same(network, fold(network).network, torch.randn(9, 3, dtype=F64))


class Twice(nn.Module):
    """Units that two layers read, and a gate that goes into a Concat."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.a(x))
        return self.head(torch.cat([self.b(z).relu(), self.c(z) + 1], 1))


def test_units_read_twice_and_a_gate_among_several_inputs():
    torch.manual_seed(0)
    module = Twice()
    module.a.bias.data[:3], module.a.bias.data[3:5] = -100, 100
    network = torchs(module, 5)
    x = torch.randn(60, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = fold(network, x)
    assert found.units[1] <= 7
    same(network, found.network, x)


def test_windows_that_begin_in_padding():
    """Constant and changing winners, beside candidates that are not there."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.MaxPool2d(3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    x = torch.rand(40, 1, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0, 0] = 9  # it wins its window on every row
    network = torchs(module, 1, 4, 4)
    found = fold(network, x)
    assert found.on  # some winner was constant
    same(network, found.network, x)


def test_a_batch_norm_of_one_unit_goes():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1),
        nn.BatchNorm1d(1),
    )  # fmt: skip
    network = torchs(module, 2, 4, 4)
    found = fold(network)
    assert layers(found.network) == ["Conv", "ReLU", "Reshape", "Linear"]
    same(network, found.network, torch.randn(9, 32, dtype=F64))


def test_what_a_network_is_besides_its_nodes_stays():
    network = dataclasses.replace(
        planted().to("float32"),
        feature_names=tuple("abcdef"),
        output_names=("y", "z"),
        task="classification",
        classes=("no", "yes"),
        prepare=np.negative,
    )
    rows = np.random.default_rng(0).normal(size=(50, 6)) / 3
    found = fold(network, rows)
    assert found.before is network and found.network.dtype == torch.float32
    for name in ("feature_names", "output_names", "task", "classes", "prepare"):
        assert getattr(found.network, name) == getattr(network, name)
    given = network.rows(-rows)  # the table is prepared, as the network's own methods do
    assert torch.allclose(network(given), found.network(given), atol=1e-3)


def test_what_is_refused():
    network = planted()
    with pytest.raises(DataError, match=r"give a Network, as gw.read\(model\) makes it; got a Seq"):
        fold(nn.Sequential())
    with pytest.raises(DataError, match="constant= and box= together"):
        fold(network, box=BOX)
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 1") as caught:
        fold(network, [[0.0] * 6, [float("nan")] * 6])
    assert caught.value.rows == (1,)
    with pytest.raises(EmptyData, match="X has 0 rows"):
        fold(network, np.zeros((0, 6)))
    with pytest.raises(WrongShape, match="rows of 6 inputs"):
        fold(network, np.zeros((3, 5)))
    with pytest.raises(DataError, match="one entry for each of the 2 gates"):
        fold(network, constant={"n1": torch.zeros(20)}, box=BOX)
    with pytest.raises(DataError, match="7 units for gate 'n1', which has 20"):
        fold(network, constant={"n1": torch.zeros(7), "n3": torch.zeros(20)}, box=BOX)
    constant = constant_units(network, LIMITS)
    for box in (3, (1, -1), (-np.inf, 0), ("a", "b")):
        with pytest.raises(DataError, match="box= "):
            fold(network, constant=constant, box=box)
    wrong = {g: torch.zeros(20, dtype=torch.long) for g in ("n1", "n3")}  # a lie
    with pytest.raises(InternalError, match="differs by"):
        fold(network, constant=wrong, box=BOX)


def test_the_comparison_can_fail():
    network = mixed()
    x = torch.randn(5, 4, dtype=F64)
    other = mixed(1)
    with pytest.raises(InternalError, match="the smaller network differs by"):
        difference(network, other, x)
