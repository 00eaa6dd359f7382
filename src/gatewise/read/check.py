"""What was read against its source: on random rows they agree to within rounding, or it is refused.

The bound is the running error bound of the Network (ir/rounding.py), twice: once for its own
arithmetic, once for the source's. Where that is infinite (curved layers) or wider than a stated
tolerance, the tolerance is used instead, so the check never becomes empty.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import ModelError, ReadingMismatch
from gatewise.ir.kinds import Affine, Pieces
from gatewise.ir.network import Network, Node, fold, with_head
from gatewise.ir.rounding import Enclosure, enclose_node, undecided_knots
from gatewise.numeric import unit_roundoff

ROWS, FEW_ROWS = 24, 8
LARGE = 1 << 20  # numbers in all values of a row: such a network is checked on few rows
STATED = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the largest output
# roundings made while reading (a folded BatchNorm, where a pixel lies) of a row's largest output,
# for a weight that cancels to 1e-17 is wrong by many times itself
READING_ULPS = 64
DEEP_ULPS = 1024  # the stated tolerance is never below so many roundings of the largest value
CHUNK_NUMBERS = 1 << 24  # in the widest value of the network, of the rows compared at once


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both sides on some rows, (rows, outputs), and how far apart rounding lets them be.

    jumped (rows): a step may fall on either side of its knot, so the bound holds the whole jump;
    largest: the largest |value| anywhere in the network.
    """

    theirs: Tensor
    ours: Tensor
    bound: Tensor
    jumped: Tensor
    largest: float

    @property
    def difference(self) -> Tensor:
        return (self.theirs - self.ours).abs()


def check_reading(
    network: Network,
    run: Callable[[Tensor], Any],
    *,
    rows: int | Tensor | None = None,
    source: str,
    exact_dtype: torch.dtype = torch.float64,
) -> Network:
    """The network, with a note of how well it agrees with `run`; ReadingMismatch if it does not.

    run: x (rows, *network.input_shape) of exact_dtype -> any array of rows * outputs numbers: the
    source's own answer, its head included. It is given several rows at once, so that a model in
    which rows mix is found out. rows: how many random ones (24, or 8 for
    a large network), or the rows themselves.
    source: what to call it, as in "the torch module". exact_dtype: what `run` computes in.
    Rows on which the source gives NaN or infinity say nothing: they are left out and counted.
    """
    x = network.rows(rows) if isinstance(rows, Tensor) else sample_rows(network, rows)
    parts = [_compare(network, run, part, source, exact_dtype) for part in _chunks(network, x)]
    both = _join(parts)
    good = both.theirs.isfinite().all(1)
    note = _judge(_select(both, good), source, exact_dtype) if good.any() else ""
    return dataclasses.replace(
        network, notes=(*network.notes, _note(note, int(good.sum()), len(x), source, exact_dtype))
    )


def require_finite(network: Network, masks: bool = False) -> None:
    """Refuse NaN or infinity in the numbers of affine nodes, naming the node.

    masks: infinity may be added (what is behind it is a softmax).
    """
    for node in network.nodes:
        if not isinstance(node.kind, Affine):
            continue
        good = all(bool(w.isfinite().all()) for w in node.kind.weights if w.is_floating_point())
        if node.kind.bias is not None:
            bias = node.kind.bias
            good &= not bool((bias.isnan() if masks else ~bias.isfinite()).any())
        if not good:
            raise ModelError(
                f"'{node.name}' ({node.layer}) holds NaN or infinity: check how the model was "
                f"trained"
            )


def sample_rows(network: Network, count: int | None = None, seed: int = 0) -> Tensor:
    """Seeded random rows of several scales: normal, ten times normal, and with many zeros."""
    if count is None:
        count = ROWS if sum(math.prod(n.shape) for n in network.nodes) < LARGE else FEW_ROWS
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *network.input_shape, generator=generator, dtype=torch.float64)
    x[1::3] *= 10
    keep = torch.rand(x.shape, generator=generator) < 0.5
    x[2::3] *= keep[2::3]
    x[-1] = 0
    return x


def _chunks(network: Network, x: Tensor) -> tuple[Tensor, ...]:
    """x in parts of at least two rows, so that models in which rows mix are found out."""
    widest = max([network.inputs, *(math.prod(n.shape) for n in network.nodes)])
    return tuple(x.split(max(2, CHUNK_NUMBERS // max(1, widest))))


def _compare(
    network: Network,
    run: Callable[[Tensor], Any],
    x: Tensor,
    source: str,
    exact_dtype: torch.dtype,
) -> Comparison:
    x = x.to(exact_dtype)
    with torch.no_grad():
        theirs = torch.as_tensor(run(x.clone())).detach().cpu().double()
        if theirs.numel() != len(x) * network.outputs:
            raise ReadingMismatch(
                f"the Network read from {source} gives {network.outputs} outputs a row, but for "
                f"{len(x)} rows its source gives shape {tuple(theirs.shape)}. {ADVICE}"
            )
        value, bound, jumped, largest = _rounding(with_head(network.to(exact_dtype)), x)
        ours = value if exact_dtype == network.dtype else network.predict(x.double())
    return Comparison(theirs.reshape(len(x), -1), ours, bound, jumped, largest)


def _rounding(network: Network, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """f(x), twice its error bound, the rows where a step is undecided, the largest |value|."""
    jumped = torch.zeros(len(x), dtype=torch.bool)
    largest = [float(x.abs().max())]

    def step(node: Node, xs: list[Enclosure]) -> Enclosure:
        if isinstance(node.kind, Pieces):
            jumped.logical_or_(_undecided_jump(node.kind, xs[0]))
        y = enclose_node(node, xs)
        largest.append(float(y.value.abs().nan_to_num(0, 0, 0).max()))
        return y

    y = fold(network, Enclosure(x, torch.zeros_like(x)), step)[network.output]
    value, error = y.value.reshape(len(x), -1), y.error.reshape(len(x), -1)
    made = READING_ULPS * unit_roundoff(x.dtype) * value.abs().amax(1, keepdim=True)
    bound = (2 * error + made).double().nan_to_num(torch.inf)
    return value, bound, jumped, max(largest)


def _undecided_jump(kind: Pieces, z: Enclosure) -> Tensor:
    """(rows,) bool: some unit may lie on either side of a knot where it is discontinuous."""
    rises = torch.stack(
        [
            (kind.slopes[k + 1] - kind.slopes[k]) * knot + kind.offsets[k + 1] - kind.offsets[k]
            != 0
            for k, knot in enumerate(kind.knots)
        ]
    )
    if not rises.any():
        return torch.zeros(len(z.value), dtype=torch.bool)
    near = undecided_knots(kind, z)
    return torch.stack([n & r for n, r in zip(near, rises, strict=True)]).any(0).flatten(1).any(1)


def _join(parts: list[Comparison]) -> Comparison:
    names = ("theirs", "ours", "bound", "jumped")
    joined = {name: torch.cat([getattr(p, name) for p in parts]) for name in names}
    return Comparison(**joined, largest=max(p.largest for p in parts))


def _select(both: Comparison, rows: Tensor) -> Comparison:
    return Comparison(
        both.theirs[rows], both.ours[rows], both.bound[rows], both.jumped[rows], both.largest
    )


def _judge(both: Comparison, source: str, dtype: torch.dtype) -> str:
    """What the note says; ReadingMismatch where the sides differ by more than is allowed."""
    scale = float(both.theirs.abs().max())
    stated = max(STATED[dtype] * scale, DEEP_ULPS * unit_roundoff(dtype) * both.largest)
    jumped = both.jumped.unsqueeze(1)
    allowed = torch.where(jumped, both.bound, both.bound.clamp(max=stated))
    wrong = ~(both.difference <= allowed)  # a NaN of ours is wrong too
    if wrong.any():
        raise ReadingMismatch(_mismatch(both, allowed, wrong, source))
    told = f"largest difference {float(both.difference.max()):.2g}"
    told += _allowance(allowed.masked_fill(jumped, 0), both.bound, stated)
    return told + _jumps(both, stated)


def _allowance(allowed: Tensor, bound: Tensor, stated: float) -> str:
    if bool((bound > stated).any()):
        return f", tolerance {float(allowed.max()):.2g} (the rounding bound is wider or infinite)"
    return f", bound {float(allowed.max()):.2g}"


def _jumps(both: Comparison, stated: float) -> str:
    count = int(both.jumped.sum())
    if not count:
        return ""
    close = int((both.difference[both.jumped] <= stated).all(1).sum())
    return (
        f"; in {count} of the rows a step is undecided within rounding, so that either side may "
        f"jump ({close} of them agree all the same)"
    )


def _mismatch(both: Comparison, allowed: Tensor, wrong: Tensor, source: str) -> str:
    excess = (both.difference / allowed.clamp(min=1e-300)).nan_to_num(torch.inf)
    row, output = divmod(int(excess.masked_fill(~wrong, -1).argmax()), both.ours.shape[1])
    theirs, ours = float(both.theirs[row, output]), float(both.ours[row, output])
    return (
        f"the Network read from {source} does not compute what its source computes: on random "
        f"row {row}, output {output} is {theirs:.17g} in the source and {ours:.17g} in the "
        f"Network, {abs(theirs - ours):.2g} apart where {float(allowed[row, output]):.2g} is "
        f"allowed. {ADVICE}"
    )


ADVICE = "Nothing was returned; please report this as a bug of Gatewise, with the model if you can."


def _note(told: str, good: int, count: int, source: str, dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if not good:
        return (
            f"could not be checked against {source}: it gives NaN or infinity on all {count} "
            f"random rows"
        )
    skipped = count - good
    left_out = f" ({skipped} more left out: the source gives NaN or infinity)" if skipped else ""
    return f"checked against {source} on {good} random rows{left_out} in {name}: {told}"
