"""Curved layers, entry by entry. Those over axes (softmax, norms) are in normalise.py.

Lipschitz constants: for a function of one entry, the supremum of its derivative's size, rounded
up in the last digit given; None where there is no bound, or the function jumps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ir.kinds import Rule
from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import computed, named, only
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample
from gatewise.ops.winners import first_of


def smooth(b: Builder, x: Operand, fn: Rule, lipschitz: float | None = None) -> Ref:
    """y = fn(x)."""
    return b.add(Smooth(fn, (), lipschitz), computed(b, x))


def plainly(fn: Rule, lipschitz: float | None = None) -> Adapter:
    """The adapter of a function without settings."""

    def adapter(b: Builder, x: Operand) -> Ref:
        return smooth(b, x, fn, lipschitz)

    return adapter


# -- with settings --


def gelu(b: Builder, x: Operand, *, approximate: str = "none") -> Ref:
    """x Φ(x), or its tanh form; its slope is largest near √2: 1.129."""
    only(b, "approximate", approximate, "none", "tanh")
    return smooth(b, x, partial(F.gelu, approximate=approximate), 1.13)


def softplus(b: Builder, x: Operand, beta: float = 1.0, threshold: float = 20.0) -> Ref:
    """log(1 + exp(beta x)) / beta, and x itself beyond the threshold: a small jump."""
    return smooth(b, x, partial(F.softplus, beta=beta, threshold=threshold))


def log1p_exp(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow."""
    return torch.logaddexp(x, torch.zeros_like(x))


@dataclass(frozen=True)
class Elu:
    """scale x above 0, scale alpha (exp(inner x) - 1) below."""

    alpha: float
    scale: float
    inner: float

    def __call__(self, x: Tensor) -> Tensor:
        # `expm1` near 0 is exact to rounding, where exp(x) - 1 is not
        low = self.alpha * torch.expm1(self.inner * x.clamp(max=0))
        return self.scale * torch.where(x > 0, x, low)

    @property
    def lipschitz(self) -> float | None:
        """The larger of the slopes on both sides of 0, where the lower one is at 0."""
        steepest = abs(self.scale) * max(1.0, abs(self.alpha * self.inner))
        return steepest if self.inner > 0 else None


def elu(
    b: Builder, x: Operand, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Ref:
    """scale max(x, 0) + scale min(0, alpha (exp(input_scale x) - 1))."""
    fn = Elu(alpha, scale, input_scale)
    return smooth(b, x, fn, fn.lipschitz)


def celu(b: Builder, x: Operand, alpha: float = 1.0) -> Ref:
    """max(x, 0) + min(0, alpha (exp(x / alpha) - 1))."""
    if alpha == 0:
        raise b.refuse("alpha = 0 divides by zero")
    return elu(b, x, alpha, 1.0, 1 / alpha)


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def selu(b: Builder, x: Operand) -> Ref:
    """ELU with the two constants that keep mean 0 and variance 1."""
    return elu(b, x, *SELU)


def onnx_selu(
    b: Builder,
    x: Operand,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Ref:
    """ONNX rounds the constants to float32."""
    return elu(b, x, alpha, gamma)


def onnx_round(b: Builder, x: Operand) -> Ref:
    """To the nearest whole number, halves to the even one."""
    return smooth(b, x, torch.round)


def torch_round(b: Builder, x: Operand, *, decimals: int = 0) -> Ref:
    """The same; to decimals it is refused."""
    only(b, "decimals", decimals, 0)
    return onnx_round(b, x)


def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)."""
    return x - torch.tanh(x)


# -- the rows of the table --


def _row(
    name: str,
    doc: str,
    fn: Rule,
    torch_names: str,
    onnx_names: str = "",
    lipschitz: float | None = None,
    *,
    positive: bool = False,
    opset: int = 17,
) -> Entry:
    """The row of a function without settings: its names, and an example for each."""
    adapter = plainly(fn, lipschitz)
    onnx = named(onnx_names, adapter)
    examples: list[TorchExample | OnnxExample] = [
        function(_positive(fn) if positive else fn, (5, 2, 3))
    ]
    if not positive:
        examples += [OnnxExample(op, ((1, 2, 3),), opset=opset) for op in onnx]
    return Entry(name, "Smooth", doc, named(torch_names, adapter), onnx, tuple(examples))


def _positive(fn: Rule) -> Rule:
    """fn on the numbers it is finite on."""
    return lambda x: fn(x.abs() + 0.5)


ERF_SLOPE = math.nextafter(2 / math.pi**0.5, 2)
LOG_SIGMOID = plainly(F.logsigmoid, 1.0)

ENTRIES: tuple[Entry, ...] = (
    _row("Sigmoid", "y = 1 / (1 + exp(-x))", torch.sigmoid, "sigmoid sigmoid_", "Sigmoid", 0.25),
    Entry(
        "LogSigmoid",
        "Smooth",
        "y = log(1 / (1 + exp(-x)))",
        {"log_sigmoid": LOG_SIGMOID, "log_sigmoid_forward": first_of(LOG_SIGMOID)},
        {},
        (TorchExample(nn.LogSigmoid, ((5, 3),)),),
    ),
    _row("Tanh", "y = tanh(x)", torch.tanh, "tanh tanh_", "Tanh", 1.0),
    _row("SiLU", "y = x sigmoid(x)", F.silu, "silu silu_", "", 1.1),
    Entry(
        "GELU",
        "Smooth",
        "y = x Φ(x), or its tanh approximation",
        named("gelu gelu_", gelu),
        {"Gelu": gelu},
        (
            TorchExample(nn.GELU, ((5, 3),)),
            TorchExample(lambda: nn.GELU(approximate="tanh"), ((5, 3),)),
            OnnxExample("Gelu", ((1, 3),), {"approximate": "tanh"}, 20),
            OnnxExample("Gelu", ((1, 3),), {}, 20),
        ),
    ),
    Entry(
        "Softplus",
        "Smooth",
        "y = log(1 + exp(βx)) / β",
        {"softplus": softplus},
        {"Softplus": plainly(log1p_exp, 1.0)},
        (
            TorchExample(nn.Softplus, ((5, 3),)),
            TorchExample(lambda: nn.Softplus(30.0, 5.0), ((5, 3),)),
            OnnxExample("Softplus", ((1, 3),)),
        ),
    ),
    Entry(
        "ELU",
        "Smooth",
        "y = x above 0, α (exp(x) - 1) below (CELU: exp(x/α); SELU: scaled)",
        named("elu elu_", elu) | named("celu celu_", celu) | named("selu selu_", selu),
        {
            "Elu": lambda b, x, *, alpha=1.0: elu(b, x, alpha),
            "Celu": lambda b, x, *, alpha=1.0: celu(b, x, alpha),
            "Selu": onnx_selu,
        },
        (
            TorchExample(lambda: nn.ELU(0.7), ((5, 3),)),
            TorchExample(nn.SELU, ((5, 3),)),
            TorchExample(lambda: nn.CELU(0.7), ((5, 3),)),
            OnnxExample("Elu", ((1, 3),), {"alpha": 0.7}),
            OnnxExample("Selu", ((1, 3),)),
            OnnxExample("Celu", ((1, 3),), {"alpha": 2.0}),
        ),
    ),
    _row("Mish", "y = x tanh(log(1 + exp(x)))", F.mish, "mish mish_", "Mish", 1.09, opset=18),
    _row(
        "HardSwish",
        "y = x HardSigmoid(x): quadratic between -3 and 3",
        F.hardswish,
        "hardswish hardswish_",
        "HardSwish",
        1.5,
    ),
    _row("Softsign", "y = x / (1 + |x|)", F.softsign, "softsign", "Softsign", 1.0),
    _row("Tanhshrink", "y = x - tanh(x)", tanhshrink, "tanhshrink", "", 1.0),
    _row("Exp", "y = exp(x)", torch.exp, "exp exp_", "Exp"),
    _row("Exp2", "y = 2 to the power x", torch.exp2, "exp2 exp2_"),
    _row("Expm1", "y = exp(x) - 1", torch.expm1, "expm1 expm1_"),
    _row("Log", "y = log(x)", torch.log, "log log_", "Log", positive=True),
    _row("Log1p", "y = log(1 + x)", torch.log1p, "log1p log1p_", positive=True),
    _row("Log2", "y = log x to base 2", torch.log2, "log2 log2_", positive=True),
    _row("Log10", "y = log x to base 10", torch.log10, "log10 log10_", positive=True),
    _row("Sqrt", "y = √x", torch.sqrt, "sqrt sqrt_", "Sqrt", positive=True),
    _row("Rsqrt", "y = 1 / √x", torch.rsqrt, "rsqrt rsqrt_", positive=True),
    _row(
        "Reciprocal",
        "y = 1 / x",
        torch.reciprocal,
        "reciprocal reciprocal_",
        "Reciprocal",
        positive=True,
    ),
    _row("Sin", "y = sin(x)", torch.sin, "sin sin_", "Sin", 1.0),
    _row("Cos", "y = cos(x)", torch.cos, "cos cos_", "Cos", 1.0),
    _row("Tan", "y = tan(x)", torch.tan, "tan tan_", "Tan"),
    _row("Atan", "y = arctan(x)", torch.atan, "atan atan_ arctan", "Atan", 1.0),
    _row("Sinh", "y = sinh(x)", torch.sinh, "sinh sinh_", "Sinh"),
    _row("Cosh", "y = cosh(x)", torch.cosh, "cosh cosh_", "Cosh"),
    _row("Asinh", "y = arsinh(x)", torch.asinh, "asinh asinh_ arcsinh", "Asinh", 1.0),
    _row("Erf", "y = erf(x)", torch.erf, "erf erf_", "Erf", ERF_SLOPE),
    _row("Erfc", "y = 1 - erf(x)", torch.erfc, "erfc erfc_", "", ERF_SLOPE),
    _row("Floor", "y = ⌊x⌋: infinitely many pieces", torch.floor, "floor floor_", "Floor"),
    _row("Ceil", "y = ⌈x⌉: infinitely many pieces", torch.ceil, "ceil ceil_", "Ceil"),
    _row("Trunc", "y = x without its fraction", torch.trunc, "trunc trunc_ fix"),
    Entry(
        "Round",
        "Smooth",
        "y = the nearest whole number: infinitely many pieces",
        named("round round_", torch_round),
        {"Round": onnx_round},
        (function(torch.round, (5, 3)), OnnxExample("Round", ((1, 3),))),
    ),
)
