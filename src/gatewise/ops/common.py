"""What several op files share: axes, constants, broadcasting. Each value is (rows, *shape)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import ModelError
from gatewise.ir.kinds import Shape
from gatewise.ops.builder import Builder, Operand, Ref, constant
from gatewise.ops.table import Adapter

# -- axes --


def axis(ref: Ref, a: int) -> int:
    """The tensor axis of the source's axis a: the row axis stands in front."""
    return position(a, ref.ndim) + 1


def axes(ref: Ref, many: Iterable[int]) -> tuple[int, ...]:
    """The tensor axes of several of the source's axes, in the same order."""
    return tuple(axis(ref, a) for a in many)


def position(a: int, ndim: int) -> int:
    """Axis a counted from the front, 0..ndim-1."""
    if not -ndim <= a < ndim:
        raise ModelError(f"axis {a} does not exist in a value of {ndim} axes")
    return a % ndim


# -- constants --


def number(value: Operand) -> Tensor:
    """A constant operand as float64, integers too."""
    return constant(value).double()


def ints(b: Builder, value: Any, what: str) -> tuple[int, ...]:
    """Integers the source fixes (a list, a tensor or one number); refused where computed."""
    if isinstance(value, Ref) or value is None:
        raise b.refuse(f"{what} must be constant, got {_describe(value)}: it decides the shape")
    flat = torch.as_tensor(value).reshape(-1).tolist()
    if any(v != int(v) for v in flat):
        raise b.refuse(f"{what} must be integers, got {flat}")
    return tuple(int(v) for v in flat)


def computed(b: Builder, value: Any, what: str = "its input") -> Ref:
    """The operand as a computed value, refused where it is a constant."""
    if not isinstance(value, Ref):
        raise b.refuse(f"{what} must be the computed value, got {_describe(value)}")
    return value


def fixed(b: Builder, value: Any, what: str) -> Tensor:
    """The operand as a float64 constant, refused where it is computed from the input."""
    if isinstance(value, Ref) or value is None:
        raise b.refuse(f"{what} must be constant, got {_describe(value)}")
    return number(value)


def _describe(value: Any) -> str:
    if isinstance(value, Ref):
        return f"a value computed from the input (node '{value.name}')"
    return "nothing" if value is None else "a constant"


# -- broadcasting --


@dataclass(frozen=True)
class Expand:
    """x repeated along axes of length 1, and along new ones in front: values only move."""

    source: Shape
    target: Shape

    def __call__(self, x: Tensor) -> Tensor:
        new = (1,) * (len(self.target) - len(self.source))
        return x.reshape(len(x), *new, *self.source).expand(len(x), *self.target)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """Sum over whatever was repeated."""
        new = len(self.target) - len(self.source)
        grown = [a + 1 for a in range(new)]
        grown += [
            a + new + 1
            for a, (n, m) in enumerate(zip(self.source, self.target[new:], strict=True))
            if n != m
        ]
        return ((g.sum(grown) if grown else g).reshape(len(g), *self.source),)


def broadcast(b: Builder, ref: Ref, shape: Iterable[int]) -> Ref:
    """The value broadcast together with `shape` (either may be the one that grows)."""
    target = together(b, ref.shape, tuple(shape))
    if target == ref.shape:
        return ref
    rule = Expand(ref.shape, target)
    copies = math.prod(target) // max(1, math.prod(ref.shape))
    return b.affine(rule, ref, terms_back=copies if copies > 1 else 0, pullback=rule.back)


def pair_broadcast(b: Builder, x: Ref, y: Ref) -> tuple[Ref, Ref]:
    """Two values broadcast against each other, to one shape."""
    return broadcast(b, x, y.shape), broadcast(b, y, x.shape)


def together(b: Builder, *shapes: Shape) -> Shape:
    """The shape that the shapes broadcast to."""
    try:
        return tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        listed = " and ".join(map(str, shapes))
        raise b.refuse(f"shapes {listed} do not broadcast") from None


# -- kernels that want one batch axis --


def flat_call(kernel: Callable[[Tensor], Tensor], x: Tensor, last: int) -> Tensor:
    """kernel applied with all but the last axes of x joined into one, and split again after."""
    lead = x.shape[: x.ndim - last]
    y = kernel(x.reshape(math.prod(lead), *x.shape[x.ndim - last :]))
    return y.reshape(*lead, *y.shape[1:])


# -- what adapters check and how they are listed --


def named(names: str, adapter: Adapter) -> dict[str, Adapter]:
    """One adapter under several of a source's names."""
    return dict.fromkeys(names.split(), adapter)


def only(b: Builder, what: str, value: Any, *allowed: Any) -> None:
    """Refuse a setting that the table does not hold: nothing is dropped in silence."""
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        listed = ", ".join(map(repr, allowed))
        raise b.refuse(f"{what}={value!r} is not supported; it can be {listed}")


def real(b: Builder, dtype: Any) -> None:
    """Refuse a conversion that rounds: only float32 and float64 pass as they are."""
    only(b, "dtype", dtype, None, torch.float32, torch.float64)
