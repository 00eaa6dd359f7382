"""ONNX files for tests of the command: small MLPs, written with onnx itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mlp(path: Path, sizes: tuple[int, ...], seed: int = 0, head: str = "") -> Path:
    """A float32 ReLU MLP: Gemm, Relu, ..., and perhaps a head such as 'Softmax'."""
    rng = np.random.default_rng(seed)
    nodes, weights, at = [], [], "x"
    for k, (a, b) in enumerate(pairwise(sizes)):
        pair = {f"w{k}": rng.normal(size=(b, a)) / a**0.5, f"b{k}": rng.normal(size=b) / 2}
        weights += [numpy_helper.from_array(v.astype(np.float32), n) for n, v in pair.items()]
        nodes.append(helper.make_node("Gemm", [at, *pair], [f"z{k}"], f"gemm{k}", transB=1))
        at = f"z{k}"
        if k < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [at], [f"h{k}"], f"relu{k}"))
            at = f"h{k}"
    if head:
        nodes.append(helper.make_node(head, [at], ["p"], "head"))
        at = "p"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", sizes[0]])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, ["batch", sizes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
