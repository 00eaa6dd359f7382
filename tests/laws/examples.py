"""The examples of the table, read: what every law test goes over."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gatewise.errors import UnsupportedLayer
from gatewise.ir.network import Network
from gatewise.ops import ONNX, TABLE, Builder, Entry, OnnxExample, Ref, TorchExample
from gatewise.read.onnx import read_onnx
from gatewise.read.torch import read_torch
from oracles import onnx_node

ROWS = 5
NO_REFERENCE = "cannot be run by onnx.reference"
Example = TorchExample | OnnxExample


class OfOneRow(nn.Module):
    """A function of several tensors as a module of one: a row of them all, flattened."""

    def __init__(self, function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.inner, self.shapes = function, shapes

    def forward(self, row: Tensor) -> Any:
        if len(self.shapes) == 1:
            return self.inner(row)
        parts = row.split([math.prod(s) for s in self.shapes], 1)
        shaped = (p.reshape(-1, *s) for p, s in zip(parts, self.shapes, strict=True))
        return self.inner(*shaped)


def params(*kinds: str) -> list[Any]:
    """One pytest.param for each example of the entries of these kinds."""
    return [
        pytest.param(entry, k, id=_label(entry, k))
        for entry in TABLE
        if entry.kind in kinds
        for k in range(len(entry.examples))
    ]


def _label(entry: Entry, k: int) -> str:
    example = entry.examples[k]
    source = "torch" if isinstance(example, TorchExample) else example.op
    return f"{entry.name}-{source}-{k}".replace(" ", "_")


def torch_source(example: TorchExample) -> tuple[OfOneRow, Tensor]:
    """The example's module in float64, and rows for it."""
    shapes = tuple(s[1:] for s in example.shapes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = OfOneRow(example.make(), shapes).double().eval()
        shape = shapes[0] if len(shapes) == 1 else (sum(math.prod(s) for s in shapes),)
        return module, torch.randn(ROWS, *shape, dtype=torch.float64)


@functools.cache
def read_example(name: str, k: int) -> tuple[Network, Tensor, Tensor]:
    """(network, rows, what the source gives for them) of the k-th example of an entry."""
    example = next(e for e in TABLE if e.name == name).examples[k]
    if isinstance(example, TorchExample):
        module, x = torch_source(example)
        network = read_torch(module, x)
        with torch.no_grad():
            return network, x, module(x).reshape(ROWS, -1)
    return _read_onnx(example)


def _read_onnx(example: OnnxExample) -> tuple[Network, Tensor, Tensor]:
    made = onnx_node.model(example.op, example.inputs, dict(example.attrs), example.opset)
    try:
        network = read_onnx(made.SerializeToString())
    except UnsupportedLayer as refused:
        if NO_REFERENCE not in str(refused):
            raise
        network = built(example)
    return network, *rows_of(made)


def rows_of(made: Any) -> tuple[Tensor, Tensor]:
    """Rows for an ONNX model of one row, and what it gives for each."""
    rng = np.random.default_rng(0)
    shape = tuple(d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim)
    x = rng.standard_normal((ROWS, *shape)).astype(np.float32)
    y = np.stack([onnx_node.run(made, row).reshape(-1) for row in x])
    return torch.from_numpy(x).double(), torch.from_numpy(y).double()


def built(example: OnnxExample) -> Network:
    """The network of a node with one computed operand, without the reader.

    For what the reader refuses because onnx's reference cannot run it: onnxruntime still can.
    """
    (shape,) = (v for v in example.inputs if isinstance(v, tuple))
    builder = Builder(shape)
    builder.opset = example.opset
    entry, adapter = ONNX[example.op]
    builder.at("node", entry.name)
    operands = [builder.input if isinstance(v, tuple) else _constant(v) for v in example.inputs]
    result = adapter(builder, *operands, **example.attrs)
    return builder.finish(result if isinstance(result, Ref) else result[-1])


def _constant(value: Any) -> Tensor | None:
    array = onnx_node.tensor(value)
    return None if array is None else torch.from_numpy(array)
