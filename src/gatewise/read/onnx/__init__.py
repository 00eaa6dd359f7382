"""ONNX files: one input, one output, batch 1, read node by node through the table."""

from __future__ import annotations

import math
from collections import ChainMap
from pathlib import Path
from typing import Any

from gatewise.errors import CorruptModel, UnsupportedLayer
from gatewise.ir.kinds import Shape
from gatewise.ir.network import Network
from gatewise.ops import Builder, Ref
from gatewise.read.check import check_reading, sample_rows
from gatewise.read.head import set_aside_head
from gatewise.read.onnx.check import FLOATS as FLOAT_TYPES
from gatewise.read.onnx.check import check_constants, rows_to_check, run_in_float64
from gatewise.read.onnx.constants import refuse_size
from gatewise.read.onnx.file import check_model, load_model
from gatewise.read.onnx.graph import DEFAULT, Walk, needed, refuse_unknown


def read_onnx(source: str | Path | bytes, *, output: str | None = None) -> Network:
    """The Network of an ONNX model (a path, or the file's bytes), checked against it.

    One row is one run of the model: an unknown first axis becomes 1; where it is fixed at more
    than 1, one row is the whole array (nobody can tell whether it counts samples) and a note says
    so. output: which one to read, by name, where the model has several.
    """
    model, what = load_model(source)
    version = _opset(model, what)
    given, shape = _input(model.graph, what)
    chosen = _output(model.graph, output, what)
    nodes = needed(model.graph, chosen)
    refuse_unknown(nodes)
    check_model(model, what)
    builder = Builder(shape)
    builder.opset = version
    walk, name = _walk(model, builder, given.name, nodes, chosen)
    result = walk.value(name)
    if not isinstance(result, Ref):
        raise UnsupportedLayer(f"{what}: its output '{chosen}' does not depend on its input")
    if not math.prod(result.shape):
        raise UnsupportedLayer(f"{what}: its output '{chosen}' is empty, of shape {result.shape}")
    builder.notes += _notes(shape, given.name)
    network = set_aside_head(builder.finish(result))
    x = sample_rows(network, 1)[0].numpy().astype(_numpy_type(given))
    check_constants(model, walk, {given.name: x}, what)
    run = run_in_float64(walk, given.name, name, shape, what)
    return check_reading(network, run, rows=rows_to_check(network), source=what)


def _walk(
    model: Any, builder: Builder, given: str, nodes: list[Any], output: str
) -> tuple[Walk, str]:
    """Every node read; with the one name the output goes by."""
    graph = model.graph
    if graph.sparse_initializer:
        names = [t.values.name for t in graph.sparse_initializer]
        raise UnsupportedLayer(f"sparse constants are not read ({_listed(names)}): make them dense")
    tensors = {t.name: t for t in graph.initializer}
    scope = ChainMap({name: name for name in (given, *tensors)})
    walk = Walk(builder, list(model.opset_import), {given: builder.input}, tensors)
    walk.run(nodes, scope)
    if output not in scope:
        raise CorruptModel(f"the output '{output}' is computed nowhere in the model")
    return walk, scope[output]


def _opset(model: Any, what: str) -> int:
    """The version of ONNX's own operators that the model was written in."""
    import onnx

    versions = {o.domain: o.version for o in model.opset_import if o.domain in DEFAULT}
    if not versions:
        raise UnsupportedLayer(f"{what} uses no operators of ONNX itself, so it cannot be read")
    version, newest = max(versions.values()), onnx.defs.onnx_opset_version()
    if not 1 <= version <= newest:
        raise UnsupportedLayer(
            f"{what} is written in opset {version}, and onnx {onnx.__version__} knows opsets 1 to "
            f"{newest}: install a newer onnx, or export with opset_version={newest}"
        )
    return int(version)


def _input(graph: Any, what: str) -> tuple[Any, Shape]:
    """The one input that is not an initializer, with its shape at batch 1."""
    constants = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1:
        had = f"the inputs {_listed([i.name for i in inputs])}" if inputs else "no input"
        raise UnsupportedLayer(
            f"{what} has {had}: a model of exactly one input is read; export it with one, the "
            f"others concatenated or fixed"
        )
    type_ = inputs[0].type.tensor_type
    name = f"input '{inputs[0].name}' of {what}"
    if type_.elem_type not in FLOAT_TYPES:
        raise UnsupportedLayer(
            f"{name} is not of a float type (its type is number {type_.elem_type} of ONNX's "
            f"TensorProto): regions are of real inputs; export the part behind the lookup or cast"
        )
    if not type_.HasField("shape"):
        raise UnsupportedLayer(f"{name} has no declared shape: export the model with one")
    return inputs[0], _one_row(list(type_.shape.dim), name)


def _one_row(dims: list[Any], name: str) -> Shape:
    """The shape with the first axis 1 where it is unknown: every other must be known."""
    shape = [d.dim_value for d in dims]
    if shape and shape[0] <= 0:
        shape[0] = 1
    for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        if size <= 0:
            told = f"'{dim.dim_param}'" if dim.dim_param else str(size)
            raise UnsupportedLayer(
                f"{name} has an unknown size ({told}) on axis {axis}: only the first axis, the "
                f"batch, may be open; export the model with a fixed size there"
            )
    refuse_size([tuple(shape)], name)
    return tuple(shape)


def _output(graph: Any, wanted: str | None, what: str) -> str:
    """The output to read: the only one, or the one asked for by name."""
    names = [o.name for o in graph.output]
    if wanted is not None and wanted not in names:
        raise UnsupportedLayer(f"{what} has no output '{wanted}': it has {_listed(names)}")
    if wanted is None and len(names) != 1:
        had = f"the outputs {_listed(names)}: pick one with output=" if names else "no output"
        raise UnsupportedLayer(f"{what} has {had}")
    return wanted or str(names[0])


def _notes(shape: Shape, given: str) -> list[str]:
    """What a user must know of how the input was understood."""
    if len(shape) < 2 or shape[0] == 1:
        return []
    return [
        f"the first axis of input '{given}' is fixed at {shape[0]}: one row is the whole array "
        f"of shape {shape}, not one of {shape[0]} samples"
    ]


def _numpy_type(given: Any) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
