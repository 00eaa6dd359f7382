"""A language with three rules whose true next-token probabilities are known at every position.

A sentence is 'start', a header a_i b_j s_k drawn evenly, then words, queries and answers.
  bigram: after a word, an answer or s_k, three words and the queries, by the last token alone.
  skip-trigram: s_k .. ask_r -> u_(perm_r(k)): one token of the past and the query.
  and: a_i .. b_j .. both -> t_((i + j) mod m): it takes both, for each a goes with every t once
  and so does each b; no sum of two skip-trigrams can do it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RULES = ("bigram", "skip-trigram", "and")


@dataclass(frozen=True, eq=False)
class Language:
    """names (vocabulary,); follow (vocabulary, vocabulary): p(next | last) where that suffices;
    m: how many a, b, s, t and u there are; permutations (asks, m): which u a query and a source
    call for; sure: the probability of the right answer."""

    m: int
    names: tuple[str, ...]
    follow: np.ndarray
    permutations: np.ndarray
    sure: float
    echo: float

    def at(self, name: str) -> int:
        """The number of a token."""
        return self.names.index(name)

    @property
    def asks(self) -> np.ndarray:
        """The numbers of the queries ask_r."""
        return self.at("ask0") + np.arange(len(self.permutations))

    def planted_pairs(self) -> dict[tuple[int, int], int]:
        """{(a_i, b_j): t}: the rule that needs both."""
        a, b, t, m = self.at("a0"), self.at("b0"), self.at("t0"), self.m
        return {(a + i, b + j): t + (i + j) % m for i in range(m) for j in range(m)}

    def planted_skips(self) -> dict[tuple[int, int], int]:
        """{(ask_r, s_k): u}."""
        s, u = self.at("s0"), self.at("u0")
        every = np.ndindex(self.permutations.shape)
        return {(int(self.asks[r]), s + k): u + int(self.permutations[r, k]) for r, k in every}

    def truth(self, last: np.ndarray, header: np.ndarray) -> np.ndarray:
        """p(next | past), (rows, vocabulary), of the last token and the header (rows, 3)."""
        i, j, k = header.T
        p = self.follow[last].copy()
        asked = last == self.at("both")
        i, j = i[asked], j[asked]
        p[asked] = self._answers("t0", (i + j) % self.m, self.sure - self.echo)
        for echoed in (i, j):
            p[np.flatnonzero(asked), self.at("t0") + echoed] += self.echo / 2
        for ask, permutation in zip(self.asks, self.permutations, strict=True):
            asked = last == ask
            p[asked] = self._answers("u0", permutation[k[asked]], self.sure)
        return p

    def _answers(self, first: str, right: np.ndarray, sure: float) -> np.ndarray:
        """`sure` on the right one of m answers, (1 - self.sure) / m on each."""
        p = np.zeros((len(right), len(self.names)))
        p[:, self.at(first) : self.at(first) + self.m] = (1 - self.sure) / self.m
        p[np.arange(len(right)), self.at(first) + right] += sure
        return p

    def rule(self, tokens: np.ndarray) -> np.ndarray:
        """Which of RULES says what comes after each token."""
        return np.where(np.isin(tokens, self.asks), 1, np.where(tokens == self.at("both"), 2, 0))


@dataclass(frozen=True, eq=False)
class Sentences:
    """tokens (rows, n); truth (rows, n, vocabulary): p of what follows each; header (rows, 3)."""

    tokens: np.ndarray
    truth: np.ndarray
    header: np.ndarray


def language(c: dict) -> Language:
    """The language of these settings; its tables are drawn from their seed."""
    m = c["m"]
    counts = {"start": 1, "a": m, "b": m, "s": m, "w": c["words"], "both": 1}
    counts |= {"ask": c["asks"], "t": m, "u": m}
    names = tuple(
        kind if kind in ("start", "both") else f"{kind}{i}"
        for kind, count in counts.items()
        for i in range(count)
    )
    rng = np.random.default_rng(c["seed"])
    permutations = np.stack([rng.permutation(m) for _ in range(c["asks"])])
    return Language(m, names, _follow(names, c, rng), permutations, c["sure"], c["echo"])


def _follow(names: tuple[str, ...], c: dict, rng: np.random.Generator) -> np.ndarray:
    """p(next | last): the header evenly, then three words and the queries."""
    at = {name: i for i, name in enumerate(names)}
    kinds = [name.rstrip("0123456789") for name in names]
    p = np.zeros((len(names), len(names)))
    for i, kind in enumerate(kinds):
        if kind in ("start", "a", "b"):
            first = at[{"start": "a0", "a": "b0", "b": "s0"}[kind]]
            p[i, first : first + c["m"]] = 1 / c["m"]
        elif kind in ("s", "w", "t", "u"):
            words = at["w0"] + rng.choice(c["words"], len(c["follow"]), replace=False)
            p[i, words] = (1 - c["both"] - c["ask"]) * np.array(c["follow"])
            p[i, at["both"]] = c["both"]
            p[i, at["ask0"] + np.arange(c["asks"])] = c["ask"] / c["asks"]
    return p


def sentences(lang: Language, rows: int, length: int, seed: int) -> Sentences:
    """Rows of `length` tokens, drawn from the language, with its true probabilities."""
    rng = np.random.default_rng(seed)
    header = rng.integers(0, lang.m, (rows, 3))
    tokens = np.zeros((rows, length), np.int64)
    tokens[:, 0] = lang.at("start")
    tokens[:, 1:4] = header + [lang.at(name) for name in ("a0", "b0", "s0")]
    truth = np.zeros((rows, length, len(lang.names)))
    for i in range(length):
        truth[:, i] = lang.truth(tokens[:, i], header)
        if 3 <= i < length - 1:
            tokens[:, i + 1] = drawn(truth[:, i], rng)
    return Sentences(tokens, truth, header)


def drawn(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One outcome a row of p (rows, outcomes)."""
    return (p.cumsum(1) > rng.random((len(p), 1)) * p.sum(1, keepdims=True)).argmax(1)


def entropy(truth: np.ndarray) -> np.ndarray:
    """-sum p log p over the last axis, in nats: the floor of the loss at each position."""
    return -np.sum(truth * np.log(np.where(truth > 0, truth, 1)), -1)


def divergence(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """KL(truth, softmax(logits)), in nats: what the model loses above the floor."""
    top = logits.max(-1, keepdims=True)
    log_q = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return -entropy(truth) - np.sum(truth * log_q, -1)
