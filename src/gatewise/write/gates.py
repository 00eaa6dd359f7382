"""Gates and products as ONNX operators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gatewise.ir.kinds import Pieces, Product, Winner
from gatewise.ops.products import Contract
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


# -- products --


def product(draft: Draft, kind: Product) -> str:
    """The product entry by entry, of matrices, or a sum over named axes."""
    if isinstance(kind.rule, Contract):
        return _einsum(draft, kind.rule.equation)
    name = "MatMul" if kind.rule is torch.matmul else None
    if name is None and _entrywise(draft, kind):
        name = "Mul"
    if name is None:
        raise draft.refuse("no operator is known for its product")
    return draft.op(name, draft.given(0), draft.given(1))


def _einsum(draft: Draft, equation: str) -> str:
    """The axes that are named without those the file lacks; rows are among the others."""
    given, _, out = equation.replace("...", "").partition("->")
    named, cut = [], ""
    for k, letters in enumerate(given.split(",")):
        more = max(0, len(letters) - len(draft.given_shape(k)))
        named.append("..." + letters[more:])
        cut += letters[:more]
    kept = "".join(letter for letter in out if letter not in cut)
    parts = (draft.given(k) for k in range(len(named)))
    return draft.op("Einsum", *parts, equation=f"{','.join(named)}->...{kept}")


def _entrywise(draft: Draft, kind: Product) -> bool:
    """Is it u v, entry by entry? (Seen from random numbers.)"""
    generator = torch.Generator().manual_seed(0)
    shapes = [draft.network.shape(name) for name in draft.at.inputs]
    u, v = (torch.rand(1, *s, generator=generator, dtype=torch.float64) for s in shapes)
    return u.shape == v.shape and torch.equal(kind(u, v), u * v)
