"""Affine layers that pick entries by position: slices, tables of positions, copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.ops.arithmetic import function, times
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, ints, named, position
from gatewise.ops.moves import choose, cut, inside, moved, pick, reshape
from gatewise.ops.table import Entry, OnnxExample

# -- slices --


def slice_(
    b: Builder,
    x: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Ref:
    """x[start:end:step] along an axis."""
    part = computed(b, x)
    size = part.shape[position(dim, part.ndim)]
    return cut(b, part, dim, 0 if start is None else start, size if end is None else end, step)


def select(b: Builder, x: Operand, dim: int, index: int) -> Ref:
    """One slice along an axis, without the axis."""
    return choose(b, computed(b, x), dim, index)


def narrow(b: Builder, x: Operand, dim: int, start: int, length: int) -> Ref:
    """`length` entries from `start` on."""
    part = computed(b, x)
    first = start % part.shape[position(dim, part.ndim)]
    return cut(b, part, dim, first, first + length)


def slice_onnx(
    b: Builder,
    x: Operand,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Ref:
    """ONNX Slice: attributes before opset 10, inputs after; as numpy slices."""
    part, first, last = computed(b, x), ints(b, starts, "starts"), ints(b, ends, "ends")
    over = range(len(first)) if axes is None else ints(b, axes, "axes")
    strides = (1,) * len(first) if steps is None else ints(b, steps, "steps")
    for dim, start, stop, step in zip(over, first, last, strides, strict=True):
        part = cut(b, part, dim, start, stop, step)
    return part


# -- positions --


def index_select(b: Builder, x: Operand, dim: int, index: Operand) -> Ref:
    """The slices at the given positions of an axis."""
    return gather_onnx(b, x, index, axis=dim)


def gather_onnx(b: Builder, x: Operand, indices: Operand, *, axis: int = 0) -> Ref:
    """The axis replaced by the axes of a table of positions (none: one slice)."""
    part, where = computed(b, x), _positions(b, indices)
    a = position(axis, part.ndim)
    if where.ndim == 0:
        return choose(b, part, a, int(where))
    picked = pick(b, part, {a: where.reshape(-1)})
    return reshape(b, picked, (*part.shape[:a], *where.shape, *part.shape[a + 1 :]))


def _positions(b: Builder, index: Any) -> Tensor:
    if isinstance(index, Ref):
        raise b.refuse("the positions it reads are computed from the input: no affine map")
    table = torch.as_tensor(index)
    if table.is_floating_point():
        raise b.refuse("positions must be integers")
    return table


def index(b: Builder, x: Operand, indices: Sequence[Any]) -> Ref:
    """x[i, j, ...] with constant tables of positions or masks (None: the whole axis)."""
    part = computed(b, x)
    tables = [None if i is None else _positions(b, i) for i in indices]
    given = [(a, t) for a, t in enumerate(tables) if t is not None]
    if len(given) == 1 and given[0][1].ndim == 1 and given[0][1].dtype != torch.bool:
        return gather_onnx(b, part, given[0][1], axis=given[0][0])
    key = tuple(slice(None) if t is None else t for t in tables)
    return moved(b, part, lambda where: where[key])


def gather(b: Builder, x: Operand, dim: int, index: Operand, *, sparse_grad: bool = False) -> Ref:
    """y[i, j] = x[index[i, j], j]: a position for each entry."""
    part, where = computed(b, x), _positions(b, index)
    a = position(dim, part.ndim)
    where = inside(b, where, part.shape[a])
    return moved(b, part, lambda flat: flat.gather(a, where))


def gather_elements(b: Builder, x: Operand, indices: Operand, *, axis: int = 0) -> Ref:
    """ONNX GatherElements."""
    return gather(b, x, axis, indices)


def gather_nd(b: Builder, x: Operand, indices: Operand, *, batch_dims: int = 0) -> Ref:
    """ONNX GatherND: the last axis of the table is a position in the first axes of x."""
    part, where = computed(b, x), _positions(b, indices)
    if batch_dims:
        lead = where.shape[:batch_dims]
        grid = torch.meshgrid(*(torch.arange(n) for n in lead), indexing="ij")
        grid = tuple(g.reshape(*lead, *[1] * (where.ndim - 1 - batch_dims)) for g in grid)
        key = (*grid, *where.unbind(-1))
    else:
        key = where.unbind(-1)
    return moved(b, part, lambda flat: flat[key])


def window(b: Builder, x: Operand, dimension: int, size: int, step: int) -> Ref:
    """Sliding windows of one axis, on a new last axis (Tensor.unfold)."""
    return moved(b, computed(b, x), lambda flat: flat.unfold(dimension, size, step))


def diagonal(b: Builder, x: Operand, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Ref:
    """The diagonal of two axes, on a new last axis."""
    return moved(b, computed(b, x), lambda flat: flat.diagonal(offset, dim1, dim2))


# -- turned round and repeated --


def flip(b: Builder, x: Operand, dims: Any) -> Ref:
    """Axes read from their ends."""
    part = computed(b, x)
    over = [position(a, part.ndim) for a in ints(b, dims, "dims")]
    return pick(b, part, {a: torch.arange(part.shape[a]).flip(0) for a in over})


def roll(b: Builder, x: Operand, shifts: Any, dims: Any = ()) -> Ref:
    """Axes turned in a circle."""
    part, by = computed(b, x), ints(b, shifts, "shifts")
    over = [position(a, part.ndim) for a in ints(b, dims, "dims")]
    if not over:
        raise b.refuse("a roll over all axes at once moves entries from row to row; name the axes")
    for a, n in zip(over, by, strict=True):
        part = pick(b, part, {a: torch.arange(part.shape[a]).roll(n)})
    return part


def tile(b: Builder, x: Operand, *repeats: Any) -> Ref:
    """The whole repeated along axes; new axes come in front."""
    part = computed(b, x)
    times_ = ints(b, repeats[0] if len(repeats) == 1 else repeats, "repeats")
    times_ = (1,) * (part.ndim - len(times_)) + times_
    part = reshape(b, part, (1,) * (len(times_) - part.ndim) + part.shape)
    again = {a: torch.arange(part.shape[a]).repeat(n) for a, n in enumerate(times_) if n != 1}
    return pick(b, part, again) if again else part


def repeat_interleave(
    b: Builder, x: Operand, repeats: Any, dim: int | None = None, *, output_size: int | None = None
) -> Ref:
    """Each entry of an axis repeated, one beside the other."""
    part, count = computed(b, x), torch.tensor(ints(b, repeats, "repeats"))
    if dim is None:
        raise b.refuse("without an axis it flattens the rows too; name the axis")
    a = position(dim, part.ndim)
    where = torch.arange(part.shape[a])
    return pick(b, part, {a: where.repeat_interleave(count)})


def triangle(keep: Callable[..., Tensor]) -> Callable[..., Ref]:
    """tril or triu: entries on one side of a diagonal, zero on the other."""

    def adapter(b: Builder, x: Operand, diagonal: int = 0) -> Ref:
        part = computed(b, x)
        ones = torch.ones(part.shape[-2:], dtype=torch.float64)
        return times(b, part, keep(ones, diagonal))

    return adapter


def triangle_onnx(b: Builder, x: Operand, k: Operand = 0, *, upper: int = 1) -> Ref:
    """ONNX Trilu."""
    (offset,) = ints(b, 0 if k is None else k, "k")
    return triangle(torch.triu if upper else torch.tril)(b, x, offset)


# -- the rows of the table --

AT = torch.tensor([2, 0, 2, -1])

ENTRIES = (
    Entry(
        "Slice",
        "Affine",
        "y = x[start:stop:step] along axes, or one slice of an axis",
        torch=named("slice", slice_)
        | named("select", select)
        | named("narrow narrow_copy", narrow),
        onnx=named("Slice", slice_onnx),
        examples=(
            function(lambda x: x[:, 1:], (5, 4)),
            function(lambda x: x[:, -3:-1, ::2], (5, 4, 5)),
            function(lambda x: x[:, 1], (5, 4, 2)),
            function(lambda x: x[..., -1], (5, 4, 2)),
            function(lambda x: x.narrow(1, 1, 2), (5, 4)),
            OnnxExample("Slice", ((1, 4, 5), [1, 0], [3, 99], [1, 2])),
            OnnxExample("Slice", ((1, 5), [-1], [-99], [1], [-2]), {}, 11),
            OnnxExample("Slice", ((1, 5),), {"starts": [1], "ends": [-1], "axes": [1]}, 9),
            OnnxExample("Slice", ((1, 5),), {"starts": [0, 2], "ends": [1, 4]}, 7),
        ),
    ),
    Entry(
        "Gather",
        "Affine",
        "y = the entries of x at constant positions",
        torch=named("index_select", index_select)
        | named("index", index)
        | named("gather", gather)
        | named("unfold", window)
        | named("diagonal", diagonal),
        onnx=named("Gather", gather_onnx)
        | named("GatherElements", gather_elements)
        | named("GatherND", gather_nd),
        examples=(
            function(lambda x: x.index_select(1, AT.abs()), (5, 3)),
            function(lambda x: x[:, AT], (5, 3, 2)),
            function(lambda x: x[:, AT, AT.abs()], (5, 3, 3)),
            function(lambda x: x[:, torch.tensor([True, False, True])], (5, 3)),
            function(lambda x: x.unfold(1, 3, 2), (5, 7)),
            function(lambda x: x.diagonal(1, 1, 2), (5, 3, 4)),
            OnnxExample("Gather", ((1, 4), [[0, 3], [-1, 2]]), {"axis": 1}),
            OnnxExample("Gather", ((1, 4, 2), 2), {"axis": 1}, 9),
            OnnxExample("GatherElements", ((1, 4), [[3, 0, 0]]), {"axis": 1}),
            OnnxExample("GatherND", ((1, 4, 2), [[[0, 3, 1], [0, 0, 0]]])),
            OnnxExample("GatherND", ((1, 4, 2), [[[3, 1], [0, 0]]]), {"batch_dims": 1}),
        ),
    ),
    Entry(
        "Flip",
        "Affine",
        "y = x with axes read from their ends, or turned in a circle",
        torch=named("flip", flip) | named("roll", roll),
        examples=(
            function(lambda x: x.flip(1, 2), (5, 3, 4)),
            function(lambda x: x.roll((1, -2), (1, 2)), (5, 3, 4)),
        ),
    ),
    Entry(
        "Tile",
        "Affine",
        "y = x repeated along axes",
        torch=named("repeat tile", tile) | named("repeat_interleave", repeat_interleave),
        onnx=named("Tile", tile),
        examples=(
            function(lambda x: x.repeat(1, 2, 3), (5, 2, 2)),
            function(lambda x: x.tile(2), (5, 3)),
            function(lambda x: x.repeat_interleave(2, 1), (5, 3)),
            OnnxExample("Tile", ((1, 2, 3), [1, 2, 3])),
        ),
    ),
    Entry(
        "Triangle",
        "Affine",
        "y = x on one side of a diagonal, 0 on the other",
        torch=named("tril", triangle(torch.tril)) | named("triu", triangle(torch.triu)),
        onnx=named("Trilu", triangle_onnx),
        examples=(
            function(lambda x: x.tril(), (5, 3, 3)),
            function(lambda x: x.triu(1), (5, 3, 4)),
            OnnxExample("Trilu", ((1, 3, 4),)),
            OnnxExample("Trilu", ((1, 3, 4), -1), {"upper": 0}),
        ),
    ),
)
