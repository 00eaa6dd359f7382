"""The parts of a transformer as plain arrays: norms, attention, bilinear and gated MLPs.

Every array is float64; a residual stream x is (.., positions, d). Heads are stacked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, UnsupportedLayer, WrongShape

Floats = NDArray[np.float64]
ATTENTIONS = ("softmax", "bilinear")
NORMS = ("none", "channel", "rmsnorm")


def floats(name: str, value: Any, *shape: int) -> Floats:
    """The value as a finite float64 array of this shape (-1: any size)."""
    held = plain(value)
    try:
        array = np.array(held, dtype=np.float64)
    except (TypeError, ValueError):
        raise WrongShape(
            f"{name} must be an array of numbers, got {type(value).__name__}"
        ) from None
    fits = array.ndim == len(shape) and all(
        w in (-1, n) for w, n in zip(shape, array.shape, strict=False)
    )
    if not fits:
        want = ", ".join("any" if w < 0 else str(w) for w in shape)
        raise WrongShape(f"{name} must have shape ({want}), got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds NaN or infinity: a weight must be a finite number")
    return array


def plain(value: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def maybe(name: str, value: Any, *shape: int) -> Floats | None:
    """`floats`, or None where nothing is given."""
    return None if value is None else floats(name, value, *shape)


def plus(x: Floats, bias: Floats | None) -> Floats:
    """x + bias, where there is one."""
    return x if bias is None else np.asarray(x + bias)


@dataclass(frozen=True, eq=False)
class Norm:
    """n(x) = r x * scale, r = 1 ("none", "channel") or r = (mean x² + eps)^(-1/2) ("rmsnorm").

    r depends on x: it is what makes a transformer with RMSNorm no polynomial of its tokens.
    """

    kind: str = "none"
    scale: Floats | None = None
    eps: float = 1e-6

    @property
    def exact(self) -> bool:
        """Is the norm a fixed linear map?"""
        return self.kind != "rmsnorm"

    def factor(self, x: Floats) -> Floats:
        """r (..,) for x (.., d)."""
        if self.exact:
            return np.ones(x.shape[:-1])
        return np.asarray(1 / np.sqrt(np.mean(x * x, axis=-1) + self.eps))

    def scaled(self, x: Floats) -> Floats:
        """x * scale: the part of the norm that is linear."""
        return x if self.scale is None else np.asarray(x * self.scale)


def norm(kind: str | Norm | None = None, scale: Any = None, *, eps: float = 1e-6) -> Norm:
    """A norm by name: "none", "channel" (a scale for each channel) or "rmsnorm"."""
    if isinstance(kind, Norm):
        return kind
    kind = kind or "none"
    if kind not in NORMS:
        raise UnsupportedLayer(
            f"norm '{kind}' is not read: only RMSNorm ('rmsnorm'), a scale for each channel "
            "('channel') and none are; fold a LayerNorm's mean into the weights before it"
        )
    if kind == "none" and scale is not None:
        raise DataError("norm 'none' takes no scale: name it 'channel'")
    return Norm(kind, maybe("norm scale", scale, -1), float(eps))


@dataclass(frozen=True, eq=False)
class Attention:
    """z_q = sum_h sum_j A^h[q, j] O_h (V_h x_j + v_h) + o.

    Q, K (factors, heads, w, d); V (heads, v, d); O (heads, d, v). One factor's score is
    s[q, j] = scale (Q x_q + q_bias)ᵀ (K x_j + k_bias), both turned by their positions where there
    is a rotary_base (halves paired). "softmax": A = softmax over j of s. "bilinear": A = the
    product of the factors' s. causal: j <= q only.
    """

    Q: Floats
    K: Floats
    V: Floats
    O: Floats  # noqa: E741 - the field's own letter
    kind: str
    scale: float
    q_bias: Floats | None = None
    k_bias: Floats | None = None
    v_bias: Floats | None = None
    bias: Floats | None = None
    rotary_base: float | None = None
    causal: bool = True

    @property
    def heads(self) -> int:
        """H."""
        return len(self.V)

    @property
    def width(self) -> int:
        """d."""
        return int(self.V.shape[-1])


def attention(
    Q: Any,
    K: Any,
    V: Any,
    O: Any,  # noqa: E741
    kind: str = "softmax",
    *,
    scale: float | None = None,
    q_bias: Any = None,
    k_bias: Any = None,
    v_bias: Any = None,
    bias: Any = None,
    rotary_base: float | None = None,
    causal: bool = True,
) -> Attention:
    """Attention from arrays: Q, K (w, d), (heads, w, d) or (factors, heads, w, d); V, O alike.

    scale: of each score, 1/sqrt(w) where not given.
    """
    if kind not in ATTENTIONS:
        raise UnsupportedLayer(f"attention must be one of {', '.join(ATTENTIONS)}, got '{kind}'")
    v = floats("V", _lead(V, 3), -1, -1, -1)
    h, _, d = v.shape
    q = floats("Q", _lead(Q, 4), -1, h, -1, d)
    s, _, w, _ = q.shape
    if kind == "softmax" and s != 1:
        raise WrongShape(f"softmax attention has one score, Q and K give {s} factors")
    if rotary_base is not None and w % 2:
        raise WrongShape(f"a rotary head turns pairs, and its width {w} is odd")
    return Attention(
        q,
        floats("K", _lead(K, 4), s, h, w, d),
        v,
        floats("O", _lead(O, 3), h, d, v.shape[1]),
        kind,
        1 / math.sqrt(w) if scale is None else float(scale),
        maybe("q_bias", _lead(q_bias, 3), s, h, w),
        maybe("k_bias", _lead(k_bias, 3), s, h, w),
        maybe("v_bias", _lead(v_bias, 2), h, v.shape[1]),
        maybe("bias", bias, d),
        rotary_base,
        causal,
    )


def _lead(value: Any, axes: int) -> Any:
    """The array with leading axes of one until it has so many."""
    if value is None:
        return None
    array = np.asarray(plain(value))
    return array.reshape((1,) * max(axes - array.ndim, 0) + array.shape)


def turned(x: Floats, positions: Floats, base: float | None) -> Floats:
    """Rotary positions: the halves of x (.., n, w) as pairs, each turned by position * rate."""
    if base is None:
        return x
    half = x.shape[-1] // 2
    angle = positions[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(z / 2)))


def _gelu(z: Floats) -> Floats:
    return np.asarray(torch.nn.functional.gelu(torch.from_numpy(z)).numpy())


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "sigmoid": _sigmoid,
    "silu": lambda z: z * _sigmoid(z),
    "gelu": _gelu,
    "relu": lambda z: np.maximum(z, 0),
}


@dataclass(frozen=True, eq=False)
class MLP:
    """y = P (g(W x + w) * (V x + v)) + bias; g the identity (bilinear), or a GLU's activation.

    W, V (h, d); P (d, h).
    """

    W: Floats
    V: Floats
    P: Floats
    w_bias: Floats | None = None
    v_bias: Floats | None = None
    bias: Floats | None = None
    activation: str | None = None

    def gate(self, x: Floats) -> Floats:
        """g(W x + w), (.., h)."""
        z = plus(x @ self.W.T, self.w_bias)
        return z if self.activation is None else ACTIVATIONS[self.activation](z)


def mlp(
    W: Any,
    V: Any,
    P: Any,
    *,
    w_bias: Any = None,
    v_bias: Any = None,
    bias: Any = None,
    activation: str | None = None,
) -> MLP:
    """An MLP from arrays W, V (h, d), P (d, h); activation: of the W side of a GLU."""
    if activation is not None and activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UnsupportedLayer(f"activation must be one of {known} or None, got '{activation}'")
    w = floats("W", W, -1, -1)
    h, d = w.shape
    return MLP(
        w,
        floats("V", V, h, d),
        floats("P", P, d, h),
        maybe("w_bias", w_bias, h),
        maybe("v_bias", v_bias, h),
        maybe("bias", bias, d),
        activation,
    )


PLAIN = Norm()


@dataclass(frozen=True, eq=False)
class TransformerLayer:
    """x + attention(n(x)), then x + mlp(n(x)); either may be missing."""

    attention: Attention | None = None
    mlp: MLP | None = None
    attention_norm: Norm = PLAIN
    mlp_norm: Norm = PLAIN
