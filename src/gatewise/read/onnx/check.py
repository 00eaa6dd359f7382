"""What an ONNX model itself computes, by onnx's own reference: the other side of the check.

Two runs. The model as it is, once: every folded constant and every shape must be as it has them.
Then what was left after folding, in float64, on several rows: the answers must agree to rounding.
So the comparison is in float64 although constants were folded in the source's own type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import ReadingMismatch, UnsupportedLayer
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network
from gatewise.ops import Ref
from gatewise.read.check import ADVICE, ROWS
from gatewise.read.onnx.constants import Array
from gatewise.read.onnx.graph import Walk
from gatewise.read.onnx.reference import Evaluator

FLOATS = {1, 10, 11, 16}  # TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
DOUBLE = 11
WORK = 5e9  # multiply-adds of the reference in one check: some seconds


def runner(model: Any, what: str) -> Callable[..., Any]:
    """run(inputs) of the model by onnx.reference, with every failure in words."""

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        # Broad: an operator's own Python code in onnx.reference, on a file of unknown make.
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:300]
            raise UnsupportedLayer(
                f"{what} cannot be run by onnx.reference ({told}), so what was read from it "
                f"could not be checked and is not returned; check it with onnx.checker"
            ) from error

    ready = attempt(lambda: Evaluator(model))
    return lambda inputs, **more: attempt(lambda: ready.run(inputs, **more))


def check_constants(model: Any, walk: Walk, x: Mapping[str, Array], what: str) -> None:
    """Each folded constant and each shape against one run of the model as it is."""
    found = runner(model, what)(x, intermediate=True)
    for name, ours in walk.values.items():
        theirs = found.get(name)
        if not isinstance(theirs, np.ndarray | np.generic):
            continue
        if isinstance(ours, Ref) and ours.shape != np.shape(theirs):
            raise ReadingMismatch(
                f"the value '{name}' of {what} has shape {np.shape(theirs)}, but was read with "
                f"shape {ours.shape}. {ADVICE}"
            )
        if name in walk.folded and not _same(walk.folded[name], np.asarray(theirs)):
            raise ReadingMismatch(
                f"the constant '{name}' of {what} is not what it was folded to. {ADVICE}"
            )


def _same(ours: Array, theirs: Array) -> bool:
    """Equal, or for floats (a BLAS may order its sums otherwise) equal to 1e-5 of the largest."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if ours.dtype.kind != "f":
        return bool((ours == theirs).all())
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(ours, theirs, rtol=0, atol=1e-5 * scale, equal_nan=True))


def run_in_float64(
    walk: Walk, given: str, output: str, shape: tuple[int, ...], what: str
) -> Callable[[Tensor], Tensor]:
    """x (rows, *shape) -> the answers of what was left after folding, one row at a time."""
    from onnx import helper, numpy_helper

    used = {
        name: value.astype(np.float64) if _float(value) else value
        for name, value in walk.used.items()
    }
    graph = helper.make_graph(
        [_upcast(node) for node in walk.kept],
        "kept",
        [helper.make_tensor_value_info(given, DOUBLE, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [
            numpy_helper.from_array(np.ascontiguousarray(v).reshape(v.shape), k)
            for k, v in used.items()
        ],
    )
    one = runner(helper.make_model(graph, opset_imports=walk.opsets), what)

    def run(x: Tensor) -> Tensor:
        answers = [one({given: row.numpy()})[0] for row in x]
        return torch.stack([torch.from_numpy(np.array(a, np.float64)) for a in answers])

    return run


def _float(value: Array) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


def _upcast(node: Any) -> Any:
    """The node with float64 wherever it names a float type."""
    if node.op_type != "Cast":
        return node
    copy = type(node)()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.name == "to" and attribute.i in FLOATS:
            attribute.i = DOUBLE
    return copy


def rows_to_check(network: Network) -> int:
    """ROWS, or fewer (never under 2) for a network so large that the check would take seconds.

    Measured on one idle core, every row in: read_onnx takes 0.75 s on cGAN_imgSz32_nCh_1, 0.5 s on
    cifar_bias_field_0 and less on every other staged network. The reference's convolutions do
    some 1e9 multiply-adds a second.
    """
    work = sum(
        node.kind.terms * math.prod(node.shape)
        for node in network.nodes
        if isinstance(node.kind, Affine)
    )
    return max(2, min(ROWS, int(WORK / max(work, 1))))
