"""Laws of every Product and Smooth: bilinearity, fixed sides, Lipschitz constants that hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Affine, Pieces, Product, Smooth, pull, push
from gatewise.ir.network import Network, breaker
from gatewise.ir.rounding import enclose
from gatewise.ops import TORCH, Builder, Ref


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# -- products --


@dataclass(frozen=True)
class Pair:
    """A Product: how it is called, the shapes of its sides, and torch's function of two rows."""

    name: str
    u: tuple[int, ...]
    v: tuple[int, ...]
    build: Callable[[Builder, Ref, Ref], Ref]
    torch: Callable[[Tensor, Tensor], Tensor]

    def __str__(self) -> str:
        return f"{self.name} {self.u} {self.v}"


def call(name: str) -> Callable[[Builder, Ref, Ref], Ref]:
    return lambda b, u, v: TORCH[name][1](b, u, v)


def einsum(equation: str) -> Callable[[Builder, Ref, Ref], Ref]:
    return lambda b, u, v: TORCH["einsum"][1](b, equation, [u, v])


PAIRS = [
    Pair("mul", (1, 3, 4), (1, 3, 4), call("mul"), torch.mul),
    Pair("matmul", (1, 3, 4), (1, 4, 2), call("matmul"), torch.matmul),
    Pair("matmul", (1, 1, 3, 4), (1, 2, 4, 2), call("matmul"), torch.matmul),
    Pair("bmm", (1, 3, 4), (1, 4, 5), call("bmm"), torch.bmm),
    Pair(
        "einsum",
        (1, 3, 4),
        (1, 5, 4),
        einsum("bqd,bkd->bqk"),
        lambda u, v: torch.einsum("bqd,bkd->bqk", u, v),
    ),
    Pair(
        "einsum",
        (1, 2, 3, 4),
        (1, 4),
        einsum("b...i,bi->b..."),
        lambda u, v: torch.einsum("b...i,bi->b...", u, v),
    ),
    Pair("einsum", (1, 3), (1, 4), einsum("bi,bj"), lambda u, v: torch.einsum("bi,bj", u, v)),
]
pairs = pytest.mark.parametrize("pair", PAIRS, ids=str)


def product(pair: Pair) -> Product:
    b = Builder(pair.u)
    pair.build(b, b.input, Ref("other", pair.v))
    kind = b.nodes[-1].kind
    assert isinstance(kind, Product)
    return kind


@pairs
def test_product_is_torchs_for_each_row(pair):
    u, v = normal(6, *pair.u), normal(6, *pair.v, seed=1)
    expected = torch.stack([pair.torch(p, q) for p, q in zip(u, v, strict=True)])
    torch.testing.assert_close(product(pair)(u, v), expected)


@pairs
def test_product_is_linear_in_each_side(pair):
    kind = product(pair)
    u, v, p, q = (normal(3, *s, seed=k) for k, s in enumerate((pair.u, pair.v, pair.u, pair.v)))
    torch.testing.assert_close(kind(u + 2 * p, v), kind(u, v) + 2 * kind(p, v))
    torch.testing.assert_close(kind(u, v - 3 * q), kind(u, v) - 3 * kind(u, q))


@pairs
@pytest.mark.parametrize("side", [0, 1])
def test_a_fixed_side_leaves_an_affine_map(pair, side):
    """fix(side, P values) on k vectors each, and its transpose."""
    kind, shapes = product(pair), (pair.u, pair.v)
    value, x = normal(4, *shapes[side]), normal(4, 3, *shapes[1 - side], seed=1)
    affine = kind.fix(side, value)
    assert isinstance(affine, Affine)
    y = push(affine, [x])
    for p in range(4):
        fixed = value[p].expand(3, *shapes[side])
        both = (fixed, x[p]) if side == 0 else (x[p], fixed)
        torch.testing.assert_close(y[p], kind(*both))
    g = normal(*y.shape, seed=2)
    (back,) = pull(affine, g, [shapes[1 - side]])
    inner = lambda a, b: (a * b).flatten(2).sum(2)  # noqa: E731
    torch.testing.assert_close(inner(g, y), inner(back, x))


@pairs
def test_product_rounds_within_its_bound(pair):
    d = math.prod(pair.u)
    b = Builder((d + math.prod(pair.v),))
    u = b.affine(lambda x: x[:, :d].reshape(-1, *pair.u), b.input)
    v = b.affine(lambda x: x[:, d:].reshape(-1, *pair.v), b.input)
    net = b.finish(pair.build(b, u, v)).to(torch.float32)
    x = normal(100, *net.input_shape).float()
    got = enclose(net, x)
    true = enclose(net.to(torch.float64), x.double()).value
    assert bool(((got.value.double() - true).abs() <= got.error.double()).all())
    assert bool((got.error < 1e-4).all())


def test_a_square_is_a_product_and_a_power_of_one_is_nothing():
    b = Builder((1, 3))
    square = TORCH["pow"][1](b, b.input, 2)
    assert isinstance(b.nodes[-1].kind, Product) and square.name != "input"
    assert TORCH["pow"][1](b, b.input, 1) is b.input
    TORCH["pow"][1](b, b.input, 3)
    assert isinstance(b.nodes[-1].kind, Smooth)


# -- gates spelt as products --


def network(make: Callable[[Builder, Ref], Ref], shape: tuple[int, ...] = (1, 4)) -> Network:
    b = Builder(shape)
    return b.finish(make(b, b.input))


def masked(b: Builder, x: Ref) -> Ref:
    return TORCH["mul"][1](b, x, TORCH["gt"][1](b, x, 0))


def by_where(b: Builder, x: Ref) -> Ref:
    return TORCH["where"][1](b, TORCH["gt"][1](b, x, 0), x, TORCH["mul"][1](b, x, 0.1))


def chosen(b: Builder, x: Ref) -> Ref:
    outside = TORCH["bitwise_not"][1](b, TORCH["le"][1](b, x, 1.0))
    both = TORCH["bitwise_and"][1](b, outside, TORCH["lt"][1](b, x, 2.0))
    return TORCH["where"][1](b, both, 3.0, x)


SPELT = [
    (masked, F.relu),
    (by_where, lambda x: F.leaky_relu(x, 0.1)),
    (chosen, lambda x: torch.where((x > 1) & (x < 2), 3.0, x)),
]


@pytest.mark.parametrize(("make", "source"), SPELT)
def test_a_gate_spelt_as_a_product_is_piecewise_affine(make, source):
    net = network(make)
    x = torch.cat([normal(50, 4), torch.tensor([[0.0, 1.0, 2.0, -1.0]]).double()])
    torch.testing.assert_close(net(x), source(x))
    assert breaker(net) is None
    assert any(isinstance(node.kind, Pieces) for node in net.nodes)


def test_a_computed_condition_refuses_an_infinite_branch():
    with pytest.raises(UnsupportedLayer, match="infinite constant"):
        network(lambda b, x: TORCH["masked_fill"][1](b, x, TORCH["gt"][1](b, x, 0), -math.inf))


# -- smooth --

CURVES: dict[str, tuple] = {
    "sigmoid": (),
    "log_sigmoid": (),
    "tanh": (),
    "silu": (),
    "gelu": (),
    "mish": (),
    "hardswish": (),
    "softsign": (),
    "tanhshrink": (),
    "sin": (),
    "cos": (),
    "atan": (),
    "asinh": (),
    "erf": (),
    "erfc": (),
    "selu": (),
    "elu": (1.7,),
    "celu": (0.4,),
    "softmax": (-1,),
    "log_softmax": (-1,),
    "logsumexp": ([-1],),
}


def curve(name: str) -> Smooth:
    net = network(lambda b, x: TORCH[name][1](b, x, *CURVES[name]), (1, 6))
    kind = net.nodes[-1].kind
    assert isinstance(kind, Smooth)
    return kind


def jacobian_norms(kind: Smooth, x: Tensor) -> Tensor:
    """max_i Σ_j |∂y_i / ∂x_j|, a number a row."""
    rows = [torch.func.jacrev(lambda z: kind(z.unsqueeze(0))[0].flatten())(row) for row in x]
    return torch.stack([r.flatten(1).abs().sum(1).max() for r in rows])


def spread() -> Tensor:
    """Rows of many sizes: near 0, where slopes turn, and far away."""
    scales = torch.tensor([0.01, 0.5, 1.0, 2.0, 5.0, 50.0]).double().repeat_interleave(40)
    return normal(240, 1, 6) * scales[:, None, None]


@pytest.mark.parametrize("name", CURVES)
def test_a_lipschitz_constant_is_never_exceeded(name):
    kind = curve(name)
    assert kind.lipschitz is not None
    x = spread()
    for y in (x.flip(0), x + 1e-3 * normal(*x.shape, seed=3), x + normal(*x.shape, seed=4)):
        moved = (kind(x) - kind(y)).flatten(1).abs().amax(1)
        allowed = kind.lipschitz * (x - y).flatten(1).abs().amax(1)
        assert bool((moved <= allowed * (1 + 1e-12) + 1e-13).all())


@pytest.mark.parametrize("name", CURVES)
def test_a_lipschitz_constant_bounds_the_slope_and_is_close(name):
    kind = curve(name)
    line = torch.linspace(-6, 6, 601).double().reshape(-1, 1, 1)
    two = torch.cat([line, -line, torch.full((601, 1, 4), -50.0)], 2)  # a softmax of two
    x = two if "softmax" in name else line.expand(-1, 1, 6)
    steepest = float(jacobian_norms(kind, x).max())
    assert steepest <= kind.lipschitz * (1 + 1e-12)
    assert steepest >= 0.98 * kind.lipschitz


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_in_both_forms(approximate):
    net = network(lambda b, x: TORCH["gelu"][1](b, x, approximate=approximate))
    x = torch.linspace(-8, 8, 4004).double().reshape(-1, 4).requires_grad_()
    y = net(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert float(slope.abs().max()) <= net.nodes[0].kind.lipschitz
    assert torch.equal(y, F.gelu(x, approximate=approximate))


@pytest.mark.parametrize("name", CURVES)
def test_a_smooth_value_rounds_within_its_bound(name):
    net = network(lambda b, x: TORCH[name][1](b, x, *CURVES[name])).to(torch.float32)
    x = (spread().reshape(-1, 4)[:240].unsqueeze(1)).float()
    got = enclose(net, x)
    true = enclose(net.to(torch.float64), x.double()).value
    assert bool(((got.value.double() - true).abs() <= got.error.double()).all())


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "floor", "softplus"])
def test_what_has_no_constant_claims_none(name):
    net = network(lambda b, x: TORCH[name][1](b, x))
    assert net.nodes[-1].kind.lipschitz is None


# -- attention --


def test_attention_composes_and_its_masks_hide():
    b = Builder((1, 3, 12))
    q, k, v = (b.affine(lambda x, s=s: x[..., s : s + 4], b.input) for s in (0, 4, 8))
    mask = torch.tensor([[True, False, True], [True, True, False], [False, True, True]])
    net = b.finish(TORCH["scaled_dot_product_attention"][1](b, q, k, v, mask, scale=0.3))
    x = normal(7, 1, 3, 12)
    parts = x.split(4, -1)
    expected = F.scaled_dot_product_attention(*parts, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(net(x), expected.flatten(1))
    kinds = [type(node.kind).__name__ for node in net.nodes[-4:]]
    assert kinds == ["Product", "Affine", "Smooth", "Product"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"attn_mask": torch.zeros(2, 2, dtype=torch.bool)}, "hides every key"),
        ({"dropout_p": 0.5}, "dropout_p"),
        ({"enable_gqa": True}, "enable_gqa"),
    ],
)
def test_attention_refuses(settings, why):
    b = Builder((1, 2, 3))
    with pytest.raises(UnsupportedLayer, match=why):
        TORCH["scaled_dot_product_attention"][1](b, b.input, b.input, b.input, **settings)
