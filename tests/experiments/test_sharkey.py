"""Sharkey's note: identities, the language and what is read off paths; see `run.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter

import numpy as np
import pytest
import torch

import gatewise as gw
import shared

FOLDER = shared.ROOT / "experiments" / "sharkey2023bilinear"
PAGE = shared.ROOT / "docs" / "explanation" / "sharkey.md"
CONFIG = tomllib.loads((FOLDER / "config.toml").read_text())


def next_token(lang, tokens, i, j, k):
    """p of what follows tokens, by the rules as words, a dict of names."""
    last, m, even = lang.names[tokens[-1]], lang.m, (1 - lang.sure) / lang.m
    p = Counter()
    if last == "both":
        for t in range(m):
            right = (lang.sure - lang.echo) * (t == (i + j) % m)
            p[f"t{t}"] = even + right + lang.echo / 2 * (int(t == i) + int(t == j))
    elif last.startswith("ask"):
        for u in range(m):
            p[f"u{u}"] = even + lang.sure * (u == lang.permutations[int(last[3:]), k])
    else:
        for name, value in zip(lang.names, lang.follow[tokens[-1]], strict=True):
            p[name] = float(value)
    return p


def test_the_true_probabilities_are_the_rules_and_sentences_are_drawn_from_them(experiment):
    la = experiment("language")
    lang = la.language(CONFIG["language"])
    s = la.sentences(lang, 3000, 9, 0)
    np.testing.assert_allclose(s.truth.sum(-1), 1)
    for row in range(40):
        for at in range(9):
            p = next_token(lang, s.tokens[row, : at + 1], *s.header[row])
            want = [p[name] for name in lang.names]
            np.testing.assert_allclose(s.truth[row, at], want, atol=1e-12)
    chance = np.take_along_axis(s.truth[:, 3:-1], s.tokens[:, 4:, None], -1)[..., 0]
    assert chance.min() > 0
    surprise, floor = -np.log(chance).mean(), la.entropy(s.truth[:, 3:-1]).mean()
    assert abs(surprise - floor) < 0.02  # 15,000 draws
    assert set(np.unique(lang.rule(s.tokens))) == {0, 1, 2}


def test_neither_token_alone_says_the_answer(experiment):
    la = experiment("language")
    lang = la.language({**CONFIG["language"], "echo": 0.0})
    header = np.array([(i, j, 0) for i in range(4) for j in range(4)])
    p = lang.truth(np.full(16, lang.at("both")), header)[:, lang.at("t0") : lang.at("u0")]
    table = p.reshape(4, 4, 4)
    np.testing.assert_allclose(table.mean(0), 0.25)
    np.testing.assert_allclose(table.mean(1), 0.25)
    assert len(lang.planted_pairs()) == 16 and len(lang.planted_skips()) == 8


def test_entropy_and_divergence_are_those_of_scipy(experiment):
    from scipy.special import softmax
    from scipy.stats import entropy

    la, rng = experiment("language"), np.random.default_rng(0)
    logits, p = rng.normal(size=(3, 5)) * 4, softmax(rng.normal(size=(3, 5)), -1)
    p[0, 2:] = 0
    p /= p.sum(-1, keepdims=True)
    np.testing.assert_allclose(la.entropy(p), entropy(p, axis=-1))
    np.testing.assert_allclose(la.divergence(p, logits), entropy(p, softmax(logits, -1), axis=-1))


def test_every_identity_of_the_note_holds(experiment):
    rows = experiment("identities").measured(seed=7)
    assert len(rows) == 16 and "1 + H + (H + 1)² = 20 terms" in {r["identity"] for r in rows}
    assert max(r["error"] for r in rows) < 1e-12


def test_a_wrong_identity_shows(experiment, monkeypatch):
    identities = experiment("identities")
    right = gw.bilinear.tensor_inner
    monkeypatch.setattr(
        identities.bl, "tensor_inner", lambda U, V, j, k: right(U, V, j, k) + 1e-6, raising=False
    )
    assert max(r["error"] for r in identities.measured()) > 1e-7


def hand_made(lang, length=32):
    """A model of arrays in which only a_i × b_j speaks at 'both': bilinear attention, two heads."""
    n, m = len(lang.names), lang.m
    Q, K = np.zeros((2, 2, 1, n)), np.zeros((2, 2, 1, n))
    V, O = np.zeros((2, m, n)), np.zeros((2, n, m))  # noqa: E741
    Q[:, :, 0, lang.at("both")] = 1
    for h, name in enumerate("ab"):
        first = lang.at(f"{name}0")
        K[:, h, 0, first : first + m] = 1
        V[h, :, first : first + m] = np.eye(m)
        O[h, first : first + m] = np.eye(m)
    left, right = np.zeros((m * m, n)), np.zeros((m * m, n))
    P = np.zeros((n, m * m))
    for row, ((a, b), t) in enumerate(lang.planted_pairs().items()):
        left[row, a], right[row, b], P[t, row] = 1, 1, 3
    part = gw.bilinear.attention(Q, K, V, O, "bilinear", scale=1.0)
    layer = gw.bilinear.TransformerLayer(part, gw.bilinear.mlp(left, right, P))
    names = lang.names
    return gw.bilinear.Transformer.from_arrays(np.eye(n), np.eye(n), [layer], token_names=names)


def test_pairs_that_are_in_the_weights_are_found_and_no_others(experiment):
    la, paths = experiment("language"), experiment("paths")
    lang = la.language(CONFIG["language"])
    model = hand_made(lang)
    summary, pair, shares = paths.found_pairs(model, lang)
    assert summary["planted among the first"] == summary["worst rank"] == 16
    assert summary["share of a × b"] == pytest.approx(1) and shares[0]["term"] == "H@1 × H@2"
    np.testing.assert_allclose(pair, paths.interaction(3.0 * paths.planted(lang)), atol=1e-12)
    assert summary["planted among the first, bare"] == 16  # nothing else is in these weights
    test = la.sentences(lang, 30, 9, 0)
    row = paths.carried(model, lang, test, 10)[2]
    assert row["MLP: head × head"] == pytest.approx(3) and row["margin"] == pytest.approx(3)


def test_kinds_add_up_to_the_margin_and_pruning_leaves_an_exact_remainder(experiment):
    la, paths, learning = (experiment(name) for name in ("language", "paths", "learning"))
    lang = la.language(CONFIG["language"])
    test = la.sentences(lang, 40, 9, 0)
    settings = {"width": 8, "heads": 2, "hidden": 6, "norm": "rmsnorm"}
    net = gw.models.BilinearTransformer(len(lang.names), **settings).double()
    model = learning.circuits(net, lang)
    for i, row in enumerate(paths.carried(model, lang, test, 6)):
        places = paths.positions(lang, test, i, 6)
        with torch.no_grad():
            logits = net(torch.tensor(test.tokens)).numpy()
        want = np.mean([paths.margin(lang, test.truth[p]) @ logits[p] for p in places])
        assert sum(row[kind] for kind in paths.KINDS) == pytest.approx(want, abs=1e-10)
    rows = paths.pruned(model, lang, test, 6)
    assert max(r["error"] for r in rows) < 1e-10
    assert rows[-1]["median remainder"] < rows[0]["median remainder"]


def test_the_kept_results_are_as_expected(experiment):
    reporting, measures = experiment("reporting"), experiment("experiment")
    rows = {n: reporting.read_rows(FOLDER / "results" / f"{n}.csv") for n in measures.TABLES}
    numbers = measures.numbers(rows["identities"], rows["runs"])
    checks = reporting.read_checks(FOLDER / "expected.csv", numbers)
    assert [str(c) for c in checks if not c.ok] == []
    assert {r["seed"] for r in rows["runs"]} == set(CONFIG["run"]["seeds"])


def test_the_page_is_filled_and_is_made_again_from_the_results(experiment, tmp_path):
    text = PAGE.read_text()
    assert not re.search(r"\{[a-z]|\bnan\b", text)
    (tmp_path / "results").symlink_to(FOLDER / "results")
    assert experiment("run").main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "sharkey.md").read_text() == text
    for picture in re.findall(r"\.\./_static/(\w+\.png)", text):
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 150_000
        assert (tmp_path / "_static" / picture).exists()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_the_small_run_finds_the_planted_pairs():
    job = [sys.executable, str(FOLDER / "run.py"), "--small"]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
