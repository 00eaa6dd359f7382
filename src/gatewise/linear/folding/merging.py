"""Two affine nodes behind one another become one, wherever that takes no more parameters.

A scaling (a BatchNorm) goes into the layer before it or behind it; two layers whose units are the
other's inputs are multiplied if the product is smaller: a bottleneck of low rank stays.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Shape
from gatewise.ir.network import Network, Node
from gatewise.linear.folding.axes import (
    along,
    constant_but,
    entrywise,
    full,
    inward,
    narrow,
    outward,
    size,
    taps_of,
    weight_of,
    with_bias,
)


def merged(network: Network) -> tuple[Network, tuple[str, ...]]:
    """The network after every merge that takes no more parameters, and what was merged."""
    told: list[str] = []
    known: Known = {}
    while True:
        found = max(_merges(network, known), key=lambda m: m.saved, default=None)
        if found is None:
            return network, tuple(told)
        first, second = found.first, found.second
        told.append(f"{first.layer} '{first.name}' with {second.layer} '{second.name}'")
        network = _put(network, first, second, found.made)


@dataclass(frozen=True, eq=False)
class Merge:
    """Two nodes, the one for both, and the parameters that it saves."""

    first: Node
    second: Node
    made: Node

    @property
    def saved(self) -> int:
        one, two, both = (n.kind for n in (self.first, self.second, self.made))
        assert isinstance(one, Affine) and isinstance(two, Affine) and isinstance(both, Affine)
        return size(one) + size(two) - size(both)


Known = dict[tuple[str, str], tuple[Node, Node, Merge | None]]


def _merges(network: Network, known: Known) -> Iterator[Merge]:
    """Every pair that can be merged; `known` keeps what was found of pairs that did not change."""
    users = Counter([network.output, *(name for n in network.nodes for name in n.inputs)])
    nodes = {n.name: n for n in network.nodes}
    for second in network.nodes:
        first = nodes.get(second.inputs[0]) if len(second.inputs) == 1 else None
        if first is None or users[first.name] != 1 or len(first.inputs) != 1:
            continue
        key = (first.name, second.name)
        old = known.get(key)
        if old is None or old[0] is not first or old[1] is not second:
            made = _pair(first, second, network.shape(first.inputs[0]))
            merge = None if made is None else Merge(first, second, made)
            known[key] = old = (first, second, merge)
        if old[2] is not None:
            yield old[2]


def _put(network: Network, first: Node, second: Node, made: Node) -> Network:
    nodes = [made if n.name == second.name else n for n in network.nodes if n.name != first.name]
    return dataclasses.replace(network, nodes=tuple(nodes))


def _pair(first: Node, second: Node, shape: Shape) -> Node | None:
    """One node for both, of no more parameters; None where there is none."""
    f, s = first.kind, second.kind
    if not isinstance(f, Affine) or not isinstance(s, Affine) or f.batched or s.batched:
        return None
    middle, out = first.shape, second.shape
    before, behind = entrywise(f, shape, middle), entrywise(s, middle, out)
    made: tuple[Affine, str] | None
    if behind is not None and before is not None:
        made = _both_scale(first, second, before * behind)
    elif behind is not None:
        made = _scaled_outputs(first, second, behind, shape)
    elif before is not None:
        made = _scaled_inputs(first, second, before)
    else:
        made = _multiplied(first, second, shape)
    if made is None or size(made[0]) > size(f) + size(s):
        return None
    return dataclasses.replace(second, kind=made[0], layer=made[1], inputs=first.inputs)


def _both_scale(first: Node, second: Node, s: Tensor) -> tuple[Affine, str] | None:
    """s2 (s1 x + c1) + c2 = (s1 s2) x + (s2 c1 + c2), on the one that has a weight."""
    f, g = first.kind, second.kind
    assert isinstance(f, Affine) and isinstance(g, Affine)
    own = second if g.weights else first
    assert isinstance(own.kind, Affine)
    bias = _bias(first, second, g)
    axis = _one_axis(s, bias)
    held = (narrow(s, s.shape, axis),) if own.kind.weights else ()
    plain = dataclasses.replace(own.kind, weights=held)
    return _with(plain, bias, axis), own.layer


def _one_axis(*values: Tensor) -> int | None:
    """The axis that all of them change along, and no other."""
    axes = range(values[0].ndim)
    fits = (a for a in axes if all(constant_but(v, a) is not None for v in values))
    return next(fits, None)


def _scaled_outputs(
    first: Node, second: Node, s: Tensor, shape: Shape
) -> tuple[Affine, str] | None:
    """s (W x + c1) + c2 = (s W) x + (s c1 + c2)."""
    f, g = first.kind, second.kind
    assert isinstance(f, Affine) and isinstance(g, Affine)
    bias = _bias(first, second, g)
    w, match = weight_of(f), outward(f, shape, first.shape)
    if not g.weights:
        return _with(f, bias, match.value if match else None), first.layer
    v = None if match is None else constant_but(s, match.value)
    if w is None or match is None or v is None:
        return None
    scaled = dataclasses.replace(f, weights=(w * along(v, match.weight, w.ndim),))
    return _with(scaled, bias, match.value), first.layer


def _scaled_inputs(first: Node, second: Node, s: Tensor) -> tuple[Affine, str] | None:
    """W (s x + c1) + c2 = (W s) x + (W c1 + c2)."""
    f, g = first.kind, second.kind
    assert isinstance(f, Affine) and isinstance(g, Affine)
    w, match = weight_of(g), inward(g, first.shape, second.shape)
    bias = _bias(first, second, g)
    ends = outward(g, first.shape, second.shape)
    if f.weights:
        v = None if match is None else constant_but(s, match.value)
        if w is None or match is None or v is None:
            return None
        g = dataclasses.replace(g, weights=(w * along(v, match.weight, w.ndim),))
    return _with(g, bias, ends.value if ends else None), second.layer


def _multiplied(first: Node, second: Node, shape: Shape) -> tuple[Affine, str] | None:
    """W2 (W1 x + c1) + c2, where the taps of the second are the units of the first."""
    f, g = first.kind, second.kind
    assert isinstance(f, Affine) and isinstance(g, Affine)
    w, v = weight_of(f), weight_of(g)
    one, two = taps_of(f, shape, first.shape), taps_of(g, first.shape, second.shape)
    if one is None or two is None or w is None or v is None:
        return None
    y = torch.rand(1, *first.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(0))
    units, taps = one.units(y), two(y)
    if units.shape != taps.shape or not torch.equal(units, taps):
        return None
    product = v.reshape(len(v), -1) @ w.reshape(len(w), -1)
    back = max(1, f.terms_back // len(w)) * len(v)
    weight = product.reshape(len(v), *w.shape[1:])
    made = dataclasses.replace(f, weights=(weight,), bias=None, terms_back=back)
    if tuple(made.linear(torch.zeros(1, *shape, dtype=w.dtype)).shape[1:]) != second.shape:
        return None
    ends = outward(made, shape, second.shape)
    return _with(made, _bias(first, second, g), ends.value if ends else None), first.layer


def _bias(first: Node, second: Node, behind: Affine) -> Tensor:
    """L2 c1 + c2 at every entry."""
    assert isinstance(first.kind, Affine)
    moved: Tensor = behind.linear(full(first.kind, first.shape)[None])[0]
    return moved + full(behind, second.shape)


def _with(affine: Affine, bias: Tensor, axis: int | None) -> Affine:
    return with_bias(affine, narrow(bias, tuple(bias.shape), axis), axis)
