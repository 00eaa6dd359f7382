"""Patterns of deep networks in fixed point: as many digits as their depth asks for.

The rounding bound of float64 grows with every layer (by some twentyfold in a ResNet), so behind
ten or fifteen layers it says nothing, and rationals cost too much. Here a value is a whole number
in base B = 2**beta, its digits balanced (|digit| <= B / 2) and held as floats, one tensor a place,
with a bound of what was cut off. B is chosen so that inner products of digits are whole numbers
below 2**53: float64 then computes them exactly, in torch's own matrix products and convolutions
(Ozaki, Ogita, Oishi & Rump 2012). Places that could not change what is already unsure are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Affine, Kind, Pieces, Winner, scale
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Packer, layout, row_bytes
from gatewise.numeric import gamma

F64 = torch.float64
PRECISIONS = (100, 200)  # bits below the largest value, tried in turn
A_ROW = 5 * 10**11  # products of digits, a minute's: rows of larger networks stay undecided
PAIRS = 8  # no float has more digits that are not 0 (beta > 7): so many products meet at a place
TOGETHER = 1 << 28  # bytes of digits alive at once, about
RANGE = 450  # bits on either side of 1 that a place may be
CLOSE = 2.0**-44  # of a value: how well a float gives balanced digits
TRACE = 2.0**-300  # stands for "not zero" where an error is summed up
SHARE = 1 / 16  # of the error that is there already: what leaving places out may add


@dataclass(frozen=True, eq=False)
class Fixed:
    """sum over k of digits[k] 2**(-beta (first + k)), to within error: (K, rows, *shape)."""

    digits: Tensor
    first: int
    error: Tensor

    @property
    def last(self) -> int:
        return self.first + len(self.digits) - 1

    def places(self, first: int, last: int) -> Tensor:
        """The digits at these places, zeros where there are none."""
        lo, hi = max(first, self.first), min(last, self.last)
        if (lo, hi) == (first, last):
            return self.digits[lo - self.first : hi - self.first + 1]
        out = self.digits.new_zeros(last - first + 1, *self.digits.shape[1:])
        if lo <= hi:
            out[lo - first : hi - first + 1] = self.digits[lo - self.first : hi - self.first + 1]
        return out


class Unfit(Exception):
    """The network, or these rows, have no value in fixed point: nothing is decided."""


@dataclass(frozen=True, eq=False)
class Base:
    """B = 2**beta, and what is done with numbers in it, `bits` bits below the largest."""

    beta: int
    bits: int

    def unit(self, place: int) -> float:
        """B**-place."""
        return math.ldexp(1.0, -self.beta * place)

    def first(self, values: Tensor) -> int:
        """The place of the leading digit of the largest of them."""
        top = float(values.abs().amax()) if values.numel() else 0.0
        if not math.isfinite(top):
            raise Unfit
        return (self.beta - 1 - math.frexp(top)[1]) // self.beta if top else 0

    def split(self, values: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Digits of floats at the places first..last (its leading one may be longer), and the
        rest, exactly: a float less its nearest multiple of a power of two is a float."""
        self.within(first, last)
        digits, rest = [], values
        for place in range(first, last + 1):
            digits.append(torch.round(rest * self.unit(-place)))
            rest = rest - digits[-1] * self.unit(place)
        return torch.stack(digits), rest

    def within(self, first: int, last: int) -> None:
        """Raise Unfit for places whose units, or products of two of them, floats do not hold."""
        if max(-first, last) * self.beta > RANGE:
            raise Unfit

    def number(self, values: Tensor) -> Fixed:
        """Floats as they are; what lies below `bits` is cut off, and bounded."""
        first = self.first(values)
        digits, rest = self.split(values, first, first + self.bits // self.beta + 1)
        return self.trimmed(digits, first, rest.abs())

    def carried(self, sums: Tensor, first: int, error: Tensor) -> Fixed:
        """Whole numbers below 2**53 at each place, made into balanced digits."""
        carry, out = torch.zeros_like(sums[0]), []
        for place in reversed(range(len(sums))):
            whole = sums[place] + carry
            carry = torch.round(whole * self.unit(1))
            out.append(torch.sub(whole, carry, alpha=self.unit(-1)))
        while bool(carry.any()):
            whole, first = carry, first - 1
            carry = torch.round(whole * self.unit(1))
            out.append(torch.sub(whole, carry, alpha=self.unit(-1)))
        return self.trimmed(torch.stack(out[::-1]), first, error)

    def trimmed(self, digits: Tensor, first: int, error: Tensor) -> Fixed:
        """Without places at either end where every digit is 0."""
        there = digits.flatten(1).any(1).nonzero().flatten()
        if not len(there):
            return Fixed(digits[:1], first, error)
        lo, hi = int(there[0]), int(there[-1])
        self.within(first + lo, first + hi)
        return Fixed(digits[lo : hi + 1], first + lo, error)

    def value(self, x: Fixed) -> Tensor:
        """The nearest float, to within CLOSE of itself: the first digit that is not 0 outweighs
        all behind it."""
        total = torch.zeros_like(x.digits[0])
        for k in reversed(range(len(x.digits))):
            total.add_(x.digits[k], alpha=self.unit(x.first + k))
        return total

    # -- the kinds --

    def affine(self, kind: Affine, xs: Sequence[Fixed]) -> Fixed:
        """L(x1..xk) + c."""
        floats = [w for w in kind.weights if w.is_floating_point()]
        if len(floats) == 1 and not _small_whole(floats[0]):
            sums, first, error = self._weighted(kind, floats[0], *xs)
        else:
            first, last = min(x.first for x in xs), max(x.last for x in xs)
            sums = _per_place(kind, kind.weights, [x.places(first, last) for x in xs])
            error = _sure(kind.magnitude(*(x.error for x in xs)), kind.terms)
        if kind.bias is not None:
            sums, first, error = self._shifted(sums, first, error, kind.bias)
        return self.carried(sums, first, error)

    def _weighted(self, kind: Affine, w: Tensor, *xs: Fixed) -> tuple[Tensor, int, Tensor]:
        """The sums at each place of L(w, x), down to the place that still matters."""
        spread = _spread(kind, w, xs)
        x_first, x_last = min(x.first for x in xs), max(x.last for x in xs)
        w_first = self.first(w)
        self.within(w_first, w_first)
        last = self._deepest(spread, kind.terms, w_first + x_first)
        sums = spread.new_zeros(last - w_first - x_first + 1, *spread.shape)
        rest, cut, i = w, 0.0, -1
        while bool(rest.any()) and i < last - w_first - x_first:
            i += 1
            digit = torch.round(rest * self.unit(-w_first - i))
            rest = torch.sub(rest, digit, alpha=self.unit(w_first + i))
            if (top := float(digit.abs().amax())) == 0:
                continue
            stop = min(x_last, last - w_first - i)
            weights = [digit if v is w else v for v in kind.weights]
            part = _per_place(kind, weights, [x.places(x_first, stop) for x in xs])
            sums[i : i + len(part)] += part
            if stop < x_last:  # what is left out of x: at most half of this
                cut += top * self.unit(w_first + i) * self.unit(stop)
        cut += float(rest.abs().amax()) * self.unit(x_first - 1)
        return sums, w_first + x_first, spread + kind.terms * cut * (spread > 0)

    def _deepest(self, spread: Tensor, terms: int, first: int) -> int:
        """The place down to which products are worth adding up."""
        self.within(first, first)
        least = math.ldexp(math.sqrt(terms), -self.bits) * self.unit(first - 1)
        aim = max(least, SHARE * float(spread.mean()))
        return max(first, math.ceil(math.log2(PAIRS * terms / aim) / self.beta) + 1)

    def _shifted(
        self, sums: Tensor, first: int, error: Tensor, bias: Tensor
    ) -> tuple[Tensor, int, Tensor]:
        """With a constant added."""
        top = min(first, self.first(bias))
        held = 53 if bool(error.any()) else self.bits  # of the constant, if the sums are as short
        last = max(first + len(sums) - 1, top + held // self.beta + 1)
        digits, rest = self.split(bias, top, last)
        out = sums.new_zeros(last - top + 1, *sums.shape[1:])
        out[first - top : first - top + len(sums)] = sums
        lead = (1,) * (out.ndim - digits.ndim)
        out += digits.reshape(len(digits), *lead, *digits.shape[1:])
        return out, top, error + rest.abs()

    def pieces(self, kind: Pieces, x: Fixed) -> tuple[Fixed, Tensor, Tensor]:
        """The value behind a gate, its codes, and the units that may be on another branch."""
        value = self.value(x)
        sides, near = [], torch.zeros_like(value, dtype=torch.bool)
        for t, closed in zip(kind.knots, kind.closed, strict=True):
            unsure = x.error + CLOSE * (value.abs() + t.abs())
            near |= ((value - t).abs() <= unsure) & (unsure > 0) & ~((t == 0) & _exact(value, x))
            sides.append(value >= t if closed else value > t)
        codes = sides[0] if len(sides) == 1 else torch.stack(sides).sum(0, dtype=torch.uint8)
        branch = kind.branch(codes)
        slope = branch.weights[0].squeeze(1)
        offset = None if branch.bias is None else branch.bias.squeeze(1)
        if offset is None and _small_whole(slope):
            return self.trimmed(x.digits * slope, x.first, x.error * slope.abs()), codes, near
        frozen = Affine(scale, (slope,), offset, 1, 1, batched=True)
        return self.affine(frozen, [x]), codes, near

    def winner(self, kind: Winner, xs: Sequence[Fixed]) -> tuple[Fixed, Tensor, Tensor]:
        """The same for the largest of a group."""
        values = tuple(self.value(x) for x in xs)
        codes = kind.choose(*values)
        errors = (x.error + CLOSE * v.abs() for x, v in zip(xs, values, strict=True))
        flat = torch.cat([e.reshape(len(e), -1) for e in errors], 1)[:, kind.index.clamp(min=0)]
        place = codes.long().unsqueeze(-1)
        unsure = (flat + flat.gather(-1, place)).movedim(-1, 0)
        others = torch.arange(kind.branches).reshape(-1, *[1] * codes.ndim) != codes
        near = ((kind.slack(values, codes) <= unsure) & (unsure > 0) & others).any(0)
        picked = kind.index.expand(len(codes), *kind.index.shape).gather(-1, place).squeeze(-1)
        first, last = min(x.first for x in xs), max(x.last for x in xs)
        digits = torch.cat([x.places(first, last).flatten(2) for x in xs], 2)
        index = picked.reshape(1, len(codes), -1).expand(len(digits), -1, -1)
        most = torch.cat([x.error.flatten(1) for x in xs], 1).gather(1, index[0])
        won = digits.gather(2, index).reshape(len(digits), *codes.shape)
        return self.trimmed(won, first, most.reshape(codes.shape)), codes, near


def _exact(value: Tensor, x: Fixed) -> Tensor:
    """Known without an error, or with a sign that its first digit gives."""
    return (x.error == 0) | (value.abs() * (1 - CLOSE) > x.error)


def _per_place(kind: Affine, weights: Sequence[Tensor], xs: Sequence[Tensor]) -> Tensor:
    """The rule at every place at once: places and rows are one batch."""
    k = len(xs[0])
    if kind.batched:  # a weight for each row
        return kind.rule(*weights, *xs)
    out: Tensor = kind.rule(*weights, *(x.flatten(0, 1) for x in xs)).unflatten(0, (k, -1))
    return out


def _spread(kind: Affine, w: Tensor, xs: Sequence[Fixed]) -> Tensor:
    """|L| e, and more than 0 wherever something that is not 0 comes in."""
    there = (x.error + TRACE * ((x.digits != 0).any(0) | (x.error > 0)).to(F64) for x in xs)
    held = w.abs().clamp_(min=TRACE).mul_(w != 0)
    spread = kind.rule(*(held if v is w else v for v in kind.weights), *there)
    return _sure(spread, kind.terms)


def _sure(spread: Tensor, terms: int) -> Tensor:
    """A sum of positive products, raised by what rounding may have taken from it."""
    return spread * (1 + 2 * gamma(2 * terms + 4, F64))


def _small_whole(w: Tensor) -> bool:
    """0, 1 and -1: digits times these are digits."""
    return bool(((w == 0) | (w.abs() == 1)).all())


# -- networks and rows --


def before_gates(network: Network) -> Network | None:
    """The nodes that some gate depends on, on the CPU; None where one has no value in fixed point.

    An Affine has one where it only moves and adds values, or is linear in one weight.
    """
    needed: set[str] = set()
    kept: list[Node] = []
    for node in reversed(network.nodes):
        if node.name in needed or isinstance(node.kind, Pieces | Winner):
            needed.update(node.inputs)
            kept.append(node)
    if not kept or any(not _fits(node.kind, network, node) for node in kept):
        return None
    nodes = tuple(reversed(kept))
    part = dataclasses.replace(network, nodes=nodes, output=kept[0].name, head=())
    return part.to(F64, "cpu")


def _fits(kind: Kind, network: Network, node: Node) -> bool:
    if not isinstance(kind, Affine):
        return isinstance(kind, Pieces | Winner)
    floats = [w for w in kind.weights if w.is_floating_point()]
    if all(_small_whole(w) for w in floats):
        return not (kind.terms and kind.terms_back and not floats)  # a mean divides
    if len(floats) > 1:
        return False
    ones = [floats[0].new_ones(1, *network.shape(name)) for name in node.inputs]
    nothing = [torch.zeros_like(w) if w is floats[0] else w for w in kind.weights]
    return not bool(kind.rule(*nothing, *ones).any())


def base_of(network: Network, bits: int) -> Base:
    """The largest base in which PAIRS sums of products are exact, with a bit for what is added."""
    longest = max((n.kind.terms for n in network.nodes if isinstance(n.kind, Affine)), default=1)
    return Base(1 + int(52 - math.log2(max(1, longest) * PAIRS)) // 2, bits)


def products(network: Network) -> int:
    """Products of one forward pass of one row, about."""
    kinds = ((n.kind, math.prod(n.shape)) for n in network.nodes)
    return sum(size * max(1, k.terms) if isinstance(k, Affine) else size for k, size in kinds)


def settle(network: Network, x: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Packed patterns of the rows of x (rows, *input_shape), and which of them are proven.

    What costs more than A_ROW products a row, and rows that the last precision leaves open, are
    not decided.
    """
    fields = layout(network)
    bits = np.zeros((len(x), row_bytes(fields)), np.uint8)
    done = np.zeros(len(x), bool)
    part = before_gates(network)
    if part is None:
        return bits, done
    x = x.to("cpu", F64)
    widest = max([part.inputs, *(math.prod(n.shape) for n in part.nodes)])
    for precision in PRECISIONS:
        base = base_of(part, precision)
        places = precision // base.beta + 2
        if products(part) * places * (places + 1) // 2 > A_ROW:
            break
        step = max(1, TOGETHER // (8 * widest * places * 3))
        for rows in np.array_split(np.flatnonzero(~done), -(-int((~done).sum()) // step) or 1):
            if len(rows):
                packer = Packer(fields, len(rows))
                good = _observe(part, base, x[torch.from_numpy(rows)], packer)
                bits[rows[good]], done[rows[good]] = packer.bits[good], True
    return bits, done


def _observe(network: Network, base: Base, x: Tensor, packer: Packer) -> NDArray[np.bool_]:
    """Pack the codes of x; the rows in which every unit is decided."""
    open_ = torch.zeros(len(x), dtype=torch.bool)

    def step(node: Node, xs: list[Fixed]) -> Fixed:
        kind = node.kind
        if isinstance(kind, Affine):
            return base.affine(kind, xs)
        assert isinstance(kind, Pieces | Winner)
        y, codes, near = (
            base.pieces(kind, xs[0]) if isinstance(kind, Pieces) else base.winner(kind, xs)
        )
        packer.put(node.name, codes)
        open_.logical_or_(near.reshape(len(near), -1).any(1))
        if bool(open_.all()):
            raise Unfit
        return y

    try:
        fold(network, base.number(x), step)
    except Unfit:
        return np.zeros(len(x), bool)
    return np.asarray((~open_).numpy())
