"""A residual stream as a sum of paths: x_q = sum_p coefficients[q, p] vectors[q, p].

A head maps every path to a path (OV), a bilinear MLP every ordered pair of paths to a path
(Sharkey 2023), all of it with attention patterns, RMSNorm scales and GLU gates frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewise.bilinear.circuits.parts import MLP, Attention, Floats, Norm
from gatewise.bilinear.circuits.transformer import Frozen, FrozenLayer, Ints, Transformer

NUMBERS = 1 << 27  # numbers in one array of path vectors


@dataclass(frozen=True, eq=False)
class Stream:
    """names of the paths; vectors (rows, paths, d); coefficients (rows, paths); where: (rows,)
    the positions of the rows.

    split: the coefficient holds attention and frozen scales, the vector is read off the weights
    and one source position a head. Else coefficients are 1 and a head's sources are summed.
    """

    names: tuple[str, ...]
    vectors: Floats
    coefficients: Floats
    where: Ints
    split: bool

    def row(self, position: int) -> Stream:
        """The stream at one position."""
        at = np.flatnonzero(self.where == position)
        return Stream(
            self.names, self.vectors[at], self.coefficients[at], self.where[at], self.split
        )

    def plus(self, other: Stream) -> Stream:
        """Both sets of paths."""
        return Stream(
            self.names + other.names,
            np.concatenate([self.vectors, other.vectors], 1),
            np.concatenate([self.coefficients, other.coefficients], 1),
            self.where,
            self.split,
        )

    def constant(self, name: str, vector: Floats | None) -> Stream:
        """The stream and a bias, the same at every position."""
        if vector is None:
            return self
        rows = len(self.where)
        vectors = np.broadcast_to(vector, (rows, 1, len(vector)))
        return self.plus(Stream((name,), vectors, np.ones((rows, 1)), self.where, self.split))

    def scaled(self, norm: Norm, r: Floats) -> tuple[Floats, Floats]:
        """Vectors and coefficients after a norm whose factor is frozen at r (n,)."""
        vectors, r = norm.scaled(self.vectors), r[self.where, None]
        if self.split:
            return vectors, self.coefficients * r
        return vectors * r[..., None], self.coefficients


def start(model: Transformer, tokens: Ints, split: bool) -> Stream:
    """The embedding, and the learned positions where there are any."""
    n = len(tokens)
    vectors, names = [model.embedding[tokens]], ["embed"]
    if model.positions is not None:
        vectors.append(model.positions[:n])
        names.append("position")
    stacked = np.stack(vectors, 1)
    return Stream(tuple(names), stacked, np.ones(stacked.shape[:2]), np.arange(n), split)


def heads(
    stream: Stream, i: int, part: Attention, norm: Norm, held: FrozenLayer, rows: Ints
) -> Stream:
    """The paths of every head at these positions: A^h O_h V_h of each path, and of its bias."""
    vectors, coefficients = stream.scaled(norm, held.attention_scale)
    assert held.pattern is not None
    v = np.einsum("jpd,hvd->jhpv", vectors, part.V, optimize=True)
    names = stream.names
    if part.v_bias is not None and part.v_bias.any():
        ones, shape = np.ones((len(v), 1)), (*v.shape[:2], 1, v.shape[3])
        v = np.concatenate([v, np.broadcast_to(part.v_bias[:, None], shape)], 2)
        names = (*names, "1")
        coefficients = np.concatenate([coefficients, ones], 1)
    A = held.pattern[:, rows][:, :, stream.where]  # (H, rows, sources)
    gather = _split if stream.split else _summed
    return gather(stream, i, part, v, coefficients, A, names, rows)


def _summed(
    stream: Stream,
    i: int,
    part: Attention,
    v: Floats,
    coefficients: Floats,
    A: Floats,
    names: tuple[str, ...],
    rows: Ints,
) -> Stream:
    """One path a head and path: its sources are summed."""
    (_, h, paths, w), q = v.shape, len(rows)
    mixed = A @ v.transpose(1, 0, 2, 3).reshape(h, len(v), paths * w)
    out = mixed.reshape(h, q, paths, w) @ part.O.swapaxes(1, 2)[:, None]
    vectors = out.transpose(1, 0, 2, 3).reshape(q, h * paths, -1)
    said = tuple(f"L{i}.H{k}({name})" for k in range(h) for name in names)
    return Stream(said, vectors, np.ones(vectors.shape[:2]), rows, False)


def _split(
    stream: Stream,
    i: int,
    part: Attention,
    v: Floats,
    coefficients: Floats,
    A: Floats,
    names: tuple[str, ...],
    rows: Ints,
) -> Stream:
    """One path a head, source position and path; its coefficient holds A[q, j]."""
    (n, h, paths, _), q = v.shape, len(rows)
    out = np.einsum("jhpv,hdv->hjpd", v, part.O, optimize=True).reshape(1, h * n * paths, -1)
    vectors = np.broadcast_to(out, (q, *out.shape[1:]))
    found = np.einsum("hqj,jp->qhjp", A, coefficients).reshape(q, -1)
    said = tuple(f"L{i}.H{k}@{j}({name})" for k in range(h) for j in stream.where for name in names)
    return Stream(said, vectors, found, rows, True)


@dataclass(frozen=True, eq=False)
class Sides:
    """The two sides of an MLP as sums of paths: left, right (rows, paths, h), a "1" for a bias."""

    left: Floats
    right: Floats
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_coefficients: Floats
    right_coefficients: Floats


def sides(stream: Stream, part: MLP, norm: Norm, held: FrozenLayer, ordered: bool) -> Sides:
    """W and V of every path; a GLU's W side is one path, its frozen gate."""
    vectors, coefficients = stream.scaled(norm, held.mlp_scale)
    gated = part.activation is not None
    both = not ordered and (part.w_bias is not None or part.v_bias is not None) and not gated
    right = _side(vectors, part.V, part.v_bias, both)
    right_names, right_coefficients = _with_one(stream.names, coefficients, right.shape[1])
    if gated:
        assert held.gate is not None
        gate = held.gate[stream.where][:, None]
        ones = np.ones(gate.shape[:2])
        return Sides(gate, right, ("gate",), right_names, ones, right_coefficients)
    left = _side(vectors, part.W, part.w_bias, both)
    left_names, left_coefficients = _with_one(stream.names, coefficients, left.shape[1])
    return Sides(left, right, left_names, right_names, left_coefficients, right_coefficients)


def _side(vectors: Floats, weight: Floats, bias: Floats | None, always: bool) -> Floats:
    side = vectors @ weight.T
    if bias is None and not always:
        return side
    row = np.zeros(len(weight)) if bias is None else bias
    return np.concatenate([side, np.broadcast_to(row, (len(side), 1, len(row)))], 1)


def _with_one(names: tuple[str, ...], held: Floats, paths: int) -> tuple[tuple[str, ...], Floats]:
    if paths == len(names):
        return names, held
    return (*names, "1"), np.concatenate([held, np.ones((len(held), 1))], 1)


def pair_index(found: Sides, ordered: bool) -> tuple[Ints, Ints]:
    """left, right (pairs,): every ordered pair, or every pair once where the sides are alike."""
    a, b = found.left.shape[1], found.right.shape[1]
    if ordered or found.left_names != found.right_names:
        left, right = np.indices((a, b)).reshape(2, -1)
        return left, right
    left, right = np.triu_indices(a)
    return left, right


def pairs(stream: Stream, i: int, part: MLP, found: Sides, ordered: bool) -> Stream:
    """One path a pair: P (W a * V b); unordered: plus P (W b * V a) for a != b."""
    left, right = pair_index(found, ordered)
    product = found.left[:, left] * found.right[:, right]
    if len(left) < found.left.shape[1] * found.right.shape[1]:
        other = found.left[:, right] * found.right[:, left]
        product += np.where((left != right)[:, None], other, 0.0)
    names = tuple(
        pair_name(i, found.left_names[a], found.right_names[b])
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
    )
    coefficients = found.left_coefficients[:, left] * found.right_coefficients[:, right]
    return Stream(names, product @ part.P.T, coefficients, stream.where, stream.split)


def pair_name(i: int, left: str, right: str) -> str:
    """'L0.mlp(embed × L0.H0(embed))'."""
    return f"L{i}.mlp({left} × {right})"


def before_last_mlp(
    model: Transformer, frozen: Frozen, position: int, split: bool, ordered: bool
) -> Stream:
    """The stream at one position as paths: all layers but the last MLP."""
    last = len(model.layers) - 1
    causal = all(la.attention is None or la.attention.causal for la in model.layers)
    n = position + 1 if causal else len(frozen.tokens)
    stream = start(model, frozen.tokens[:n], split)
    for i, (layer, held) in enumerate(zip(model.layers, frozen.layers, strict=True)):
        rows = np.array([position]) if i == last else stream.where
        if layer.attention is not None:
            added = heads(stream, i, layer.attention, layer.attention_norm, held, rows)
            kept = stream.row(position) if i == last else stream
            stream = kept.plus(added).constant(f"L{i}.attention bias", layer.attention.bias)
        if layer.mlp is not None and i < last:
            found = sides(stream, layer.mlp, layer.mlp_norm, held, ordered)
            stream = stream.plus(pairs(stream, i, layer.mlp, found, ordered))
            stream = stream.constant(f"L{i}.mlp bias", layer.mlp.bias)
    return stream.row(position)


def count_paths(model: Transformer, positions: int, split: bool, ordered: bool) -> tuple[int, int]:
    """(paths before the last MLP, terms of a logit) of the expansion, worked out first."""
    last, paths = len(model.layers) - 1, 1 + (model.positions is not None)
    terms = paths
    for i, layer in enumerate(model.layers):
        if layer.attention is not None:
            part = layer.attention
            inside = paths + bool(part.v_bias is not None and part.v_bias.any())
            paths += part.heads * inside * (positions if split else 1) + (part.bias is not None)
        terms = paths
        if layer.mlp is not None:
            terms += _pair_count(layer.mlp, paths, ordered) + (layer.mlp.bias is not None)
        paths = terms if i < last else paths
    return paths, terms + (model.unembedding_bias is not None)


def _pair_count(part: MLP, paths: int, ordered: bool) -> int:
    biased = [part.w_bias is not None, part.v_bias is not None]
    if part.activation is not None:
        return paths + biased[1]
    if ordered:
        return (paths + biased[0]) * (paths + biased[1])
    return (paths + any(biased)) * (paths + any(biased) + 1) // 2
