"""Gates that are flat: comparisons, signs and the logic on their zeros and ones."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gatewise.ops.arithmetic import add, function, sub, times
from gatewise.ops.builder import Builder, Operand, Pieces, Product, Ref
from gatewise.ops.common import computed, fixed, named, number, pair_broadcast
from gatewise.ops.gates import pieces
from gatewise.ops.table import Adapter, Entry, OnnxExample
from gatewise.ops.winners import reduce


def heaviside(b: Builder, x: Ref, values: Operand) -> Ref:
    """0 below 0, `values` at 0, 1 above."""
    at_zero = fixed(b, values, "its value at 0")
    return pieces(b, x, [0, 0], [0, 0, 0], [0, at_zero, 1], [True, False])


def sign(b: Builder, x: Ref) -> Ref:
    """-1, 0 or 1."""
    return pieces(b, x, [0, 0], [0, 0, 0], [-1, 0, 1], [True, False])


# name -> (knots, offsets, closed) of a step at 0, and the name with its sides exchanged
COMPARISONS: dict[str, tuple[int, list[float], list[bool], str]] = {
    "gt": (1, [0, 1], [False], "lt"),
    "ge": (1, [0, 1], [True], "le"),
    "lt": (1, [1, 0], [True], "gt"),
    "le": (1, [1, 0], [False], "ge"),
    "eq": (2, [0, 1, 0], [True, False], "eq"),
    "ne": (2, [1, 0, 1], [True, False], "ne"),
}


def compare(b: Builder, x: Operand, y: Operand, name: str) -> Ref:
    """A step of x at a constant, or of x - y at 0."""
    if not isinstance(x, Ref):
        return _step(b, computed(b, y), COMPARISONS[name][3], x)
    if isinstance(y, Ref):
        return _step(b, sub(b, x, y), name, 0.0)
    return _step(b, x, name, y)


def _step(b: Builder, x: Ref, name: str, at: Operand) -> Ref:
    where = number(at)
    if where.numel() == 1 and bool(where.isinf()):  # the same answer for every finite number
        return always(b, x, float(getattr(torch, name)(torch.zeros_like(where), where)))
    knots, offsets, closed, _ = COMPARISONS[name]
    return pieces(b, x, [at] * knots, [0] * len(offsets), offsets, closed)


def always(b: Builder, x: Operand, value: float) -> Ref:
    """A constant, said of every finite x."""
    return b.affine(torch.zeros_like, computed(b, x), bias=number(value), pullback=nothing)


def nothing(g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of the zero map (an infinite x times 0 would not be 0)."""
    return (torch.zeros_like(g),)


# -- logic: what a comparison gives is 0 or 1 --


def invert(b: Builder, x: Operand) -> Ref:
    """1 - x."""
    return times(b, computed(b, x), -1, bias=number(1))


def both(b: Builder, x: Operand, y: Operand) -> Ref:
    """x and y: their product."""
    if not isinstance(x, Ref):
        x, y = y, x
    x = computed(b, x)
    if not isinstance(y, Ref):
        return times(b, x, _mask(b, y))
    return b.add(Product(torch.mul), *pair_broadcast(b, x, y))


def either(b: Builder, x: Operand, y: Operand) -> Ref:
    """x or y: 1 - (1 - x)(1 - y)."""
    parts = [invert(b, v) if isinstance(v, Ref) else _mask(b, v) == 0 for v in (x, y)]
    return invert(b, both(b, *parts))


def _mask(b: Builder, value: Operand) -> Tensor:
    """A constant of truths; whole numbers are refused, since their bits would be meant."""
    mask = torch.as_tensor(value)
    if mask.dtype != torch.bool:
        raise b.refuse(f"logic with a constant of {mask.dtype} is not supported; use booleans")
    return mask


def truth(b: Builder, x: Operand) -> Operand:
    """1 where x is not 0: x itself if it is a step of zeros and ones already."""
    if not isinstance(x, Ref):
        return torch.as_tensor(x) != 0
    kind = next((n.kind for n in b.nodes if n.name == x.name), None)
    if isinstance(kind, Pieces) and kind.constant and set(kind.offsets.unique().tolist()) <= {0, 1}:
        return x
    return _step(b, x, "ne", 0.0)


def logical_not(b: Builder, x: Operand) -> Ref:
    """1 where x is 0, whatever x is."""
    return invert(b, truth(b, x))


def of_truths(logic: Adapter) -> Adapter:
    """logical_and, logical_or: of what is not zero."""
    return lambda b, x, y: logic(b, truth(b, x), truth(b, y))


def any_of(b: Builder, x: Operand, dim: int, keepdim: bool = False) -> Ref:
    """1 where some entry along an axis is not 0."""
    return reduce(b, computed(b, truth(b, x)), [dim], keepdim, 1)


def all_of(b: Builder, x: Operand, dim: int, keepdim: bool = False) -> Ref:
    """1 where every entry along an axis is not 0."""
    return reduce(b, computed(b, truth(b, x)), [dim], keepdim, -1)


def where(b: Builder, condition: Ref, x: Operand, y: Operand) -> Ref:
    """m x + (1 - m) y, for the m of a comparison: one part, exactly."""
    return add(b, _kept(b, condition, x), _kept(b, invert(b, condition), y))


def _kept(b: Builder, mask: Ref, x: Operand) -> Operand:
    if isinstance(x, Ref):
        return both(b, mask, x)
    value = fixed(b, x, "a branch")
    if not bool(value.isfinite().all()):
        raise b.refuse("it picks an infinite constant by a computed condition; use a finite one")
    return times(b, mask, value) if bool(value.any()) else torch.zeros_like(value)


# -- the rows of the table --


def _names(aten: str) -> dict[str, Adapter]:
    return {name: partial(compare, name=aten) for name in (aten, f"{aten}_", f"__{aten}__")}


_ONNX_NAMES = {
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Less": "lt",
    "LessOrEqual": "le",
    "Equal": "eq",
}
_SPELT_OUT = {"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}


def _inside(x: Tensor) -> Tensor:
    return ((x > -0.5) & ~(x >= 0.5) | (x.abs() > 1)).to(x.dtype)


def _logical(x: Tensor) -> Tensor:
    low = torch.logical_and(x > 0, x)
    return torch.logical_or(low, torch.logical_not(x)).to(x.dtype)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "Step",
        "Gate",
        "y = 0 below 0 and 1 above, or -1, 0 and 1 (sign)",
        named("heaviside heaviside_", heaviside) | named("sign sign_ sgn sgn_", sign),
        {"Sign": sign},
        (
            function(lambda x: torch.heaviside(x, torch.tensor(0.5, dtype=x.dtype)), (5, 3)),
            function(torch.sign, (5, 3)),
            OnnxExample("Sign", ((1, 5),)),
        ),
    ),
    Entry(
        "Compare",
        "Gate",
        "y = 1 where x > c (>=, <, <=, =, ≠), else 0; x - z against 0 for two",
        {n: a for aten in COMPARISONS for n, a in _names(aten).items()}
        | {n: partial(compare, name=aten) for n, aten in _SPELT_OUT.items()}
        | named("isnan isinf", partial(always, value=0.0)),
        {n: partial(compare, name=aten) for n, aten in _ONNX_NAMES.items()},
        (
            function(lambda x: (x > 0.5).to(x.dtype), (5, 3)),
            function(lambda x: torch.le(x, 0.5).to(x.dtype), (5, 3)),
            function(lambda x: x.lt(torch.linspace(-1, 1, 3)).to(x.dtype), (5, 3)),
            function(lambda x, y: (x <= y).to(x.dtype), (5, 3), (5, 3)),
            function(lambda x, y: (x >= y).to(x.dtype), (5, 2, 3), (5, 1, 3)),
            function(lambda x: (x.relu() == 0).to(x.dtype), (5, 3)),
            function(lambda x: (x.relu() != 0).to(x.dtype), (5, 3)),
            function(lambda x: x + (x < torch.inf) + x.isnan(), (5, 3)),
            *(OnnxExample(op, ((1, 5), (1, 5))) for op in _ONNX_NAMES),
            OnnxExample("Greater", ((1, 5), [0.25])),
            OnnxExample("Less", ([0.25], (1, 5))),
        ),
    ),
    Entry(
        "Not",
        "Affine",
        "y = 1 - x, for the truths of a comparison",
        named("bitwise_not bitwise_not_ __invert__", invert) | named("logical_not", logical_not),
        {"Not": invert},
        (function(lambda x: (~(x > 0)).to(x.dtype), (5, 3)),),
    ),
    Entry(
        "Any, All",
        "Gate",
        "y = the largest (smallest) of the truths along an axis",
        {"any.dim": any_of, "all.dim": all_of},
        {},
        (
            function(lambda x: (x > 1).any(1).to(x.dtype), (5, 3)),
            function(lambda x: (x > -1).all(-1, keepdim=True).to(x.dtype), (5, 2, 3)),
        ),
    ),
    Entry(
        "And, Or",
        "Product",
        "x z and 1 - (1 - x)(1 - z), for the truths of comparisons",
        named("bitwise_and __and__ bitwise_and_", both)
        | named("bitwise_or __or__ bitwise_or_", either)
        | {"logical_and": of_truths(both), "logical_or": of_truths(either)},
        {"And": both, "Or": either},
        (function(_inside, (5, 3)), function(_logical, (5, 3))),
    ),
)
