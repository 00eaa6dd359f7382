"""The affine map between values of a Network, multiplied out: one position's, or all entries'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine
from gatewise.ir.network import INPUT, Network
from gatewise.numeric import unit_roundoff

CHUNK = 1 << 23  # numbers alive at once
LARGEST = 1 << 28  # numbers in one dense map


@dataclass(frozen=True, eq=False)
class Map:
    """y = Σ_i weights[i] x_i + bias, weights (out, in_i); bias None where it is 0."""

    weights: tuple[Tensor, ...]
    bias: Tensor | None


def affine_map(net: Network, sources: Sequence[str], target: str, by_position: bool) -> Map | None:
    """How a value depends on others through Affine nodes; None where it is not of that form,
    or larger than LARGEST.

    by_position: values (*positions, features) go through one matrix at every position, which is
    checked on random rows to rounding; else all entries are one vector.
    """
    shapes = [net.shape(name) for name in sources]
    out = net.shape(target)
    lead = out[:-1] if by_position else ()
    if by_position and (not out or any(not s or s[:-1] != lead for s in shapes)):
        return None
    widths = [s[-1] if by_position else math.prod(s) for s in shapes]
    size = out[-1] if by_position else math.prod(out)
    if size * max(widths) > LARGEST:
        return None
    path = _between(net, sources, target)
    zero = [torch.zeros(1, *s, dtype=net.dtype, device=net.device) for s in shapes]
    bias = _value(net, path, sources, zero, target, True)[0].reshape(*lead, size)
    weights = [
        _columns(net, path, sources, i, target, (*lead, width), (*lead, size))
        for i, width in enumerate(widths)
    ]
    first = bias.reshape(-1, size)[0]
    found = Map(tuple(weights), first if bool(first.any()) else None)
    return found if not by_position or _holds(net, path, sources, target, found) else None


def _columns(
    net: Network,
    path: set[str],
    sources: Sequence[str],
    which: int,
    target: str,
    shape: tuple[int, ...],
    out: tuple[int, ...],
) -> Tensor:
    """The image of the unit vectors of one source, the same at every position: (out, width)."""
    *lead, width = shape
    eye = torch.eye(width, dtype=net.dtype, device=net.device)
    cells = math.prod(lead) * max(width, out[-1])
    parts = []
    for rows in eye.split(max(1, CHUNK // cells)):
        whole = rows.reshape(len(rows), *[1] * len(lead), width).expand(-1, *shape)
        xs = [eye.new_zeros(len(rows), *net.shape(name)) for name in sources]
        xs[which] = whole.reshape(len(rows), *net.shape(sources[which]))
        y = _value(net, path, sources, xs, target, False).reshape(len(rows), -1, out[-1])
        parts.append(y[:, 0])
    return torch.cat(parts).mT.contiguous()


def _holds(net: Network, path: set[str], sources: Sequence[str], target: str, found: Map) -> bool:
    """Does the map, at every position, say what the network computes on random rows?"""
    rng = torch.Generator().manual_seed(0)
    drawn = [torch.randn(2, *net.shape(n), generator=rng, dtype=net.dtype) for n in sources]
    xs = [x.to(net.device) for x in drawn]
    y = _value(net, path, sources, xs, target, True)
    zero = torch.zeros((), dtype=net.dtype, device=net.device)
    pairs = list(zip(xs, found.weights, strict=True))
    said = sum((x @ w.mT for x, w in pairs), zero)
    size = sum((x.abs() @ w.abs().mT for x, w in pairs), zero)
    if found.bias is not None:
        said, size = said + found.bias, size + found.bias.abs()
    room = 64 * sum(x.shape[-1] for x in xs) * unit_roundoff(net.dtype)
    return bool(((y - said).abs() <= room * (size.amax() + 1e-300)).all())


def _between(net: Network, sources: Sequence[str], target: str) -> set[str]:
    """The nodes from which the target is computed, back to the sources."""
    needed, left = set(), [target]
    while left:
        name = left.pop()
        if name in needed or name in sources or name == INPUT:
            continue
        needed.add(name)
        left += net.node(name).inputs
    return needed


def _value(
    net: Network,
    path: set[str],
    sources: Sequence[str],
    xs: Sequence[Tensor],
    target: str,
    with_bias: bool,
) -> Tensor:
    """The target's value where the sources have the values xs."""
    values = dict(zip(sources, xs, strict=True))
    for node in net.nodes:
        if node.name in path:
            assert isinstance(node.kind, Affine)
            inputs = [values[name] for name in node.inputs]
            values[node.name] = node.kind(*inputs) if with_bias else node.kind.linear(*inputs)
    return values[target]
