"""Layers that change no value: copies, dropout in evaluation, casts between floats."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, named, real
from gatewise.ops.table import Entry, OnnxExample, TorchExample


def identity(b: Builder, x: Operand, *, memory_format: Any = None) -> Ref:
    """The value itself; how it lies in memory is no matter here."""
    return computed(b, x)


def dropout(b: Builder, x: Operand, p: float = 0.5, train: bool = False) -> Ref:
    """In evaluation, the value itself."""
    if train and p:
        raise b.refuse(f"it drops entries at random (train=True, p={p}); call model.eval() first")
    return computed(b, x)


def native_dropout(b: Builder, x: Operand, p: float, train: bool | None) -> tuple[Ref, ...]:
    """The same, beside a mask that nobody reads."""
    return (dropout(b, x, p, bool(train)),)


def dropout_onnx(
    b: Builder, x: Operand, ratio: Operand = 0.5, training_mode: Operand = None, *, seed: int = 0
) -> Ref:
    """ONNX Dropout: the ratio is an attribute before opset 12, and the mode an input after."""
    train = training_mode is not None and bool(torch.as_tensor(training_mode).any())
    return dropout(b, x, 1.0 if isinstance(ratio, Ref) or ratio is None else float(ratio), train)


def to(
    b: Builder,
    x: Operand,
    *target: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Ref:
    """A cast between float32 and float64, which are one here; the place is no matter."""
    for value in (*target, dtype):
        if isinstance(value, torch.dtype):
            real(b, value)
        elif isinstance(value, torch.Tensor):
            real(b, value.dtype)
    return computed(b, x)


def cast(b: Builder, x: Operand, *, to: int, saturate: int = 1, round_mode: str = "up") -> Ref:
    """ONNX Cast, whose types are numbers: 1 is float32 and 11 float64."""
    if to not in {1, 11}:
        raise b.refuse(
            f"it casts a computed value to ONNX type {to}, which rounds; only float32 and float64 "
            "are read"
        )
    return computed(b, x)


def cast_like(
    b: Builder, x: Operand, like: Operand, *, saturate: int = 1, round_mode: str = "up"
) -> Ref:
    """ONNX CastLike: the type of another value."""
    if isinstance(like, torch.Tensor):
        real(b, like.dtype)
    return computed(b, x)


# -- the rows of the table --

ENTRIES = (
    Entry(
        "Identity",
        "Affine",
        "y = x: copies, dropout in evaluation, casts between floats",
        torch=named("clone contiguous detach detach_ alias lift_fresh lift_fresh_copy", identity)
        | named(
            "dropout dropout_ feature_dropout feature_dropout_ alpha_dropout alpha_dropout_ "
            "feature_alpha_dropout feature_alpha_dropout_",
            dropout,
        )
        | named("native_dropout", native_dropout)
        | named("to _to_copy type_as", to),
        onnx=named("Identity", identity)
        | named("Dropout", dropout_onnx)
        | named("Cast", cast)
        | named("CastLike", cast_like),
        examples=(
            function(lambda x: x.clone().contiguous().detach() + 0, (5, 3)),
            function(lambda x: x.to(torch.float64) * 1.0, (5, 3)),
            TorchExample(lambda: nn.Sequential(nn.Dropout(0.3), nn.Identity()).eval(), ((5, 3),)),
            TorchExample(lambda: nn.Dropout2d().eval(), ((5, 3, 2, 2),)),
            OnnxExample("Identity", ((1, 3),)),
            OnnxExample("Dropout", ((1, 3),), {"ratio": 0.3}, 10),
            OnnxExample("Dropout", ((1, 3), 0.3), {}, 13),
            OnnxExample("Cast", ((1, 3),), {"to": 1}),
            OnnxExample("CastLike", ((1, 3), [1.0])),
        ),
    ),
)
