"""Curved layers over axes: norms, moments, normalisations by the data itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ir.kinds import Shape
from gatewise.ops.arithmetic import function, times
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import (
    axes,
    computed,
    fixed,
    flat_call,
    ints,
    named,
    only,
    position,
    real,
)
from gatewise.ops.gates import absolute
from gatewise.ops.norm import EPSILON
from gatewise.ops.products import square
from gatewise.ops.reduce import reduce
from gatewise.ops.softmax import onnx_reduction
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample
from gatewise.ops.winners import reduce as extreme

# -- norms and moments --


def vector_norm(
    b: Builder,
    x: Operand,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Ref:
    """(Σ |x|^p)^(1/p): a gate and a sum for p = 1, two gates for p = ∞, else curved."""
    real(b, dtype)
    x = computed(b, x)
    over = list(range(x.ndim)) if dim is None else list(ints(b, dim, "dim")) or list(range(x.ndim))
    if ord == 1:
        return reduce(b, absolute(b, x), over, keepdim, False)
    if ord == math.inf:
        return extreme(b, absolute(b, x), over, keepdim, 1)
    if ord <= 0:
        raise b.refuse(f"a norm of order {ord} is not supported; use one above 0")
    fn = partial(torch.linalg.vector_norm, ord=float(ord), dim=axes(x, over), keepdim=bool(keepdim))
    return b.add(Smooth(fn), x)


def torch_norm(
    b: Builder,
    x: Operand,
    p: Operand = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Ref:
    """aten.norm: p may be absent."""
    order = 2.0 if p is None else float(fixed(b, p, "p"))
    return vector_norm(b, x, order, dim, keepdim, dtype=dtype)


def _l1(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return vector_norm(b, x, 1, over, keep)


def _l2(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return vector_norm(b, x, 2, over, keep)


def _sum_square(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return reduce(b, square(b, x), over, keep, False)


def onnx_lp_normalize(b: Builder, x: Operand, *, axis: int = -1, p: int = 2) -> Ref:
    """x divided by its norm along an axis; 0 where the norm is 0."""
    x = computed(b, x)
    only(b, "p", p, 1, 2)
    a = position(axis, x.ndim) + 1
    tiny = float(torch.finfo(torch.float32).tiny)
    return b.add(Smooth(partial(F.normalize, p=float(p), dim=a, eps=tiny)), x)


def moment(fn: Callable[..., Tensor]) -> tuple[Adapter, Adapter]:
    """var.dim and var.correction (or std)."""

    def correction(
        b: Builder,
        x: Operand,
        dim: Any = None,
        *,
        correction: float | None = None,
        keepdim: bool = False,
    ) -> Ref:
        x = computed(b, x)
        over = axes(x, () if dim is None else ints(b, dim, "dim")) or tuple(range(1, x.ndim + 1))
        less = 1 if correction is None else correction
        return b.add(Smooth(partial(fn, dim=over, correction=less, keepdim=bool(keepdim))), x)

    def unbiased(
        b: Builder, x: Operand, dim: Any, unbiased: bool = True, keepdim: bool = False
    ) -> Ref:
        return correction(b, x, dim, correction=int(unbiased), keepdim=keepdim)

    return unbiased, correction


# -- normalisations --


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


def _moments(fn: Callable[..., Tensor]) -> tuple[TorchExample, ...]:
    return (
        function(lambda x: fn(x, 1), (5, 4)),
        function(lambda x: fn(x, dim=(1, 2), correction=0, keepdim=True), (5, 4, 3)),
    )


_VAR, _STD = moment(torch.var), moment(torch.std)
_IMAGE, _FOUR = (1, 4, 3, 2), [1.0, 2.0, 3.0, -4.0]

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "Norm",
        "Smooth",
        "y = (Σ |x|^p)^(1/p) over axes (p = 1 and ∞: gates; squares: a Product)",
        {"linalg_vector_norm": vector_norm} | named("norm norm.ScalarOpt_dim", torch_norm),
        {
            "ReduceL1": onnx_reduction(_l1),
            "ReduceL2": onnx_reduction(_l2),
            "ReduceSumSquare": onnx_reduction(_sum_square),
            "LpNormalization": onnx_lp_normalize,
        },
        (
            function(lambda x: x.norm(dim=1), (5, 3)),
            function(lambda x: x.norm(p=1, dim=(1, 2)), (5, 3, 2)),
            function(lambda x: torch.linalg.vector_norm(x, math.inf, 1, True), (5, 3)),
            function(lambda x: F.normalize(x, dim=1), (5, 3)),
            OnnxExample("ReduceL1", ((1, 3, 2),), {"axes": [2]}),
            OnnxExample("ReduceL2", ((1, 3, 2),), {"keepdims": 0}),
            OnnxExample("ReduceL2", ((1, 3, 2), [1]), {}, 18),
            OnnxExample("ReduceSumSquare", ((1, 3, 2), [1, 2]), {"keepdims": 0}, 18),
            OnnxExample("LpNormalization", ((1, 3, 2),), {"axis": 1}),
        ),
    ),
    Entry(
        "Variance",
        "Smooth",
        "y = the variance over axes",
        {"var.dim": _VAR[0], "var.correction": _VAR[1]},
        {},
        _moments(torch.var),
    ),
    Entry(
        "Deviation",
        "Smooth",
        "y = the standard deviation over axes",
        {"std.dim": _STD[0], "std.correction": _STD[1]},
        {},
        _moments(torch.std),
    ),
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
