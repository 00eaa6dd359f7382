"""Curved layers that normalise a value by its own mean and size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ir.kinds import Shape
from gatewise.ops.arithmetic import times
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import (
    computed,
    fixed,
    flat_call,
    position,
)
from gatewise.ops.norm import EPSILON
from gatewise.ops.table import Entry, OnnxExample, TorchExample


@dataclass(frozen=True)
class Layer:
    """(x - mean) / √(var + eps) over the last axes, times w plus c."""

    shape: Shape
    eps: float

    def __call__(self, w: Tensor, c: Tensor, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, w, c, self.eps)


@dataclass(frozen=True)
class Group:
    """The same over groups of channels, at each row by itself."""

    groups: int
    eps: float
    ndim: int

    def __call__(self, w: Tensor, c: Tensor, x: Tensor) -> Tensor:
        return flat_call(lambda y: F.group_norm(y, self.groups, w, c, self.eps), x, self.ndim - 1)


@dataclass(frozen=True)
class Root:
    """x / √(mean x² + eps) over the last axes, times w."""

    shape: Shape
    eps: float | None

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.shape, w, self.eps)


def _affine_part(
    b: Builder, weight: Operand, bias: Operand, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Weight and bias in the given shape; ones and zeros where they are absent."""
    w = torch.ones(tuple(shape)).double() if weight is None else fixed(b, weight, "the weight")
    c = torch.zeros(tuple(shape)).double() if bias is None else fixed(b, bias, "the bias")
    return w.expand(tuple(shape)).contiguous(), c.expand(tuple(shape)).contiguous()


def layer_norm(
    b: Builder,
    x: Operand,
    normalized_shape: Sequence[int],
    weight: Operand = None,
    bias: Operand = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Ref:
    """Normalised over the last axes."""
    shape = tuple(normalized_shape)
    return b.add(Smooth(Layer(shape, eps), _affine_part(b, weight, bias, shape)), computed(b, x))


def native_layer_norm(
    b: Builder,
    x: Operand,
    normalized_shape: Sequence[int],
    weight: Operand,
    bias: Operand,
    eps: float,
) -> tuple[Ref, ...]:
    """Core aten's form, whose mean and deviation are not offered."""
    return (layer_norm(b, x, normalized_shape, weight, bias, eps),)


def onnx_layer_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
) -> Ref:
    """Over all axes from `axis` on; computed in float64 whatever stash_type says."""
    x = computed(b, x)
    return layer_norm(b, x, x.shape[position(axis, x.ndim) :], weight, bias, epsilon)


def rms_norm(
    b: Builder,
    x: Operand,
    normalized_shape: Sequence[int],
    weight: Operand = None,
    eps: float | None = None,
) -> Ref:
    """x / √(mean x² + eps); without eps, that of the type it is computed in."""
    shape = tuple(normalized_shape)
    w, _ = _affine_part(b, weight, None, shape)
    return b.add(Smooth(Root(shape, eps), (w,)), computed(b, x))


def onnx_rms_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
) -> Ref:
    """Over all axes from `axis` on."""
    x = computed(b, x)
    return rms_norm(b, x, x.shape[position(axis, x.ndim) :], weight, epsilon)


def group_norm(
    b: Builder,
    x: Operand,
    num_groups: int,
    weight: Operand = None,
    bias: Operand = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Ref:
    """Normalised over each group of channels (axis 1) and all that follows."""
    x = computed(b, x)
    parts = _affine_part(b, weight, bias, (x.shape[1],))
    return b.add(Smooth(Group(int(num_groups), eps, x.ndim), parts), x)


def native_group_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    n: Any,
    c: Any,
    hxw: Any,
    group: int,
    eps: float,
) -> tuple[Ref, ...]:
    """Core aten's form; the sizes are x's own."""
    return (group_norm(b, x, group, weight, bias, eps),)


def onnx_group_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    *,
    num_groups: int,
    epsilon: float = EPSILON,
    stash_type: int = 1,
) -> Ref:
    """Weights by channel; its first form had them by group."""
    if b.opset < 21:
        raise b.refuse(f"its form of opset {b.opset} was withdrawn; export it with opset 21")
    return group_norm(b, x, num_groups, weight, bias, epsilon)


def instance_norm(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    running_mean: Operand,
    running_var: Operand,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Ref:
    """Each channel by itself; with running statistics, affine."""
    x = computed(b, x)
    channels = x.shape[1]
    if use_input_stats:
        return group_norm(b, x, channels, weight, bias, eps)
    w, c = _affine_part(b, weight, bias, (channels,))
    scale = w / (fixed(b, running_var, "the variance") + eps).sqrt()
    shift = c - fixed(b, running_mean, "the mean") * scale
    each = (channels, *[1] * (x.ndim - 2))
    return times(b, x, scale.reshape(each), shift.reshape(each))


def onnx_instance_norm(
    b: Builder, x: Operand, weight: Operand, bias: Operand, *, epsilon: float = EPSILON
) -> Ref:
    """Each channel by itself."""
    x = computed(b, x)
    return group_norm(b, x, x.shape[1], weight, bias, epsilon)


# -- the rows of the table --


class _Affine(nn.Module):
    """A normalisation of x, its weight and bias no longer ones and zeros, in evaluation."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.double().eval()
        for k, p in enumerate((*norm.parameters(), *norm.buffers())):
            if p.is_floating_point():
                p.data = torch.linspace(0.5, 1.5 + k, p.numel()).double().reshape(p.shape)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


def _norm(make: Callable[[], nn.Module], *shape: int) -> TorchExample:
    return TorchExample(lambda: _Affine(make()).eval(), (shape,))


_IMAGE, _FOUR = (1, 4, 3, 2), [1.0, 2.0, 3.0, -4.0]

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "LayerNorm",
        "Smooth",
        "y = (x - mean) / √(var + ε) over the last axes, times w plus c",
        {"layer_norm": layer_norm, "native_layer_norm": native_layer_norm},
        {"LayerNormalization": onnx_layer_norm},
        (
            _norm(lambda: nn.LayerNorm(3), 5, 2, 3),
            _norm(lambda: nn.LayerNorm((2, 3)), 5, 2, 3),
            _norm(lambda: nn.LayerNorm(3, elementwise_affine=False), 5, 3),
            OnnxExample("LayerNormalization", ((1, 2, 3), [1.0, 2.0, 3.0], [0.5, 0.0, -0.5])),
            OnnxExample(
                "LayerNormalization",
                ((1, 2, 2), [[1.0, 2.0], [3.0, 4.0]]),
                {"axis": 1, "epsilon": 0.01},
            ),
        ),
    ),
    Entry(
        "RMSNorm",
        "Smooth",
        "y = x / √(mean x² + ε) over the last axes, times w",
        {"rms_norm": rms_norm},
        {"RMSNormalization": onnx_rms_norm},
        (
            _norm(lambda: nn.RMSNorm(3, eps=1e-5), 5, 2, 3),
            _norm(lambda: nn.RMSNorm(3), 5, 3),
            OnnxExample("RMSNormalization", ((1, 2, 3), [1.0, 2.0, 3.0]), {}, 23),
        ),
    ),
    Entry(
        "GroupNorm",
        "Smooth",
        "y = (x - mean) / √(var + ε) over each group of channels, at each "
        "row by itself (InstanceNorm: each channel)",
        {
            "group_norm": group_norm,
            "native_group_norm": native_group_norm,
            "instance_norm": instance_norm,
        },
        {
            "GroupNormalization": onnx_group_norm,
            "InstanceNormalization": onnx_instance_norm,
        },
        (
            _norm(lambda: nn.GroupNorm(2, 4), 5, 4, 3),
            _norm(lambda: nn.InstanceNorm1d(4, affine=True), 5, 4, 3),
            _norm(lambda: nn.InstanceNorm2d(4, track_running_stats=True), 5, 4, 3, 2),
            OnnxExample("InstanceNormalization", (_IMAGE, _FOUR, _FOUR)),
            OnnxExample("GroupNormalization", (_IMAGE, _FOUR, _FOUR), {"num_groups": 2}, 21),
        ),
    ),
)
