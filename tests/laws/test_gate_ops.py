"""Laws of every Gate: its value, its branch at a knot, its cell, its rounding bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.errors import UnsupportedLayer
from gatewise.ir.kinds import Pieces, Winner, push
from gatewise.ir.rounding import enclose
from gatewise.ops import ONNX, TORCH, Builder, Ref

SHAPE = (1, 3, 5)
CHANNEL = torch.tensor([0.25, -0.5, 1.5]).double()
LOW, HIGH = torch.linspace(-1, 0, 5).double(), torch.linspace(0, 1, 5).double()


@dataclass(frozen=True)
class Unit:
    """A gate of single units: the table's name and arguments, and torch's own function."""

    name: str
    args: tuple[Any, ...]
    torch: Callable[[Tensor], Tensor]
    knots: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    slope: float | None = None  # at its knots, where torch's derivative is not followed

    def __str__(self) -> str:
        return f"{self.name}{self.args}{self.kwargs or ''}"


def step(name: str) -> Unit:
    return Unit(name, (0.3,), lambda x: getattr(torch, name)(x, 0.3).to(x.dtype), (0.3,))


def prelu(x: Tensor) -> Tensor:
    return F.prelu(x.flatten(0, 1), CHANNEL).reshape(x.shape)


UNITS = [
    Unit("relu", (), F.relu, (0,)),
    Unit("leaky_relu", (0.1,), lambda x: F.leaky_relu(x, 0.1), (0,)),
    Unit("leaky_relu", (-2.0,), lambda x: F.leaky_relu(x, -2.0), (0,)),
    Unit("rrelu", (0.1, 0.3), lambda x: F.rrelu(x, 0.1, 0.3), (0,)),
    Unit("prelu", (CHANNEL,), prelu, (0,)),
    Unit("prelu", (CHANNEL[:1],), lambda x: F.prelu(x, CHANNEL[:1]), (0,)),
    Unit("hardtanh", (), F.hardtanh, (-1, 1)),
    Unit("hardtanh", (-0.1, 0.7), lambda x: F.hardtanh(x, -0.1, 0.7), (-0.1, 0.7)),
    Unit("relu6", (), F.relu6, (0, 6)),
    Unit("clamp", (-0.3, 0.5), lambda x: x.clamp(-0.3, 0.5), (-0.3, 0.5)),
    Unit("clamp", (-0.5, 0.5), lambda x: x.clamp(-0.5, 0.5), (-0.5, 0.5)),
    Unit("clamp", (0.5, 0.5), lambda x: x.clamp(0.5, 0.5), (0.5,)),
    Unit("clamp", (LOW, HIGH), lambda x: x.clamp(LOW, HIGH), (LOW, HIGH)),
    Unit("clamp_min", (0.1,), lambda x: x.clamp(min=0.1), (0.1,)),
    Unit("clamp_max", (0.1,), lambda x: x.clamp(max=0.1), (0.1,)),
    Unit("hardsigmoid", (), F.hardsigmoid, (-3, 3)),
    Unit("abs", (), torch.abs, (0,), slope=-1),
    Unit("threshold", (0.25, -1.0), lambda x: F.threshold(x, 0.25, -1.0), (0.25,)),
    Unit("hardshrink", (0.5,), F.hardshrink, (-0.5, 0.5)),
    Unit("softshrink", (0.5,), F.softshrink, (-0.5, 0.5)),
    # the constant wins a tie: torch shares its derivative there between the two
    Unit("maximum", (HIGH,), lambda x: torch.maximum(x, HIGH), (HIGH,), slope=0),
    Unit("minimum", (HIGH,), lambda x: torch.minimum(x, HIGH), (HIGH,), slope=0),
    Unit("heaviside", (0.25,), lambda x: torch.heaviside(x, x.new_tensor(0.25)), (0,)),
    Unit("sign", (), torch.sign, (0,)),
    *(step(name) for name in ("gt", "ge", "lt", "le", "eq", "ne")),
]
units = pytest.mark.parametrize("unit", UNITS, ids=str)


def built(unit: Unit) -> tuple[Builder, Pieces]:
    b = Builder(SHAPE)
    b.at("gate", unit.name)
    out = TORCH[unit.name][1](b, b.input, *unit.args, **unit.kwargs)
    kind = b.nodes[-1].kind
    assert isinstance(out, Ref) and len(b.nodes) == 1 and isinstance(kind, Pieces)
    return b, kind


def rows(unit: Unit) -> Tensor:
    """Random rows, rows exactly at the knots, and their neighbours among the floats."""
    at = [torch.as_tensor(k).double().expand(1, *SHAPE) for k in unit.knots]
    near = [torch.nextafter(k, k + s) for k in at for s in (-1.0, 1.0)]
    return torch.cat([random_rows(), *at, *near])


def random_rows(n: int = 64) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0)).double() * 2


def knots(unit: Unit) -> Tensor:
    return torch.cat([torch.as_tensor(k).double().expand(1, *SHAPE) for k in unit.knots])


@units
def test_value_is_torchs(unit):
    _, kind = built(unit)
    x = rows(unit)
    torch.testing.assert_close(kind(x), unit.torch(x), rtol=1e-15, atol=1e-15)


@units
def test_value_is_that_of_its_own_branches(unit):
    """`direct`, where there is one, agrees with slopes, knots and offsets."""
    _, kind = built(unit)
    x = rows(unit)
    affine = kind.branch(kind.choose(x))
    y = push(affine, [x.unsqueeze(1)])[:, 0]
    torch.testing.assert_close(y, kind(x), rtol=1e-15, atol=3e-16)


@units
def test_a_knot_takes_the_branch_of_torchs_derivative(unit):
    _, kind = built(unit)
    z = knots(unit).requires_grad_()
    slope = kind.branch(kind.choose(z)).weights[0].squeeze(1)
    if kind.constant:
        return torch.testing.assert_close(slope, torch.zeros_like(slope))
    if unit.slope is not None:
        return torch.testing.assert_close(slope, torch.full_like(slope, unit.slope))
    (own,) = torch.autograd.grad(unit.torch(z).sum(), z)
    torch.testing.assert_close(slope, own)


@units
def test_slack_holds_on_the_cell_and_only_there(unit):
    _, kind = built(unit)
    x = rows(unit)
    codes = kind.choose(x).long()
    assert bool((kind.slack(x, codes) >= 0).all())
    on_a_knot = torch.stack([x == k for k in kind.knots]).any(0)
    for code in range(kind.branches):
        other = torch.full_like(codes, code)
        inside = (kind.slack(x, other) >= 0).all(0)
        assert bool((inside <= ((codes == code) | on_a_knot)).all())


@units
def test_rounding_stays_within_its_bound(unit):
    """A float32 network of a dense layer and the gate, against itself in float64."""
    b = Builder(SHAPE)
    w = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()
    z = TORCH["linear"][1](b, b.input, w, torch.ones(5).double())
    out = TORCH[unit.name][1](b, z, *unit.args, **unit.kwargs)
    net = b.finish(out).to(torch.float32)
    x = random_rows(256).float()
    got = enclose(net, x)
    true = enclose(net.to(torch.float64), x.double()).value
    assert bool(((got.value.double() - true).abs() <= got.error.double()).all())
    assert bool(got.error.isfinite().all())


@units
def test_a_gate_known_exactly_is_exact(unit):
    """Where slopes are 0 or 1 and nothing is added, float32 says what float64 does."""
    b, _ = built(unit)
    net = b.finish(Ref(b.nodes[-1].name, SHAPE)).to(torch.float32)
    x = torch.cat([random_rows().float(), *(k.expand(1, *SHAPE) for k in net.nodes[0].kind.knots)])
    got = enclose(net, x)
    true = enclose(net.to(torch.float64), x.double()).value
    assert bool(((got.value.double() - true).abs() <= got.error.double()).all())


# -- winners --


@dataclass(frozen=True)
class Group:
    """A gate over groups, and torch's values and positions for one row."""

    name: str
    shape: tuple[int, ...]
    args: tuple[Any, ...]
    torch: Callable[[Tensor], tuple[Tensor, Tensor]]
    sign: int = 1

    def __str__(self) -> str:
        return f"{self.name}{self.args} of {self.shape}"


def pooled(n: int, *args: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda x: getattr(F, f"max_pool{n}d")(x, *args, return_indices=True)


def adapted(n: int, size: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda x: getattr(F, f"adaptive_max_pool{n}d")(x, size, return_indices=True)


# kernel, stride, padding, dilation, ceil_mode
POOLS = [
    (1, (1, 2, 9), (3, 2, 1, 1, False)),
    (1, (1, 2, 9), (2, 3, 1, 3, True)),
    (2, (1, 2, 7, 6), (2, 2, 0, 1, True)),
    (2, (1, 2, 7, 6), ((3, 2), (1, 3), (1, 0), 1, False)),
    (2, (1, 1, 6, 7), ((2, 3), (1, 2), (0, 1), (2, 1), False)),
    (2, (1, 1, 5, 5), (1, 2, 0, 1, True)),
    (3, (1, 1, 4, 5, 4), (2, 2, 1, 1, False)),
    (3, (1, 2, 4, 4, 4), (2, 3, 1, 2, True)),
]
ADAPTED = [
    (1, (1, 2, 7), 3),
    (2, (1, 2, 5, 3), (2, 3)),
    (2, (1, 1, 3, 4), (5, 2)),
    (3, (1, 1, 3, 4, 5), 2),
]
GROUPS = [
    *(Group(f"max_pool{n}d", shape, args, pooled(n, *args)) for n, shape, args in POOLS),
    *(Group(f"adaptive_max_pool{n}d", s, (size,), adapted(n, size)) for n, s, size in ADAPTED),
    Group("max.dim", (1, 4, 5), (-1,), lambda x: x.max(-1)),
    Group("max.dim", (1, 4, 5), (1, True), lambda x: x.max(1, keepdim=True)),
    Group("min.dim", (1, 4, 5), (2,), lambda x: x.min(2), sign=-1),
]
groups = pytest.mark.parametrize("group", GROUPS, ids=str)


def tied_rows(shape: tuple[int, ...]) -> Tensor:
    """Small whole numbers: ties everywhere."""
    return torch.randint(-2, 3, (40, *shape), generator=torch.Generator().manual_seed(2)).double()


def winner(group: Group) -> Winner:
    b = Builder(group.shape)
    TORCH[group.name][1](b, b.input, *group.args)
    kind = b.nodes[-1].kind
    assert isinstance(kind, Winner) and len(b.nodes) == 1
    return kind


def positions(kind: Winner, codes: Tensor) -> Tensor:
    return kind.branch(codes).weights[0].squeeze(1)


@groups
def test_winner_is_torchs_value_and_its_first_index(group):
    kind, x = winner(group), tied_rows(group.shape)
    value, index = group.torch(x.flatten(0, 1))
    assert torch.equal(kind(x).flatten(0, 1), value)
    where = positions(kind, kind.choose(x))
    picked = x.flatten(1).gather(1, where.flatten(1)).reshape(value.shape)
    assert torch.equal(picked, value)
    expected = index.reshape(where.shape)
    if ".dim" not in group.name:  # torch counts within a channel
        size = x[0, 0, 0].numel()
        lead = where.ndim - (x.ndim - 3)
        channel = torch.arange(group.shape[1]).reshape(-1, *[1] * (where.ndim - lead))
        assert torch.equal(where, expected + channel * size)
    else:
        assert torch.equal(kind.choose(x).long(), expected)


@groups
def test_winner_branch_copies_the_winner(group):
    kind, x = winner(group), tied_rows(group.shape)
    affine = kind.branch(kind.choose(x))
    assert torch.equal(push(affine, [x.unsqueeze(1)])[:, 0], kind(x))


@groups
def test_winner_slack_holds_where_it_wins_and_only_there(group):
    kind, x = winner(group), random_of(group.shape)
    codes = kind.choose(x).long()
    assert bool((kind.slack((x,), codes) >= 0).all())
    for code in range(kind.branches):
        other = torch.full_like(codes, code)
        real = (kind.index[..., code] >= 0).expand(codes.shape)
        inside = (kind.slack((x,), other) >= 0).all(0)
        assert bool((inside & real <= (codes == code)).all())


def random_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(16, *shape, generator=torch.Generator().manual_seed(3)).double()


@groups
def test_winner_rounds_nothing(group):
    b = Builder(group.shape)
    TORCH[group.name][1](b, b.input, *group.args)
    last = b.nodes[-1]
    net = b.finish(Ref(last.name, last.shape)).to(torch.float32)
    got = enclose(net, random_of(group.shape).float())
    assert not bool(got.error.any())


def test_first_operand_wins_a_tie_and_shapes_broadcast():
    b = Builder((1, 3, 4))
    out = TORCH["maximum"][1](b, b.input, Ref("other", (4,)))
    kind = b.nodes[-1].kind
    x, y = tied_rows((1, 3, 4)), tied_rows((4,))
    expected = torch.maximum(x, y[:, None, None])
    assert out.shape == (1, 3, 4) and torch.equal(kind(x, y), expected)
    assert torch.equal(kind.choose(x, y) == 0, x >= y[:, None, None])


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_constants_among_several_operands(op):
    b = Builder((1, 3, 4))
    c = torch.tensor([[0.1], [0.0], [-0.5]]).double()
    out = ONNX[op][1](b, b.input, c, Ref("other", (1, 4)), torch.tensor(0.05).double())
    x, y = random_of((1, 3, 4)), random_of((1, 4))
    values = {"input": x, "other": y}
    for node in b.nodes:
        values[node.name] = node.kind(*(values[n] for n in node.inputs))
    pick = torch.maximum if op == "Max" else torch.minimum
    expected = pick(pick(pick(x, y.unsqueeze(2)), c), torch.tensor(0.05).double())
    assert torch.equal(values[out.name], expected)


# -- refusals --

REFUSED = {
    "clamp": ((0.5, -0.5), "lower bound"),
    "rrelu": ((0.1, 0.2, True), "training"),
    "prelu": ((Ref("w", (1,)),), "constant"),
    "max_pool1d": ((2, 1, 1, 6), "padding"),
    "gt": ((float("nan"),), "NaN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    args, why = REFUSED[name]
    shape = (1, 2, 5) if "pool" in name else SHAPE
    b = Builder(shape)
    b.at("here", name)
    with pytest.raises(UnsupportedLayer, match=f"node 'here'.*{why}"):
        TORCH[name][1](b, b.input, *args)


@pytest.mark.parametrize(
    ("attrs", "why"),
    [
        ({"storage_order": 1}, "storage_order"),
        ({"auto_pad": "SAME_UPPER", "dilations": [2]}, "dilations"),
        ({"pads": [0, 2], "strides": [6]}, "padding"),
        ({"kernel_shape": [9]}, "larger"),
        ({"auto_pad": "SOMEHOW"}, "auto_pad"),
    ],
)
def test_max_pool_of_onnx_refuses(attrs, why):
    b = Builder((1, 2, 6))
    b.at("here", "MaxPool")
    call = {"kernel_shape": [2], **attrs}
    with pytest.raises(UnsupportedLayer, match=why):
        ONNX["MaxPool"][1](b, b.input, **call)
