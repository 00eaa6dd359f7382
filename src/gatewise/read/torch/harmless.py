"""What an untrusted file may have executed: operators on our lists, of results of modest size."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from gatewise.errors import UnsupportedLayer
from gatewise.ops import TORCH
from gatewise.ops.builder import Builder
from gatewise.read.torch.program import (
    Call,
    Program,
    in_place_is_plain,
    leaves,
    require_stateless,
)

# What an untrusted file may have executed on its constants, besides the table's own operators.
FOLDABLE = {
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "abs",
    "sqrt",
    "rsqrt",
    "exp",
    "log",
    "pow",
    "reciprocal",
    "square",
    "sum",
    "mean",
    "amax",
    "amin",
    "linalg_vector_norm",
    "norm",
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "t",
    "transpose",
    "permute",
    "view",
    "reshape",
    "expand",
    "unsqueeze",
    "squeeze",
    "flatten",
    "slice",
    "select",
    "cat",
    "stack",
    "index",
    "index_select",
    "gather",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "full_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "empty",
    "arange",
    "linspace",
    "eye",
    "tril",
    "triu",
    "scalar_tensor",
    "lift_fresh_copy",
    "lift_fresh",
    "clone",
    "detach",
    "detach_",
    "alias",
    "contiguous",
    "to",
    "_to_copy",
    "where",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_not",
    "logical_and",
    "logical_or",
    "bitwise_not",
    "masked_fill",
    "repeat",
    "cos",
    "sin",
    "tanh",
    "sigmoid",
    "relu",
    "softmax",
    "_softmax",
    "clamp",
    "maximum",
    "minimum",
    "outer",
    "einsum",
    "sym_size",
    "sym_numel",
}
PYTHON = {
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.neg,
    operator.pow,
    operator.getitem,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
}
EXPANDED = 1 << 24  # how many numbers a file may ask for beyond those it stores
ALLOWED = FOLDABLE | set(TORCH)
SIZES = ("torch.sym_", "math.")  # numbers only: harmless where nothing needs them


def require_harmless(program: Program) -> None:
    """Refuse a program unless every call its output needs is on our lists."""
    needed = {id(call) for call in program.needed}
    for call in program.calls:
        unknown = isinstance(call.target, str) and not call.target.startswith(SIZES)
        if unknown or (id(call) in needed and not _allowed(call)):
            name = str(call.target).removeprefix("torch.ops.")
            raise UnsupportedLayer(
                f"node '{call.path}' ({name}): this operator is not in the table (`gatewise ops` "
                f"prints it): load the model yourself and pass the module, which torch can then "
                f"take apart, or replace the layer"
            )
    require_stateless(program)
    if not in_place_is_plain(program):
        raise UnsupportedLayer(
            "the file's model changes a value in place and then reads it under another name: "
            "save it after exported.run_decompositions({}), or pass the module itself"
        )


def _allowed(call: Call) -> bool:
    """Is the operator one of the table's, or on the list of what may run on constants?"""
    if call.target in PYTHON:
        return True
    if not isinstance(call.target, OpOverload):
        return False
    return not {call.op, f"{call.op}.{call.target._overloadname}"}.isdisjoint(ALLOWED)


def require_modest(b: Builder, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call on constants whose result is far larger than they are, before it is made.

    Its size is told by torch on the meta device, where nothing is computed.
    """
    if not isinstance(call.target, OpOverload):
        return
    given = [v.numel() for v in leaves((list(args), dict(kwargs))) if isinstance(v, Tensor)]
    try:
        with torch.no_grad():
            result = call.target(*_meta(list(args)), **_meta(dict(kwargs)))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return  # its size depends on the numbers, or it fails, which is told when it is made
    made = sum(v.numel() for v in leaves(result) if isinstance(v, Tensor))
    if made > EXPANDED + 4 * sum(given):
        raise b.refuse(
            f"it makes {made} numbers of {sum(given)}, more than a file may ask for: load the "
            f"model yourself and pass the module"
        )


def _meta(value: Any) -> Any:
    """The arguments without their numbers."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, torch.device):
        return torch.device("meta")
    if isinstance(value, tuple | list):
        return type(value)(_meta(v) for v in value)
    return {k: _meta(v) for k, v in value.items()} if isinstance(value, dict) else value
