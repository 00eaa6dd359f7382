"""Constant parts of an ONNX graph, worked out by onnx's own reference, one node at a time.

They keep the source's float type here, so that a Ceil or a Cast to integer on the way gives what
the source gives; they become float64 only when they are used as weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import CorruptModel, GatewiseError, UnsupportedLayer
from gatewise.ir.kinds import Shape
from gatewise.read.onnx.reference import Evaluator

LARGEST = 100_000_000  # numbers in one value, and in all folded constants together
KNOWN = 1024  # numbers: constants up to this size are shown to shape inference by value
RANDOM = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Bernoulli", "Multinomial"),
}
# Their results are no larger than their inputs (times the rank), though not known beforehand.
SHRINK = {"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"}
Array = NDArray[Any]
# What numpy, torch and Python raise for numbers, shapes and names that do not fit together.
MISFIT = (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError)


def to_array(tensor: Any, name: str) -> Array:
    """The array of a TensorProto; CorruptModel where its bytes do not fit its shape."""
    import onnx

    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except MISFIT as error:
        raise CorruptModel(
            f"the constant '{name}' cannot be decoded ({error}): export or download the model again"
        ) from error
    if _is_float(array) and np.isnan(array.astype(np.float64)).any():
        raise CorruptModel(f"the constant '{name}' holds NaN: train or download the model again")
    return array


def _is_float(array: Array) -> bool:
    """Floats of any width, bfloat16 too (which numpy itself does not count as one)."""
    return array.dtype.kind == "f" or array.dtype.name in {"bfloat16"}


def to_tensor(array: Array, what: str) -> Tensor:
    """A constant as an adapter takes it: float64, int64 or bool."""
    if _is_float(array):
        return torch.from_numpy(np.array(array, dtype=np.float64))
    if array.dtype.kind == "b":
        return torch.from_numpy(np.array(array))
    if array.dtype.kind in "iu":
        return torch.from_numpy(np.array(array, dtype=np.int64))
    raise UnsupportedLayer(f"{what}: a constant of type {array.dtype} has no meaning in a network")


def single_node(node: Any, inputs: Mapping[str, Array | Shape], opsets: Sequence[Any]) -> Any:
    """A model of that node alone; a Shape among the inputs is a computed value (float32)."""
    from onnx import TensorProto, helper, numpy_helper

    infos, initializers = [], []
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            infos.append(helper.make_tensor_value_info(name, kind, value.shape))
            if value.size <= KNOWN:
                initializers.append(numpy_helper.from_array(value, name))
        else:
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value))
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", infos, outputs, initializers)
    return helper.make_model(graph, opset_imports=opsets)


def output_shapes(model: Any) -> list[Shape | None]:
    """The shapes of a single node's outputs by onnx.shape_inference, None where it cannot tell."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return [_known_shape(info.type.tensor_type) for info in inferred.graph.output]


def _known_shape(type_: Any) -> Shape | None:
    if not type_.HasField("shape"):
        return None
    dims = type_.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def refuse_size(shapes: Sequence[Shape | None], what: str, so_far: int = 0) -> None:
    """UnsupportedLayer where a value (with what was folded so far) is larger than LARGEST."""
    for shape in shapes:
        if shape is not None and math.prod(max(d, 0) for d in shape) + so_far > LARGEST:
            raise UnsupportedLayer(
                f"{what}: its value would have shape {shape}, more numbers than the limit of "
                f"{LARGEST:,} for what a reader holds: a smaller model is needed"
            )


def fold_node(
    node: Any, inputs: Mapping[str, Array], opsets: Sequence[Any], what: str, so_far: int
) -> list[Array]:
    """The outputs of a node whose inputs are all constants, in the order of its output names."""
    if node.op_type in RANDOM or _trains(node, inputs):
        raise UnsupportedLayer(f"{what}: it draws random numbers, so the model is no function")
    try:
        model = single_node(node, inputs, opsets)
        shapes = output_shapes(model)
        refuse_size(shapes, what, so_far)
        if None in shapes and node.op_type not in SHRINK:
            raise UnsupportedLayer(f"{what}: the size of its constant value cannot be told")
        del model.graph.initializer[:]
        values = Evaluator(model).run(inputs)
    except GatewiseError:
        raise
    # Broad: an operator's own Python code in onnx.reference, and C++ that infers its shapes.
    except Exception as error:
        told = f"{type(error).__name__}: {error}"[:300]
        raise UnsupportedLayer(
            f"{what}: its constant value cannot be worked out by onnx.reference ({told}); "
            f"simplify the model before it is read, or check it with onnx.checker"
        ) from error
    if not all(isinstance(v, np.ndarray | np.generic) for v in values):
        raise UnsupportedLayer(f"{what}: sequences, maps and optionals are not read")
    return [np.asarray(v) for v in values]


def _trains(node: Any, inputs: Mapping[str, Array]) -> bool:
    """A Dropout that was exported in training mode."""
    flag = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
    return bool(flag) and bool(inputs[flag].any())
