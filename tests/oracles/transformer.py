"""Transformers position by position and number by number, and the synthetic language of the two
public checkpoints: the slow and obvious way. Knows nothing of gatewise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def rms_factor(x, eps):
    return 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)


def normed(norm, x):
    """norm: (kind, scale or None, eps)."""
    kind, scale, eps = norm
    r = rms_factor(x, eps) if kind == "rmsnorm" else 1.0
    return np.array([r * v * (1.0 if scale is None else scale[i]) for i, v in enumerate(x)])


def rotated(v, position, base):
    """Each pair (v_i, v_{i + half}) as a complex number, turned."""
    half = len(v) // 2
    pairs = [complex(v[i], v[i + half]) for i in range(half)]
    turned = [p * np.exp(1j * position * base ** (-i / half)) for i, p in enumerate(pairs)]
    return np.array([p.real for p in turned] + [p.imag for p in turned])


def head(part, h, xs, q):
    """What head h writes at position q, the normed stream being xs; part is a dict of arrays."""
    keys = range(q + 1)
    factors = []
    for f in range(len(part["Q"])):
        qv = part["Q"][f][h] @ xs[q] + part["q_bias"][f][h]
        ks = [part["K"][f][h] @ xs[j] + part["k_bias"][f][h] for j in keys]
        if part["base"] is not None:
            qv = rotated(qv, q, part["base"])
            ks = [rotated(k, j, part["base"]) for j, k in enumerate(ks)]
        factors.append([part["scale"] * float(qv @ k) for k in ks])
    if part["kind"] == "softmax":
        e = [math.exp(s - max(factors[0])) for s in factors[0]]
        weights = [v / sum(e) for v in e]
    else:
        weights = [math.prod(f[j] for f in factors) for j in keys]
    values = [part["V"][h] @ xs[j] + part["v_bias"][h] for j in keys]
    return part["O"][h] @ sum(w * v for w, v in zip(weights, values, strict=True))


def activation(name, z):
    if name is None:
        return z
    if name == "relu":
        return max(z, 0.0)
    if name == "gelu":
        return z * 0.5 * (1 + math.erf(z / math.sqrt(2)))
    s = (1 + math.tanh(z / 2)) / 2
    return s if name == "sigmoid" else z * s


def mlp(part, x):
    left = [activation(part["activation"], z) for z in part["W"] @ x + part["w_bias"]]
    return part["P"] @ (np.array(left) * (part["V"] @ x + part["v_bias"])) + part["bias"]


def logits(spec, tokens):
    """(n, outputs) of a spec: a dict of plain arrays, made by `random_spec`."""
    xs = [spec["embedding"][t].copy() for t in tokens]
    if spec["positions"] is not None:
        xs = [x + spec["positions"][j] for j, x in enumerate(xs)]
    for layer in spec["layers"]:
        part = layer["attention"]
        inside = [normed(layer["attention_norm"], x) for x in xs]
        written = [
            sum(head(part, h, inside, q) for h in range(len(part["V"]))) + part["bias"]
            for q in range(len(xs))
        ]
        xs = [x + y for x, y in zip(xs, written, strict=True)]
        xs = [x + mlp(layer["mlp"], normed(layer["mlp_norm"], x)) for x in xs]
    out = [spec["unembedding"] @ normed(spec["final_norm"], x) for x in xs]
    return np.array(out) + spec["unembedding_bias"]


def one_layer_terms(spec, tokens, position, output, pattern):
    """The 1 + H + (H+1)² terms of one layer without biases or norms, by the paper's formula.

    pattern (H, n, n). Returns {name: contribution}, names of paths or of pairs.
    """
    layer, u = spec["layers"][0], spec["unembedding"][output]
    E, part, m = spec["embedding"], layer["attention"], layer["mlp"]
    paths = {"embed": E[tokens[position]]}
    for h in range(len(part["V"])):
        ov = part["O"][h] @ part["V"][h]
        paths[f"L0.H{h}(embed)"] = sum(
            pattern[h][position][j] * (ov @ E[tokens[j]]) for j in range(position + 1)
        )
    B = np.einsum("ok,ki,kj->oij", m["P"], m["W"], m["V"])
    terms = {name: float(u @ x) for name, x in paths.items()}
    for a, x in paths.items():
        for b, y in paths.items():
            terms[f"L0.mlp({a} × {b})"] = float(np.einsum("o,oij,i,j->", u, B, x, y))
    return terms


def random_spec(
    seed=0, *, vocabulary=5, d=4, heads=2, width=2, hidden=3, layers=1, kind="softmax", factors=1,
    biases=True, norm="none", gamma=True, base=None, positions=False, gate=None,
):  # fmt: skip
    """A random transformer as a dict of plain arrays; biases are zeros where there are none."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape) / math.sqrt(shape[-1])

    def bias(*shape):
        return rng.normal(size=shape) * 0.5 if biases else np.zeros(shape)

    def a_norm():
        scaled = gamma and norm != "none"
        return (norm, 1 + 0.3 * rng.normal(size=d) if scaled else None, 1e-6)

    def layer():
        part = {
            "Q": draw(factors, heads, width, d) * 2, "K": draw(factors, heads, width, d) * 2,
            "V": draw(heads, width, d), "O": draw(heads, d, width),
            "q_bias": bias(factors, heads, width), "k_bias": bias(factors, heads, width),
            "v_bias": bias(heads, width), "bias": bias(d),
            "kind": kind, "scale": 1 / math.sqrt(width), "base": base,
        }  # fmt: skip
        inner = {
            "W": draw(hidden, d), "V": draw(hidden, d), "P": draw(d, hidden) * 0.4,
            "w_bias": bias(hidden), "v_bias": bias(hidden), "bias": bias(d), "activation": gate,
        }  # fmt: skip
        return {
            "attention": part, "mlp": inner, "attention_norm": a_norm(), "mlp_norm": a_norm()
        }  # fmt: skip

    return {
        "embedding": rng.normal(size=(vocabulary, d)),
        "unembedding": draw(vocabulary + 1, d) * 2,
        "positions": rng.normal(size=(8, d)) if positions else None,
        "layers": [layer() for _ in range(layers)],
        "final_norm": a_norm(),
        "unembedding_bias": bias(vocabulary + 1),
        "biases": biases,
    }


# ---------------------------------------------------------------- the synthetic language


@dataclass
class Language:
    """Token classes in a row after 3 special tokens; the three rules of the checkpoints' data:
    a subject names its verbs, a place before an adjective its connective, and a word that had
    one follower so far is followed by it again (smoothed)."""

    sizes: dict  # of each class, in the order of the numbering
    settings: dict

    def __post_init__(self):
        s, at = self.settings, 3
        self.first = {}
        for name in ("subj", "verb", "loc", "adj", "conn", "filler"):
            self.first[name] = at
            at += self.sizes[f"n_{name}"]
        self.size = at
        rng = np.random.default_rng(s["seed"])
        top, n_verb = s["bigram_top_k"], self.sizes["n_verb"]
        self.verbs = []
        for _ in range(self.sizes["n_subj"]):
            p = np.zeros(at)
            p[self.first["verb"] + rng.choice(n_verb, size=top, replace=False)] = s["bigram_probs"]
            self.verbs.append(p)
        n_adj, n_conn = self.sizes["n_adj"], self.sizes["n_conn"]
        picked = rng.choice(
            self.sizes["n_loc"] * n_adj, size=s["skip_trigram_n_pairs"], replace=False
        )
        self.skips = {
            (self.first["loc"] + c // n_adj, self.first["adj"] + c % n_adj): self.first["conn"]
            + j % n_conn
            for j, c in enumerate(map(int, picked))
        }
        self.plain = np.zeros(at)
        for name, first in self.first.items():
            n = self.sizes[f"n_{name}"]
            self.plain[first : first + n] = s[f"default_p_{name}"] / n

    def is_a(self, name, token):
        return self.first[name] <= token < self.first[name] + self.sizes[f"n_{name}"]

    def rule(self, tokens, followers):
        """(which rule, the true distribution) of the next token."""
        last = tokens[-1]
        if self.is_a("subj", last):
            return "bigram", self.verbs[last - self.first["subj"]]
        if self.is_a("adj", last):
            for place in reversed(tokens[:-1][-self.settings["skip_trigram_max_skip"] :]):
                if (place, last) in self.skips:
                    return "skip", np.eye(self.size)[self.skips[place, last]]
        seen = followers.get(last, ())
        if not self.is_a("filler", last) and len(seen) == 1:
            smooth = self.settings["induction_smoothing"]
            p = np.zeros(self.size)
            p[3:] = smooth / (self.size - 3)
            p[seen[0]] += 1 - smooth
            return "induction", p
        return "none", self.plain

    def sentence(self, rng, cumulated):
        """(tokens, [(position, rule, distribution)]): 0 first, 1 last."""
        n, tokens, followers, rules = self.settings["seq_len"], [0], {}, []
        for t in range(1, n - 1):
            if t >= 3:
                followers.setdefault(tokens[t - 3], []).append(tokens[t - 2])
            name, p = self.rule(tokens, followers)
            rules.append((t, name, p))
            tokens.append(self.draw(rng, name, p, followers.get(tokens[-1]), cumulated))
        return [*tokens, 1], rules

    def draw(self, rng, name, p, seen, cumulated):
        """One token, with the checkpoints' own use of the random numbers."""
        if name == "skip":
            return int(np.argmax(p))
        if name == "induction":
            kept = rng.random() < 1 - self.settings["induction_smoothing"]
            return seen[0] if kept else int(rng.integers(3, self.size))
        if id(p) not in cumulated:  # the table's own rows, which live as long as the table
            cumulated[id(p)] = np.cumsum(p)
        return int(np.searchsorted(cumulated[id(p)], rng.random()))


def language(settings):
    return Language(settings["vocab"], settings)


def sentences(tongue, rng, many):
    """[(tokens, [(position, rule, distribution)])]."""
    cumulated = {}
    return [tongue.sentence(rng, cumulated) for _ in range(many)]


def measured(model, made):
    """{'loss', 'kl_bigram', 'top1_bigram', 'n_bigram', ..} of a model's logits on sentences."""
    tokens = np.array([t for t, _ in made])
    logp = np.concatenate([model(part) for part in np.split(tokens, max(1, len(tokens) // 256))])
    logp -= logp.max(-1, keepdims=True)
    logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
    rows, places = np.indices(tokens[:, 1:].shape)
    out = {"eval_overall_loss": float(-logp[rows, places, tokens[:, 1:]].mean())}
    for name in ("bigram", "skip", "induction"):
        told = [(b, t, p) for b, (_, rules) in enumerate(made) for t, r, p in rules if r == name]
        true = np.array([p for *_, p in told])
        found = logp[[b for b, *_ in told], [t - 1 for _, t, _ in told]]
        kl = (true * (np.log(np.where(true > 0, true, 1)) - found)).sum(1)
        hits = found.argmax(1) == true.argmax(1)
        out |= {f"kl_{name}": kl.mean(), f"top1_{name}": hits.mean(), f"n_{name}": len(told)}
    return out
