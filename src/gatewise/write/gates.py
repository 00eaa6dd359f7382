"""Gates, products and curves as ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.ir.kinds import Pieces, Product, Smooth, Winner
from gatewise.ops.smooth import log1p_exp
from gatewise.ops.softmax import Flat
from gatewise.write.affine import gathered
from gatewise.write.graph import Draft

# -- gates --


def pieces(draft: Draft, kind: Pieces) -> str:
    """Relu, PRelu, Abs or Clip where it is that; else each branch where the knots say so."""
    x, slopes = draft.given(), kind.slopes
    plain = slopes.ndim == 1 and kind.knots.ndim == 1 and kind.offsets.ndim == 1
    if plain and kind.knots.tolist() == [0.0] and not bool(kind.offsets.any()):
        if slopes.tolist() == [0.0, 1.0]:
            return draft.op("Relu", x)
        if slopes.tolist() == [-1.0, 1.0]:
            return draft.op("Abs", x)
        if float(slopes[1]) == 1:
            return draft.op("PRelu", x, draft.constant(slopes[:1], "slope"))
    if plain and slopes.tolist() == [0.0, 1.0, 0.0]:
        low, high = kind.knots.tolist()
        if kind.offsets.tolist() == [low, 0.0, high]:
            return draft.op("Clip", x, *(draft.constant(k, "end") for k in kind.knots))
    return _branches(draft, kind, x)


def _branches(draft: Draft, kind: Pieces, x: str) -> str:
    y = _line(draft, x, kind.slopes[0], kind.offsets[0])
    for k, (knot, closed) in enumerate(zip(kind.knots, kind.closed, strict=True), 1):
        above = draft.op(
            "GreaterOrEqual" if closed else "Greater", x, draft.broadcast(knot, "knot")
        )
        y = draft.op("Where", above, _line(draft, x, kind.slopes[k], kind.offsets[k]), y)
    return y


def _line(draft: Draft, x: str, slope: Tensor, offset: Tensor) -> str:
    y = draft.op("Mul", x, draft.broadcast(slope, "slope"))
    return draft.op("Add", y, draft.broadcast(offset, "offset"))


def winner(draft: Draft, kind: Winner) -> str:
    """The candidates of each group beside one another, and their largest or smallest."""
    count = sum(math.prod(draft.network.shape(name)) for name in draft.at.inputs)
    shape = draft.at.shape
    index = kind.index.expand(*shape, kind.branches)
    groups = gathered(draft, index.reshape(-1, kind.branches), -kind.sign * math.inf, count)
    best = draft.op("ReduceMax" if kind.sign > 0 else "ReduceMin", groups, axes=[2], keepdims=0)
    return draft.reshape(best, draft.shape(shape))


# -- products and curves --


def product(draft: Draft, kind: Product) -> str:
    """The product entry by entry, or of matrices."""
    name = "MatMul" if kind.rule is torch.matmul else None
    if name is None and _entrywise(draft, kind):
        name = "Mul"
    if name is None:
        raise draft.refuse("no operator is known for its product")
    return draft.op(name, draft.given(0), draft.given(1))


def _entrywise(draft: Draft, kind: Product) -> bool:
    """Is it u v, entry by entry? (Seen from random numbers.)"""
    generator = torch.Generator().manual_seed(0)
    shapes = [draft.network.shape(name) for name in draft.at.inputs]
    u, v = (torch.rand(1, *s, generator=generator, dtype=torch.float64) for s in shapes)
    return u.shape == v.shape and torch.equal(kind(u, v), u * v)


def smooth(draft: Draft, kind: Smooth) -> str:
    """A function of one value without weights of its own."""
    fn: Any = kind.fn
    settings: dict[str, Any] = {}
    if isinstance(fn, partial):
        fn, settings = fn.func, dict(fn.keywords)
    if isinstance(fn, Flat) and fn.tail == 1:
        fn, settings = fn.fn, {"dim": len(draft.at.shape)}
    one = CURVES.get(fn) if not kind.weights and not isinstance(fn, Flat) else None
    if one is None or len(draft.at.inputs) != 1:
        raise draft.refuse("no operator is known for its function")
    return one(draft, settings)


def _named(name: str) -> Callable[[Draft, dict[str, Any]], str]:
    return lambda draft, settings: draft.op(name, draft.given())


def _softmax(name: str) -> Callable[[Draft, dict[str, Any]], str]:
    return lambda draft, settings: draft.op(name, draft.given(), axis=draft.axis(settings["dim"]))


def _silu(draft: Draft, settings: dict[str, Any]) -> str:
    x = draft.given()
    return draft.op("Mul", x, draft.op("Sigmoid", x))


def _gelu(draft: Draft, settings: dict[str, Any]) -> str:
    """x (1 + erf(x / √2)) / 2."""
    if settings.get("approximate", "none") != "none":
        raise draft.refuse("its approximation by tanh has no operator")
    x = draft.given()
    half, one, root = (
        draft.constant(torch.tensor(v, dtype=torch.float64), "part")
        for v in (0.5, 1.0, math.sqrt(0.5))
    )
    bell = draft.op("Add", draft.op("Erf", draft.op("Mul", x, root)), one)
    return draft.op("Mul", draft.op("Mul", x, half), bell)


CURVES: dict[Any, Callable[[Draft, dict[str, Any]], str]] = {
    torch.sigmoid: _named("Sigmoid"),
    torch.tanh: _named("Tanh"),
    torch.exp: _named("Exp"),
    torch.log: _named("Log"),
    torch.sqrt: _named("Sqrt"),
    log1p_exp: _named("Softplus"),
    torch.softmax: _softmax("Softmax"),
    torch.log_softmax: _softmax("LogSoftmax"),
    F.silu: _silu,
    F.gelu: _gelu,
}
