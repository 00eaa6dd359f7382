"""A residual stack multiplied out: f = the sum of its terms, by path or by degree.

Two layers without biases, x1 = x + B1(x, x): y = x + B1 + B2(x, x) + 2 B2(x, B1) + B2(B1, B1).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.deep.stack import Stack
from gatewise.bilinear.layer import BilinearLayer
from gatewise.errors import DataError

MOST = 4096  # terms of an expansion


@dataclass(frozen=True, eq=False)
class Expansion:
    """names (t,) and terms (t, rows, o): the terms sum to f; total (rows, o): f itself."""

    names: tuple[str, ...]
    terms: Tensor
    total: Tensor

    @property
    def error(self) -> float:
        """The largest |sum of terms - f|: rounding."""
        return float((self.terms.sum(0) - self.total).abs().max())

    def __str__(self) -> str:
        size = self.terms.square().mean((1, 2)).sqrt().tolist()
        lines = [f"{v:10.4g}  {name}" for v, name in zip(size, self.names, strict=True)]
        return "\n".join([*lines, f"the terms sum to f within {self.error:.0e}"])


def expansion(deep: Stack, X: Any, most: int = MOST) -> Expansion:
    """Every term by its path: B2(x, B1(x, x)), and so on; "1" is a constant.

    A pair of unlike terms is counted once, doubled. Refuses more than `most` terms.
    """
    x = deep.layers[0].rows(X)
    held: dict[str, Tensor] = {"x": x}
    for i, layer in enumerate(deep.layers, 1):
        _require_few(layer, len(held), most)
        held = _through(layer, i, held)
    return Expansion(tuple(held), torch.stack(list(held.values())), deep(x))


def _require_few(layer: BilinearLayer, terms: int, most: int) -> None:
    n = terms + 1
    if n * (n + 1) // 2 > most:
        raise DataError(
            f"layer '{layer.name}' pairs {terms} terms into {n * (n + 1) // 2:,}, more than "
            f"{most:,}; raise `most`, or expand by degree with by_degree()"
        )


def _through(layer: BilinearLayer, i: int, held: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a layer makes of each term, of each pair, and of its biases."""
    sides = {name: (x @ layer.W.mT, x @ layer.V.mT) for name, x in held.items()}
    if layer.w_bias is not None or layer.v_bias is not None:
        one = next(iter(sides.values()))[0]
        sides["1"] = _sum_sides(sides.get("1"), _constant(layer, one))
    out = {} if layer.skip is None else {k: x @ layer.skip.mT for k, x in held.items()}
    for a, b in combinations_with_replacement(sides, 2):
        (wa, va), (wb, vb) = sides[a], sides[b]
        product = wa * va if a == b else wa * vb + wb * va
        name = "1" if a == b == "1" else f"B{i}({a}, {b})"
        out[name] = product @ layer.P.mT + out.get(name, 0)
    if layer.bias is not None:
        like = next(iter(out.values()))
        out["1"] = layer.bias.expand_as(like) + out.get("1", 0)
    return out


def _constant(layer: BilinearLayer, like: Tensor) -> tuple[Tensor, Tensor]:
    a, b = (like.new_zeros(layer.hidden) if t is None else t for t in (layer.w_bias, layer.v_bias))
    return a.expand_as(like), b.expand_as(like)


def _sum_sides(old: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor]) -> Any:
    return new if old is None else (old[0] + new[0], old[1] + new[1])


def by_degree(deep: Stack, X: Any) -> Expansion:
    """f by the power of x: the degrees from 0 to 2^L that occur, each a homogeneous polynomial."""
    x = deep.layers[0].rows(X)
    held = {1: x}
    for layer in deep.layers:
        held = _degrees(layer, held)
    order = sorted(held)
    names = tuple(f"degree {n}" for n in order)
    return Expansion(names, torch.stack([held[n] for n in order]), deep(x))


def _degrees(layer: BilinearLayer, held: dict[int, Tensor]) -> dict[int, Tensor]:
    sides = {n: (x @ layer.W.mT, x @ layer.V.mT) for n, x in held.items()}
    if layer.w_bias is not None or layer.v_bias is not None:
        like = next(iter(sides.values()))[0]
        sides[0] = _sum_sides(sides.get(0), _constant(layer, like))
    out = {} if layer.skip is None else {n: x @ layer.skip.mT for n, x in held.items()}
    for n, (w, _) in sides.items():
        for m, (_, v) in sides.items():
            out[n + m] = (w * v) @ layer.P.mT + out.get(n + m, 0)
    if layer.bias is not None:
        out[0] = layer.bias.expand_as(next(iter(out.values()))) + out.get(0, 0)
    return out
