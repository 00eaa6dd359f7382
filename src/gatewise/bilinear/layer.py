"""A bilinear layer: y = P ((W x + w) * (V x + v)) + S x + s, and its quadratic forms.

Entry by entry product; every output is xᵀ Q x plus a linear part and a constant (Pearce et al.
2024). With 1 appended to x all of it is one quadratic form: `folded`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import WrongShape
from gatewise.ir.network import INPUT
from gatewise.numeric import as_device, as_float_dtype, as_tensor, device_of


@dataclass(frozen=True, eq=False)
class BilinearLayer:
    """y = P ((W x + w_bias) * (V x + v_bias)) + skip x + bias.

    W, V (h, d): the two sides; P (o, h): the read-out; skip (o, d): what passes beside the
    product (a residual stream). name: the Product; source: the value x; target: the value y.
    embedding (d, n), embedding_bias (d): x = E input + e, where x is affine in the network's
    input. positions: x is (rows, *positions, d), each position treated alike; () for plain rows.
    """

    W: Tensor
    V: Tensor
    P: Tensor
    w_bias: Tensor | None = None
    v_bias: Tensor | None = None
    skip: Tensor | None = None
    bias: Tensor | None = None
    name: str = "layer"
    source: str = INPUT
    target: str = "output"
    embedding: Tensor | None = None
    embedding_bias: Tensor | None = None
    positions: tuple[int, ...] = ()

    @staticmethod
    def from_weights(
        W: Any,
        V: Any,
        P: Any = None,
        *,
        w_bias: Any = None,
        v_bias: Any = None,
        skip: Any = None,
        bias: Any = None,
        embedding: Any = None,
        embedding_bias: Any = None,
        name: str = "layer",
        dtype: torch.dtype | str | None = None,
    ) -> BilinearLayer:
        """A layer of arrays: W, V (h, d), P (o, h); no P: the products themselves are the output.

        skip True: a residual stream, y = x + P (W x * V x).
        """
        given = {"W": W, "V": V, "P": P, "w_bias": w_bias, "v_bias": v_bias, "skip": skip}
        given |= {"bias": bias, "embedding": embedding, "embedding_bias": embedding_bias}
        kind = as_float_dtype(dtype)
        if isinstance(skip, bool | np.bool_):
            given["skip"] = torch.eye(len(W[0])) if skip else None
        if P is None:
            given["P"] = torch.eye(len(W))
        there = device_of(W, V, P)
        held = {
            k: None if a is None else as_tensor(_still(a), kind, there) for k, a in given.items()
        }
        return checked(BilinearLayer(**held, name=name))  # type: ignore[arg-type]

    @property
    def inputs(self) -> int:
        """d: entries of x."""
        return self.W.shape[1]

    @property
    def hidden(self) -> int:
        """h: products."""
        return len(self.W)

    @property
    def outputs(self) -> int:
        """o: entries of y."""
        return len(self.P)

    @property
    def homogeneous(self) -> bool:
        """Is y purely quadratic in x (no bias, no skip)?"""
        return not any(self._has(name) for name in ("w_bias", "v_bias", "skip", "bias"))

    def _has(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and bool(value.any())

    def rows(self, X: Any) -> Tensor:
        """X as a (.., d) tensor of the layer's float type."""
        x = as_tensor(X, self.W.dtype, self.W.device)
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise WrongShape(
                f"layer '{self.name}' takes rows of {self.inputs} numbers (its value "
                f"'{self.source}'), got shape {tuple(x.shape)}"
            )
        return x

    def sides(self, X: Any) -> tuple[Tensor, Tensor]:
        """W x + w_bias and V x + v_bias, (.., h) each."""
        x = self.rows(X)
        return plus(x @ self.W.mT, self.w_bias), plus(x @ self.V.mT, self.v_bias)

    def __call__(self, X: Any) -> Tensor:
        """y (.., o) for x (.., d)."""
        x = self.rows(X)
        a, b = self.sides(x)
        y = (a * b) @ self.P.mT
        return plus(y if self.skip is None else y + x @ self.skip.mT, self.bias)

    def to(self, dtype: torch.dtype | str | None = None, device: Any = None) -> BilinearLayer:
        """A copy in another float type or on another device."""
        kind = self.W.dtype if dtype is None else as_float_dtype(dtype)
        there = self.W.device if device is None else as_device(device)
        return self._each(lambda t: t.to(there, kind))

    def _each(self, change: Any) -> BilinearLayer:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        held = {k: change(t) for k, t in fields.items() if isinstance(t, Tensor)}
        return dataclasses.replace(self, **held)

    def __str__(self) -> str:
        extra = [name for name in ("w_bias", "v_bias", "skip", "bias") if self._has(name)]
        beside = f", with {', '.join(extra)}" if extra else ""
        sizes = f"{self.inputs} -> {self.hidden} products -> {self.outputs}"
        return f"'{self.name}': {sizes}, from '{self.source}' to '{self.target}'{beside}"


def plus(x: Tensor, bias: Tensor | None) -> Tensor:
    """x + bias, where there is one."""
    return x if bias is None else x + bias


def _still(values: Any) -> Any:
    return values.detach() if isinstance(values, Tensor) else values


def checked(layer: BilinearLayer) -> BilinearLayer:
    """The layer itself, once its shapes fit together."""
    if layer.W.ndim != 2 or layer.W.shape != layer.V.shape:
        shapes = tuple(layer.W.shape), tuple(layer.V.shape)
        raise WrongShape(f"W and V must both be (hidden, inputs), got {shapes[0]} and {shapes[1]}")
    (h, d), o = layer.W.shape, len(layer.P)
    want = {"P": (o, h), "w_bias": (h,), "v_bias": (h,), "skip": (o, d), "bias": (o,)}
    if layer.embedding is not None:
        want["embedding"] = (d, layer.embedding.shape[-1])
    want["embedding_bias"] = (d,)
    for name, shape in want.items():
        held = getattr(layer, name)
        if held is not None and tuple(held.shape) != shape:
            raise WrongShape(f"{name} must have shape {shape}, got {tuple(held.shape)}")
    return layer


def folded(layer: BilinearLayer) -> BilinearLayer:
    """The same y as one quadratic form of [x, 1]: biases are columns, skip x is (S x) * 1.

    The first d inputs are x, the last is the constant 1; h grows by o where there is a skip or
    an output bias. The layer itself where it is homogeneous.
    """
    if layer.homogeneous:
        return layer
    one = layer.W.new_zeros(1, layer.inputs + 1)
    one[0, -1] = 1
    W, V, P = _beside(layer.W, layer.w_bias), _beside(layer.V, layer.v_bias), layer.P
    if layer._has("skip") or layer._has("bias"):
        straight = layer.P.new_zeros(layer.outputs, layer.inputs)
        straight = straight if layer.skip is None else layer.skip
        W = torch.cat([W, _beside(straight, layer.bias)])
        V = torch.cat([V, one.expand(layer.outputs, -1)])
        P = torch.cat([P, torch.eye(layer.outputs, dtype=P.dtype, device=P.device)], 1)
    return BilinearLayer(W, V, P, name=layer.name, source=layer.source, target=layer.target)


def quadratic_part(layer: BilinearLayer) -> BilinearLayer:
    """P (W x * V x) alone: no bias, no skip. With `linear_part` it makes the layer up."""
    none = dict.fromkeys(("w_bias", "v_bias", "skip", "bias", "embedding_bias"))
    return dataclasses.replace(layer, **none)  # type: ignore[arg-type]


def linear_part(layer: BilinearLayer) -> tuple[Tensor, Tensor]:
    """The slopes P (v_bias W + w_bias V) + S (o, d) and the constant P (w_bias v_bias) + s (o,)."""
    a, c = (layer.W.new_zeros(layer.hidden) if t is None else t for t in _biases(layer))
    slopes = layer.P @ (c.unsqueeze(1) * layer.W + a.unsqueeze(1) * layer.V)
    constant = layer.P @ (a * c)
    slopes = slopes if layer.skip is None else slopes + layer.skip
    return slopes, plus(constant, layer.bias)


def _biases(layer: BilinearLayer) -> tuple[Tensor | None, Tensor | None]:
    return layer.w_bias, layer.v_bias


def _beside(weight: Tensor, bias: Tensor | None) -> Tensor:
    column = weight.new_zeros(len(weight), 1) if bias is None else bias.unsqueeze(1)
    return torch.cat([weight, column], 1)


def with_one(x: Tensor) -> Tensor:
    """[x, 1]."""
    return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)


def extended(layer: BilinearLayer, X: Any) -> Tensor:
    """x, or [x, 1] where the layer is folded."""
    x = layer.rows(X)
    return x if layer.homogeneous else with_one(x)


def directions_of(layer: BilinearLayer, directions: Any = None) -> Tensor:
    """Output directions u (m, o); None: every output; refuses another length."""
    if directions is None:
        return torch.eye(layer.outputs, dtype=layer.P.dtype, device=layer.P.device)
    u = as_tensor(directions, layer.P.dtype, layer.P.device)
    u = u.unsqueeze(0) if u.ndim == 1 else u
    if u.ndim != 2 or u.shape[1] != layer.outputs:
        raise WrongShape(
            f"a direction of layer '{layer.name}' has {layer.outputs} entries, one an output; "
            f"got shape {tuple(u.shape)}"
        )
    return u


def megabytes(*shape: int, dtype: torch.dtype = torch.float64) -> float:
    """Size of an array."""
    return math.prod(shape) * torch.empty((), dtype=dtype).element_size() / 2**20
