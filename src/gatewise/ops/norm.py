"""Batch normalisation in evaluation: one scale and one offset a channel, folded in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gatewise.ops.affine import listed
from gatewise.ops.arithmetic import times
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, fixed, named
from gatewise.ops.table import Entry, OnnxExample, TorchExample

EPSILON = float(torch.tensor(1e-5, dtype=torch.float32))  # ONNX attributes are float32


def normalise(
    b: Builder, x: Operand, weight: Operand, bias: Operand, mean: Operand, var: Operand, eps: float
) -> Ref:
    """y = s x + (c - m s), with s = w / sqrt(v + eps)."""
    part = computed(b, x)
    if mean is None or var is None:
        raise b.refuse("it keeps no running mean and variance, so rows of a batch change another")
    m, v = fixed(b, mean, "the running mean"), fixed(b, var, "the running variance")
    w = torch.ones_like(m) if weight is None else fixed(b, weight, "the weight")
    c = torch.zeros_like(m) if bias is None else fixed(b, bias, "the bias")
    s = w / (v + eps).sqrt()
    offset = c - m * s
    if not bool(s.isfinite().all() and offset.isfinite().all()):
        raise b.refuse("its scale is not finite; is a running variance negative, or a number NaN?")
    return times(b, part, _channel(s, part), _channel(offset, part))


def _channel(values: Tensor, x: Ref) -> Tensor:
    """One value a channel, axis 1 of the source."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    mean: Operand,
    var: Operand,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Ref:
    """aten.batch_norm."""
    if training:
        raise b.refuse("it is in training mode, where rows change one another; call model.eval()")
    return normalise(b, x, weight, bias, mean, var, eps)


def native_batch_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    mean: Operand,
    var: Operand,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Ref, ...]:
    """The same, beside statistics that nobody reads."""
    return (batch_norm(b, x, weight, bias, mean, var, training, momentum, eps),)


def no_training(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    mean: Operand,
    var: Operand,
    momentum: float,
    eps: float,
) -> tuple[Ref, ...]:
    """The same, in evaluation by name."""
    return (normalise(b, x, weight, bias, mean, var, eps),)


def batch_norm_onnx(
    b: Builder,
    x: Operand,
    scale: Operand,
    bias: Operand,
    mean: Operand,
    var: Operand,
    *,
    epsilon: float = EPSILON,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Ref:
    """ONNX BatchNormalization; `spatial` until opset 8, `training_mode` from 14."""
    if not spatial:
        raise b.refuse("spatial=0 (a scale for each pixel) was dropped from ONNX in opset 9")
    return batch_norm(b, x, scale, bias, mean, var, bool(training_mode), momentum, epsilon)


# -- the rows of the table --


def _trained(make: type[Any], shape: tuple[int, ...], **settings: Any) -> TorchExample:
    """A batch norm with statistics that are not 0 and 1."""

    def build() -> Any:
        module = make(shape[1], **settings).double().eval()
        module.running_mean.copy_(torch.linspace(-1, 2, shape[1]))
        module.running_var.copy_(torch.linspace(0.1, 3, shape[1]))
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -2, 2)
        return module

    return TorchExample(build, (shape,))


VARIANCE = [0.5, 0.1, 2.0]

ENTRIES = (
    Entry(
        "BatchNorm",
        "Affine",
        "y = w (x - m) / sqrt(v + ε) + c a channel, m and v as trained",
        torch=named("batch_norm", batch_norm)
        | named("native_batch_norm cudnn_batch_norm", native_batch_norm)
        | named("_native_batch_norm_legit_no_training", no_training),
        onnx=named("BatchNormalization", batch_norm_onnx),
        examples=(
            _trained(nn.BatchNorm1d, (5, 3)),
            _trained(nn.BatchNorm1d, (5, 3, 4), affine=False),
            _trained(nn.BatchNorm2d, (5, 3, 2, 2), eps=0.1),
            _trained(nn.BatchNorm3d, (5, 3, 2, 1, 2)),
            OnnxExample(
                "BatchNormalization", ((1, 3, 2), listed(3), listed(3), [0.5, 1.0, -1.0], VARIANCE)
            ),
            OnnxExample(
                "BatchNormalization",
                ((1, 3), listed(3), listed(3), [0.5, 1.0, -1.0], VARIANCE),
                {"epsilon": 0.8, "momentum": 0.5},
                9,
            ),
        ),
    ),
)
