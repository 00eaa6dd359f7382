"""The four kinds of node. Analyses speak to these and never to layers.

Every value is batch first: (rows, *shape). A kind that was frozen to P patterns has `batched`
weights of shape (P, 1, *shape) and takes values (P or 1, k, *shape): see `push` and `pull`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Rule = Callable[..., Tensor]
Shape = tuple[int, ...]


class Taps(Protocol):
    """im2col: how one weight matrix W (units, taps) is used at every position.

    y = L(x) says units(y)[o, q] = sum over taps t of W[o, t] taps(x)[t, q], where W is the node's
    first weight with all axes but the first joined. Dense layers have one position.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """x (rows, *in) as (rows, taps, positions)."""

    def units(self, y: Tensor) -> Tensor:
        """y (rows, *out) as (rows, units, positions)."""


@dataclass(frozen=True, eq=False)
class Affine:
    """y = L(x1..xk) + c, with L(x1..xk) = rule(*weights, x1..xk).

    `rule` is linear in the xs together, and multilinear in the weights with coefficients >= 0:
    so |L| is the same rule at |weights|, which is all that rounding bounds need. (Integer weights
    are positions; their absolute value is themselves.)

    terms: the longest inner product behind one output; `terms_back` the same for the transpose
    (0 where values are only moved, so nothing is rounded).
    pullback: the transpose, (*weights, g) -> cotangent of each x; derived where not given.
    direct: (*weights, bias, *xs) -> y in one kernel call, where torch has one.
    taps: how the weight matrix is used, for layers that have one (dense, convolution).
    """

    rule: Rule
    weights: tuple[Tensor, ...] = ()
    bias: Tensor | None = None
    terms: int = 0
    terms_back: int = 0
    pullback: Callable[..., tuple[Tensor, ...]] | None = None
    direct: Rule | None = None
    batched: bool = False
    taps: Taps | None = None

    def linear(self, *xs: Tensor) -> Tensor:
        """L(x1..xk)."""
        return self.rule(*self.weights, *xs)

    def magnitude(self, *xs: Tensor) -> Tensor:
        """|L|(x1..xk), for xs >= 0."""
        return self.rule(*(w.abs() for w in self.weights), *xs)

    def __call__(self, *xs: Tensor) -> Tensor:
        if self.bias is None:
            return self.linear(*xs)
        if self.direct is not None:
            return self.direct(*self.weights, self.bias, *xs)
        return self.linear(*xs) + self.bias

    def absolute(self) -> Affine:
        """|L| and |c| as an Affine: the map whose values bound every rounding error."""
        bias = None if self.bias is None else self.bias.abs()
        return dataclasses.replace(self, weights=tuple(w.abs() for w in self.weights), bias=bias)


@dataclass(frozen=True, eq=False)
class Pieces:
    """A Gate, unit by unit: y = slopes[k] z + offsets[k] on the k-th cell between the knots.

    knots (K, ...), slopes and offsets (K+1, ...): trailing axes broadcast against one row of z.
    closed[k]: a unit exactly at knot k takes the branch above it (else the one below): the branch
    whose slope is torch's own derivative there. Two equal knots make a cell of one point.
    direct: torch's function for the same value, where there is one.
    """

    knots: Tensor
    slopes: Tensor
    offsets: Tensor
    closed: tuple[bool, ...]
    direct: Rule | None = None

    @property
    def branches(self) -> int:
        return len(self.closed) + 1

    @property
    def constant(self) -> bool:
        """True where no branch depends on z: a step."""
        return not bool(self.slopes.any())

    @property
    def jumps(self) -> bool:
        """True where the value jumps at some knot: a step, a hard shrink."""
        most = max(t.ndim for t in (self.knots, self.slopes, self.offsets))
        knots, slopes, offsets = (
            t.reshape(len(t), *(1,) * (most - t.ndim), *t.shape[1:])
            for t in (self.knots, self.slopes, self.offsets)
        )
        return bool(((slopes[1:] - slopes[:-1]) * knots + offsets[1:] - offsets[:-1] != 0).any())

    def __call__(self, z: Tensor) -> Tensor:
        if self.direct is not None:
            return self.direct(z)
        codes = self.choose(z)
        return _pick(self.slopes, codes, z.dtype) * z + _pick(self.offsets, codes, z.dtype)

    def choose(self, z: Tensor) -> Tensor:
        """Codes 0..K of the cells that hold z: bool when there is one knot, else uint8."""
        pairs = zip(self.knots, self.closed, strict=True)
        above: list[Tensor] = [z >= t if closed else z > t for t, closed in pairs]
        if len(above) == 1:
            return above[0]
        return torch.stack(above).sum(0, dtype=torch.uint8)

    def branch(self, codes: Tensor) -> Affine:
        """The branch picked by codes (P, *shape), as an Affine batched over the P patterns."""
        dtype = self.slopes.dtype
        slope = _pick(self.slopes, codes, dtype).unsqueeze(1)
        offset = _pick(self.offsets, codes, dtype).unsqueeze(1) if self.offsets.any() else None
        moves = bool(((self.slopes == 0) | (self.slopes.abs() == 1)).all())
        terms = 0 if moves else 1
        return Affine(scale, (slope,), offset, terms, terms, pullback=scale_back, batched=True)

    def slack(self, z: Tensor, codes: Tensor) -> Tensor:
        """(K, *z.shape): sign (z - knot), affine in z; all >= 0 exactly on the (closed) cell."""
        return torch.stack(
            [s * (z - t) for s, t in zip(self.signs(codes), self.knots, strict=True)]
        )

    def signs(self, codes: Tensor) -> Tensor:
        """(K, *codes.shape): +1 where the cell lies above the knot, else -1."""
        dtype = self.slopes.dtype
        above = torch.stack([codes > k for k in range(self.branches - 1)])
        return above.to(dtype) * 2 - 1


@dataclass(frozen=True, eq=False)
class Winner:
    """A Gate over groups: y_i = z[index[i, c]], where c is the first largest (sign=-1: smallest).

    index (*shape, m): positions in the inputs, each flattened and joined end to end; -1 is no
    candidate (padding). A tie is won by the first candidate, as torch's max does.
    """

    index: Tensor
    sign: int = 1

    @property
    def branches(self) -> int:
        return self.index.shape[-1]

    @property
    def constant(self) -> bool:
        return False

    def __call__(self, *zs: Tensor) -> Tensor:
        return self.sign * self._candidates(zs).amax(-1)

    def choose(self, *zs: Tensor) -> Tensor:
        """Codes: the position of the winner within its group."""
        codes = self._candidates(zs).argmax(-1)
        return codes.to(torch.uint8) if self.branches <= 256 else codes.to(torch.int32)

    def branch(self, codes: Tensor) -> Affine:
        """The Affine that copies each group's winner, batched over the P patterns in codes."""
        index = self.index.expand(len(codes), *self.index.shape)
        picked = index.gather(-1, codes.long().unsqueeze(-1)).squeeze(-1)
        return Affine(gather, (picked.unsqueeze(1),), batched=True)

    def slack(self, zs: tuple[Tensor, ...], codes: Tensor) -> Tensor:
        """(m, rows, *shape): winner minus candidate (times sign): >= 0 exactly where it wins."""
        all_ = self._candidates(zs)
        best = all_.gather(-1, codes.long().unsqueeze(-1))
        return (best - all_).movedim(-1, 0)

    def _candidates(self, zs: tuple[Tensor, ...]) -> Tensor:
        """sign * z[index], (rows, *shape, m), with -inf where there is no candidate."""
        flat = torch.cat([z.reshape(len(z), -1) for z in zs], 1)
        picked = self.sign * flat[:, self.index.clamp(min=0)]
        return picked.masked_fill(self.index < 0, -torch.inf)


@dataclass(frozen=True, eq=False)
class Product:
    """y = rule(u, v), linear in each side: the elementwise product, or matmul of two parts."""

    rule: Rule
    terms: int = 1

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        return self.rule(u, v)

    def fix(self, side: int, value: Tensor) -> Affine:
        """The Affine left when side 0 or 1 is the constant `value` (P, *shape), batched over P."""
        rule = self.rule if side == 0 else Swapped(self.rule)
        return Affine(rule, (value.unsqueeze(1),), None, self.terms, self.terms, batched=True)


@dataclass(frozen=True)
class Swapped:
    """rule(v, u) for rule(u, v)."""

    rule: Rule

    def __call__(self, v: Tensor, u: Tensor) -> Tensor:
        return self.rule(u, v)


@dataclass(frozen=True, eq=False)
class Smooth:
    """y = fn(*weights, x1..xk): curved, so it has no pattern; frozen by a point only.

    lipschitz: a constant with |fn(x) - fn(x')|_inf <= lipschitz |x - x'|_inf, where known.
    terms: the longest sum behind one output (0 for what goes entry by entry).
    """

    fn: Rule
    weights: tuple[Tensor, ...] = ()
    lipschitz: float | None = None
    terms: int = 0

    def __call__(self, *xs: Tensor) -> Tensor:
        return self.fn(*self.weights, *xs)


Gate = Pieces | Winner
Kind = Affine | Pieces | Winner | Product | Smooth


def kind_name(kind: Kind) -> str:
    """Affine, Gate, Product or Smooth."""
    return "Gate" if isinstance(kind, Pieces | Winner) else type(kind).__name__


def map_tensors(kind: Kind, change: Callable[[Tensor], Tensor]) -> Any:
    """The same kind with `change` applied to every tensor it holds."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = getattr(kind, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, tuple) and any(isinstance(v, Tensor) for v in value):
            changed[field.name] = tuple(change(v) for v in value)
    return dataclasses.replace(kind, **changed)


def tensors(kind: Kind) -> list[Tensor]:
    """Every tensor the kind holds, in the order of its fields."""
    found: list[Tensor] = []
    map_tensors(kind, lambda t: found.append(t) or t)  # type: ignore[func-returns-value]
    return found


def settings(kind: Kind) -> tuple[str, ...]:
    """What a kind is besides its tensors, as text that is the same in every run.

    `taps` say of the rule what the rule says already, so they are left out.
    """
    names = (field.name for field in dataclasses.fields(kind) if field.name != "taps")
    values = (getattr(kind, name) for name in names)
    return (kind_name(kind), *(_text(v) for v in values if not isinstance(v, Tensor)))


def _text(value: Any) -> str:
    """A rule by name (a function's repr holds its address), anything else by its repr."""
    if isinstance(value, tuple):
        return ",".join(_text(v) for v in value if not isinstance(v, Tensor))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (_text(getattr(value, field.name)) for field in dataclasses.fields(value))
        return f"{type(value).__name__}({','.join(parts)})"
    return getattr(value, "__qualname__", None) or repr(value)


# -- the two directions through an Affine; values are (Q, k, *shape) with Q = P or 1 --


def push(affine: Affine, xs: list[Tensor], with_bias: bool = True) -> Tensor:
    """L(xs) (+ c): forward, for k vectors under each of P patterns (Q = 1: not split yet)."""
    if affine.batched:
        y = affine.linear(*xs)
    else:
        q = max(len(x) for x in xs)
        flat = [x.expand(q, *x.shape[1:]).flatten(0, 1) for x in xs]
        if with_bias and affine.direct is not None and affine.bias is not None:
            whole: Tensor = affine(*flat).unflatten(0, (q, -1))
            return whole
        y = affine.linear(*flat).unflatten(0, (q, -1))
    return y if affine.bias is None or not with_bias else y + affine.bias


def pull(affine: Affine, g: Tensor, shapes: list[Shape]) -> tuple[Tensor, ...]:
    """The transpose of L at g (Q, k, *out): one cotangent (Q, k, *in) for each input."""
    if affine.batched:
        if affine.pullback is not None:
            return affine.pullback(*affine.weights, g)
        return _transpose(affine, g.expand(_patterns(affine), *g.shape[1:]), shapes, 2)
    q, flat = len(g), g.flatten(0, 1)
    if affine.pullback is not None:
        parts = affine.pullback(*affine.weights, flat)
    else:
        parts = _transpose(affine, flat, shapes, 1)
    return tuple(p.unflatten(0, (q, -1)) for p in parts)


def _transpose(affine: Affine, g: Tensor, shapes: list[Shape], lead: int) -> tuple[Tensor, ...]:
    """The transpose from autograd: exact, since L is linear (its value at 0 is never used)."""
    with torch.enable_grad():
        xs = [g.new_zeros(*g.shape[:lead], *s).requires_grad_() for s in shapes]
        y = affine.linear(*xs)
        if not y.requires_grad:  # a rule that looks at nothing: the zero map
            return tuple(torch.zeros_like(x) for x in xs)
        return torch.autograd.grad(y, xs, g, materialize_grads=True)


def _patterns(affine: Affine) -> int:
    return max(len(w) for w in affine.weights)


def scale(s: Tensor, x: Tensor) -> Tensor:
    """s * x: the rule of every frozen elementwise gate."""
    return s * x


def scale_back(s: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `scale`."""
    return (s * g,)


def gather(index: Tensor, *xs: Tensor) -> Tensor:
    """x[index] over the inputs joined end to end, for index (P, 1, *shape)."""
    flat = torch.cat([x.reshape(*x.shape[:2], -1) for x in xs], -1)
    lead = (max(len(index), len(flat)), flat.shape[1])
    where = index.reshape(len(index), 1, -1).expand(*lead, -1)
    return flat.expand(*lead, -1).gather(2, where).reshape(*lead, *index.shape[2:])


def _pick(table: Tensor, codes: Tensor, dtype: torch.dtype) -> Tensor:
    """table[codes] for a table (branches, ...) of constants, without a gather."""
    if table.ndim == 1 and table.tolist() == [0.0, 1.0]:
        return codes.to(dtype)
    out = table[0]
    for k in range(1, len(table)):
        out = torch.where(codes >= k, table[k], out)
    return out.expand(codes.shape)
