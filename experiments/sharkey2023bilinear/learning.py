"""One-layer transformers learn the language, with an MLP and without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from language import RULES, Language, Sentences, divergence, entropy
from reporting import Row

import gatewise as gw

MODELS: dict[str, dict[str, str]] = {
    "bilinear": {"attention": "bilinear"},
    "bilinear, no MLP": {"attention": "bilinear"},
    "softmax": {"attention": "softmax"},
    "softmax, no MLP": {"attention": "softmax"},
    "softmax, RMSNorm": {"attention": "softmax", "norm": "rmsnorm"},
}


@dataclass(frozen=True, eq=False)
class Learnt:
    """The network, in float64; its loss above the floor after each pass; CPU seconds."""

    net: gw.models.BilinearTransformer
    curves: list[Row]
    cpu: float


def learn(
    name: str, lang: Language, train: Sentences, test: Sentences, c: dict, seed: int
) -> Learnt:
    """One of MODELS. Without MLP: the same network, the MLP's P is 0 and stays so."""
    net = gw.models.BilinearTransformer(len(lang.names), seed=seed, **c["model"], **MODELS[name])
    if name.endswith("no MLP"):
        net.blocks[0].mlp.P.weight.requires_grad_(False).zero_()
    curves: list[Row] = []

    def note(epoch: gw.models.Epoch) -> None:
        found = above_floor(lang, test, net)
        key = {"model": name, "seed": seed, "pass": epoch.number}
        curves.extend({**key, "rule": rule, "nats": nats} for rule, nats in found.items())

    history = gw.models.fit_next_token(
        net, train.tokens, epochs=c["epochs"], optimizer="adamw", seed=seed, progress=note,
        **c["train"],
    )  # fmt: skip
    return Learnt(net.double(), curves, history.seconds)


def above_floor(lang: Language, test: Sentences, net: torch.nn.Module) -> dict[str, float]:
    """Mean KL(truth, model) in nats: over every position but the last, and over each rule's."""
    with torch.no_grad():
        logits = net(torch.tensor(test.tokens)).double().numpy()
    nats = divergence(test.truth, logits)[:, :-1]
    rules = lang.rule(test.tokens)[:, :-1]
    by_rule = {rule: float(nats[rules == i].mean()) for i, rule in enumerate(RULES)}
    return {"all": float(nats.mean()), **by_rule}


def floors(lang: Language, test: Sentences) -> dict[str, float]:
    """The mean entropy of the truth at the same positions: no model has a lower loss."""
    nats = entropy(test.truth)[:, :-1]
    rules = lang.rule(test.tokens)[:, :-1]
    by_rule = {rule: float(nats[rules == i].mean()) for i, rule in enumerate(RULES)}
    return {"all": float(nats.mean()), **by_rule}


def circuits(net: gw.models.BilinearTransformer, lang: Language) -> gw.bilinear.Transformer:
    """The network as `gw.bilinear` reads it, tokens by name."""
    settings = {**net.settings, "token_names": lang.names}
    return gw.bilinear.from_state(net.state_dict(), settings)


def disagreement(net: gw.models.BilinearTransformer, test: Sentences) -> float:
    """max |logits of torch - logits of the circuits' arrays|."""
    with torch.no_grad():
        logits = net(torch.tensor(test.tokens[:50])).numpy()
    model = gw.bilinear.from_state(net.state_dict(), net.settings)
    return float(np.abs(model(test.tokens[:50]) - logits).max())
