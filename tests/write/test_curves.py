"""Curves and products in ONNX: examples of the table, run elsewhere, are what the source gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.ops import TABLE, TorchExample
from gatewise.write import onnx_model, write_onnx
from laws.examples import read_example
from oracles import onnx_node

# the first form of torch's, all of ONNX's, and those of torch's that are written otherwise
CURVED = [
    (entry.name, k)
    for entry in TABLE
    for k, example in enumerate(entry.examples)
    if entry.kind in ("Smooth", "Product") and (k == 0 or not isinstance(example, TorchExample))
]
MORE = [("ELU", 1), ("ELU", 2), ("GELU", 1), ("Softplus", 1), ("RMSNorm", 1), ("Attention", 1)]
FIRST = ("ELU", "HardSwish", "LayerNorm", "RMSNorm", "GroupNorm", "Softplus", "Deviation", "Norm")


def test_curves_and_products_of_the_table():
    for name, k in [*CURVED, *MORE]:
        network, x, expected = read_example(name, k)
        model = onnx_model(network)
        told = onnx_node.run(model, x.float().numpy().reshape(len(x), *of_rows(model)))
        held = {"rtol": 1e-5, "atol": 1e-5, "equal_nan": True}
        assert np.isclose(told.reshape(len(x), -1), expected.numpy(), **held).all(), (name, k)


def of_rows(model):
    """The shape of a row that the file takes."""
    return [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]


@pytest.mark.parametrize("name", FIRST)
def test_in_float64_to_its_last_digits(name, tmp_path):
    """Settings that an operator holds as float32 are written out."""
    network, x, _ = read_example(name, 0)
    told = write_onnx(network, tmp_path / "a.onnx", x, dtype="float64")
    assert told.error <= told.bound and told.error < 1e-12


def test_operators_that_exist_are_used():
    for layer, name in (
        (nn.LayerNorm(4), "LayerNormalization"),
        (nn.ELU(0.5), "Elu"),
        (nn.SELU(), "Selu"),
        (nn.CELU(2.0), "Celu"),
        (nn.Hardswish(), "HardSwish"),
        (nn.Softmax(-1), "Softmax"),
    ):
        module = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)).eval()
        network = gw.read(module, torch.zeros(1, 3, 4))
        written = onnx_model(network)
        assert name in {n.op_type for n in written.graph.node}
        onnx.checker.check_model(written, full_check=True)
        x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))
        ours = onnx_node.run(written, x.numpy())
        assert np.abs(ours - module(x).detach().numpy()).max() < 1e-6


def test_axes_that_are_summed_away():
    """All of a row's: a batch axis of 1 is left of it, which the next layer reads."""

    class Summed(nn.Module):
        def forward(self, x):
            return x - torch.logsumexp(x, (1, 2)).reshape(-1, 1, 1) * x.mean((1, 2), keepdim=True)

    network = gw.read(Summed(), torch.zeros(1, 3, 4))
    x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))
    ours = onnx_node.run(onnx_model(network), x.numpy())
    assert np.abs(ours - Summed()(x).numpy()).max() < 1e-5
