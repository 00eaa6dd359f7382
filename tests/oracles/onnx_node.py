"""A model of one ONNX node, and what onnxruntime (or onnx's own reference) computes for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as errors

MISSING = (errors.NotImplemented, errors.InvalidGraph, errors.Fail, errors.InvalidArgument)


def model(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any], opset: int) -> onnx.ModelProto:
    """The node; a tuple of ints is a computed operand of that shape, None absent, else a constant.

    One computed operand is the graph's input; of several, the input (1, d) is a row of them all.
    """
    shapes = [v for v in inputs if isinstance(v, tuple)]
    constants = {f"c{k}": tensor(v) for k, v in enumerate(inputs) if not isinstance(v, tuple)}
    names = [
        f"x{k}" if isinstance(v, tuple) else "" if v is None else f"c{k}"
        for k, v in enumerate(inputs)
    ]
    while names and not names[-1]:
        names.pop()
    computed = [n for n in names if n.startswith("x")]
    nodes = [] if len(shapes) == 1 else _apart(dict(zip(computed, shapes, strict=True)), constants)
    outputs = [f"y{k}" for k in range(count_outputs(op, inputs, attrs))]
    nodes.append(helper.make_node(op, names, outputs, name="node", **attrs))
    given, shape = (computed[0], shapes[0]) if len(shapes) == 1 else ("row", (1, _size(shapes)))
    known = {name: v for name, v in constants.items() if v is not None}
    return graph(nodes, known, (given, shape), outputs[-1], opset)


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    given: tuple[str, tuple[int, ...]],
    output: str,
    opset: int,
) -> onnx.ModelProto:
    """A float32 model with one input and one output, the output's shape inferred."""
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "one",
            [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, given[1])],
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    if inferred.graph.output[0].type.tensor_type.HasField("shape"):
        return inferred
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    x = np.zeros(given[1], np.float32)
    made.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(output, TensorProto.FLOAT, run(made, x).shape)
    )
    return made


def tensor(value: Any) -> np.ndarray | None:
    """A constant: float32, int64 or bool by what it holds."""
    if value is None:
        return None
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def count_outputs(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> int:
    """Split gives as many parts as it says; everything else in the table gives one."""
    if op != "Split":
        return 1
    lengths = attrs.get("split") or (inputs[1] if len(inputs) > 1 else None)
    return len(lengths) if lengths else attrs.get("num_outputs", 2)


def _size(shapes: list[tuple[int, ...]]) -> int:
    return sum(math.prod(s) for s in shapes)


def _apart(shapes: dict[str, tuple[int, ...]], constants: dict[str, Any]) -> list[onnx.NodeProto]:
    """Nodes that take the operands out of a row."""
    nodes, start = [], 0
    for name, shape in shapes.items():
        constants[f"{name}_at"] = np.arange(start, start + math.prod(shape))
        constants[f"{name}_shape"] = np.array(shape, np.int64)
        start += math.prod(shape)
        nodes += [
            helper.make_node("Gather", ["row", f"{name}_at"], [f"{name}_flat"], axis=1),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]),
        ]
    return nodes


def run(made: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output at x (float32), by onnxruntime; by onnx.reference where it lacks the operator."""
    name = made.graph.input[0].name
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    quiet.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(made.SerializeToString(), quiet)
    except MISSING:
        (y,) = ReferenceEvaluator(made).run(None, {name: x})
    else:
        (y,) = session.run(None, {name: x})
    return np.asarray(y)
