"""One threshold per unit below which a pre-activation is too close to its knot to be sure of.

The running error bound of `ir.rounding` costs a second forward pass. Folding magnitudes alone,
once, for every |x| <= some vector, gives a larger bound for all rows together at the cost of one
row: only rows with a unit inside it need the running bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Product, Smooth, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.rounding import Enclosure, exact_branches
from gatewise.numeric import gamma, underflow

Rounding = torch.dtype | None
BEHIND = "behind the output"  # no node is called so: where thresholds keep the output's own error
ROOM = 1e-6  # of a dtype's largest number: no sum below it overflows
SLACK = 1.001  # pays for rounding in the thresholds themselves, and keeps them above `enclose`'s


def thresholds(
    network: Network, reach: Tensor, *, start: Tensor | None = None, rounding: Rounding = None
) -> Mapping[str, Tensor]:
    """For each gate the largest error its inputs can carry when |x| <= reach (1, *input_shape).

    (1, *shape of its input) for Pieces; for a Winner, twice the largest error of any candidate.
    Valid for rows in which no earlier unit was undecided: the others are flagged anyway.
    start: the error of x (none); rounding: of another dtype than the network's, to which its
    weights are rounded, too. Infinite from where a value may come near that dtype's largest.
    Under `BEHIND` the largest error of the output, which may be a gate with a threshold of its own.
    """
    found: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Enclosure]) -> Enclosure:
        if isinstance(node.kind, Pieces):
            found[node.name] = SLACK * xs[0].error
        if isinstance(node.kind, Winner):
            found[node.name] = 2 * SLACK * torch.stack([x.error.amax() for x in xs]).amax()
        return _within(largest(node, xs, rounding), rounding)

    begin = Enclosure(reach, torch.zeros_like(reach) if start is None else start)
    found[BEHIND] = fold(network, _within(begin, rounding), step)[network.output].error
    return found


def _within(found: Enclosure, rounding: Rounding) -> Enclosure:
    """The same, with an infinite error where the sums of another dtype may overflow."""
    if rounding is None:
        return found
    far = ~(found.value + found.error < ROOM * torch.finfo(rounding).max)
    return Enclosure(found.value, found.error.masked_fill(far, torch.inf))


def largest(node: Node, xs: list[Enclosure], rounding: Rounding = None) -> Enclosure:
    """The largest |value| and error a node can have, from those of its inputs."""
    kind, dtype = node.kind, rounding or xs[0].value.dtype
    if isinstance(kind, Affine):
        return _affine(kind.absolute(), xs, rounding)
    if isinstance(kind, Pieces):
        slope, offset = kind.slopes.abs().amax(0), kind.offsets.abs().amax(0)
        return on_branches(kind, xs[0], slope, offset, rounding)
    if isinstance(kind, Winner):
        both = [_widest(kind, [getattr(x, part) for x in xs]) for part in ("value", "error")]
        return Enclosure(*both)
    if isinstance(kind, Product):
        u, v = xs
        g = gamma(2 * kind.terms + 4, dtype)
        error = kind.rule(u.value, v.error + g * v.value) + kind.rule(u.error, v.value + v.error)
        return Enclosure(kind.rule(u.value, v.value), error + underflow(kind.terms, dtype))
    return _unknown(kind, node, xs)


def on_branches(
    kind: Pieces, z: Enclosure, slope: Tensor, offset: Tensor, rounding: Rounding = None
) -> Enclosure:
    """Behind a gate, from the largest |slope| and |offset| of the branches to reckon with."""
    # where every branch is flat nothing comes through, not even an infinite error
    value = (slope * z.value).masked_fill(slope == 0, 0) + offset
    error = (slope * z.error).masked_fill(slope == 0, 0)
    if not exact_branches(kind):
        dtype = rounding or value.dtype
        error = error + gamma(4, dtype) * (value + slope * z.error) + underflow(1, dtype)
    return Enclosure(value, error)


def _affine(kind: Affine, xs: list[Enclosure], rounding: Rounding) -> Enclosure:
    if rounding is None:
        dtype = xs[0].value.dtype
        g = gamma(2 * kind.terms + 4, dtype)
    else:  # this bound itself is computed more closely: products, bias, and weights once each
        dtype = rounding
        g = gamma(kind.terms + 2 + len(kind.weights), dtype)
    value = kind(*(x.value for x in xs)) * (1 + g)
    if kind.terms == 0 and kind.bias is None:
        return Enclosure(value, kind.linear(*(x.error for x in xs)))
    error = (1 + g) * kind.linear(*(x.error + g * x.value for x in xs))
    error = error + underflow(2 * kind.terms + 2, dtype)  # products, sums, the bias
    if rounding is not None:
        error = error + _flushed(kind, xs, rounding)
    return Enclosure(value, error if kind.bias is None else error + g * kind.bias)


def _flushed(kind: Affine, xs: list[Enclosure], rounding: torch.dtype) -> Tensor | float:
    """What is lost of weights below the dtype's smallest normal number: at most all of them."""
    lost: Tensor | float = 0.0
    for w in (w for w in kind.weights if w.is_floating_point()):
        small = w.masked_fill(w >= torch.finfo(rounding).tiny, 0)
        if small.any():
            weights = [small if v is w else v for v in kind.weights]
            lost = lost + 2 ** len(weights) * kind.rule(*weights, *(x.value + x.error for x in xs))
    return lost


def _widest(kind: Winner, parts: list[Tensor]) -> Tensor:
    flat = torch.cat([p.reshape(len(p), -1) for p in parts], 1)
    return flat[:, kind.index.clamp(min=0)].masked_fill(kind.index < 0, 0).amax(-1)


def _unknown(kind: Smooth, node: Node, xs: list[Enclosure]) -> Enclosure:
    """A Smooth node: nothing is known beforehand, so every later unit needs the running bound."""
    shape = (1, *node.shape)
    full = torch.full(shape, torch.inf, dtype=xs[0].value.dtype, device=xs[0].value.device)
    return Enclosure(full, full)
