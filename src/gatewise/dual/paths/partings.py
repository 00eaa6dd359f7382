"""Where two inputs share paths and where they part, and what the parting is worth.

A gate multiplies a value z by m. With c = m1 m2 the gates on at both inputs,
    m1 z1 - m2 z2 = c (z1 - z2) + [only 1] z1 - [only 2] z2,
so f(x1) - f(x2) is exactly what the network with the common gates makes of x1 - x2, plus what
each parting unit brings through the common gates behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated, Site, mask_of, on_host, pattern_of, value_input
from gatewise.dual.paths.graph import big
from gatewise.dual.paths.shares import cotangents, one_row, place, which_outputs
from gatewise.ir.kinds import Shape
from gatewise.ir.network import INPUT, Network, fold
from gatewise.ir.pattern import Packer, Pattern
from gatewise.linear.freeze import freeze

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
WORDS = 4  # parting units a layer that a printed result names


@dataclass(frozen=True, eq=False)
class LayerParting:
    """One gate layer at two inputs: which units are on, and what the parting ones bring.

    first, second (units,): the masks; brings (units,): parts of f(x1) - f(x2), 0 at shared units.
    shared, of_first, of_second: paths to this layer that are active at both, at x1, at x2
    (a plain chain only; else None).
    """

    name: str
    shape: Shape
    first: Bools
    second: Bools
    brings: Floats
    shared: int | None = None
    of_first: int | None = None
    of_second: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Units on in both, only at the first, only at the second, at neither."""
        a, b = self.first, self.second
        both, one, two = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
        return {"both": both, "only first": one, "only second": two,
                "neither": len(a) - both - one - two}  # fmt: skip

    @property
    def overlap(self) -> float:
        """<G1, G2> / (|G1| |G2|): 1 where the same units are on; 0 where none is on in both."""
        on = float(self.first.sum()) * float(self.second.sum())
        return float((self.first & self.second).sum()) / on**0.5 if on else 0.0

    @property
    def parting(self) -> Ints:
        """The units on at one input only, by what they bring, largest first."""
        apart = np.nonzero(self.first != self.second)[0]
        return apart[np.argsort(-np.abs(self.brings[apart]), kind="stable")]


@dataclass(frozen=True, eq=False)
class Partings:
    """Two inputs layer by layer, and f(x1) - f(x2) = linear + sum of what parting units bring.

    linear: what the common gates make of x1 - x2; error: |that sum - (f(x1) - f(x2))|, measured.
    """

    output: int
    values: tuple[float, float]
    layers: tuple[LayerParting, ...]
    linear: float
    error: float

    @property
    def difference(self) -> float:
        """f(x1) - f(x2)."""
        return self.values[0] - self.values[1]

    @property
    def first_parting(self) -> str | None:
        """The first layer with a gate on at one input only; None: one region."""
        return next((la.name for la in self.layers if (la.first != la.second).any()), None)

    @property
    def relative(self) -> float:
        """The error over the size of the terms that were added."""
        size = abs(self.linear) + sum(float(np.abs(la.brings).sum()) for la in self.layers)
        return self.error / size if size else self.error

    def __str__(self) -> str:
        where = self.first_parting
        says = f"they part first at {where}" if where else "all gates are the same: one region"
        head = (
            f"Output {self.output}: f = {self.values[0]:.4g} and {self.values[1]:.4g}, difference "
            f"{self.difference:+.4g}; {says}."
        )
        tail = (
            f"Common gates make {self.linear:+.4g} of the difference, parting units the rest; they "
            f"add up to within {self.error:.1e}."
        )
        return "\n".join([head, *(_line(layer) for layer in self.layers), tail])


def partings(net: Network | Gated, x1: Any, x2: Any, output: int | None = None) -> Partings:
    """Where two inputs share and part ways, gate layer by gate layer.

    output: whose difference is divided up; None: the largest at x1.
    """
    whole = on_host(net)
    network = whole.network.to(torch.float64)
    x = torch.cat([one_row(network, x1, "x1"), one_row(network, x2, "x2")])
    values = network(x)
    chosen = int(which_outputs(values[:1], output)[0])
    seen = pattern_of(whole, x)
    masks = [mask_of(site, seen).reshape(2, -1).numpy() for site in whole.sites]
    parts, linear = _difference(whole, network, x, seen, masks, chosen)
    f1, f2 = (float(v) for v in values[:, chosen])
    error = abs(linear + sum(float(p.sum()) for p in parts) - (f1 - f2))
    counts = _shared_paths(whole, x, masks)
    layers = tuple(
        LayerParting(site.at, site.shape, m[0], m[1], part, *count)
        for site, m, part, count in zip(whole.sites, masks, parts, counts, strict=True)
    )
    return Partings(chosen, (f1, f2), layers, linear, error)


def _difference(
    whole: Gated, network: Network, x: Tensor, seen: Pattern, masks: list[Bools], output: int
) -> tuple[list[Floats], float]:
    """What each unit brings, site by site, and what the common gates make of x1 - x2."""
    names = [site.at for site in whole.sites]
    kept = fold(network, x, lambda node, xs: node.kind(*xs), keep=names)
    seed = x.new_zeros(1, 1, network.outputs)
    seed[..., output] = 1
    common = freeze(network, _common(whole.sites, seen, masks))
    grads = cotangents(common, seed.reshape(1, 1, *network.output_shape))
    parts = []
    for name, m in zip(names, masks, strict=True):
        h = kept[name].reshape(2, -1).numpy()
        apart = np.where(m[0] & ~m[1], h[0], 0.0) - np.where(m[1] & ~m[0], h[1], 0.0)
        g = grads.get(name)
        parts.append(apart * (0.0 if g is None else g.reshape(-1).numpy()))
    g = grads.get(INPUT)
    linear = 0.0 if g is None else float(g.reshape(-1) @ (x[0] - x[1]).reshape(-1))
    return parts, linear


def _common(sites: tuple[Site, ...], seen: Pattern, masks: list[Bools]) -> Pattern:
    """The pattern with a gate on where it is on at both; gates that mask nothing stay as at x1."""
    packer = Packer(seen.fields, 1)
    for field in seen.fields:
        packer.put(field.name, seen.codes(field.name)[:1])
    for site, m in zip(sites, masks, strict=True):
        on = torch.from_numpy(m[0] & m[1]).reshape(1, *site.shape)
        on_code, off_code = (site.table.index(v) if v in site.table else 0 for v in (True, False))
        codes = torch.where(on, on_code, off_code)
        packer.put(site.gate, codes.bool() if len(site.table) == 2 else codes)
    return Pattern(packer.bits, seen.fields)


Counts = tuple[int | None, int | None, int | None]


def _shared_paths(whole: Gated, x: Tensor, masks: list[Bools]) -> list[Counts]:
    """Active paths to each layer, K_l = (K_{l-1} + 1) o_l: shared, of the first, of the second.

    The terms of the neural path kernel, with inputs counted instead of multiplied: exact integers.
    """
    chain = whole.layers
    if chain is None:
        return [(None, None, None)] * len(masks)
    start = value_input(whole, x).numpy() != 0
    pairs = ((0, 1), (0, 0), (1, 1))
    counts = [int((start[i] & start[j]).sum()) for i, j in pairs]
    found: list[Counts] = []
    for m, bias in zip(masks, chain.biases, strict=False):
        more = bias is not None
        counts = [
            (k + more) * int((m[i] & m[j]).sum()) for k, (i, j) in zip(counts, pairs, strict=True)
        ]
        found.append((counts[0], counts[1], counts[2]))
    return found


def _line(layer: LayerParting) -> str:
    counts = ", ".join(f"{n} {what}" for what, n in layer.counts.items())
    paths = "" if layer.shared is None else f"; shared paths so far {big(layer.shared)}"
    units = ", ".join(
        f"[{place(i, layer.shape)}] ({layer.brings[i]:+.3g})" for i in layer.parting[:WORDS]
    )
    apart = f"; parting units bring {layer.brings.sum():+.4g}, most: {units}" if units else ""
    return f"  {layer.name}: {counts}; overlap {layer.overlap:.3f}{paths}{apart}"
