"""Path expansion: a logit as the sum of its paths, with patterns and scales frozen at a point.

logit = u·(sum of paths) + sum over pairs of paths of uᵀ P (W a * V b): 1 + H + (H + 1)² terms for
one layer without biases (Sharkey 2023, after Elhage et al. 2021).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.bilinear.circuits.parts import Floats, floats
from gatewise.bilinear.circuits.streams import (
    NUMBERS,
    Stream,
    before_last_mlp,
    count_paths,
    pair_index,
    pair_name,
    sides,
)
from gatewise.bilinear.circuits.transformer import (
    Frozen,
    Ints,
    Transformer,
    freeze,
    tokens_of,
)
from gatewise.errors import DataError, WrongShape
from gatewise.tables import counted

SHOWN = 12  # terms that a printed table names


@dataclass(frozen=True, eq=False)
class PathTable:
    """Terms of a logit: contributions = coefficients * weights, and what was pruned, added up.

    logit: the model's own number; direction (outputs,): which combination of logits it is.
    left, right (terms,): the path, or the pair of paths, of a term; right -1 where it is no pair.
    coefficients: attention and frozen scales where the table is split by source, else 1, and
    weights then hold them too. remainder: exact sum of the `pruned` terms that are not listed.
    mass: sum of |contribution| of all terms. frozen: what holds only at these tokens.
    """

    tokens: tuple[str, ...]
    position: int
    name: str
    logit: float
    direction: Floats
    left: Ints
    right: Ints
    coefficients: Floats
    weights: Floats
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    single_names: tuple[str, ...]
    last: int
    split: bool
    remainder: float
    pruned: int
    mass: float
    frozen: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.left)

    @property
    def contributions(self) -> Floats:
        """(terms,)."""
        return np.asarray(self.coefficients * self.weights)

    @property
    def shares(self) -> Floats:
        """|contribution| / mass."""
        return np.asarray(np.abs(self.contributions) / (self.mass or 1.0))

    @property
    def total(self) -> float:
        """Terms and remainder, added up without rounding."""
        return math.fsum([*self.contributions.tolist(), self.remainder])

    @property
    def error(self) -> float:
        """|total - logit|: 0 but for rounding, for the expansion leaves nothing out."""
        return abs(self.total - self.logit)

    def term(self, i: int) -> str:
        """Term i in words."""
        a, b = int(self.left[i]), int(self.right[i])
        if b < 0:
            return self.single_names[a]
        return pair_name(self.last, self.left_names[a], self.right_names[b])

    def strongest(self, k: int) -> PathTable:
        """The k largest terms, the others in the remainder."""
        if not 1 <= k <= len(self):
            raise DataError(f"k must be 1 to {len(self)}, the terms in the table; got {k}")
        size = np.abs(self.contributions)
        order = np.argsort(-size, kind="stable")
        keep, drop = order[:k], order[k:]
        rest = math.fsum([self.remainder, *self.contributions[drop].tolist()])
        picked = {
            name: getattr(self, name)[keep] for name in ("left", "right", "coefficients", "weights")
        }
        return dataclasses.replace(self, **picked, remainder=rest, pruned=self.pruned + len(drop))

    def __str__(self) -> str:
        every = len(self) + self.pruned
        head = f"{self.name} at position {self.position} ('{self.tokens[self.position]}') = "
        lines = [f"{head}{self.logit:+.6g}, the sum of {counted(every, 'term')}."]
        order = np.argsort(-np.abs(self.contributions), kind="stable")
        lines += [self._line(int(i)) for i in order[:SHOWN]]
        rest = math.fsum([self.remainder, *self.contributions[order[SHOWN:]].tolist()])
        left = every - min(len(order), SHOWN)
        lines += [f"  remainder: {counted(left, 'term')}, {rest:+.6g} in all"] if left else []
        lines.append(f"terms + remainder - logit = {self.total - self.logit:+.1e}")
        lines += [f"Frozen at these tokens: {', '.join(self.frozen)}."] if self.frozen else []
        return "\n".join(lines)

    def _line(self, i: int) -> str:
        said = f"  {self.contributions[i]:+.4g}  {100 * self.shares[i]:5.1f} %  {self.term(i)}"
        if not self.split:
            return said
        return f"{said}: {self.coefficients[i]:+.3g} x weight {self.weights[i]:+.4g}"


def path_expansion(
    model: Transformer,
    tokens: Any,
    position: int = -1,
    logit: Any = None,
    *,
    keep: int | None = None,
    by_source: bool = False,
    ordered: bool = True,
    frozen: Frozen | None = None,
    limit: int = 10**7,
) -> PathTable:
    """Every path from a row of tokens to a logit at a position; they sum to it.

    logit: an output's number, or a direction (outputs,); None: the largest one. by_source: a
    head's path for each source position, and each term = coefficient (attention, frozen scales)
    times virtual weight (weights and tokens only). ordered: W a * V b and W b * V a are two terms;
    else one. keep: list the strongest, the rest is the remainder. frozen: patterns of another run.
    """
    t = tokens_of(model, tokens)
    if t.ndim != 1:
        raise WrongShape(f"the expansion is of one row of tokens, got shape {t.shape}")
    if not -len(t) <= position < len(t):
        raise DataError(f"position {position} is not among the {len(t)} tokens")
    position %= len(t)
    _require_room(model, position + 1, by_source, ordered, limit)
    run = freeze(model, t, frozen)
    u, name = _direction(model, logit, run.logits[position])
    stream = before_last_mlp(model, run, position, by_source, ordered)
    table = _table(model, run, stream, position, u, name, ordered)
    return table if keep is None else table.strongest(keep)


def _require_room(model: Transformer, n: int, split: bool, ordered: bool, limit: int) -> None:
    paths, terms = count_paths(model, n, split, ordered)
    widest = max([model.width, *(len(la.mlp.W) for la in model.layers if la.mlp is not None)])
    if terms > limit or paths * n * widest > NUMBERS:
        raise DataError(
            f"the expansion has {terms} terms from {paths} paths, and at most {limit} terms are "
            "listed: give fewer tokens, or by_source=False, or ordered=False"
        )


def _direction(model: Transformer, logit: Any, logits: Floats) -> tuple[Floats, str]:
    """u (outputs,) and its name."""
    outputs = len(model.unembedding)
    if logit is None:
        logit = int(np.argmax(logits))
    if np.ndim(logit):
        return floats("a direction over the logits", logit, outputs), "direction"
    if isinstance(logit, bool) or not isinstance(logit, int | np.integer):
        raise DataError(f"logit must be an output's number or a direction, got {logit!r}")
    if not 0 <= logit < outputs:
        raise DataError(f"logit {logit} is not among the outputs: 0 to {outputs - 1}")
    same = outputs == model.vocabulary
    name = f"logit {int(logit)}" + (f" ('{model.name(int(logit))}')" if same else "")
    return np.eye(outputs)[int(logit)], name


def _table(
    model: Transformer,
    run: Frozen,
    stream: Stream,
    position: int,
    u: Floats,
    name: str,
    ordered: bool,
) -> PathTable:
    read = model.final_norm.scaled(u @ model.unembedding)
    names, weights, coefficients = _singles(model, stream, read, u)
    ends = _ends(model, stream, run, read, ordered)
    weights = np.concatenate([weights, ends.weights])
    coefficients = np.concatenate([coefficients, ends.coefficients])
    r = np.full(len(weights), run.final_scale[position])
    if model.unembedding_bias is not None:
        r[len(names) - 1] = 1  # it comes after the final norm
    if stream.split:
        coefficients = coefficients * r
    else:
        weights = weights * r
    return PathTable(
        tuple(model.name(int(token)) for token in run.tokens),
        position,
        name,
        float(run.logits[position] @ u),
        u,
        np.concatenate([np.arange(len(names)), ends.left]),
        np.concatenate([np.full(len(names), -1), ends.right]),
        coefficients,
        weights,
        ends.left_names,
        ends.right_names,
        names,
        len(model.layers) - 1,
        stream.split,
        0.0,
        0,
        float(np.abs(coefficients * weights).sum()),
        what_is_frozen(model),
    )


def _singles(
    model: Transformer, stream: Stream, read: Floats, u: Floats
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names, weights and coefficients of the terms that are no pair; biases last."""
    biases = {}
    last = model.layers[-1].mlp if model.layers else None
    if last is not None and last.bias is not None:
        biases[f"L{len(model.layers) - 1}.mlp bias"] = float(read @ last.bias)
    if model.unembedding_bias is not None:
        biases["unembedding bias"] = float(u @ model.unembedding_bias)
    weights = np.concatenate([stream.vectors[0] @ read, list(biases.values())])
    coefficients = np.concatenate([stream.coefficients[0], np.ones(len(biases))])
    return (*stream.names, *biases), weights, coefficients


@dataclass(frozen=True, eq=False)
class _Ends:
    """The pairs of the last MLP, read out."""

    left: Ints
    right: Ints
    weights: Floats
    coefficients: Floats
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]


def _ends(model: Transformer, stream: Stream, run: Frozen, read: Floats, ordered: bool) -> _Ends:
    """All pairs of one logit in one product: L diag(Pᵀ u) Rᵀ over the path vectors."""
    last = model.layers[-1] if model.layers else None
    if last is None or last.mlp is None:
        none, nothing = np.zeros(0, np.int64), np.zeros(0)
        return _Ends(none, none, nothing, nothing, (), ())
    found = sides(stream, last.mlp, last.mlp_norm, run.layers[-1], ordered)
    weights = (found.left[0] * (read @ last.mlp.P)) @ found.right[0].T
    left, right = pair_index(found, ordered)
    picked = weights[left, right]
    if len(left) < weights.size:
        picked = picked + np.where(left != right, weights[right, left], 0.0)
    coefficients = found.left_coefficients[0, left] * found.right_coefficients[0, right]
    return _Ends(left, right, picked, coefficients, found.left_names, found.right_names)


def what_is_frozen(model: Transformer) -> tuple[str, ...]:
    """What the expansion holds fixed, and why it must: in words, none where nothing is."""
    said = []
    kinds = {la.attention.kind for la in model.layers if la.attention is not None}
    if "softmax" in kinds:
        said.append("attention patterns (softmax)")
    if "bilinear" in kinds:
        said.append("attention patterns (bilinear: polynomials of the tokens themselves)")
    norms = [n for la in model.layers for n in (la.attention_norm, la.mlp_norm)]
    if any(not n.exact for n in [*norms, model.final_norm]):
        said.append("the scales 1/rms(x) of RMSNorm, which make the model no polynomial")
    gates = {la.mlp.activation for la in model.layers if la.mlp is not None} - {None}
    said += [f"the gates of the MLPs ({', '.join(sorted(map(str, gates)))})"] if gates else []
    return tuple(said)
