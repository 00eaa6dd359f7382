"""Affine layers entry by entry: sums of parts, and parts added to or multiplied by constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gatewise.ir.kinds import scale, scale_back
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import broadcast, computed, fixed, named, number, only, pair_broadcast
from gatewise.ops.table import Entry, OnnxExample, TorchExample

# -- rules --


def same(x: Tensor) -> Tensor:
    """x."""
    return x


def same_back(g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `same`."""
    return (g,)


def plus(x: Tensor, y: Tensor) -> Tensor:
    """x + y."""
    return x + y


def plus_back(g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `plus`: g to both."""
    return (g, g)


def combine(p: Tensor, q: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """p x + q y."""
    return torch.addcmul(p * x, q, y)


def combine_back(p: Tensor, q: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `combine`."""
    return p * g, q * g


def scale_direct(s: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """s x + bias in one kernel call."""
    return torch.addcmul(bias, s, x)


# -- nodes --


def shift(b: Builder, x: Ref, c: Tensor) -> Ref:
    """y = x + c, x repeated where c is the larger."""
    return b.affine(same, broadcast(b, x, c.shape), bias=c, pullback=same_back)


def times(b: Builder, x: Ref, c: Operand, bias: Tensor | None = None) -> Ref:
    """y = c x (+ bias) entry by entry, x repeated where c is the larger."""
    factor = fixed(b, c, "the factor")
    x = broadcast(b, x, factor.shape)
    terms = int(not _moves(factor))
    return b.affine(
        scale,
        x,
        weights=(factor,),
        bias=bias,
        terms=terms,
        pullback=scale_back,
        direct=scale_direct,
    )


def _moves(factor: Tensor) -> bool:
    """True where multiplying rounds nothing: factors 0, 1 and -1."""
    return bool(((factor == 0) | (factor.abs() == 1)).all())


def add(b: Builder, x: Operand, y: Operand, *, alpha: float = 1) -> Ref:
    """y = x + alpha y."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        return _add_two(b, *pair_broadcast(b, x, y), alpha)
    if isinstance(x, Ref):
        return shift(b, x, number(y) * alpha)
    part = computed(b, y)
    return shift(b, part if alpha == 1 else times(b, part, alpha), number(x))


def _add_two(b: Builder, x: Ref, y: Ref, alpha: float) -> Ref:
    if alpha == 1:
        return b.affine(plus, x, y, terms=2, terms_back=0, pullback=plus_back)
    weights = (number(1), number(alpha))
    back = int(not _moves(weights[1]))
    return b.affine(combine, x, y, weights=weights, terms=2, terms_back=back, pullback=combine_back)


def sub(b: Builder, x: Operand, y: Operand, *, alpha: float = 1) -> Ref:
    """y = x - alpha y."""
    return add(b, x, y, alpha=-alpha)


def rsub(b: Builder, x: Operand, y: Operand, alpha: float = 1) -> Ref:
    """y = y - alpha x."""
    return add(b, y, x, alpha=-alpha)


def negate(b: Builder, x: Operand) -> Ref:
    """y = -x."""
    return times(b, computed(b, x), -1)


def mul(b: Builder, x: Operand, y: Operand) -> Ref:
    """y = c x, the constant on either side."""
    return times(b, x, y) if isinstance(x, Ref) else times(b, computed(b, y), x)


def div(b: Builder, x: Operand, y: Operand, *, rounding_mode: str | None = None) -> Ref:
    """y = x / c."""
    only(b, "rounding_mode", rounding_mode, None)
    divisor = fixed(b, y, "the divisor")
    if bool((divisor == 0).any()):
        raise b.refuse("it divides by a constant that is zero, so its value is not finite")
    return times(b, computed(b, x, "what is divided"), 1 / divisor)


# -- several at once --


def add_all(b: Builder, *parts: Operand) -> Ref:
    """y = x1 + x2 + ... with broadcasting."""
    total, *rest = sorted(parts, key=lambda p: not isinstance(p, Ref))
    for part in rest:
        total = add(b, total, part)
    return computed(b, total)


def mean_all(b: Builder, *parts: Operand) -> Ref:
    """y = (x1 + ... + xk) / k with broadcasting."""
    return times(b, add_all(b, *parts), 1 / len(parts))


def addcmul(b: Builder, x: Operand, y: Operand, z: Operand, *, value: float = 1) -> Ref:
    """y = x + value y z, where y or z is constant."""
    if isinstance(y, Ref) or isinstance(z, Ref):
        return add(b, x, mul(b, y, z), alpha=value)
    return add(b, x, number(y) * number(z), alpha=value)


def lerp(b: Builder, x: Operand, y: Operand, weight: Operand) -> Ref:
    """y = (1 - w) x + w y, for a constant w."""
    w = fixed(b, weight, "the weight of lerp")
    scaled = [
        times(b, part, c) if isinstance(part, Ref) else number(part) * c
        for part, c in ((x, 1 - w), (y, w))
    ]
    return add(b, scaled[0], scaled[1])


def where(b: Builder, condition: Operand, x: Operand, y: Operand) -> Ref:
    """y = x where a constant mask holds, else y."""
    mask = fixed(b, condition, "the condition of where (a computed one is a comparison)")
    return add(b, _masked(b, x, mask), _masked(b, y, 1 - mask))


def _masked(b: Builder, x: Operand, mask: Tensor) -> Operand:
    """mask x; a masked constant may be infinite, so it is not multiplied."""
    if isinstance(x, Ref):
        return times(b, x, mask)
    return torch.where(mask != 0, number(x), 0.0)


def masked_fill(b: Builder, x: Operand, mask: Operand, value: Operand) -> Ref:
    """y = value where a constant mask holds, else x."""
    return where(b, mask, value, x)


# -- the rows of the table --


def function(f: Any, *shapes: tuple[int, ...]) -> TorchExample:
    """An example from a function of tensors."""
    return TorchExample(lambda: f, shapes)


C = torch.linspace(-1.5, 2.0, 12, dtype=torch.float64).reshape(3, 4)
V = C[0].tolist()

ENTRIES = (
    Entry(
        "Add",
        "Affine",
        "y = x1 + x2, or x + c",
        torch=named("add add_ __add__ __radd__", add),
        onnx=named("Add", add),
        examples=(
            function(lambda x, y: x + y, (5, 3), (5, 3)),
            function(lambda x, y: torch.add(x, y, alpha=-0.5), (5, 2, 3), (5, 1, 3)),
            function(lambda x: x + C, (5, 3, 4)),
            function(lambda x: torch.add(2.5, x, alpha=3), (5, 3)),
            function(lambda x: x + C.reshape(1, 3, 4, 1), (5, 1, 1, 2)),
            function(lambda x: x.clone().add_(1), (5, 3)),
            OnnxExample("Add", ((1, 3), (1, 3))),
            OnnxExample("Add", ((1, 2, 4), V), opset=7),
            OnnxExample("Add", (V, (1, 1, 1))),
        ),
    ),
    Entry(
        "Sub",
        "Affine",
        "y = x1 - x2, x - c or c - x",
        torch=named("sub sub_ subtract", sub) | named("rsub", rsub),
        onnx=named("Sub", sub),
        examples=(
            function(lambda x, y: x - y, (5, 3), (5, 3)),
            function(lambda x: x - C, (5, 1, 4)),
            function(lambda x: 1 - x, (5, 3)),
            function(lambda x: torch.rsub(x, C[0], alpha=2), (5, 4)),
            function(lambda x, y: torch.sub(x, y, alpha=2), (5, 3), (5, 3)),
            OnnxExample("Sub", ((1, 3), (1, 3))),
            OnnxExample("Sub", (V, (1, 4))),
            OnnxExample("Sub", ((1, 4), V), opset=7),
        ),
    ),
    Entry(
        "Neg",
        "Affine",
        "y = -x",
        torch=named("neg neg_ negative", negate),
        onnx=named("Neg", negate),
        examples=(function(lambda x: -x, (5, 3)), OnnxExample("Neg", ((1, 3),))),
    ),
    Entry(
        "Scale",
        "Affine",
        "y = c x, entry by entry",
        torch=named("mul mul_ multiply __mul__ __rmul__", mul),
        onnx=named("Mul", mul),
        examples=(
            function(lambda x: x * C, (5, 3, 4)),
            function(lambda x: 2 * x, (5, 3)),
            function(lambda x: x * C.reshape(1, 3, 4, 1), (5, 1, 1, 2)),
            OnnxExample("Mul", ((1, 4), V)),
            OnnxExample("Mul", (V, (1, 2, 1)), opset=7),
        ),
    ),
    Entry(
        "Divide",
        "Affine",
        "y = x / c, entry by entry",
        torch=named("div div_ divide true_divide", div),
        onnx=named("Div", div),
        examples=(
            function(lambda x: x / 3, (5, 3)),
            function(lambda x: x / (C + 4), (5, 1, 4)),
            OnnxExample("Div", ((1, 4), [2.0, 3.0, -5.0, 7.0])),
        ),
    ),
    Entry(
        "Sum of several",
        "Affine",
        "y = x1 + x2 + ... (Mean: divided by how many)",
        onnx=named("Sum", add_all) | named("Mean", mean_all),
        examples=(
            OnnxExample("Sum", ((1, 3), (1, 3), [1.0, 2.0, 3.0])),
            OnnxExample("Sum", ((1, 3),)),
            OnnxExample("Mean", ((1, 2, 3), (1, 1, 3), (1, 2, 1))),
        ),
    ),
    Entry(
        "Blend",
        "Affine",
        "y = x + v c z (addcmul); (1 - w) x + w y (lerp), c and w constant",
        torch=named("addcmul addcmul_", addcmul) | named("lerp lerp_", lerp),
        examples=(
            function(lambda x, y: torch.addcmul(x, y, C[0], value=0.5), (5, 4), (5, 4)),
            function(lambda x: torch.addcmul(x, C[0], C[1], value=-2), (5, 4)),
            function(lambda x, y: torch.lerp(x, y, 0.3), (5, 4), (5, 4)),
            function(lambda x: torch.lerp(x, C[2], C[0]), (5, 4)),
        ),
    ),
    Entry(
        "Mask",
        "Affine",
        "y = x where a constant mask holds, else z",
        torch=named("where", where) | named("masked_fill masked_fill_", masked_fill),
        onnx=named("Where", where),
        examples=(
            function(lambda x, y: torch.where(C > 0, x, y), (5, 3, 4), (5, 1, 4)),
            function(lambda x: torch.where(C[0] > 0, 1.5, x), (5, 4)),
            function(lambda x: x.masked_fill(C[0] > 0, -3.0), (5, 4)),
            OnnxExample("Where", ([True, False, True], (1, 3), (1, 3))),
            OnnxExample("Where", ([True, False, True], [1.0, 2.0, 3.0], (1, 3))),
        ),
    ),
)
