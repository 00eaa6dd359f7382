"""Einsum with one computed operand: a sum of products over named axes, written out with letters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import fixed, ints, number, position

ROW = "Z"  # the row axis; taken out of the letters that an equation may use


@dataclass(frozen=True)
class Einsum:
    """The equation with the computed operand last."""

    equation: str

    def __call__(self, *constants_and_x: Tensor) -> Tensor:
        return torch.einsum(self.equation, *constants_and_x)


def einsum(b: Builder, equation: str, operands: Sequence[Operand], *, path: Any = None) -> Ref:
    """y = einsum(equation, operands); the path of contraction changes only the order of sums."""
    where = [k for k, v in enumerate(operands) if isinstance(v, Ref)]
    if len(where) != 1:
        raise b.refuse(f"einsum of {len(where)} computed operands is not affine; only one can be")
    shapes = [tuple(v.shape) if isinstance(v, Ref) else number(v).shape for v in operands]
    terms, out = spell(b, equation, [tuple(s) for s in shapes])
    (k,) = where
    x = operands[k]
    assert isinstance(x, Ref)
    others = [
        (t, number(v)) for j, (t, v) in enumerate(zip(terms, operands, strict=True)) if j != k
    ]
    return _node(b, others, terms[k], x, out)


def _node(b: Builder, others: list[tuple[str, Tensor]], term: str, x: Ref, out: str) -> Ref:
    sizes = _sizes([*((t, tuple(c.shape)) for t, c in others), (term, x.shape)])
    text = ",".join([*(t for t, _ in others), ROW + term]) + "->" + ROW + out
    rounds = len(others)
    ahead = _count(sizes, set(sizes) - set(out), rounds)
    back = _count(sizes, set(sizes) - set(term), rounds)
    weights = [c for _, c in others]
    return b.affine(Einsum(text), x, weights=weights, terms=ahead, terms_back=back)


def _count(sizes: dict[str, int], summed: set[str], factors: int) -> int:
    """Roundings behind one value: a sum of that many products; 0 where values only move."""
    n = math.prod(sizes[s] for s in summed)
    return n + factors - 1 if factors or n > 1 else 0


def _sizes(terms: list[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, shape in terms:
        for letter, n in zip(term, shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, 1))
    return sizes


def spell(b: Builder, equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with ellipses and implied output spelt out."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes) or ROW in equation:
        raise b.refuse(f"the equation {equation!r} does not fit {len(shapes)} operands")
    free = [c for c in reversed(ascii_letters) if c not in equation and c != ROW]
    hidden = [len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True)]
    dots = "".join(free[: max([n for t, n in zip(terms, hidden, strict=True) if "..." in t] + [0])])
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = "..." * ("..." in left) + "".join(
            c for c in sorted(set(letters)) if letters.count(c) == 1
        )
    spelt = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, hidden, strict=True)]
    if any(len(t) != len(s) for t, s in zip(spelt, shapes, strict=True)):
        raise b.refuse(f"the equation {equation!r} does not fit operands of shapes {shapes}")
    return spelt, right.replace("...", dots)


def einsum_onnx(b: Builder, *operands: Operand, equation: str) -> Ref:
    """ONNX Einsum: the equation is an attribute."""
    return einsum(b, equation, operands)


def tensordot(b: Builder, x: Operand, y: Operand, dims_x: Any, dims_y: Any) -> Ref:
    """The sum over pairs of axes, the free axes of x before those of y."""
    nx, ny = (v.ndim if isinstance(v, Ref) else fixed(b, v, "a factor").ndim for v in (x, y))
    names, others = list(ascii_letters[:nx]), list(ascii_letters[nx : nx + ny])
    for p, q in zip(ints(b, dims_x, "dims"), ints(b, dims_y, "dims"), strict=True):
        others[position(q, ny)] = names[position(p, nx)]
    shared = set(names) & set(others)
    out = "".join(c for c in names + others if c not in shared)
    return einsum(b, f"{''.join(names)},{''.join(others)}->{out}", [x, y])
