"""Affine layers that only give values another shape, order of axes, or name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import broadcast, computed, ints, named, only, position
from gatewise.ops.moves import permute, rearrange, reshape
from gatewise.ops.table import Entry, OnnxExample, TorchExample

# -- reshape --


def view(b: Builder, x: Operand, *shape: Any) -> Ref:
    """The same values in order; one length may be -1."""
    given = shape[0] if len(shape) == 1 else shape
    if isinstance(given, torch.dtype):
        raise b.refuse(f"view(dtype={given}) reads the bits of a value as another type")
    return reshape(b, computed(b, x), ints(b, given, "shape"))


def view_as(b: Builder, x: Operand, other: Operand) -> Ref:
    """x in the shape of another value."""
    assert isinstance(other, Ref | torch.Tensor)
    return reshape(b, computed(b, x), tuple(other.shape))


def reshape_onnx(b: Builder, x: Operand, shape: Operand, *, allowzero: int = 0) -> Ref:
    """ONNX Reshape: 0 keeps the axis of the input (unless allowzero)."""
    part, given = computed(b, x), ints(b, shape, "shape")
    kept = (part.shape[k] if n == 0 and not allowzero else n for k, n in enumerate(given))
    return reshape(b, part, kept)


def flatten(b: Builder, x: Operand, start_dim: int = 0, end_dim: int = -1) -> Ref:
    """Axes start..end joined into one."""
    part = computed(b, x)
    if not part.ndim:
        return reshape(b, part, (1,))
    first, last = position(start_dim, part.ndim), position(end_dim, part.ndim)
    middle = math.prod(part.shape[first : last + 1])
    return reshape(b, part, (*part.shape[:first], middle, *part.shape[last + 1 :]))


def flatten_onnx(b: Builder, x: Operand, *, axis: int = 1) -> Ref:
    """ONNX Flatten: always a matrix, split before `axis`."""
    part = computed(b, x)
    a = axis + part.ndim if axis < 0 else axis
    return reshape(b, part, (math.prod(part.shape[:a]), math.prod(part.shape[a:])))


def unflatten(b: Builder, x: Operand, dim: int, sizes: Any) -> Ref:
    """One axis split into several."""
    part, given = computed(b, x), ints(b, sizes, "sizes")
    a = position(dim, part.ndim)
    known = math.prod(s for s in given if s != -1)
    split = tuple(part.shape[a] // known if s == -1 else s for s in given)
    return reshape(b, part, (*part.shape[:a], *split, *part.shape[a + 1 :]))


def squeeze(b: Builder, x: Operand, dim: Any = None) -> Ref:
    """Axes of length 1 taken out: those named, or all. In torch, longer ones are left alone.

    All of them would take the batch axis too where one row is given, but not where many are: so
    the first axis, which is the batch, stays.
    """
    part = computed(b, x)
    if dim is None:
        return reshape(b, part, part.shape[:1] + tuple(n for n in part.shape[1:] if n != 1))
    gone = {position(a, part.ndim) for a in ints(b, dim, "dim")}
    kept = (n for a, n in enumerate(part.shape) if a not in gone or n != 1)
    return reshape(b, part, kept)


def squeeze_onnx(b: Builder, x: Operand, axes: Any = None) -> Ref:
    """ONNX Squeeze: axes are an attribute before opset 13 and an input after.

    Without them every axis of length 1 goes, the batch too: a row is a run of the model at batch 1.
    """
    part = computed(b, x)
    if axes is None:
        return reshape(b, part, tuple(n for n in part.shape if n != 1))
    longer = [a for a in ints(b, axes, "axes") if part.shape[position(a, part.ndim)] != 1]
    if longer:
        raise b.refuse(f"it squeezes axes {longer}, which are not of length 1 in {part.shape}")
    return squeeze(b, part, axes)


def unsqueeze(b: Builder, x: Operand, axes: Any) -> Ref:
    """Axes of length 1 put in; they count within the result."""
    part, given = computed(b, x), ints(b, axes, "axes")
    ndim = part.ndim + len(given)
    new, rest = {position(a, ndim) for a in given}, iter(part.shape)
    return reshape(b, part, [1 if a in new else next(rest) for a in range(ndim)])


# -- order of axes --


def permute_torch(b: Builder, x: Operand, *dims: Any) -> Ref:
    """Axis dims[k] becomes axis k."""
    return permute(b, computed(b, x), ints(b, dims[0] if len(dims) == 1 else dims, "dims"))


def transpose_onnx(b: Builder, x: Operand, *, perm: Sequence[int] | None = None) -> Ref:
    """ONNX Transpose: all axes reversed where no order is given."""
    part = computed(b, x)
    return permute(b, part, range(part.ndim)[::-1] if perm is None else perm)


def transpose(b: Builder, x: Operand, dim0: int, dim1: int) -> Ref:
    """Two axes exchanged."""
    part = computed(b, x)
    order = list(range(part.ndim))
    i, j = position(dim0, part.ndim), position(dim1, part.ndim)
    order[i], order[j] = j, i
    return permute(b, part, order)


def last_two(b: Builder, x: Operand) -> Ref:
    """The last two axes exchanged (mT)."""
    return transpose(b, x, -2, -1)


def reverse_axes(b: Builder, x: Operand) -> Ref:
    """All axes reversed (t, T)."""
    return transpose_onnx(b, x)


def movedim(b: Builder, x: Operand, source: Any, destination: Any) -> Ref:
    """Some axes moved to other places, the rest in order."""
    part = computed(b, x)
    origin = [position(a, part.ndim) for a in ints(b, source, "source")]
    goal = [position(a, part.ndim) for a in ints(b, destination, "destination")]
    placed = dict(zip(goal, origin, strict=True))
    rest = (a for a in range(part.ndim) if a not in origin)
    return permute(b, part, [placed[k] if k in placed else next(rest) for k in range(part.ndim)])


# -- blocks to depth and back: (..., C r r, H, W) <-> (..., C, H r, W r) --


def depth_to_space(b: Builder, x: Ref, r: int, blocks_first: bool) -> Ref:
    """Channels become r x r blocks of pixels; blocks_first: the block is the slower index."""
    *lead, c, h, w = x.shape
    split = (r, r, c // (r * r)) if blocks_first else (c // (r * r), r, r)
    n = len(lead)
    p, q, d = (n, n + 1, n + 2) if blocks_first else (n + 1, n + 2, n)
    order = (*range(n), d, n + 3, p, n + 4, q)
    return rearrange(b, x, (*lead, *split, h, w), order, (*lead, c // (r * r), h * r, w * r))


def space_to_depth(b: Builder, x: Ref, r: int, blocks_first: bool) -> Ref:
    """Blocks of pixels become channels."""
    *lead, c, h, w = x.shape
    n = len(lead)
    d, p, q = n, n + 2, n + 4
    channels = (p, q, d) if blocks_first else (d, p, q)
    order = (*range(n), *channels, n + 1, n + 3)
    return rearrange(
        b, x, (*lead, c, h // r, r, w // r, r), order, (*lead, c * r * r, h // r, w // r)
    )


def pixel_shuffle(b: Builder, x: Operand, upscale_factor: int) -> Ref:
    """torch's order of channels: the depth is the slower index."""
    return depth_to_space(b, computed(b, x), upscale_factor, blocks_first=False)


def pixel_unshuffle(b: Builder, x: Operand, downscale_factor: int) -> Ref:
    """The inverse of pixel_shuffle."""
    return space_to_depth(b, computed(b, x), downscale_factor, blocks_first=False)


def depth_to_space_onnx(b: Builder, x: Operand, *, blocksize: int, mode: str = "DCR") -> Ref:
    """ONNX DepthToSpace, both orders."""
    only(b, "mode", mode, "DCR", "CRD")
    return depth_to_space(b, computed(b, x), blocksize, blocks_first=mode == "DCR")


def space_to_depth_onnx(b: Builder, x: Operand, *, blocksize: int, mode: str = "DCR") -> Ref:
    """ONNX SpaceToDepth."""
    only(b, "mode", mode, "DCR", "CRD")
    return space_to_depth(b, computed(b, x), blocksize, blocks_first=mode == "DCR")


def channel_shuffle(b: Builder, x: Operand, groups: int) -> Ref:
    """Channels dealt out over the groups."""
    part = computed(b, x)
    n, c, *rest = part.shape
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    return rearrange(b, part, (n, groups, c // groups, *rest), order, part.shape)


# -- repeat --


def expand(b: Builder, x: Operand, *size: Any, implicit: bool = False) -> Ref:
    """Axes of length 1 repeated; -1 keeps a length."""
    part, given = computed(b, x), ints(b, size[0] if len(size) == 1 else size, "size")
    old = (1,) * (len(given) - part.ndim) + part.shape
    return broadcast(b, part, [m if n == -1 else n for n, m in zip(given, old, strict=True)])


def expand_as(b: Builder, x: Operand, other: Operand) -> Ref:
    """x broadcast to the shape of another value."""
    assert isinstance(other, Ref | torch.Tensor)
    return broadcast(b, computed(b, x), tuple(other.shape))


def expand_onnx(b: Builder, x: Operand, shape: Operand) -> Ref:
    """ONNX Expand: broadcasting, so a 1 keeps a length too."""
    return broadcast(b, computed(b, x), ints(b, shape, "shape"))


# -- the rows of the table --


def _mixed(x: torch.Tensor) -> torch.Tensor:
    split = x.reshape(len(x), 2, -1, x.shape[-1])
    return split.movedim(1, 2).transpose(1, 3).flatten(2, 3).unsqueeze(-1)


ENTRIES = (
    Entry(
        "Reshape",
        "Affine",
        "y = the values of x in order, in another shape",
        torch=named("view reshape _unsafe_view view_copy _reshape_alias", view)
        | named("view_as reshape_as", view_as)
        | named("flatten", flatten)
        | named("unflatten", unflatten),
        onnx=named("Reshape", reshape_onnx) | named("Flatten", flatten_onnx),
        examples=(
            function(lambda x: x.view(len(x), 6), (5, 2, 3)),
            function(lambda x: x.reshape(-1, 3, 2), (5, 6)),
            function(lambda x: x.flatten(1), (5, 2, 3)),
            function(lambda x: x.unflatten(1, (2, -1)), (5, 6)),
            function(lambda x, y: x.view_as(y), (5, 6), (5, 2, 3)),
            TorchExample(lambda: nn.Flatten(), ((5, 2, 3, 2),)),
            OnnxExample("Reshape", ((1, 2, 3), [1, -1])),
            OnnxExample("Reshape", ((1, 2, 3), [0, 3, -1]), {}, 7),
            OnnxExample("Reshape", ((1, 2, 3), [1, 6]), {"allowzero": 1}, 14),
            OnnxExample("Flatten", ((1, 2, 3),)),
            OnnxExample("Flatten", ((1, 2, 3),), {"axis": 2}, 9),
            OnnxExample("Flatten", ((1, 2, 3),), {"axis": -1}, 13),
        ),
    ),
    Entry(
        "Transpose",
        "Affine",
        "y = x with its axes in another order",
        torch=named("permute", permute_torch)
        | named("transpose swapaxes swapdims", transpose)
        | named("t numpy_T", reverse_axes)
        | named("mT adjoint", last_two)
        | named("movedim moveaxis", movedim),
        onnx=named("Transpose", transpose_onnx),
        examples=(
            function(lambda x: x.permute(0, 3, 1, 2), (5, 2, 3, 4)),
            function(lambda x: x.mT.swapaxes(1, 2).transpose(-1, -2), (5, 2, 3)),
            function(_mixed, (5, 6, 2)),
            function(lambda x: x.movedim((1, 2), (-1, 1)), (5, 2, 3, 4)),
            function(lambda x: x.t().t(), (5, 3)),
            OnnxExample("Transpose", ((1, 2, 3, 4),), {"perm": [0, 3, 1, 2]}),
            OnnxExample("Transpose", ((1, 2, 3),)),
        ),
    ),
    Entry(
        "Squeeze",
        "Affine",
        "y = x without axes of length 1",
        torch=named("squeeze squeeze_", squeeze),
        onnx=named("Squeeze", squeeze_onnx),
        examples=(
            function(lambda x: x.squeeze(1).squeeze(1), (5, 1, 3, 1)),
            function(lambda x: x.squeeze((1, -1)), (5, 1, 3, 1)),
            function(lambda x: x.squeeze(), (5, 1, 3, 1)),
            OnnxExample("Squeeze", ((1, 2, 1, 3), [2])),
            OnnxExample("Squeeze", ((1, 2, 1, 3),), {"axes": [-2]}, 11),
        ),
    ),
    Entry(
        "Unsqueeze",
        "Affine",
        "y = x with new axes of length 1",
        torch=named("unsqueeze unsqueeze_", unsqueeze),
        onnx=named("Unsqueeze", unsqueeze),
        examples=(
            function(lambda x: x.unsqueeze(1).unsqueeze(-1), (5, 3)),
            OnnxExample("Unsqueeze", ((1, 3), [1, -1])),
            OnnxExample("Unsqueeze", ((1, 3),), {"axes": [1, 3]}, 11),
        ),
    ),
    Entry(
        "Expand",
        "Affine",
        "y = x repeated along axes of length 1",
        torch=named("expand", expand)
        | named("expand_as", expand_as)
        | named("broadcast_to", expand),
        onnx=named("Expand", expand_onnx),
        examples=(
            function(lambda x: x.expand(-1, 4, 3), (5, 1, 3)),
            function(lambda x, y: x.expand_as(y), (5, 1, 3), (5, 2, 3)),
            function(lambda x: torch.broadcast_to(x, (len(x), 4, 3)), (5, 1, 3)),
            OnnxExample("Expand", ((1, 1, 3), [1, 4, 1])),
            OnnxExample("Expand", ((1, 3), [1, 2, 1])),
        ),
    ),
    Entry(
        "DepthToSpace",
        "Affine",
        "y = x with channels dealt out as blocks of pixels, or back",
        torch=named("pixel_shuffle", pixel_shuffle)
        | named("pixel_unshuffle", pixel_unshuffle)
        | named("channel_shuffle native_channel_shuffle", channel_shuffle),
        onnx=named("DepthToSpace", depth_to_space_onnx)
        | named("SpaceToDepth", space_to_depth_onnx),
        examples=(
            TorchExample(lambda: nn.PixelShuffle(2), ((5, 12, 2, 3),)),
            TorchExample(lambda: nn.PixelUnshuffle(2), ((5, 3, 4, 2),)),
            TorchExample(lambda: nn.ChannelShuffle(2), ((5, 6, 2, 1),)),
            OnnxExample("DepthToSpace", ((1, 12, 2, 3),), {"blocksize": 2}),
            OnnxExample("DepthToSpace", ((1, 12, 2, 3),), {"blocksize": 2, "mode": "CRD"}),
            OnnxExample("SpaceToDepth", ((1, 3, 4, 2),), {"blocksize": 2}),
        ),
    ),
)
