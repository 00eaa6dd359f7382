"""Which paths carry a logit, and whether the planted rules are found among the pairs of paths."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
from language import RULES, Language, Sentences
from reporting import Row

from gatewise import bilinear as bl

KINDS = ("direct", "head", "MLP: direct × direct", "MLP: direct × head", "MLP: head × head")
KEEP = (1, 4, 16, 64, 256)  # strongest terms of a table


def kind(term: str) -> str:
    """Which of KINDS a term of the table is."""
    inside = re.fullmatch(r"L0\.mlp\((.*) × (.*)\)", term)
    if inside is None:
        return "direct" if term == "embed" else "head"
    heads = sum(side.startswith("L0.H") for side in inside.groups())
    return KINDS[2 + heads]


def margin(lang: Language, truth: np.ndarray) -> np.ndarray:
    """The logit of the likeliest token minus the mean of its rivals': the other tokens that may
    come, or, where words may come, the other words."""
    rivals = truth > 0
    rivals[[lang.at("both"), *lang.asks]] = False
    direction = np.where(rivals, -1 / (rivals.sum() - 1), 0.0)
    direction[int(truth.argmax())] = 1
    return direction


def positions(lang: Language, test: Sentences, rule: int, count: int) -> list[tuple[int, int]]:
    """(row, position) of the first so many places where a rule speaks, past the header."""
    rules = lang.rule(test.tokens)
    rules[:, :3] = rules[:, -1] = -1
    rows, at = np.nonzero(rules == rule)
    first = np.unique(rows, return_index=True)[1]  # one a sentence
    return [(int(rows[i]), int(at[i])) for i in first[:count]]


def carried(model: bl.Transformer, lang: Language, test: Sentences, count: int) -> list[Row]:
    """For each rule, the mean margin and what each kind of term adds to it; they sum to it."""
    found = []
    for i, rule in enumerate(RULES):
        sums: defaultdict[str, float] = defaultdict(float)
        worst, chosen = 0.0, positions(lang, test, i, count)
        for row, at in chosen:
            u = margin(lang, test.truth[row, at])
            table = bl.path_expansion(model, test.tokens[row, : at + 1], logit=u)
            worst = max(worst, table.error)
            sums["margin"] += table.logit / len(chosen)
            for k, contribution in enumerate(table.contributions):
                sums[kind(table.term(k))] += float(contribution) / len(chosen)
        kinds = {name: sums[name] for name in KINDS}
        found.append({"rule": rule, "margin": sums["margin"], **kinds, "error": worst})
    return found


def pruned(model: bl.Transformer, lang: Language, test: Sentences, count: int) -> list[Row]:
    """At the rule that needs two tokens: how much of the margin the terms that are not kept hold.

    A term a head and source. remainder: its size, the median and the largest over the positions;
    error: the largest |kept terms + remainder - margin|.
    """
    tables = []
    for row, at in positions(lang, test, 2, count):
        u, tokens = margin(lang, test.truth[row, at]), test.tokens[row, : at + 1]
        tables.append(bl.path_expansion(model, tokens, logit=u, by_source=True, ordered=False))
    rows: list[Row] = []
    for k in KEEP:
        short = [table.strongest(min(k, len(table))) for table in tables]
        left = np.abs([table.remainder for table in short])
        sizes = {"median remainder": float(np.median(left)), "largest": float(left.max())}
        error = max(table.error for table in short)
        margins = float(np.mean([t.logit for t in tables]))
        rows.append(
            {"kept": k, "of": max(map(len, tables)), "margin": margins, **sizes, "error": error}
        )
    return rows


def probes(lang: Language) -> np.ndarray:
    """(m, m, m, 5): 'start a_i b_j s_k both', the shortest sentences that ask for both."""
    i, j, k = np.indices((lang.m,) * 3)
    fixed = [np.full(i.shape, lang.at(name)) for name in ("start", "both")]
    heads = [part + lang.at(name) for part, name in ((i, "a0"), (j, "b0"), (k, "s0"))]
    return np.stack([fixed[0], *heads, fixed[1]], -1)


def interaction(values: np.ndarray) -> np.ndarray:
    """What neither a_i nor b_j says alone: values (i, j, t) less their means over i, j and t."""
    for axis in range(3):
        values = values - values.mean(axis, keepdims=True)
    return values


def planted(lang: Language) -> np.ndarray:
    """(i, j, t): is t what the pair calls for?"""
    found = np.zeros((lang.m,) * 3, bool)
    a, b, t = (lang.at(name) for name in ("a0", "b0", "t0"))
    for (x, y), z in lang.planted_pairs().items():
        found[x - a, y - b, z - t] = True
    return found


def by_term(model: bl.Transformer, lang: Language) -> tuple[dict[str, np.ndarray], float]:
    """{term: (i, j, t) its contribution to logit t, the mean over s_k}; the largest error of a
    table. Terms have sources: 'H@1 × H@2' is a_i times b_j, whichever heads they come through."""
    m, t0, worst = lang.m, lang.at("t0"), 0.0
    found: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros((m, m, m)))
    sentences = probes(lang)
    for i, j, k, t in np.ndindex(m, m, m, m):
        table = bl.path_expansion(
            model, sentences[i, j, k], logit=t0 + t, by_source=True, ordered=False
        )
        worst = max(worst, table.error)
        for n, contribution in enumerate(table.contributions):
            found[unheaded(table.term(n))][i, j, t] += contribution / m
    return dict(found), worst


def unheaded(term: str) -> str:
    """'L0.mlp(L0.H2@2(embed) × L0.H0@1(embed))' as 'H@1 × H@2'."""
    inside = term.removeprefix("L0.mlp(").removesuffix(")") if " × " in term else term
    sides = [re.sub(r"L0\.H\d+@(\d+)\(embed\)?", r"H@\1", s) for s in inside.split(" × ")]
    return " × ".join(sorted(s.replace("embed", "last") for s in sides))


def found_pairs(model: bl.Transformer, lang: Language) -> tuple[Row, np.ndarray, list[Row]]:
    """How the planted pairs rank among the (a_i, b_j, t) by the weight of a_i × b_j; that table of
    interactions; and how much of the logits' interaction each kind of term carries."""
    terms, worst = by_term(model, lang)
    whole, right = interaction(sum(terms.values())), planted(lang)
    parts = {name: interaction(values) for name, values in terms.items()}
    shares = {name: float((v * whole).sum() / (whole * whole).sum()) for name, v in parts.items()}
    pair = parts["H@1 × H@2"]
    order = np.argsort(-pair.ravel(), kind="stable")
    ranks = 1 + np.flatnonzero(right.ravel()[order])
    raw = unit_attention(model, lang)
    summary: Row = {
        "planted": int(right.sum()),
        "of": right.size,
        "planted among the first": int((ranks <= right.sum()).sum()),
        "worst rank": int(ranks.max()),
        "pairs whose strongest answer is planted": int((pair.argmax(2) == right.argmax(2)).sum()),
        "share of a × b": shares["H@1 × H@2"],
        "error": worst,
        **raw,
    }
    listed = sorted(shares.items(), key=lambda item: -abs(item[1]))
    return summary, pair, [{"term": name, "share": share} for name, share in listed]


def unit_attention(model: bl.Transformer, lang: Language) -> Row:
    """The same question to the bare weights, attention left out: all pairs of two skip-trigrams."""
    k = len(lang.planted_pairs())
    found = bl.strongest_token_pairs(model, k, heads_only=True)
    said = {
        (*sorted((int(p) % len(lang.names), int(q) % len(lang.names))), int(o))
        for o, p, q in zip(found.outputs, found.first, found.second, strict=True)
    }
    hits = sum((x, y, t) in said for (x, y), t in lang.planted_pairs().items())
    return {"bare pairs": found.total, "planted among the first, bare": hits}


def found_skips(model: bl.Transformer, lang: Language) -> Row:
    """Is u the answer to ask_r that the paths of s_k raise most? In sentences as `probes`."""
    u0, hits, sentences = lang.at("u0"), 0, probes(lang)[0, 0]
    planted_skips = lang.planted_skips()
    for (ask, source), u in planted_skips.items():
        row = sentences[source - lang.at("s0")].copy()
        row[-1] = ask
        raised = np.zeros(lang.m)
        for t in range(lang.m):
            table = bl.path_expansion(model, row, logit=u0 + t, by_source=True, ordered=False)
            names = [unheaded(table.term(n)) for n in range(len(table))]
            raised[t] = sum(
                float(c)
                for c, name in zip(table.contributions, names, strict=True)
                if name in ("H@3", "H@3 × last")
            )
        hits += int(raised.argmax() == u - u0)
    return {"skip-trigrams": len(planted_skips), "skip-trigrams found": hits}
