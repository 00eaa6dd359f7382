"""QK and OV circuits, virtual weights along heads, and attention read off the weights.

A path embed -> heads -> logits is U O_h V_h .. E, of the heads' small rank; the pattern and the
frozen scales 1/rms multiply it (Elhage et al. 2021). Here they are left out: `path_expansion`
with by_source puts them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.bilinear.circuits.parts import Attention, Floats, floats, plus, turned
from gatewise.bilinear.circuits.transformer import Ints, Transformer, require_transformer
from gatewise.bilinear.layer import BilinearLayer
from gatewise.errors import DataError, GatewiseError, NotBilinear, WrongShape

ROWS = 1 << 22  # numbers of the matrix formed at once
RMS = "the scale 1/rms(x) of RMSNorm, which depends on the stream and is frozen at a point"
Head = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Circuit:
    """M = left right, (rows, r) and (r, columns), without forming M.

    left_out: what multiplies M in the network and is no weight.
    """

    name: str
    left: Floats
    right: Floats
    rows: str
    columns: str
    left_out: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of M."""
        return len(self.left), self.right.shape[1]

    @property
    def matrix(self) -> Floats:
        """M, formed."""
        return np.asarray(self.left @ self.right)

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """The eigenvalues of M that can differ from 0, largest first: those of right left."""
        if self.shape[0] != self.shape[1]:
            raise WrongShape(f"{self.name} is {self.shape}: only a square matrix has eigenvalues")
        inner = self.right @ self.left if len(self.right) < len(self.left) else self.matrix
        found = np.linalg.eigvals(inner).astype(np.complex128)
        return np.asarray(found[np.argsort(-np.abs(found), kind="stable")])

    @property
    def copying(self) -> float:
        """sum Re λ / sum |λ|: 1 where every token raises its own logit, -1 where it lowers it."""
        found = self.eigenvalues
        return float(found.real.sum() / (np.abs(found).sum() or 1.0))

    @property
    def singular_values(self) -> Floats:
        """Singular values of M, from its factors."""
        a, b = (np.asarray(np.linalg.qr(f, mode="r")) for f in (self.left, self.right.T))
        return np.asarray(np.linalg.svd(a @ b.T, compute_uv=False))

    def strongest(self, k: int) -> tuple[Ints, Ints, Floats]:
        """rows, columns and values of the k entries with the largest |M|, in blocks of rows."""
        n, m = self.shape
        if not 1 <= k <= n * m:
            raise DataError(f"k must be 1 to {n * m}, the entries of {self.name}; got {k}")
        held: tuple[Ints, Floats] = (np.zeros(0, np.int64), np.zeros(0))
        step = max(1, ROWS // m)
        for at in range(0, n, step):
            block = (self.left[at : at + step] @ self.right).ravel()
            index = np.concatenate([held[0], at * m + np.arange(block.size)])
            values = np.concatenate([held[1], block])
            best = np.argsort(-np.abs(values), kind="stable")[:k]
            held = index[best], values[best]
        return held[0] // m, held[0] % m, held[1]

    def __str__(self) -> str:
        size = f"{self.name}: {self.shape[0]} x {self.shape[1]} ({self.rows} x {self.columns})"
        sv = ", ".join(f"{v:.3g}" for v in self.singular_values[:5])
        lines = [f"{size}, rank at most {len(self.right)}", f"  largest singular values: {sv}"]
        if self.shape[0] == self.shape[1]:
            lines.append(f"  copying: {self.copying:+.2f}")
        lines += [f"Left out: {', '.join(self.left_out)}."] if self.left_out else []
        return "\n".join(lines)


def virtual_weight(model: Transformer, *heads: Head) -> Circuit:
    """U O V .. O V E, (outputs, tokens), along heads (layer, head) in order; none: U E.

    At unit attention; biases are paths of their own.
    """
    right, rms = _through(model, heads)
    left = model.final_norm.scaled(model.unembedding)
    if heads:  # keep the factors of the last head's rank
        layer, h = heads[-1]
        part = _part(model, layer, h)
        before, rms = _through(model, heads[:-1])
        left = left @ part.O[h]
        right = (_normed(model, layer, before) @ part.V[h].T).T
        rms = rms or not model.layers[layer].attention_norm.exact
    else:
        right = right.T
    rms = rms or not model.final_norm.exact
    name = " then ".join(["E", *(f"L{i}.H{h}" for i, h in heads), "U"])
    said = ("attention",) if heads else ()
    return Circuit(name, left, right, "outputs", "tokens", said + ((RMS,) if rms else ()))


def ov_circuit(model: Transformer, layer: int, head: int) -> Circuit:
    """U O_h V_h E, (outputs, tokens): what attending to a token adds to each logit."""
    return virtual_weight(model, (layer, head))


def qk_circuit(
    model: Transformer,
    layer: int,
    head: int,
    *,
    offset: int = 0,
    factor: int = 0,
    query: tuple[Head, ...] = (),
    key: tuple[Head, ...] = (),
) -> Circuit:
    """scale (Q E)ᵀ R (K E), (query tokens, key tokens): a score between tokens `offset` apart.

    query, key: the heads that the tokens came through (composition), in order. factor: which
    score of bilinear attention.
    """
    part = _part(model, layer, head)
    if not 0 <= factor < len(part.Q):
        raise DataError(f"factor {factor} is not among the {len(part.Q)} scores of layer {layer}")
    _require_before(layer, (*query, *key))
    (a, first), (b, second) = _through(model, query), _through(model, key)
    left = _normed(model, layer, a) @ part.Q[factor, head].T * part.scale
    right = _normed(model, layer, b) @ part.K[factor, head].T
    right = turned(right, np.full(len(right), -float(offset)), part.rotary_base)
    rms = first or second or not model.layers[layer].attention_norm.exact
    name = f"QK of L{layer}.H{head}" + (f" at offset {offset}" if part.rotary_base else "")
    return Circuit(name, left, right.T, "query tokens", "key tokens", (RMS,) if rms else ())


def attention_table(model: Transformer, head: int, offset: int = 0) -> Floats:
    """A (query tokens, key tokens) of a bilinear head of the first layer, exactly, biases and
    norm included: what it attends to is a polynomial of two tokens and their distance.
    """
    part = _part(model, 0, head)
    if part.kind == "softmax":
        raise GatewiseError(
            f"L0.H{head} is softmax attention: what it attends to depends on every token of a row, "
            "so no table of weights holds it; freeze it at tokens with freeze(model, tokens)"
        )
    if model.positions is not None:
        raise GatewiseError(
            "the model has learned positions, so attention depends on where the tokens are: "
            "freeze it at tokens with freeze(model, tokens)"
        )
    if offset < 0 and part.causal:
        raise DataError(f"the attention is causal: offset must be at least 0, got {offset}")
    norm, x = model.layers[0].attention_norm, model.embedding
    n = norm.scaled(x * norm.factor(x)[:, None])
    found = np.ones((len(x), len(x)))
    for f in range(len(part.Q)):
        q = plus(n @ part.Q[f, head].T, _one(part.q_bias, f, head))
        k = plus(n @ part.K[f, head].T, _one(part.k_bias, f, head))
        k = turned(k, np.full(len(k), -float(offset)), part.rotary_base)
        found *= part.scale * (q @ k.T)
    return found


def mlp_layer(model: Transformer, layer: int, *, to_logits: bool = False) -> BilinearLayer:
    """The bilinear MLP of a layer as a function of the stream, its norm's channel scale in W and
    V: for spectra and interactions. to_logits: read out by the unembedding, not into the stream.
    """
    _require_layer(model, layer)
    part, held = model.layers[layer].mlp, model.layers[layer].mlp_norm
    if part is None or part.activation is not None:
        got = "no MLP" if part is None else f"a GLU with the gate '{part.activation}'"
        raise NotBilinear(f"layer {layer} has {got}: only a bilinear MLP is a third-order tensor")
    read = model.final_norm.scaled(model.unembedding) if to_logits else np.eye(model.width)
    bias = None if part.bias is None else read @ part.bias
    return BilinearLayer.from_weights(
        held.scaled(part.W),
        held.scaled(part.V),
        read @ part.P,
        w_bias=part.w_bias,
        v_bias=part.v_bias,
        bias=bias,
        name=f"L{layer}.mlp",
    )


def _one(bias: Floats | None, factor: int, head: int) -> Floats | None:
    return None if bias is None else np.asarray(bias[factor, head])


def _part(model: Transformer, layer: int, head: int) -> Attention:
    """The attention of a layer, once layer and head are known to be there."""
    _require_layer(model, layer)
    part = model.layers[layer].attention
    if part is None:
        raise DataError(f"layer {layer} has no attention")
    if not 0 <= head < part.heads:
        raise DataError(f"head {head} is not among the {part.heads} heads of layer {layer}")
    return part


def _require_layer(model: Transformer, layer: int) -> None:
    require_transformer(model)
    if not 0 <= layer < len(model.layers):
        raise DataError(f"layer {layer} is not among the {len(model.layers)} layers")


def _require_before(layer: int, heads: tuple[Head, ...]) -> None:
    for i, h in heads:
        if i >= layer:
            raise DataError(f"L{i}.H{h} does not come before layer {layer}")


def _normed(model: Transformer, layer: int, x: Floats) -> Floats:
    return model.layers[layer].attention_norm.scaled(x)


def _through(model: Transformer, heads: tuple[Head, ...]) -> tuple[Floats, bool]:
    """(tokens, d) embeddings taken through heads in order; is an RMSNorm left out?"""
    x, rms, last = model.embedding, False, -1
    for layer, h in heads:
        part = _part(model, layer, h)
        if layer <= last:
            raise DataError(f"L{layer}.H{h} does not come after layer {last}: give heads in order")
        x = _normed(model, layer, x) @ part.V[h].T @ part.O[h].T
        rms, last = rms or not model.layers[layer].attention_norm.exact, layer
    return x, rms


def sources(model: Transformer, layer: int) -> tuple[Floats, tuple[str, ...], bool]:
    """(sources, d) every token as it enters the MLP of a layer by one step: itself (they come
    first), or through one head; their names, and whether an RMSNorm is left out."""
    vectors, paths = [model.embedding], ["embed"]
    rms = not model.layers[layer].mlp_norm.exact
    for i in range(layer + 1):
        part = model.layers[i].attention
        for h in range(0 if part is None else part.heads):
            x, left_out = _through(model, ((i, h),))
            vectors.append(x)
            paths.append(f"L{i}.H{h}")
            rms = rms or left_out
    said = tuple(f"{p}('{model.name(t)}')" for p in paths for t in range(model.vocabulary))
    stacked = np.concatenate(vectors)
    return model.layers[layer].mlp_norm.scaled(stacked), said, rms


def outputs_of(model: Transformer, outputs: Any) -> Ints:
    """Output numbers, each among the model's; None: all."""
    every = len(model.unembedding)
    if outputs is None:
        return np.arange(every)
    held = np.atleast_1d(floats("outputs", outputs, -1) if np.ndim(outputs) else outputs)
    found = held.astype(np.int64)
    if not found.size or found.min() < 0 or found.max() >= every or (found != held).any():
        raise DataError(f"outputs must be numbers from 0 to {every - 1}, got {outputs!r}")
    return found
