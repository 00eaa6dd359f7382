"""Affine layers that put parts together or take them apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import broadcast, computed, ints, named, number, only, position
from gatewise.ops.moves import choose, cut, join
from gatewise.ops.shape import unsqueeze
from gatewise.ops.table import Entry, OnnxExample

# -- together --


def cat(b: Builder, parts: Sequence[Operand], dim: int = 0) -> Ref:
    """The parts one after the other along an axis."""
    return join(b, parts, dim)


def concat_onnx(b: Builder, *parts: Operand, axis: int) -> Ref:
    """ONNX Concat."""
    return join(b, parts, axis)


def stack(b: Builder, parts: Sequence[Operand], dim: int = 0) -> Ref:
    """The parts along a new axis."""
    ndim = next(p.ndim for p in parts if isinstance(p, Ref)) + 1
    a = position(dim, ndim)
    grown = [unsqueeze(b, p, a) if isinstance(p, Ref) else number(p).unsqueeze(a) for p in parts]
    return join(b, grown, a)


# -- apart --


def split_sizes(b: Builder, x: Operand, sizes: Any, dim: int = 0) -> tuple[Ref, ...]:
    """Parts of the given lengths."""
    part, lengths = computed(b, x), ints(b, sizes, "the split")
    size = part.shape[position(dim, part.ndim)]
    if sum(lengths) != size:
        raise b.refuse(f"it splits {size} values into parts of {list(lengths)}")
    stops = list(itertools.accumulate(lengths))
    return tuple(cut(b, part, dim, stop - n, stop) for n, stop in zip(lengths, stops, strict=True))


def split(b: Builder, x: Operand, size: Any, dim: int = 0) -> tuple[Ref, ...]:
    """Parts of one length (the last may be shorter), or of the lengths in a list."""
    if not isinstance(size, int):
        return split_sizes(b, x, size, dim)
    part = computed(b, x)
    total = part.shape[position(dim, part.ndim)]
    lengths = [min(size, total - k) for k in range(0, total, size)]
    return split_sizes(b, part, lengths, dim)


def chunk(b: Builder, x: Operand, chunks: int, dim: int = 0) -> tuple[Ref, ...]:
    """At most so many parts, all but the last of one length."""
    part = computed(b, x)
    return split(b, part, -(-part.shape[position(dim, part.ndim)] // chunks), dim)


def tensor_split(b: Builder, x: Operand, sections: Any, dim: int = 0) -> tuple[Ref, ...]:
    """Exactly so many parts of nearly one length, or parts between the positions in a list."""
    part = computed(b, x)
    total = part.shape[position(dim, part.ndim)]
    points = ints(b, sections, "the split")
    if isinstance(sections, int):
        short, longer = divmod(total, sections)
        stops = itertools.accumulate(short + (k < longer) for k in range(sections))
        points = tuple(stops)[:-1]
    bounds = itertools.pairwise((0, *(range(total)[:p].stop for p in points), total))
    return tuple(cut(b, part, dim, start, stop) for start, stop in bounds)


def unbind(b: Builder, x: Operand, dim: int = 0) -> tuple[Ref, ...]:
    """Every slice along an axis, without that axis."""
    part = computed(b, x)
    return tuple(choose(b, part, dim, k) for k in range(part.shape[position(dim, part.ndim)]))


def split_onnx(
    b: Builder, x: Operand, split: Any = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Ref, ...]:
    """ONNX Split: lengths are an attribute before opset 13 and an input after.

    Without lengths or a number of parts, there are as many as the node has outputs.
    """
    part = computed(b, x)
    if split is not None:
        return split_sizes(b, part, split, axis)
    count = num_outputs or b.outputs
    if not count:
        raise b.refuse("it says neither the lengths nor the number of its parts")
    return chunk(b, part, count, axis)


# -- a part put in the place of another: what torch makes of x[:, 1:3] = y --


def slice_scatter(
    b: Builder,
    x: Operand,
    src: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Ref:
    """x with x[start:end] along an axis replaced."""
    only(b, "step", step, 1)
    size = _shape(x)[position(dim, len(_shape(x)))]
    first, last, _ = slice(start, end).indices(size)
    around = [(x, 0, first), (src, 0, max(last - first, 0)), (x, max(first, last), size)]
    parts = [_piece(b, v, dim, lo, hi) for v, lo, hi in around if lo < hi]
    return join(b, parts, dim) if len(parts) > 1 else computed(b, parts[0])


def select_scatter(b: Builder, x: Operand, src: Operand, dim: int, index: int) -> Ref:
    """x with one slice of an axis replaced."""
    a = position(dim, len(_shape(x)))
    k = position(index, _shape(x)[a])
    grown = unsqueeze(b, src, a) if isinstance(src, Ref) else number(src).unsqueeze(a)
    return slice_scatter(b, x, grown, a, k, k + 1)


def copy(b: Builder, x: Operand, src: Operand, non_blocking: bool = False) -> Ref:
    """The second value in the shape of the first."""
    return broadcast(b, computed(b, src, "what is copied"), _shape(x))


def _shape(x: Operand) -> tuple[int, ...]:
    return x.shape if isinstance(x, Ref) else tuple(number(x).shape)


def _piece(b: Builder, x: Operand, dim: int, start: int, stop: int) -> Operand:
    if isinstance(x, Ref):
        return cut(b, x, dim, start, stop)
    return number(x).narrow(dim, start, stop - start)


# -- the rows of the table --


def _assigned(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, 1:3] = 2 * x[:, :2]
    y[:, 0] = x[:, 3]
    return y


C = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)

ENTRIES = (
    Entry(
        "Concat",
        "Affine",
        "y = the parts one after the other; constant parts too",
        torch=named("cat concat concatenate", cat) | named("stack", stack),
        onnx=named("Concat", concat_onnx),
        examples=(
            function(lambda x, y: torch.cat([x, y, x], 1), (5, 3), (5, 2)),
            function(lambda x: torch.cat([x, C.expand(len(x), 3)], -1), (5, 2)),
            function(lambda x, y: torch.stack([x, y], 1), (5, 3), (5, 3)),
            function(lambda x, y: torch.stack([x, y], -1), (5, 3), (5, 3)),
            OnnxExample("Concat", ((1, 2, 3), (1, 1, 3)), {"axis": 1}),
            OnnxExample("Concat", ([[1.0, 2.0]], (1, 3), [[4.0]]), {"axis": -1}),
        ),
    ),
    Entry(
        "Split",
        "Affine",
        "y1, y2, ... = parts of x along an axis",
        torch=named("split unsafe_split", split)
        | named("split_with_sizes unsafe_split_with_sizes", split_sizes)
        | named("chunk unsafe_chunk", chunk)
        | named("tensor_split", tensor_split)
        | named("unbind", unbind),
        onnx=named("Split", split_onnx),
        examples=(
            function(lambda x: x.split(2, 1)[2], (5, 5)),
            function(lambda x: sum(x.split([1, 3], -1)[1:]), (5, 4)),
            function(lambda x: x.chunk(3, 1)[1] + x.chunk(3, 1)[0], (5, 6)),
            function(lambda x: x.tensor_split(3, 1)[1], (5, 7)),
            function(lambda x: x.tensor_split([2, 3], 1)[2], (5, 7)),
            function(lambda x: x.unbind(1)[0] * 2, (5, 3, 2)),
            OnnxExample("Split", ((1, 6), [2, 4]), {"axis": 1}, 13),
            OnnxExample("Split", ((1, 6),), {"axis": 1, "split": [1, 5]}, 11),
            OnnxExample("Split", ((1, 7),), {"axis": 1, "num_outputs": 3}, 18),
        ),
    ),
    Entry(
        "Replace",
        "Affine",
        "y = x with a slice of it replaced by z",
        torch=named("slice_scatter", slice_scatter)
        | named("select_scatter", select_scatter)
        | named("copy", copy),
        examples=(
            function(lambda x, y: torch.slice_scatter(x, y, 1, 1, 3), (5, 4), (5, 2)),
            function(lambda x, y: torch.slice_scatter(x, y, 1), (5, 4), (5, 4)),
            function(lambda x: torch.slice_scatter(x, x[:, 1:], 1, -3), (5, 4)),
            function(lambda x, y: torch.select_scatter(x, y, 1, -2), (5, 4), (5,)),
            function(_assigned, (5, 4)),
        ),
    ),
)
