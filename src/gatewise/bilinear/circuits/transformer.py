"""A small transformer as arrays, run forward with its attention patterns and scales kept.

x_0 = E[t] + positions; x += attention(n(x)); x += mlp(n(x)); logits = U n(x) + bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.bilinear.circuits.parts import (
    PLAIN,
    Attention,
    Floats,
    Norm,
    TransformerLayer,
    floats,
    maybe,
    norm,
    plus,
    turned,
)
from gatewise.errors import DataError, ModelError, WrongShape

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrozenLayer:
    """What a layer did at its tokens: pattern (.., H, n, n), scales r (.., n), a GLU's gate."""

    pattern: Floats | None
    attention_scale: Floats
    mlp_scale: Floats
    gate: Floats | None = None


@dataclass(frozen=True, eq=False)
class Frozen:
    """Attention patterns, RMSNorm scales and gates at a point; with them fixed, the logits are
    a polynomial of the embedded tokens. logits (.., n, outputs)."""

    tokens: Ints
    layers: tuple[FrozenLayer, ...]
    final_scale: Floats
    logits: Floats


@dataclass(frozen=True, eq=False)
class Transformer:
    """embedding (vocabulary, d); positions (context, d) or None; unembedding (outputs, d)."""

    embedding: Floats
    unembedding: Floats
    layers: tuple[TransformerLayer, ...]
    positions: Floats | None = None
    final_norm: Norm = PLAIN
    unembedding_bias: Floats | None = None
    token_names: tuple[str, ...] = ()

    @staticmethod
    def from_arrays(
        embedding: Any,
        unembedding: Any,
        layers: Sequence[TransformerLayer],
        *,
        positions: Any = None,
        final_norm: Norm | str | None = None,
        unembedding_bias: Any = None,
        token_names: Sequence[str] = (),
    ) -> Transformer:
        """A transformer of arrays and of layers made by `attention`, `mlp` and `norm`."""
        e = floats("embedding", embedding, -1, -1)
        d = e.shape[1]
        u = floats("unembedding", unembedding, -1, d)
        for i, layer in enumerate(layers):
            _require_width(i, layer, d)
        if token_names and len(token_names) != len(e):
            raise WrongShape(f"{len(token_names)} token names for a vocabulary of {len(e)}")
        return Transformer(
            e,
            u,
            tuple(layers),
            maybe("positions", positions, -1, d),
            _fitting("final norm", norm(final_norm), d),
            maybe("unembedding_bias", unembedding_bias, len(u)),
            tuple(token_names),
        )

    @property
    def width(self) -> int:
        """d."""
        return int(self.embedding.shape[1])

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.embedding)

    def __call__(self, tokens: Any) -> Floats:
        """Logits (.., n, outputs) of tokens (.., n)."""
        return freeze(self, tokens).logits

    def name(self, token: int) -> str:
        """A token's name, or its number."""
        return self.token_names[token] if self.token_names else str(token)

    def __str__(self) -> str:
        kinds = [la.attention.kind for la in self.layers if la.attention is not None]
        heads = [la.attention.heads for la in self.layers if la.attention is not None]
        norms = sorted({n.kind for n in _norms(self)} - {"none"})
        shape = f"{self.vocabulary} tokens, d = {self.width}, {len(self.layers)} layers"
        said = f"{'/'.join(dict.fromkeys(kinds)) or 'no'} attention, heads {heads}"
        return f"{shape}, {said}, norm: {', '.join(norms) or 'none'}"


def _norms(model: Transformer) -> list[Norm]:
    each = [n for la in model.layers for n in (la.attention_norm, la.mlp_norm)]
    return [*each, model.final_norm]


def _fitting(name: str, held: Norm, d: int) -> Norm:
    if held.scale is not None and held.scale.shape != (d,):
        raise WrongShape(f"the scale of {name} must have shape ({d},), got {held.scale.shape}")
    return held


def _require_width(i: int, layer: TransformerLayer, d: int) -> None:
    widths = {
        "attention": None if layer.attention is None else layer.attention.width,
        "mlp": None if layer.mlp is None else layer.mlp.W.shape[1],
    }
    for part, width in widths.items():
        if width not in (None, d):
            raise WrongShape(f"the {part} of layer {i} has width {width}, the embedding has {d}")
    _fitting(f"the attention norm of layer {i}", layer.attention_norm, d)
    _fitting(f"the mlp norm of layer {i}", layer.mlp_norm, d)


def require_transformer(model: Any) -> None:
    """Refuses a torch module and anything else that is no Transformer."""
    if not isinstance(model, Transformer):
        raise ModelError(
            f"circuits are of a bilinear.Transformer, got {type(model).__name__}: make one with "
            "from_state(net.state_dict(), net.settings), or Transformer.from_arrays"
        )


def tokens_of(model: Transformer, tokens: Any) -> Ints:
    """Token numbers (.., n), each in the vocabulary; no more than the learned positions."""
    require_transformer(model)
    held = np.asarray(tokens)
    if held.ndim < 1 or not held.size:
        raise WrongShape(f"tokens must be a row of at least one number, got shape {held.shape}")
    if held.dtype.kind not in "iu":
        raise DataError(f"tokens are whole numbers, got {held.dtype}")
    low, high = int(held.min()), int(held.max())
    if low < 0 or high >= model.vocabulary:
        bad = low if low < 0 else high
        raise DataError(f"token {bad} is not in the vocabulary: 0 to {model.vocabulary - 1}")
    if model.positions is not None and held.shape[-1] > len(model.positions):
        raise WrongShape(
            f"{held.shape[-1]} tokens for {len(model.positions)} learned positions: give fewer"
        )
    return held.astype(np.int64)


def embedded(model: Transformer, tokens: Ints) -> Floats:
    """x_0, (.., n, d)."""
    x = model.embedding[tokens]
    return x if model.positions is None else x + model.positions[: tokens.shape[-1]]


def scores(part: Attention, x: Floats) -> Floats:
    """Each factor's scores (.., factors, H, n, n) for the normed stream x (.., n, d)."""
    where = np.arange(x.shape[-2], dtype=np.float64)
    rows = x[..., None, None, :, :]
    q = plus(rows @ part.Q.swapaxes(-1, -2), _rows(part.q_bias))
    k = plus(rows @ part.K.swapaxes(-1, -2), _rows(part.k_bias))
    q, k = (turned(side, where, part.rotary_base) for side in (q, k))
    return np.asarray(part.scale * (q @ k.swapaxes(-1, -2)))


def _rows(bias: Floats | None) -> Floats | None:
    return None if bias is None else bias[..., None, :]


def pattern(part: Attention, x: Floats) -> Floats:
    """A (.., H, n, n)."""
    s = scores(part, x)
    n = s.shape[-1]
    seen = np.tri(n, dtype=bool) if part.causal else np.ones((n, n), bool)
    if part.kind == "bilinear":
        return np.asarray(np.where(seen, s.prod(-4), 0.0))
    s = np.where(seen, s[..., 0, :, :, :], -np.inf)
    weights = np.exp(s - s.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def attended(part: Attention, A: Floats, x: Floats) -> Floats:
    """What the heads write, (.., n, d)."""
    v = plus(x[..., None, :, :] @ part.V.swapaxes(-1, -2), _rows(part.v_bias))
    return plus((A @ v @ part.O.swapaxes(-1, -2)).sum(-3), part.bias)


def freeze(model: Transformer, tokens: Any, frozen: Frozen | None = None) -> Frozen:
    """One run at tokens (.., n): its patterns, scales, gates and logits.

    frozen: take patterns, scales and gates from another run of as many tokens.
    """
    t = tokens_of(model, tokens)
    if frozen is not None and frozen.tokens.shape != t.shape:
        raise WrongShape(f"frozen at tokens {frozen.tokens.shape}, asked for {t.shape}")
    if frozen is not None and len(frozen.layers) != len(model.layers):
        raise DataError("these patterns were frozen in another model: freeze them in this one")
    x, kept = embedded(model, t), []
    for i, layer in enumerate(model.layers):
        x, held = _layer(layer, x, None if frozen is None else frozen.layers[i])
        kept.append(held)
    r = model.final_norm.factor(x) if frozen is None else frozen.final_scale
    logits = model.final_norm.scaled(x * r[..., None]) @ model.unembedding.T
    return Frozen(t, tuple(kept), r, plus(logits, model.unembedding_bias))


def _layer(
    layer: TransformerLayer, x: Floats, fixed: FrozenLayer | None
) -> tuple[Floats, FrozenLayer]:
    r = layer.attention_norm.factor(x) if fixed is None else fixed.attention_scale
    A = None
    if layer.attention is not None:
        n = layer.attention_norm.scaled(x * r[..., None])
        A = pattern(layer.attention, n) if fixed is None else fixed.pattern
        assert A is not None
        x = x + attended(layer.attention, A, n)
    s = layer.mlp_norm.factor(x) if fixed is None else fixed.mlp_scale
    gate = None
    if layer.mlp is not None:
        n = layer.mlp_norm.scaled(x * s[..., None])
        curved = layer.mlp.activation is not None
        gate = fixed.gate if curved and fixed is not None else layer.mlp.gate(n)
        assert gate is not None
        x = x + plus((gate * plus(n @ layer.mlp.V.T, layer.mlp.v_bias)) @ layer.mlp.P.T,
                     layer.mlp.bias)  # fmt: skip
        gate = gate if curved else None
    return x, FrozenLayer(A, r, s, gate)
