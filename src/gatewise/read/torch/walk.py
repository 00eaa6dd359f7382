"""From a Program to a Network: constants are folded, every other call is looked up in THE TABLE."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Shape
from gatewise.ir.network import Network
from gatewise.ops import TORCH
from gatewise.ops.builder import Builder, Ref
from gatewise.read.torch.harmless import FOLDABLE, PYTHON, require_modest
from gatewise.read.torch.numbers import require_numbers
from gatewise.read.torch.program import Call, Program, Var, fill, identity, leaves

RANDOM = "it draws random numbers, so the model has no fixed rules: take it out"
SHAPES = {"zeros_like", "ones_like", "full_like", "empty_like"}
SHAPES |= {"new_zeros", "new_ones", "new_full", "new_empty"}


class UnknownOperator(UnsupportedLayer):
    """The table has no entry of that name: decomposing the model may still help."""


def build(program: Program) -> Network:
    """The Network of a Program; UnsupportedLayer, with the path, where a call is not understood.

    A program traced for a fixed number of rows is read for one, wherever that number is not
    written into it; the check on its own number of rows then tells.
    """
    try:
        return _build(program)
    except UnsupportedLayer as error:
        if program.batch in {None, 1}:
            raise
        raise type(error)(
            f"{error} (the model was exported for exactly {program.batch} rows, and that number "
            f"may be written into it: export it for any number, with dynamic_shapes, or for one)"
        ) from None


def _build(program: Program) -> Network:
    require_numbers(program)
    b = Builder(program.input_shape)
    values: dict[str, Any] = {**program.constants, program.input: b.input}
    read: set[str] = set()
    for call in program.needed:
        read |= call.reads
        values[call.name] = _evaluate(b, call, values, program.trusted)
    result = values[program.output]
    if not isinstance(result, Ref):
        raise UnsupportedLayer(
            f"the output '{program.output}' does not depend on the input, so there is nothing to "
            f"explain: pass the module before its weights are frozen into a constant"
        )
    unused = _unused(program, read)
    if unused:
        b.notes.append(f"parameters that the output does not use: {', '.join(unused)}")
    return b.finish(result)


def _unused(program: Program, read: set[str]) -> list[str]:
    """Names of the parameters that no call reads, tied ones counted once."""
    used = {identity(program.constants[n]) for n in read & program.trained}
    unread = [n for n in program.labels if n in program.trained - read]
    return [program.labels[n] for n in unread if identity(program.constants[n]) not in used]


def _evaluate(b: Builder, call: Call, values: dict[str, Any], trusted: bool) -> Any:
    args = fill(call.args, values)
    kwargs = {k: fill(v, values) for k, v in call.kwargs.items()}
    b.at(call.path, call.layer)
    if not any(isinstance(v, Ref) for v in leaves((args, kwargs))):
        return _fold(b, call, args, kwargs, trusted)
    if call.target is operator.getitem and isinstance(args[0], tuple | list):
        return _part(b, call, args[0], args[1])
    first = args[0] if args else None
    if isinstance(first, Ref) and call.op in {"sym_size", "sym_numel"}:
        return _size(first.shape, *args[1:])
    if isinstance(first, Ref) and call.op in SHAPES:
        like = torch.zeros(first.shape, dtype=torch.float64)
        return _cleared(call, call.target(like, *args[1:], **kwargs))
    return _adapt(b, call, args, kwargs)


def _part(b: Builder, call: Call, parts: Any, k: Any) -> Any:
    """Element k of what an operator gives; some give less here than in torch (no positions)."""
    if isinstance(k, int) and -len(parts) <= k < len(parts):
        return parts[k]
    whole = call.args[0].name if isinstance(call.args[0], Var) else "it"
    raise b.refuse(
        f"element {k} of what '{whole.partition('|')[0]}' gives (positions or statistics, beside "
        f"the values) is not offered by the table: use the values alone"
    )


def _adapt(b: Builder, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the table makes of a call on computed values."""
    found = _lookup(call)
    if found is None:
        raise UnknownOperator(str(b.refuse(_unknown(call))))
    entry, adapter = found
    _require_fit(b, adapter, args, kwargs)
    b.at(call.path, entry.name)
    return adapter(b, *args, **kwargs)


def _lookup(call: Call) -> Any:
    """The table's entry: by name and overload first, then by name alone; aten's names only."""
    if not isinstance(call.target, OpOverload) or call.target.namespace != "aten":
        return None
    return TORCH.get(f"{call.op}.{call.target._overloadname}") or TORCH.get(call.op)


def _require_fit(
    b: Builder, adapter: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuse arguments that the table's entry does not know, rather than drop them."""
    try:
        inspect.signature(adapter).bind(b, *args, **kwargs)
    except TypeError as error:
        given = ", ".join([str(len(args)) + " arguments", *kwargs])
        raise b.refuse(f"called with {given}, which the table does not read: {error}") from None


def _unknown(call: Call) -> str:
    if call.op in {"cond", "while_loop", "map_impl", "scan"}:
        return "control flow that depends on the data: read its branches as models of their own"
    if call.op in {"embedding", "embedding_bag"}:
        return (
            "it looks integers up (token ids), and rules are over real numbers: read the part of "
            "the model behind it, whose input is the embedding"
        )
    if torch.Tag.nondeterministic_seeded in getattr(call.target, "tags", ()):
        return RANDOM
    if call.op in {"item", "_local_scalar_dense"}:
        return "a computed value is turned into a Python number, so what follows depends on data"
    return (
        "this operator is not in the table (`gatewise ops` prints it): replace the layer, or "
        "read the model up to it"
    )


def _fold(
    b: Builder, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], trusted: bool
) -> Any:
    """A call on constants alone, by torch itself."""
    tags = getattr(call.target, "tags", ())
    off = call.op.endswith("dropout") and len(args) == 3 and not args[2]  # as in eval mode
    if torch.Tag.nondeterministic_seeded in tags and not off:
        raise b.refuse(RANDOM)
    if not trusted and call.target not in PYTHON and call.op not in FOLDABLE and not _lookup(call):
        raise b.refuse(
            "this operator on constants is not on the list of those a file may have executed: "
            "load the model yourself and pass the module"
        )
    if isinstance(call.target, OpOverload) and call.target._schema.is_mutable:
        args = tuple(v.clone() if isinstance(v, Tensor) else v for v in args)
    if not isinstance(call.target, OpOverload) and call.target not in PYTHON and not trusted:
        raise b.refuse("it is not one of torch's operators")
    if not callable(call.target) or "higher_order" in str(type(call.target).__module__):
        raise UnknownOperator(str(b.refuse(_unknown(call))))
    if not trusted:
        require_modest(b, call, args, kwargs)
    with torch.no_grad():
        return _cleared(call, call.target(*args, **kwargs))


def _cleared(call: Call, value: Any) -> Any:
    """Memory that a model asks for and fills later holds 0 until then, not what lay there."""
    return value.zero_() if "empty" in call.op and isinstance(value, Tensor) else value


def _size(shape: Shape, axis: int | None = None) -> int:
    if axis is None:
        return int(torch.Size(shape).numel())
    return shape[axis]
