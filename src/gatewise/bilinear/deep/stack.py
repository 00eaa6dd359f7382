"""A stack of L bilinear layers: a polynomial of degree 2^L, held as its layers.

Values, gradients and Jacobians cost what the layers cost; the tensor of order 2^L + 1 is never
made. Where no layer has a bias or skip, f is homogeneous: f(t x) = t^(2^L) f(x), and by Euler
J x = 2^L f(x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, folded, plus, with_one
from gatewise.bilinear.reading import bilinear_layers
from gatewise.errors import NotBilinear, WrongShape
from gatewise.ir.network import INPUT, Network


@dataclass(frozen=True, eq=False)
class Stack:
    """layers[-1](.. layers[0](x)): each reads what the one before gives."""

    layers: tuple[BilinearLayer, ...]

    @property
    def degree(self) -> int:
        """2^L: the highest power of x in f."""
        return int(2 ** len(self.layers))

    @property
    def homogeneous(self) -> bool:
        """Is every term of degree 2^L?"""
        return all(layer.homogeneous for layer in self.layers)

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    def __call__(self, X: Any) -> Tensor:
        """f(x) (.., o) for x (.., d)."""
        x = self.layers[0].rows(X)
        for layer in self.layers:
            x = layer(x)
        return x

    def pullback(self, X: Any, directions: Tensor) -> Tensor:
        """∇ (u · f) at each row, u (.., o) a row's own or shared: (.., d)."""
        seen = [self.layers[0].rows(X)]
        for layer in self.layers[:-1]:
            seen.append(layer(seen[-1]))
        g = directions
        for layer, x in zip(reversed(self.layers), reversed(seen), strict=True):
            g = back(layer, x, g)
        return g

    def jacobian(self, X: Any) -> Tensor:
        """J (rows, o, d) at rows X (rows, d)."""
        x = self.layers[0].rows(X)
        eye = torch.eye(self.outputs, dtype=x.dtype, device=x.device)
        return self.pullback(x.unsqueeze(-2), eye.expand(*x.shape[:-1], -1, -1))

    def __str__(self) -> str:
        sizes = " -> ".join(str(layer.inputs) for layer in self.layers)
        kind = "homogeneous, " if self.homogeneous else ""
        return f"{len(self.layers)} bilinear layers {sizes} -> {self.outputs}, {kind}degree " + str(
            self.degree
        )


def back(layer: BilinearLayer, x: Tensor, g: Tensor) -> Tensor:
    """The transpose of the layer's Jacobian at x, times g."""
    a, b = layer.sides(x)
    at = g @ layer.P
    found = (at * b) @ layer.W + (at * a) @ layer.V
    return found if layer.skip is None else found + g @ layer.skip


def stack(layers: Sequence[BilinearLayer] | Network) -> Stack:
    """The stack of layers, or of a whole Network made of bilinear layers and affine maps alone."""
    if isinstance(layers, Network):
        return _of_network(layers)
    held = tuple(layers)
    if not held:
        raise WrongShape("a stack needs at least one layer")
    for before, after in pairwise(held):
        if before.outputs != after.inputs:
            raise WrongShape(
                f"layer '{before.name}' gives {before.outputs} numbers and layer '{after.name}' "
                f"takes {after.inputs}: they do not follow one another"
            )
    return Stack(held)


def _of_network(network: Network) -> Stack:
    """Layer by layer, where each ends in the value that the next begins with."""
    layers = bilinear_layers(network)
    for before, after in pairwise(layers):
        if before.target != after.source:
            raise NotBilinear(
                f"layer '{after.name}' reads '{after.source}', not '{before.target}' where layer "
                f"'{before.name}' ends: the network is no stack of bilinear layers"
            )
    first = layers[0]
    reached = first.source == INPUT or first.embedding is not None
    if not reached or layers[-1].target != network.output:
        end = layers[-1].target if reached else first.source
        raise NotBilinear(
            f"there is more than affine maps between the network's ends and its bilinear layers, "
            f"at '{end}'"
        )
    return Stack((first if first.embedding is None else embedded(first), *layers[1:]))


def embedded(layer: BilinearLayer) -> BilinearLayer:
    """The layer of the network's own input: the embedding multiplied into it."""
    E, e = layer.embedding, layer.embedding_bias
    if E is None:
        raise NotBilinear(f"layer '{layer.name}' has no embedding")
    zero = E.new_zeros(len(E)) if e is None else e
    skip = layer.skip
    return BilinearLayer(
        layer.W @ E,
        layer.V @ E,
        layer.P,
        w_bias=_moved(layer.W, zero, layer.w_bias),
        v_bias=_moved(layer.V, zero, layer.v_bias),
        skip=None if skip is None else skip @ E,
        bias=layer.bias if skip is None else _moved(skip, zero, layer.bias),
        name=layer.name,
        target=layer.target,
        positions=layer.positions,
    )


def _moved(weight: Tensor, e: Tensor, bias: Tensor | None) -> Tensor | None:
    moved = plus(weight @ e, bias)
    return moved if bool(moved.any()) else None


def homogenised(deep: Stack) -> Stack:
    """The stack over [x, 1]: every layer one quadratic form that carries its 1 on.

    The same values (the last output is 1), all terms of degree 2^L in [x, 1].
    """
    return Stack(tuple(_carrying(layer) for layer in deep.layers))


def _carrying(layer: BilinearLayer) -> BilinearLayer:
    """[x, 1] -> [y, 1]."""
    whole = folded(layer)
    if layer.homogeneous:
        column = layer.W.new_zeros(layer.hidden, 1)
        W, V = torch.cat([layer.W, column], 1), torch.cat([layer.V, column], 1)
    else:
        W, V = whole.W, whole.V
    one = with_one(W.new_zeros(1, W.shape[1] - 1))
    P = torch.block_diag(whole.P, one.new_ones(1, 1))
    return BilinearLayer(torch.cat([W, one]), torch.cat([V, one]), P, name=layer.name)
