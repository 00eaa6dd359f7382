"""A Program: torch's own graph of a model as a list of calls, free of torch.export's objects.

Both doors for torch models end here (a traced module and a .pt2 file); it can be run as it stands,
which is what a Network read from it is checked against, and it is what walk.py turns into one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Shape

LOW = {torch.float32, torch.float16, torch.bfloat16}
CASTS = {"to", "_to_copy", "type_as", "float", "half", "bfloat16"}
TRUTHS = {"gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not"}
SAME_STORAGE = {"dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"}


@dataclass(frozen=True)
class Var:
    """A value by name: the input, a constant, or what a call gave."""

    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """name = target(*args, **kwargs); `path` is the module path it came from."""

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    path: str

    @property
    def op(self) -> str:
        """The operator's name without its overload: "conv2d"."""
        if isinstance(self.target, OpOverload):
            return self.target._schema.name.partition("::")[2]
        return getattr(self.target, "__name__", str(self.target))

    @property
    def layer(self) -> str:
        """How messages name it: "aten.conv2d.default"."""
        return str(self.target) if isinstance(self.target, OpOverload) else self.op

    @property
    def reads(self) -> set[str]:
        return {v.name for v in leaves((self.args, dict(self.kwargs))) if isinstance(v, Var)}


@dataclass(frozen=True, eq=False)
class Program:
    """Calls in order, from `input` (shape: one row, with its leading 1) to the value `output`.

    labels: constant -> its name in the module, for parameters and buffers; trained: those that
    are parameters; batch: the number of rows it was traced for, where that is fixed; trusted:
    False for a file, of which little is executed.
    """

    calls: tuple[Call, ...]
    constants: Mapping[str, Any]
    input: str
    input_shape: Shape
    output: str
    labels: Mapping[str, str] = field(default_factory=dict)
    trained: frozenset[str] = frozenset()
    batch: int | None = None
    trusted: bool = True

    @property
    def needed(self) -> list[Call]:
        """The calls the output depends on."""
        names, kept = {self.output}, []
        for call in reversed(self.calls):
            if call.name in names:
                names |= call.reads
                kept.append(call)
        return kept[::-1]

    @property
    def lowers(self) -> bool:
        """Does it round to less than float64 on the way, whatever its weights are?"""
        truths = {call.name for call in self.calls if call.op in TRUTHS}  # 0 and 1 round to nothing
        return any(
            call.op in CASTS
            and any(v in LOW for v in leaves((call.args, dict(call.kwargs))))
            and not call.reads <= truths
            for call in self.needed
        )

    def to(self, dtype: torch.dtype) -> Program:
        """The same with its constants in another float type; tied weights stay tied."""
        changed: dict[Any, Any] = {}
        constants: dict[str, Any] = {}
        for name, value in self.constants.items():
            constants[name] = value
            if isinstance(value, Tensor) and value.is_floating_point():
                constants[name] = changed.setdefault(identity(value), value.to(dtype))
        return dataclasses.replace(self, constants=constants)


def identity(tensor: Tensor) -> Any:
    """Equal for two views of the same numbers."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def leaves(value: Any) -> Iterator[Any]:
    """Everything inside nested tuples, lists and dicts."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()))
    else:
        yield value


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """The arguments with each Var replaced by its value."""
    if isinstance(value, Var):
        return values[value.name]
    if isinstance(value, tuple | list):
        return type(value)(fill(item, values) for item in value)
    return value


def run_program(program: Program, x: Tensor) -> Any:
    """The output for x (rows, ...), by torch's own operators (in_place_is_plain must hold)."""
    values: dict[str, Any] = {**program.constants, program.input: x}
    if any(is_mutable(call) for call in program.needed):
        values = {k: v.clone() if isinstance(v, Tensor) else v for k, v in values.items()}
    for call in program.needed:
        kwargs = {k: fill(v, values) for k, v in call.kwargs.items()}
        values[call.name] = call.target(*fill(call.args, values), **kwargs)
    return values[program.output]


def exact(program: Program) -> Program:
    """The program in float64, or in float32 where it rounds to that itself."""
    return program.to(torch.float32 if program.lowers else torch.float64)


def is_mutable(call: Call) -> bool:
    """Does the call change one of its arguments in place?"""
    return isinstance(call.target, OpOverload) and call.target._schema.is_mutable


def in_place_is_plain(program: Program) -> bool:
    """True where no storage is read by an old name after it was changed in place.

    Then `relu_` may be read as `relu`: nobody can tell the difference.
    """
    stale: set[str] = set()
    for call, root in _storages(program):
        if call.reads & stale and not _writes_back(call, root, program):
            return False
        if is_mutable(call):
            changed = {root.get(n, n) for n in _written(call)}
            stale |= {n for n in [*root, *changed] if root.get(n, n) in changed}
    return program.output not in stale


def require_stateless(program: Program) -> None:
    """Refuse a model whose answer depends on how often it was called before."""
    needed: set[str] = set().union(*(call.reads for call in program.needed))
    for call, root in _storages(program):
        written = {root.get(n, n) for n in _written(call)} if is_mutable(call) else set()
        for name in written & needed & program.labels.keys():
            raise UnsupportedLayer(
                f"the model changes its own '{program.labels[name]}' whenever it is called, and "
                f"its output depends on it, so it has no fixed rules: take that state out of it"
            )


def _storages(program: Program) -> Iterator[tuple[Call, dict[str, str]]]:
    """Each call with what is known then: for every view so far, whose storage it shares."""
    root: dict[str, str] = {}
    for call in program.calls:
        yield call, root
        shared = _shared(call)
        if shared is not None and not is_mutable(call):
            root[call.name] = root.get(shared, shared)


def _writes_back(call: Call, root: Mapping[str, str], program: Program) -> bool:
    """The copy of a buffer's new value into it, which torch.export appends."""
    written = {root.get(n, n) for n in _written(call)} if is_mutable(call) else set()
    return call.op == "copy_" and bool(written) and written <= program.labels.keys()


def _written(call: Call) -> set[str]:
    """The arguments that a call changes in place."""
    assert isinstance(call.target, OpOverload)
    schema = call.target._schema.arguments
    named = [*zip(schema, call.args, strict=False)]
    named += [(a, call.kwargs[a.name]) for a in schema if a.name in call.kwargs]
    written = [v for a, v in named if a.alias_info is not None and a.alias_info.is_write]
    return {v.name for v in leaves(written) if isinstance(v, Var)}


def _shared(call: Call) -> str | None:
    """The argument whose storage the result of a view may share."""
    first = next((v.name for v in leaves(call.args) if isinstance(v, Var)), None)
    if call.target is operator.getitem or call.op in SAME_STORAGE:
        return first
    if not isinstance(call.target, OpOverload):
        return None
    views = any(r.alias_info is not None for r in call.target._schema.returns)
    return first if views else None


# -- from torch.export --


def from_exported(exported: Any, output: int = 0) -> Program:
    """The Program of a torch.export.ExportedProgram, for one of its outputs."""
    from torch.fx.node import map_arg

    constants, labels, trained, inputs = _inputs(exported)
    calls: list[Call] = []
    for node in exported.graph.nodes:
        if node.op == "get_attr":
            constants[node.name] = getattr(exported.graph_module, node.target)
        elif node.op == "call_function":
            variable: Any = lambda n: Var(n.name)  # noqa: E731 - torch types it too narrowly
            args: Any = map_arg(node.args, variable)
            kwargs: Any = map_arg(node.kwargs, variable)
            calls.append(Call(node.name, node.target, tuple(args), dict(kwargs), path_of(node)))
    name, shape = one_input(inputs)
    return Program(
        distinct(calls),
        constants,
        name,
        (1, *shape[1:]),
        user_outputs(exported)[output],
        labels,
        frozenset(trained),
        None if shape[0] < 0 else shape[0],
    )


def user_outputs(exported: Any) -> list[str]:
    """The names of what the module returns, flattened."""
    specs = exported.graph_signature.output_specs
    kept = [s for s in specs if s.kind.name == "USER_OUTPUT"]
    return [getattr(s.arg, "name", "") for s in kept]


def one_input(inputs: list[tuple[str, Shape]]) -> tuple[str, Shape]:
    """The only input there is; several are refused by name."""
    if len(inputs) == 1:
        return inputs[0]
    names = ", ".join(f"'{name}'" for name, _ in inputs) or "none"
    raise UnsupportedLayer(
        f"the model takes {len(inputs)} tensors ({names}), and Gatewise reads models of one: "
        f"wrap it in a module whose forward takes one tensor and cuts it into these"
    )


Inputs = tuple[dict[str, Any], dict[str, str], set[str], list[tuple[str, Shape]]]


def _inputs(exported: Any) -> Inputs:
    """Constants by placeholder, their names, which are parameters; what is left: the inputs."""
    constants: dict[str, Any] = {}
    labels: dict[str, str] = {}
    trained: set[str] = set()
    inputs: list[tuple[str, Shape]] = []
    stored = {**exported.constants, **exported.state_dict}
    metas = {n.name: n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder"}
    for spec in exported.graph_signature.input_specs:
        name, kind = spec.arg.name, spec.kind.name
        if kind in {"PARAMETER", "BUFFER", "CONSTANT_TENSOR"}:
            constants[name] = stored[spec.target].detach()
            labels[name] = spec.target
            trained |= {name} if kind == "PARAMETER" else set()
        elif kind == "USER_INPUT" and isinstance(metas.get(name), Tensor):
            inputs.append((name, _sizes(metas[name])))
        elif kind == "USER_INPUT" and hasattr(spec.arg, "value"):
            constants[name] = spec.arg.value
        else:
            raise UnsupportedLayer(f"the model holds '{name}', a {kind}, which is no tensor")
    return constants, labels, trained, inputs


def _sizes(value: Tensor) -> Shape:
    """The shape, with -1 for rows of any number."""
    if not value.ndim or not value.is_floating_point():
        raise UnsupportedLayer(
            f"the model's input is {str(value.dtype).removeprefix('torch.')} of shape "
            f"{tuple(value.shape)}, and Gatewise reads models of real numbers, rows first: "
            f"export it with such an input"
        )
    return tuple(int(n) if isinstance(n, int) else -1 for n in value.shape)


def path_of(node: Any) -> str:
    """The path of the innermost module a graph node was called in, "" for the whole model."""
    stack = list((node.meta.get("nn_module_stack") or {}).items())
    return path_from(stack, node.name)


def path_from(stack: list[tuple[str, tuple[str, Any]]], name: str) -> str:
    """'encoder.2' for a layer of torch.nn, 'encoder.2.relu' for a function called in a module.

    The key, unlike the path, tells the calls of a reused module apart; `distinct` needs it.
    """
    stack = [(key, where) for key, where in stack if "_empty_nn_module_stack" not in key]
    if not stack:
        return f"|{name}"
    key, (path, kind) = stack[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    builtin = kind.startswith("torch.nn.modules.") and ".container." not in kind
    return f"{path}|{key if builtin else ''}"


def distinct(calls: list[Call]) -> tuple[Call, ...]:
    """Paths made final: the layer's own where it is one call, else the path and the operator."""
    counts: dict[str, int] = {}
    for call in calls:
        if not call.op.startswith("sym_"):
            counts[call.path] = counts.get(call.path, 0) + 1
    named = []
    for call in calls:
        path, _, key = call.path.partition("|")
        alone = bool(path and key) and counts.get(call.path, 0) == 1
        final = path if alone else f"{path}.{call.op.strip('_')}".strip(".")
        named.append(dataclasses.replace(call, path=final))
    return tuple(named)
