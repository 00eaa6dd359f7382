"""How far two networks of one function are apart on some rows, beside what rounding explains."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.errors import InternalError
from gatewise.ir.kinds import Affine, Pieces, Product, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.rounding import path_terms
from gatewise.numeric import gamma

FEW = 64
CHUNK = 1 << 24  # numbers in the widest value at once
STATED = 1e-6  # of the largest value anywhere: where a bound is wider, more than this is an error


@dataclass(frozen=True, eq=False)
class Difference:
    """error: the largest |f - g| on `rows` rows; bound: what rounding can make of it there.

    The bound is infinite where a curved layer, or a jump, leaves nothing to be said.
    """

    error: float
    bound: float
    rows: int

    def __repr__(self) -> str:
        return f"Difference({self.error:.2g} on {self.rows} rows, bound {self.bound:.2g})"


def difference(network: Network, other: Network, x: Tensor) -> Difference:
    """On rows x (rows, *input_shape); InternalError where rounding does not explain it."""
    widest = max([network.inputs, *(math.prod(n.shape) for n in network.nodes)])
    parts = x.split(max(1, CHUNK // max(1, widest)))
    with torch.no_grad():
        gap = torch.cat([(network(part) - other(part)).abs().flatten() for part in parts])
        bound = torch.cat([_bound(network, other, part.abs()).flatten() for part in parts])
    allowed = bound.clamp(max=STATED * _top(network, x))
    over = ~(gap <= allowed)  # any of these is an error, whatever the gaps elsewhere
    worst = int(torch.where(over, gap, -1.0).argmax() if over.any() else gap.argmax())
    if over.any():
        raise InternalError(
            f"the smaller network differs by {float(gap[worst]):g}, and rounding explains "
            f"{float(allowed[worst]):g}"
        )
    return Difference(float(gap[worst]), float(bound[worst]), len(x))


def _top(network: Network, x: Tensor) -> float:
    """The largest |value| of any node on a few rows."""
    seen = [float(x[:FEW].abs().max())]

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        y: Tensor = node.kind(*xs)
        seen.append(float(y.abs().nan_to_num(0, 0, 0).max()))
        return y

    with torch.no_grad():
        fold(network, x[:FEW].reshape(-1, *network.input_shape), step)
    return max(1.0, *seen)


def _bound(network: Network, other: Network, x: Tensor) -> Tensor:
    """gamma(N) M(|x|), M with |weights| and every gate at its steepest: what both compute, and the
    rows that were multiplied out, are sums of the same products in another order, none longer than
    N."""
    most = fold(network, x.reshape(len(x), *network.input_shape), _largest)[network.output]
    if any(isinstance(n.kind, Pieces) and n.kind.jumps for n in network.nodes):
        most = torch.full_like(most, torch.inf)
    terms = 4 * (path_terms(network) + path_terms(other)) + 16
    return gamma(terms, x.dtype) * most.reshape(len(x), -1)


def _largest(node: Node, xs: list[Tensor]) -> Tensor:
    """What |value| can be at most, from the |value| of the inputs."""
    kind = node.kind
    if isinstance(kind, Affine):
        return kind.absolute()(*xs)
    if isinstance(kind, Pieces):
        return kind.slopes.abs().amax(0) * xs[0] + kind.offsets.abs().amax(0)
    if isinstance(kind, Winner):
        return dataclasses.replace(kind, sign=1)(*xs)
    return kind(*xs) if isinstance(kind, Product) else torch.full_like(kind(*xs), torch.inf)
