"""The whole experiment as rows: identities, what was learnt, what its paths say."""

from __future__ import annotations

from dataclasses import dataclass, field

import identities
import numpy as np
import paths
import torch
from language import RULES, Language, Sentences, language, sentences
from learning import MODELS, Learnt, above_floor, circuits, disagreement, floors, learn
from reporting import Row, Spread, markdown

from gatewise import bilinear as bl

PLACES = 60  # positions of each rule whose path tables are made
TABLES = ("identities", "runs", "curves", "carried", "pruned", "interactions", "pairs")


@dataclass(frozen=True)
class Found:
    """Rows of TABLES, and one printed path table."""

    identities: list[Row] = field(default_factory=identities.measured)
    runs: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    carried: list[Row] = field(default_factory=list)
    pruned: list[Row] = field(default_factory=list)
    interactions: list[Row] = field(default_factory=list)
    pairs: list[Row] = field(default_factory=list)
    example: list[str] = field(default_factory=list)


def settings(config: dict, small: bool) -> dict:
    """The settings of a run: [run], and what [small] changes, beside the others."""
    return {**config, **config["run"], **(config["small"] if small else {})}


def drawn(c: dict) -> tuple[Language, Sentences, Sentences]:
    """The language, sentences to learn from and sentences to test on."""
    lang = language(c["language"])
    train, test = (
        sentences(lang, rows, c["length"], seed)
        for rows, seed in ((c["rows"], 1), (c["test_rows"], 2))
    )
    return lang, train, test


def run(c: dict, models: list[str]) -> Found:
    """Everything about some of MODELS. Path tables of the first seed go into the page."""
    torch.set_num_threads(1)
    found, (lang, train, test) = Found(), drawn(c)
    for name in models:
        for seed in c["seeds"]:
            one = learn(name, lang, train, test, c, seed)
            first = seed == c["seeds"][0]
            add(found, {"model": name, "seed": seed}, one, lang, test, first)
            print(f"{name}, seed {seed}: {one.cpu:.1f} CPU s", found.runs[-1], flush=True)
    return found


def add(found: Found, key: Row, one: Learnt, lang: Language, test: Sentences, first: bool) -> None:
    """The rows of one learnt network."""
    model = circuits(one.net, lang)
    summary, pair, shares = paths.found_pairs(model, lang)
    nats = {f"above floor, {rule}": v for rule, v in above_floor(lang, test, one.net).items()}
    entropies = {f"floor, {rule}": v for rule, v in floors(lang, test).items()}
    skips = paths.found_skips(model, lang)
    arrays = {"arrays - torch": disagreement(one.net, test), "cpu": one.cpu}
    carried = paths.carried(model, lang, test, PLACES)
    worst = max(float(r["error"]) for r in [*carried, summary])
    found.runs.append({**key, **nats, **entropies, **summary, **skips, "error": worst, **arrays})
    found.curves.extend(one.curves)
    if not first:
        return
    found.carried.extend({**key, **row} for row in carried)
    found.pruned.extend({**key, **row} for row in paths.pruned(model, lang, test, PLACES))
    found.interactions.extend({**key, **row} for row in shares)
    right = paths.planted(lang)
    found.pairs.extend(
        {**key, "a": i, "b": j, "t": t, "interaction": float(pair[i, j, t]),
         "planted": int(right[i, j, t])}
        for i, j, t in np.ndindex(pair.shape)
    )  # fmt: skip
    if not found.example:
        found.example.append(example(model, lang, test))


def example(model: bl.Transformer, lang: Language, test: Sentences) -> str:
    """A sentence that asks for both, and its path table."""
    row, at = paths.positions(lang, test, 2, 1)[0]
    tokens, truth = test.tokens[row, : at + 1], test.truth[row, at]
    u = paths.margin(lang, truth)
    table = bl.path_expansion(model, tokens, logit=u, by_source=True, ordered=False)
    asked = lang.names[int(truth.argmax())]
    said = f"{' '.join(lang.names[t] for t in tokens)} -> {asked}"
    return f"{said}\ndirection: {asked} less the mean of the other answers\n{table.strongest(8)}"


def numbers(found_identities: list[Row], runs: list[Row]) -> dict[str, float]:
    """What `expected.csv` checks; models by the mean over their seeds."""
    held = {"largest error of an identity": max(float(r["error"]) for r in found_identities)}
    held["largest error of a path table"] = max(float(r["error"]) for r in runs)
    for name in MODELS:
        mine = [r for r in runs if r["model"] == name]
        for rule in ("all", *RULES) if mine else ():
            held[f"{name}: above floor, {rule}"] = mean(mine, f"above floor, {rule}")
        for what in ("planted among the first", "skip-trigrams found") if mine else ():
            held[f"{name}: {what}"] = mean(mine, what)
    return held


def mean(rows: list[Row], name: str) -> float:
    """Of a column."""
    return float(np.mean([float(r[name]) for r in rows]))


# ---------------------------------------------------------------- tables of the page


def identity_table(rows: list[Row]) -> str:
    """Each identity, 0 and what was measured."""
    return markdown(
        [
            {
                "identity": f"`{r['identity']}`",
                "should be": 0,
                "largest difference": f"{float(r['error']):.1e}",
            }
            for r in rows
        ]
    )  # fmt: skip


def loss_table(runs: list[Row]) -> str:
    """The floor of each rule and what every model loses above it, in nats."""
    first = runs[0]
    lines = [{"nats": "floor (entropy of the truth)"} | {
        rule: f"{float(first[f'floor, {rule}']):.3f}" for rule in ("all", *RULES)}]  # fmt: skip
    for name in dict.fromkeys(r["model"] for r in runs):
        mine = [r for r in runs if r["model"] == name]
        cells = {
            rule: Spread.of([float(r[f"above floor, {rule}"]) for r in mine]).text(3)
            for rule in ("all", *RULES)
        }
        lines.append({"nats": f"{name}: above it"} | cells)
    return markdown(lines)


def pair_table(runs: list[Row]) -> str:
    """How many planted pairs are found, a seed each."""
    lines = []
    for name in dict.fromkeys(r["model"] for r in runs if "no MLP" not in str(r["model"])):
        mine = [r for r in runs if r["model"] == name]

        def each(what: str, form: str = "d", mine: list[Row] = mine) -> str:
            return ", ".join(format(r[what], form) for r in mine)

        lines.append(
            {
                "model": name,
                "planted pairs among the 16 strongest of 64": each("planted among the first"),
                "rank of the last planted one": each("worst rank"),
                "skip-trigrams found, of 8": each("skip-trigrams found"),
                "share of the logits' a-b interaction in terms a × b": each(
                    "share of a × b", ".2f"
                ),
                "planted among the 16 largest bare weights": each("planted among the first, bare"),
            }
        )
    return markdown(lines)


def carried_table(rows: list[Row], model: str) -> str:
    """What each kind of term adds to the margin."""
    mine = [r for r in rows if r["model"] == model]
    kinds = ("margin", *paths.KINDS)
    return markdown(
        [
            {"mean over positions": r["rule"]} | {k: f"{float(r[k]):+.2f}" for k in kinds}
            for r in mine
        ]
    )


def pruned_table(rows: list[Row], model: str) -> str:
    """The exact remainder after pruning."""
    mine = [r for r in rows if r["model"] == model]
    return markdown(
        [
            {
                "strongest terms kept": f"{r['kept']} of up to {r['of']}",
                "size of the remainder, median": f"{float(r['median remainder']):.3f}",
                "largest": f"{float(r['largest']):.3f}",
                "terms + remainder - margin": f"{float(r['error']):.0e}",
            }
            for r in mine
        ]
    )
