"""A draft of an ONNX graph: names, constants and operators, with one row axis in front.

A value of shape (rows, *shape) is written as it is; where input and output begin with the source's
own batch axis of 1, and so does all between them that is not flat, that axis is left out and rows
take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Affine, Shape
from gatewise.ir.network import INPUT, Network, Node

OPSET, IR = 17, 8


def _leads(shape: Shape) -> bool:
    return len(shape) > 1 and shape[0] == 1


class Draft:
    """Collects operators and constants (a builder, not a value); `at` is the node being written."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype
        shapes = [network.input_shape, *(n.shape for n in network.nodes)]
        ends = (network.input_shape, network.output_shape)
        self.lead = all(_leads(s) for s in ends) and all(_leads(s) or len(s) == 1 for s in shapes)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.values: dict[str, str] = {INPUT: "input"}
        self.taken: set[str] = {"input", "output"}
        nothing = Node(INPUT, "Identity", Affine(torch.clone), (INPUT,), network.input_shape)
        self.at: Node = network.nodes[0] if network.nodes else nothing

    def refuse(self, why: str) -> UnsupportedLayer:
        """The error that names the node: `raise draft.refuse(...)`."""
        return UnsupportedLayer(
            f"node '{self.at.name}' ({self.at.layer}) cannot be written to ONNX: {why}; nothing "
            f"was written. gw.write.torch_module(network) takes every network"
        )

    def shape(self, shape: Shape) -> Shape:
        """What is written of a shape: without the batch axis of 1."""
        return shape[1:] if self.lead and _leads(shape) else shape

    def axis(self, a: int) -> int:
        """An axis of the node's input (rows are 0, the last is -1) as it is in the file."""
        shape = self.network.shape(self.at.inputs[0])
        led, a = self.lead and _leads(shape), a % (len(shape) + 1)
        if led and a == 1:
            raise self.refuse("it works on the batch axis of its source")
        return a - 1 if led and a else a

    def fitted(self, value: str) -> str:
        """A reduction's value; with all axes summed away, a batch axis of 1 is what is left."""
        return self.reshape(value, (1,)) if self.lead and self.at.shape == (1,) else value

    def given(self, k: int = 0) -> str:
        """The name of the k-th input of the node being written."""
        return self.values[self.at.inputs[k]]

    def given_shape(self, k: int = 0) -> Shape:
        """Its shape in the file, without rows."""
        return self.shape(self.network.shape(self.at.inputs[k]))

    def broadcast(self, values: Tensor, what: str = "weight") -> str:
        """A constant that broadcasts against (*shape)."""
        whole = values.ndim == len(self.at.shape) and values.ndim > 0
        if whole and self.shape(self.at.shape) != self.at.shape:
            values = values.reshape(values.shape[1:])
        return self.constant(values, what)

    def constant(self, values: Tensor | Sequence[int], what: str = "weight") -> str:
        """The name of a constant: floats in the file's own type, whole numbers in int64."""
        import onnx

        tensor = values if isinstance(values, Tensor) else torch.tensor(list(values))
        tensor = tensor.to(self.dtype if tensor.is_floating_point() else torch.int64)
        name = self.name(f"{self.at.name}.{what}")
        array = np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tuple(tensor.shape))
        if not np.isfinite(array).all() and bool(torch.as_tensor(values).isfinite().all()):
            raise self.refuse(f"its numbers do not fit {str(self.dtype).removeprefix('torch.')}")
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator; the name of its value."""
        import onnx

        out = self.name(self.at.name)
        node = onnx.helper.make_node(kind, list(inputs), [out], f"{out}/{kind}", **attributes)
        self.nodes.append(node)
        return out

    def name(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, count = wanted, 2
        while name in self.taken:
            name, count = f"{wanted}#{count}", count + 1
        self.taken.add(name)
        return name

    def reshape(self, value: str, shape: Shape) -> str:
        """The value as (rows, *shape)."""
        return self.op("Reshape", value, self.constant([-1, *shape], "shape"))

    def flat(self) -> str:
        """All inputs of the node being written, flattened and joined: (rows, numbers)."""
        parts = []
        for k in range(len(self.at.inputs)):
            size = len(self.given_shape(k))
            parts.append(self.given(k) if size == 1 else self.op("Flatten", self.given(k), axis=1))
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def plus(self, value: str, bias: Tensor | None) -> str:
        """The value and a bias."""
        return value if bias is None else self.op("Add", value, self.broadcast(bias, "bias"))

    def model(self, output: str) -> Any:
        """The ONNX model whose output is that value."""
        import onnx

        self.nodes.append(onnx.helper.make_node("Identity", [output], ["output"], "output"))
        kind = {torch.float32: onnx.TensorProto.FLOAT, torch.float64: onnx.TensorProto.DOUBLE}
        info = [
            onnx.helper.make_tensor_value_info(name, kind[self.dtype], ["rows", *self.shape(shape)])
            for name, shape in (
                ("input", self.network.input_shape),
                ("output", self.network.output_shape),
            )
        ]
        graph = onnx.helper.make_graph(self.nodes, "gatewise", info[:1], info[1:], self.constants)
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR)
