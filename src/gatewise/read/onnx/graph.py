"""The walk over an ONNX graph: constants are folded, the rest goes to the table, node by node.

A value is an array where nothing depends on the input, else a Ref. What goes to the table is also
kept as a graph of its own, with its folded constants, so that it can be run in float64.
"""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gatewise.errors import CorruptModel, GatewiseError, UnsupportedLayer
from gatewise.ops import ONNX, Builder, Ref
from gatewise.ops.builder import Operand
from gatewise.ops.table import Adapter
from gatewise.read.onnx.constants import (
    MISFIT,
    Array,
    fold_node,
    output_shapes,
    refuse_size,
    single_node,
    to_array,
    to_tensor,
)

DEFAULT = {"", "ai.onnx"}
LOOPS = {"Loop", "Scan", "SequenceMap"}
Value = Ref | Array | None
Scope = ChainMap[str, str]  # a name in a (sub)graph -> the one name of that value in all of them


def describe(node: Any) -> str:
    """The node as every message names it."""
    domain = "" if node.domain in DEFAULT else f", domain {node.domain}"
    return f"node '{path(node)}' ({node.op_type}{domain})"


def path(node: Any) -> str:
    """Its name, or that of its first output."""
    return node.name or next((name for name in node.output if name), "unnamed")


def subgraphs(node: Any) -> list[Any]:
    """The graphs among its attributes."""
    found = [a.g for a in node.attribute if a.HasField("g")]
    return found + [g for a in node.attribute for g in a.graphs]


def needed(graph: Any, output: str) -> list[Any]:
    """The nodes that the output depends on, in order."""
    names = {output}
    nodes: list[Any] = []
    for node in reversed(graph.node):
        if names.intersection(node.output):
            names.update(_reads(node))
            nodes.insert(0, node)
    return nodes


def _reads(node: Any) -> set[str]:
    """Every name the node uses, from inside its subgraphs too."""
    inner = (n for g in subgraphs(node) for n in (*g.node, *g.output))
    names = {name for n in inner for name in (_reads(n) if hasattr(n, "input") else {n.name})}
    return names | set(node.input)


def refuse_unknown(nodes: list[Any]) -> None:
    """UnsupportedLayer for the first node of another domain, or that no rule exists for."""
    import onnx

    for node in nodes:
        if node.domain not in DEFAULT:
            raise UnsupportedLayer(
                f"{describe(node)}: operators of the domain '{node.domain}' are not read; "
                f"export the model with operators of ONNX itself"
            )
        if node.op_type in LOOPS:
            raise UnsupportedLayer(
                f"{describe(node)}: loops are control flow, which is not read; "
                f"unroll it before the export"
            )
        if node.op_type not in ONNX and not onnx.defs.has(node.op_type):
            raise UnsupportedLayer(f"{describe(node)}: ONNX has no operator of this name")
        for graph in subgraphs(node):
            refuse_unknown(list(graph.node))


@dataclass
class Walk:
    """One pass over a graph; `values` by name, `kept` what was not folded, `used` its constants."""

    builder: Builder
    opsets: list[Any]
    values: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    used: dict[str, Array] = field(default_factory=dict)
    folded: dict[str, Array] = field(default_factory=dict)
    numbers: int = 0

    def run(self, nodes: list[Any], scope: Scope, prefix: str = "") -> None:
        """Every node in order; names defined here are told apart by the prefix."""
        for node in nodes:
            named = type(node)()
            named.CopyFrom(node)
            named.input[:] = [self._resolve(name, scope, node) for name in node.input]
            scope.update({name: prefix + name for name in node.output if name})
            named.output[:] = [prefix + name if name else "" for name in node.output]
            if node.op_type == "If":
                scope.update(zip(node.output, self._branch(named, scope), strict=False))
            else:
                self._node(named)

    def _resolve(self, name: str, scope: Scope, node: Any) -> str:
        if name and name not in scope:
            raise CorruptModel(
                f"{describe(node)}: its input '{name}' is computed nowhere before it, or is an "
                f"output of a layer that is not read"
            )
        return scope[name] if name else ""

    def value(self, name: str) -> Value:
        """The value of that name; an initializer is decoded at its first use."""
        if name and name not in self.values and name in self.tensors:
            self.values[name] = to_array(self.tensors[name], name)
        if name and name not in self.values:
            raise UnsupportedLayer(f"the value '{name}' is an output that its layer does not give")
        return self.values[name] if name else None

    def _node(self, node: Any) -> None:
        """Fold or read one node."""
        inputs = {name: self.value(name) for name in node.input if name}
        constants = {k: v for k, v in inputs.items() if isinstance(v, np.ndarray)}
        if node.op_type in {"Shape", "Size"} and len(inputs) == 1:
            self._set(node, [_shape_of(node, next(iter(inputs.values())))])
        elif len(constants) == len(inputs):
            what = describe(node)
            self._set(node, fold_node(node, constants, self.opsets, what, self.numbers))
        else:
            self._read(node, inputs)

    def _set(self, node: Any, results: list[Array]) -> None:
        """Store the constants a node gives."""
        self.numbers += sum(r.size for r in results)
        named = dict(zip([name for name in node.output if name], results, strict=True))
        self.folded.update(named)
        self.values.update(named)

    def _branch(self, node: Any, scope: Scope) -> list[str]:
        """An If whose condition is constant is the branch it takes; the names of its results."""
        condition = self.value(node.input[0])
        if not isinstance(condition, np.ndarray) or condition.size != 1:
            raise UnsupportedLayer(
                f"{describe(node)}: its condition depends on the input: control flow that depends "
                f"on data is not read; export the branch that is meant"
            )
        chosen = "then_branch" if bool(condition.reshape(())) else "else_branch"
        graph = next((a.g for a in node.attribute if a.name == chosen), None)
        if graph is None or len(graph.output) != len(node.output):
            raise CorruptModel(f"{describe(node)}: its {chosen} does not fit its outputs")
        prefix, inner = f"{node.output[0]}/", scope.new_child()
        self.tensors.update({prefix + t.name: t for t in graph.initializer})
        inner.update({t.name: prefix + t.name for t in graph.initializer})
        self.run(list(graph.node), inner, prefix)
        return [self._resolve(result.name, inner, node) for result in graph.output]

    # -- to the table --

    def _read(self, node: Any, inputs: Mapping[str, Value]) -> None:
        what = describe(node)
        entry, adapter = self._entry(node)
        _complete(node, adapter, self.builder.opset)
        attributes = {a.name: _attribute(a, what) for a in node.attribute}
        _refuse_attributes(adapter, attributes, what)
        self._refuse_size(node, inputs, what)
        self.builder.at(path(node), entry)
        self.builder.outputs = len(node.output)
        operands = [self._operand(name, what) for name in node.input]
        while operands and operands[-1] is None:
            operands.pop()
        try:
            result = adapter(self.builder, *operands, **attributes)
        except GatewiseError:
            raise
        except MISFIT as error:
            told = f"{type(error).__name__}: {error}"[:300]
            raise UnsupportedLayer(
                f"{what}: its inputs or attributes do not fit together ({told}); "
                f"check the model with onnx.checker.check_model(model, full_check=True)"
            ) from error
        results = result if isinstance(result, tuple) else (result,)
        self.values.update(zip([n for n in node.output if n], results, strict=False))
        self.used.update({k: v for k, v in inputs.items() if isinstance(v, np.ndarray)})
        self.kept.append(node)

    def _entry(self, node: Any) -> tuple[str, Adapter]:
        if node.op_type not in ONNX:
            raise UnsupportedLayer(
                f"{describe(node)}: the table has no layer for this operator applied to computed "
                f"values; `gatewise ops` lists those it has"
            )
        entry, adapter = ONNX[node.op_type]
        return entry.name, adapter

    def _operand(self, name: str, what: str) -> Operand:
        value = self.value(name)
        return to_tensor(value, what) if isinstance(value, np.ndarray) else value

    def _refuse_size(self, node: Any, inputs: Mapping[str, Value], what: str) -> None:
        """Before anything is computed: would a value be too large?"""
        shapes = {k: v.shape if isinstance(v, Ref) else v for k, v in inputs.items()}
        try:
            found = output_shapes(single_node(node, shapes, self.opsets))  # type: ignore[arg-type]
        # Broad: onnx's C++ infers the shapes, and pybind names its errors as it likes.
        except Exception as error:
            told = str(error).strip().splitlines()[:1]
            raise CorruptModel(f"{what}: its shapes do not fit together: {told}") from error
        refuse_size(found, what)


def _shape_of(node: Any, value: Any) -> Array:
    """Shape or Size of a value: known without its numbers, since the batch is 1."""
    shape = value.shape
    if node.op_type == "Size":
        return np.array(int(np.prod(shape, dtype=np.int64)), np.int64)
    ends = {a.name: int(a.i) for a in node.attribute}
    return np.array(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)


def _attribute(attribute: Any, what: str) -> Any:
    """An attribute's value: numbers, text, lists of them; a tensor as a constant."""
    import onnx

    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:  # all that it raises: a type it does not know
        raise CorruptModel(f"{what}: its attribute '{attribute.name}' is damaged") from error
    if isinstance(value, onnx.TensorProto):
        return to_tensor(to_array(value, attribute.name), what)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, int | float | str):
        return value
    held = value if isinstance(value, list) else [value]  # a graph, say, or None for no type
    values = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in held]
    if not all(isinstance(v, int | float | str) for v in values):
        raise UnsupportedLayer(f"{what}: its attribute '{attribute.name}' is of a type not read")
    return values


def _complete(node: Any, adapter: Adapter, opset: int) -> None:
    """Write out the attributes left to ONNX's default: 0.01, say, is the float32 nearest to it.

    A bound of 3.4e38 (Clip's until opset 11) stands for none, and is left out.
    """
    import onnx

    schema = onnx.defs.get_schema(node.op_type, opset)
    given = {a.name for a in node.attribute}
    parameters = inspect.signature(adapter).parameters
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if name in parameters and name not in given and default.name and abs(default.f) < 1e38:
            node.attribute.append(default)


def _refuse_attributes(adapter: Adapter, attributes: Mapping[str, Any], what: str) -> None:
    """UnsupportedLayer naming what the table's layer does not know: nothing is dropped."""
    parameters = inspect.signature(adapter).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name, value in attributes.items():
        if name not in parameters:
            raise UnsupportedLayer(
                f"{what}: its attribute '{name}' (= {value!r}) is not read; export the model "
                f"without it"
            )
