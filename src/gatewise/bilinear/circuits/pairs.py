"""The strongest pairs that a bilinear MLP multiplies, without forming all pairs.

T_o[p, q] = x_pᵀ (M_o + M_oᵀ) x_q with M_o = Wᵀ diag(Pᵀ u_o) V = U λ Uᵀ, so that
|T_o[p, q]| <= n_p n_q, n_p² = x_pᵀ U |λ| Uᵀ x_p: pairs are worked out in order of that bound until
no other pair can be among the k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.bilinear.circuits.parts import Floats, floats
from gatewise.bilinear.circuits.transformer import Ints, Transformer, require_transformer
from gatewise.bilinear.circuits.weights import RMS, outputs_of, sources
from gatewise.errors import DataError, NotBilinear

BLOCK = 128  # sources a side of a block of pairs
SHOWN = 12  # pairs that a printed table names


@dataclass(frozen=True, eq=False)
class StrongestPairs:
    """The k largest |weight| over outputs and unordered pairs of sources, largest first.

    weights (k,): what the pair adds to the logit at unit attention, both orders of the pair
    together. formed of `total` pairs were worked out.
    """

    outputs: Ints
    first: Ints
    second: Ints
    weights: Floats
    formed: int
    total: int
    source_names: tuple[str, ...]
    output_names: tuple[str, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.weights)

    def pair(self, i: int) -> str:
        """Pair i in words."""
        a, b = (self.source_names[int(side[i])] for side in (self.first, self.second))
        return f"{a} × {b} -> {self.output_names[int(self.outputs[i])]}"

    def __str__(self) -> str:
        head = f"{len(self)} strongest of {self.total} pairs, {self.formed} of them worked out."
        lines = [f"  {self.weights[i]:+.4g}  {self.pair(i)}" for i in range(min(len(self), SHOWN))]
        more = [f"  .. and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([head, *lines, *more, f"Left out: {', '.join(self.left_out)}."])


def strongest_token_pairs(
    model: Transformer,
    k: int = 10,
    *,
    layer: int = 0,
    outputs: Any = None,
    heads_only: bool = False,
) -> StrongestPairs:
    """The k strongest pairs of tokens, each direct or through one head, that the MLP of a layer
    multiplies: bigram × skip-trigram, skip-trigram × skip-trigram, read off the weights.

    Two different tokens cannot both come direct, so they are no pair. heads_only: skip-trigram ×
    skip-trigram alone. outputs: the logits to look at; None: all.
    """
    require_transformer(model)
    if not 0 <= layer < len(model.layers):
        raise DataError(f"layer {layer} is not among the {len(model.layers)} layers")
    part = model.layers[layer].mlp
    if part is None or part.activation is not None:
        got = "no MLP" if part is None else f"a GLU with the gate '{part.activation}'"
        raise NotBilinear(f"layer {layer} has {got}: only a bilinear MLP multiplies pairs of paths")
    x, names, rms = sources(model, layer)
    direct = model.vocabulary
    if heads_only:
        x, names, direct = x[direct:], names[direct:], 0
    if not len(x):
        raise DataError(f"no head comes before the MLP of layer {layer}: leave out heads_only")
    chosen = outputs_of(model, outputs)
    read = model.final_norm.scaled(model.unembedding[chosen]) @ part.P
    found = top_pairs(x, part.W, part.V, read, k, exclusive=direct)
    same = len(model.unembedding) == model.vocabulary
    said = tuple(f"'{model.name(o)}'" if same else str(o) for o in range(len(model.unembedding)))
    left_out = _left_out(model, layer, rms or not model.final_norm.exact)
    return StrongestPairs(
        chosen[found.outputs],
        found.first,
        found.second,
        found.weights,
        found.formed,
        found.total,
        names,
        said,
        left_out,
    )


def _left_out(model: Transformer, layer: int, rms: bool) -> tuple[str, ...]:
    """What multiplies a pair, or comes beside the pairs, and is not in its weight."""
    part = model.layers[layer].mlp
    biased = part is not None and (part.w_bias is not None or part.v_bias is not None)
    said = ["attention"]
    said += [RMS] if rms else []
    said += ["learned positions"] if model.positions is not None else []
    return tuple(said + (["biases"] if biased else []))


@dataclass(frozen=True, eq=False)
class Top:
    """outputs, first <= second, weights of the best so far; pairs worked out, and in all."""

    outputs: Ints
    first: Ints
    second: Ints
    weights: Floats
    formed: int
    total: int


def top_pairs(x: Any, W: Any, V: Any, read: Any, k: int, *, exclusive: int = 0) -> Top:
    """The k largest |sum_j read[o, j] ((W x_p)_j (V x_q)_j + (W x_q)_j (V x_p)_j)|, p <= q.

    x (sources, d), W, V (h, d), read (outputs, h). A source with itself counts once (half the
    sum). exclusive: the first so many sources are never paired with one another.
    """
    W = floats("W", W, -1, -1)
    x, V = floats("x", x, -1, W.shape[1]), floats("V", V, *W.shape)
    read = floats("read", read, -1, len(W))
    n, o = len(x), len(read)
    total = o * (n * (n + 1) - exclusive * (exclusive - 1)) // 2
    if not 1 <= k <= total:
        raise DataError(f"k must be 1 to {total}, the pairs there are; got {k}")
    nothing = np.zeros(0, np.int64)
    best = Top(nothing, nothing, nothing, np.zeros(0), 0, total)
    sizes = np.abs(x @ W.T).max(0) * np.abs(x @ V.T).max(0)
    ceiling = 2 * np.abs(read) @ sizes  # no pair of an output exceeds it
    by_ceiling: Ints = np.argsort(-ceiling, kind="stable")
    for output in by_ceiling.tolist():
        if ceiling[output] < threshold(best, k):
            break
        best = _search(best, k, output, x, (W.T * read[output]) @ V, exclusive)
    return best


def threshold(best: Top, k: int) -> float:
    """What a pair must reach to be among the k; rounding of its bound is allowed for."""
    if len(best.weights) < k:
        return -1.0
    return float(np.abs(best.weights).min()) * (1 - 1e-9)


def _search(best: Top, k: int, output: int, x: Floats, M: Floats, exclusive: int) -> Top:
    """The pairs of one output, block by block down the order of n_p."""
    values, vectors = np.linalg.eigh(M + M.T)
    y = (x @ vectors) * np.sqrt(np.abs(values))
    size = np.sqrt(np.sum(y * y, 1))
    order: Ints = np.argsort(-size, kind="stable")
    y, size = y[order], size[order]
    signed = y * np.sign(values)
    for i in range(0, len(y), BLOCK):
        if size[i] * size[i] < threshold(best, k):
            break
        for j in range(i, len(y), BLOCK):
            if size[i] * size[j] < threshold(best, k):
                break
            block = y[i : i + BLOCK] @ signed[j : j + BLOCK].T
            best = _kept(
                best, k, output, block, order[i : i + BLOCK], order[j : j + BLOCK], exclusive
            )
    return best


def _kept(
    best: Top, k: int, output: int, block: Floats, rows: Ints, columns: Ints, exclusive: int
) -> Top:
    """The best k of those so far and of a block of pairs."""
    p, q = np.broadcast_arrays(rows[:, None], columns)
    alone = (p < exclusive) & (q < exclusive) & (p != q)
    # a block on the diagonal holds each pair twice
    real = ~alone & ((p <= q) if rows[0] == columns[0] else True)
    block = np.where(p == q, block / 2, block)
    inside = real & (np.abs(block) >= threshold(best, k))
    weights = np.concatenate([best.weights, block[inside]])
    top = np.argsort(-np.abs(weights), kind="stable")[:k]
    return Top(
        np.concatenate([best.outputs, np.full(int(inside.sum()), output)])[top],
        np.concatenate([best.first, np.minimum(p, q)[inside]])[top],
        np.concatenate([best.second, np.maximum(p, q)[inside]])[top],
        weights[top],
        best.formed + int(real.sum()),
        best.total,
    )
