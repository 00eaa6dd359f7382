"""Written, run by onnxruntime, read again: the same function; or refused by name, with no file."""

from __future__ import annotations

import dataclasses
import functools
import tempfile

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import gatewise as gw
import shared
from cases import CASES
from gatewise.errors import DataError, InternalError, ModelError, UnsupportedLayer
from gatewise.ir.kinds import Smooth
from gatewise.ir.network import Network
from gatewise.linear.folding.fold import fold
from gatewise.ops import TABLE
from gatewise.write import files, onnx_model, torch_module, write_onnx
from laws.examples import read_example
from nets import F64, mixed, mlp
from oracles import onnx_node

ALIKE = {"train_mode", "mlp", "functional_relu", "nested_sequential", "in_place", "tied_weights"}
REREAD = {"max_pool", "grouped_conv", "prelu", "batch_norm_after"}


@functools.cache
def read_case(name: str) -> tuple[Network, torch.Tensor]:
    case = CASES[name]
    return gw.read(case.module().double().eval(), case.rows(1).double()), case.rows(12).double()


@pytest.mark.parametrize("name", sorted(set(CASES) - ALIKE))
def test_every_case_comes_back_the_same(name, tmp_path):
    network, x = read_case(name)
    small = fold(network).network
    told = write_onnx(small, tmp_path / "a.onnx", x)
    assert told.runtime == "onnxruntime" and told.rows == 12
    assert told.error <= min(told.bound, 1e-4)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    theirs = onnx_node.run(model, x.float().numpy())  # ours beside it: written and run elsewhere
    assert np.abs(theirs.reshape(12, -1) - network.predict(x).numpy()).max() < 1e-4
    if name not in REREAD:
        return
    again = gw.read(tmp_path / "a.onnx")
    assert torch.allclose(again.predict(x), network.predict(x), atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(CASES) - ALIKE))
def test_every_case_as_a_torch_module(name):
    network, x = read_case(name)
    module = torch_module(network, "float64")
    y = module(x)
    source = CASES[name].module().double().eval()(x)
    assert torch.allclose(y.reshape(12, -1), network.predict(x), atol=1e-12)
    assert y.shape == source.shape and torch.allclose(y, source, atol=1e-11)
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) >= 1


def test_a_torch_module_is_read_again_and_can_be_trained():
    network, x = read_case("leaky_relu")
    module = torch_module(network)
    again = gw.read(module, x.float())
    assert torch.allclose(again(x), network(x), atol=1e-5)
    before = network(x).clone()
    module(x.float()).square().sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert not torch.allclose(module(x.float()).double(), before, atol=1e-3)
    assert torch.equal(network(x), before)  # the network it came from is not touched
    assert all("weights" in k or "bias" in k for k in module.state_dict())


@pytest.mark.parametrize("path", shared.params("onnx/cifar10_resnet/*.onnx"))
def test_a_real_resnet_agrees_with_its_source(path, tmp_path):
    network = gw.read(path)
    x = np.random.default_rng(0).uniform(0, 1, (3, network.inputs))
    told = write_onnx(fold(network).network, tmp_path / "r.onnx", x, source=path)
    assert told.source.bytes == path.stat().st_size and told.source_error < 1e-5
    assert told.parameters <= told.source.parameters
    assert "->" in str(told) and path.name in str(told)


def test_the_table_of_layers_folded_and_written(tmp_path):
    """Every tenth example of it is the same function, or is refused by name."""
    every = [(e.name, k) for e in TABLE for k in range(len(e.examples))]
    refused = 0
    for name, k in every[::10]:
        network, x, expected = read_example(name, k)
        small = fold(network, x).network
        assert torch.allclose(small.predict(x), expected, rtol=1e-4, atol=1e-4), (name, k)
        try:
            told = write_onnx(small, tmp_path / "a.onnx", x)
        except UnsupportedLayer as error:
            assert "cannot be written to ONNX" in str(error)
            refused += 1
            continue
        assert told.error <= told.bound, (name, k)
    assert refused <= 1


def test_a_grafted_convolution_keeps_the_shape_of_its_rows(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    x = torch.randn(20, 2, 6, 6)
    network = gw.read(module, x[:1])
    half, none = (gw.linear.graft(network, x, share=s).network for s in (0.5, 1.0))
    for net in (half, none, fold(none).network, fold(half, x).network):
        write_onnx(net, tmp_path / "a.onnx", x)
        given = onnx.load(tmp_path / "a.onnx").graph
        ends = (given.input[0], given.output[0])
        shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in ends]
        assert shapes == [[0, 2, 6, 6], [0, 2]]


def test_gates_products_and_several_sources():
    network = mixed()
    x = np.random.default_rng(0).normal(size=(20, 4))
    theirs = onnx_node.run(onnx_model(network), x.astype(np.float32))
    assert np.abs(theirs - network(x).numpy()).max() < 1e-5
    made = fold(mlp(4, 9, 9, 2), x).network  # blocks over joined inputs
    theirs = onnx_node.run(onnx_model(made, "float64"), x)
    assert np.abs(theirs - made(x).numpy()).max() < 1e-13


def test_float64_convolutions_are_run_by_the_reference(tmp_path):
    network = gw.read(nn.Conv2d(1, 2, 2).double(), torch.zeros(1, 1, 3, 3, dtype=F64))
    told = write_onnx(network, tmp_path / "c.onnx", dtype="float64")
    assert told.error < 1e-14 and told.runtime in {"onnx.reference", "onnxruntime"}
    module = nn.ConvTranspose2d(2, 4, 2, groups=2).double()  # on which the reference stumbles
    network = gw.read(module, torch.zeros(1, 2, 3, 3, dtype=F64))
    with pytest.raises(ModelError, match=r"run the ONNX file in float64 .* write it in float32"):
        write_onnx(network, tmp_path / "d.onnx", dtype="float64")
    assert write_onnx(network, tmp_path / "d.onnx").error < 1e-5


def test_what_no_operator_is_known_for_is_named_and_not_written(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double()
    network = gw.read(module, torch.zeros(1, 3, dtype=F64))
    with pytest.raises(
        UnsupportedLayer, match=r"\(GELU\) cannot be written .* erf to eight digits"
    ):
        write_onnx(network, tmp_path / "a.onnx", dtype="float64")
    (node,) = (n for n in network.nodes if isinstance(n.kind, Smooth))
    odd = dataclasses.replace(node, kind=Smooth(torch.special.bessel_j0))
    network = dataclasses.replace(
        network, nodes=tuple(odd if n is node else n for n in network.nodes)
    )
    with pytest.raises(UnsupportedLayer, match="no operator is known for its function; nothing"):
        write_onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_rule_without_an_operator_is_written_as_its_matrix(tmp_path):
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bij,jk->bk", x.cumsum(1), torch.ones(4, 2, dtype=F64)) + 1

    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(1)

    network = gw.read(Odd(), torch.zeros(1, 3, 4, dtype=F64))
    told = write_onnx(network, tmp_path / "a.onnx")
    assert told.error < 1e-4
    wide = gw.read(Sums(), torch.zeros(1, 1100, dtype=F64))
    with pytest.raises(UnsupportedLayer, match=r"its matrix has 1,210,000 numbers, more than"):
        write_onnx(wide, tmp_path / "b.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_a_pattern_is_refused(tmp_path):
    maps = gw.affine(mlp(3, 4, 2), torch.zeros(1, 3))
    frozen = next(maps.frozen())[1]
    with pytest.raises(UnsupportedLayer, match=r"node 'n1' .* frozen to a pattern"):
        write_onnx(frozen, tmp_path / "a.onnx")
    with pytest.raises(UnsupportedLayer, match=r"node 'n1' .* frozen to a pattern"):
        torch_module(frozen)
    assert not list(tmp_path.iterdir())


def test_bad_settings(tmp_path):
    network = mlp(3, 4, 2)
    with pytest.raises(DataError, match="give a Network"):
        torch_module(nn.ReLU())
    with pytest.raises(DataError, match="float32 or float64"):
        write_onnx(network, tmp_path / "a.onnx", dtype="float16")
    with pytest.raises(DataError, match="X has 0 rows"):
        write_onnx(network, tmp_path / "a.onnx", np.zeros((0, 3)))
    with pytest.raises(DataError, match="numbers that do not fit float32"):
        write_onnx(network, tmp_path / "a.onnx", np.full((1, 3), 1e300))
    with pytest.raises(ModelError, match=r"source '.*none.onnx' could not be run .* No such file"):
        write_onnx(network, tmp_path / "a.onnx", source=tmp_path / "none.onnx")
    with tempfile.TemporaryDirectory() as other:
        for sizes, message in (((4, 2), "could not be run on rows of 3"), ((3, 5), "gives 5 num")):
            write_onnx(mlp(*sizes), f"{other}/o.onnx")
            with pytest.raises(ModelError, match=message):
                write_onnx(network, tmp_path / "a.onnx", source=f"{other}/o.onnx")
    network.nodes[0].kind.weights[0][0, 0] = 1e300
    with pytest.raises(UnsupportedLayer, match=r"'n0' .* do not fit float32"):
        write_onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    network = mlp(3, 4, 2)
    node = network.nodes[-1]
    twice = dataclasses.replace(node, kind=dataclasses.replace(node.kind, bias=node.kind.bias + 1))
    other = dataclasses.replace(network, nodes=(*network.nodes[:-1], twice))
    wrong = onnx_model(other)
    monkeypatch.setattr(files, "onnx_model", lambda *_: wrong)
    with pytest.raises(InternalError, match=r"would differ from the network by .* not written"):
        write_onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
