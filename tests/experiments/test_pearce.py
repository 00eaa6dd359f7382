"""Bilinear MLPs on images, 2025: training, measures and masks on small things; see `run.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import shared
from gatewise.bilinear import BilinearLayer, quadratic_part, spectrum, tensor

FOLDER = shared.ROOT / "experiments" / "pearce2025bilinear"
PAGE = shared.ROOT / "docs" / "explanation" / "pearce.md"


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(data, inputs: int = 12, rows: int = 96):
    """Images of few pixels: the label is the largest of the first ten."""
    x, test = random(rows, inputs).abs(), random(40, inputs, seed=1).abs()
    return data.Images(x, x[:, :10].argmax(1), test, test[:, :10].argmax(1))


def layer_of(seed: int, hidden: int = 6, inputs: int = 784, residual: bool = False):
    W, V, E = (random(hidden, n, seed=seed + k) for k, n in enumerate((hidden, hidden, inputs)))
    P = random(10, hidden, seed=seed + 3)
    return BilinearLayer.from_weights(W, V, P, skip=P if residual else None, embedding=E / 28)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(("residual", "bias"), [(False, False), (True, True)])
def test_gradients_are_autograds(experiment, residual, bias):
    batched = experiment("batched")
    specs = [batched.Spec("x", 7, seed=s, residual=residual, bias=bias) for s in range(3)]
    stack = batched.Stack(specs, 12)
    x, y = random(3, 9, 12), torch.arange(27).view(3, 9) % 10
    stack.backward(x, y)
    for k in range(3):
        held = [v[k].clone().requires_grad_() for v in (stack.E, stack.W, stack.H, stack.b)]
        E, W, H, b = held
        h = x[k] @ E
        sides = h @ W + (b if bias else 0)
        logits = (sides[:, :7] * sides[:, 7:] + (h if residual else 0)) @ H
        F.cross_entropy(logits, y[k]).backward()
        for v, g in zip(held, (stack.gE, stack.gW, stack.gH, stack.gb), strict=True):
            if v.numel():
                torch.testing.assert_close(g[k], v.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(
            stack.layer(k)(x[k].double() @ E.double()).float(), logits, rtol=1e-4, atol=1e-6
        )


def test_training_is_torchs_adamw_with_a_cosine_and_a_decay_for_each(experiment):
    """Two networks at once against one after another by autograd and torch.optim.AdamW."""
    batched, images = experiment("batched"), tiny(experiment("data"))
    specs = [
        batched.Spec("x", 5, decay=w, seed=s, passes=3, batch=32, lr=0.01)
        for s, w in enumerate((0.0, 5.0))
    ]
    stack = batched.train(specs, images)
    for k, spec in enumerate(specs):
        start = batched.Stack([spec], 12)
        held = [v[0].clone().requires_grad_() for v in (start.E, start.W, start.H)]
        adam = torch.optim.AdamW(held, lr=0.01, weight_decay=spec.decay)
        draw, order = torch.Generator().manual_seed(10_000 + spec.seed), None
        for t in range(9):
            order = torch.randperm(96, generator=draw) if t % 3 == 0 else order
            at = order[32 * (t % 3) :][:32]
            adam.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * t / 9))
            sides = images.x[at] @ held[0] @ held[1]
            logits = (sides[:, :5] * sides[:, 5:]) @ held[2]
            adam.zero_grad()
            F.cross_entropy(logits, images.y[at]).backward()
            adam.step()
        for mine, want in zip((stack.E, stack.W, stack.H), held, strict=True):
            torch.testing.assert_close(mine[k], want.detach(), rtol=2e-3, atol=2e-5)


def test_what_was_learnt_is_read_and_a_cut_run_goes_on(experiment, tmp_path, capsys):
    batched, images = experiment("batched"), tiny(experiment("data"))
    specs = [batched.Spec("x", 5, seed=s, passes=8, batch=32, lr=0.03) for s in range(3)]
    part = batched.learnt(specs[:1], lambda spec: images, tmp_path, together=1)
    whole = batched.learnt(specs, lambda spec: images, tmp_path, together=2)
    capsys.readouterr()
    again = batched.learnt(specs, lambda spec: images, tmp_path)
    assert capsys.readouterr().out == "" and list(again) == specs
    assert len({s.file for s in specs}) == 3 and not list(tmp_path.glob("*.part"))
    assert torch.equal(part[specs[0]].layer.W, whole[specs[0]].layer.W)
    for spec in specs:
        assert torch.equal(whole[spec].layer.V, again[spec].layer.V)
        net = again[spec]
        said = net.layer(images.test_x.double() @ net.layer.embedding.mT).argmax(1)
        assert net.test == pytest.approx(float((said == images.test_y).double().mean()))


# ---------------------------------------------------------------- data


def test_noise_blur_and_moves_do_what_they_say(experiment):
    data = experiment("data")
    draw, bank = torch.Generator().manual_seed(0), random(200_000)
    x = torch.rand(40, 784, generator=draw)
    added = data.noisy(x, "", 0.0, 0.3, bank, draw) - x
    assert float(added.std()) == pytest.approx(0.3, rel=0.02) and abs(float(added.mean())) < 0.01
    assert data.noisy(x, "", 0.0, 0.0, bank, draw) is x
    flat = torch.full((1, 784), 0.7)
    torch.testing.assert_close(data.blurred(flat, 0.5), flat)
    dot = torch.zeros(1, 28, 28)
    dot[0, 9, 12] = 1
    line = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)
    want = np.outer(line, line) / line.sum() ** 2
    seen = data.blurred(dot.view(1, -1), 0.8).view(28, 28)[7:12, 10:15]
    np.testing.assert_allclose(seen, want, rtol=1e-5)
    many = dot.view(1, -1).expand(300, -1)
    for kind, level, most in (("translation", 0.1, 2.8 + 1), ("rotation", 30.0, 3.6)):
        moved = data.moved(many, kind, level, draw).view(-1, 28, 28)
        mass = moved.sum((1, 2))
        rows = (moved.sum(2) * torch.arange(28.0)).sum(1) / mass
        assert float(mass.mean()) == pytest.approx(1, abs=0.1)
        assert 1 < float((rows - 9).abs().max()) <= most
    assert data.moved(x, "rotation", 0.0, draw) is x


def test_the_challenge_asks_for_the_target_or_its_negative(experiment):
    data = experiment("data")
    x = torch.cat([random(60, 784).abs(), torch.rand(1, 784)])
    target = (random(784, seed=3) > 1.2).float()
    x[3] = target
    for row, label in zip(x, data.challenge_labels(x, target), strict=True):
        cosines = [float(row @ t) / float(row.norm() * t.norm()) for t in (target, 1 - target)]
        assert int(label) == int(max(cosines) > 0.4)
    assert data.challenge_labels(torch.zeros(1, 784), target).tolist() == [0]


@pytest.mark.real_data
def test_both_data_sets_are_read(experiment):
    data = experiment("data")
    for name, mean in (("mnist", 0.1325), ("fashion", 0.2868)):
        here = data.folder() / "images" / data.FOLDERS[name]
        x = data.read_idx(here / "t10k-images-idx3-ubyte.gz")
        assert x.shape == (10000, 28, 28)
        assert x.mean() / 255 == pytest.approx(mean, abs=2e-3)
    found = data.images("mnist", rows=100)
    assert found.x.shape == (100, 784) and found.test_x.shape == (10000, 784)
    assert float(found.x.max()) == 1 and int(found.y[6]) == 1  # the challenge's target
    assert data.images("mnist", "challenge", 100).y[6] == 1


# ---------------------------------------------------------------- measures


def test_agreement_is_the_mean_over_pairs_in_both_ways_of_counting(experiment):
    """Against loops over pairs, with the runs' own pairs and without."""
    measures = experiment("measures")
    runs = [
        measures.pixels(spectrum(layer_of(10 * s, inputs=30), 6, method="dense")) for s in range(3)
    ]
    rows = measures.agreement(runs, 6)
    for order, pairs in product(("positive", "negative", "magnitude"), ("distinct", "with_self")):
        firsts = []
        for run in runs:
            key = {"positive": run.values, "negative": -run.values, "magnitude": run.values.abs()}
            at = key[order].argmax(1)
            firsts.append(torch.stack([run.readers[u, i] for u, i in enumerate(at)]).numpy())
        cosines = []
        for a, b in product(range(3), repeat=2):
            if a < b or (a == b and pairs == "with_self"):
                up = np.abs((firsts[a] * firsts[b]).sum(1))
                norms = np.linalg.norm(firsts[a], axis=1) * np.linalg.norm(firsts[b], axis=1)
                cosines.append(up / norms)
        row = next(r for r in rows if (r["order"], r["pairs"], r["rank"]) == (order, pairs, 1))
        assert row["cosine"] == pytest.approx(np.mean(cosines))
    table = measures.across({6: runs, 7: runs[::-1]})
    same = next(r for r in table if r["hidden"] == r["other"] == 6)
    first = [r for r in rows if r["rank"] == 1 and r["order"] == "positive"]
    assert same["distinct"] == pytest.approx(first[0]["cosine"])
    assert same["script"] == pytest.approx(first[1]["cosine"])
    assert next(r for r in table if r["hidden"] != r["other"])["script"] < same["script"]


def test_pictures_are_smooth_rough_narrow_or_wide(experiment):
    measures, batched = experiment("measures"), experiment("batched")
    board = torch.tensor([[(-1.0) ** (i + j) for j in range(28)] for i in range(28)]).view(1, -1)
    assert float(measures.neighbours(torch.ones(1, 784))) == pytest.approx(1)
    assert float(measures.neighbours(board)) == pytest.approx(-1)
    assert abs(float(measures.neighbours(random(1, 784)))) < 0.15
    layer = layer_of(0)
    outer = torch.zeros(784, dtype=torch.bool)
    outer[:100] = True
    narrow = layer.embedding.clone()
    narrow[:, 100:] = 0
    net = batched.Net(batched.Spec("mnist", 6), replace(layer, embedding=narrow), 0.9, 0.9, 1.0)
    row = measures.concentration(net, measures.whole(net), outer)
    assert row["edge"] == pytest.approx(1) and row["pixels first"] <= 100
    wide = replace(net, layer=layer)
    row = measures.concentration(wide, measures.whole(wide), outer)
    assert row["edge"] == pytest.approx(100 / 784, rel=0.4) and row["pixels first"] > 300


def test_hosvd_is_numpys_svd_of_the_unfolding(experiment):
    measures, batched = experiment("measures"), experiment("batched")
    layer = layer_of(4)
    rows, pictures = measures.unfolded(batched.Net(batched.Spec("mnist", 6), layer, 1, 1, 0))
    B = tensor(layer).numpy()
    U, s, q = np.linalg.svd(B.reshape(10, -1), full_matrices=False)
    np.testing.assert_allclose([r["singular"] for r in rows], s, atol=1e-6)
    for k, row in enumerate(rows[:2]):
        values = np.linalg.eigvalsh(q[k].reshape(6, 6))
        assert row["top"] == pytest.approx(np.abs(values).max(), rel=1e-6)
        mine = np.array([row[f"output {u}"] for u in range(10)])
        assert abs(mine @ U[:, k]) == pytest.approx(1)
    assert pictures.shape == (2, 6, 784)


def test_the_best_threshold_is_the_best(experiment):
    score, y = random(200), (random(200, seed=1) + random(200) > 0).long()
    t = experiment("measures").best_threshold(score, y)
    every = [float(((score > s).long() == y).double().mean()) for s in score]
    assert float(((score > t).long() == y).double().mean()) == pytest.approx(max(every))


def test_cutting_nothing_loses_nothing_and_cutting_all_guesses(experiment):
    measures, batched, data = (experiment(n) for n in ("measures", "batched", "data"))
    images, layer = tiny(data, 784), layer_of(1)
    labels = layer(images.test_x.double() @ layer.embedding.mT).argmax(1)
    images = replace(images, test_y=labels)
    net = batched.Net(batched.Spec("mnist", 6), layer, 1.0, 1.0, 0.0)
    for space in ("hidden", "data"):
        rows = measures.cut(net, images, space)
        assert rows[-1]["accuracy"] == rows[-1]["whole"] == 1 and rows[-1]["kept"] == 6
        assert rows[0]["accuracy"] < 0.5


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("residual", [False, True])
def test_an_attack_is_what_the_network_says_of_image_plus_mask(experiment, residual):
    attacks, batched, data = (experiment(n) for n in ("attacks", "batched", "data"))
    layer = layer_of(2, hidden=5, residual=residual)
    images = tiny(data, 784)
    masks, target = random(3, 784, seed=9).double() * 2, torch.tensor([1, 4, 7])
    net = batched.Net(batched.Spec("mnist", 5), layer, 1.0, 1.0, 0.0)
    found = attacks.attack(net, masks, target, images)
    for (i, s), k in product(enumerate(attacks.STRENGTHS), range(3)):
        seen = (images.x.double() + s * masks[k]) @ layer.embedding.mT
        said = layer(seen).argmax(1)
        wrong = (said == target[k]) & (images.y != target[k])
        want = [float((said == images.y).double().mean()), float(wrong.double().mean())]
        assert found[i, k].tolist() == pytest.approx(want, abs=0.011)  # one row in 96 may tie


def test_masks_are_permuted_within_their_pixels_and_turned_to_the_other_digits(experiment):
    attacks, data = experiment("attacks"), experiment("data")
    where = torch.zeros(784, dtype=torch.bool)
    where[100:300] = True
    masks = random(4, 784).double() * where
    moved = attacks.permuted(masks, where, 0)
    assert float(moved[:, ~where].abs().max()) == 0 and not torch.equal(moved, masks)
    torch.testing.assert_close(moved.sort(1).values, masks.sort(1).values)
    images = tiny(data, 784)
    found = attacks.published(spectrum(quadratic_part(layer_of(3)), 6, method="dense"), images)
    assert set(found.rank.tolist()) <= {0, 1, 2}
    for mask, digit in zip(found.masks, found.target, strict=True):
        overlap = sum(
            float(images.test_x[images.test_y == c][:500].double().mean(0) @ mask)
            for c in range(10)
            if c != int(digit)
        )
        assert overlap >= -1e-9


# ---------------------------------------------------------------- gates


def test_forms_by_hand_are_the_gates_and_the_printed_xnor_is_not(experiment):
    gates = experiment("gates")
    x = torch.tensor(list(product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    for name in ("and", "xor"):
        forms = gates.by_hand(name, 3)
        y = torch.einsum("ri,oij,rj->ro", x, forms, x)
        for o, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            both = {"and": x[:, i] * x[:, j], "xor": (x[:, i] != x[:, j]).double()}
            torch.testing.assert_close(y[:, o], both[name])
    rows = {r["gate"]: r for name in gates.COEFFICIENTS for r in gates.truth_table(name)}
    assert [rows[n]["error"] for n in gates.COEFFICIENTS] == [0, 0, 1]
    assert (rows["xnor"]["constant"], rows["xnor"]["of a"], rows["xnor"]["of ab"]) == (1, -1, 2)


def test_a_layer_learns_and_as_built_by_hand(experiment):
    gates = experiment("gates")
    c = {"lr": 0.02, "decay": 0.1, "steps": 300, "batch": 64}
    layer, loss = gates.train("and", 3, 3, 0, c)
    found = torch.einsum("oij->oij", tensor(layer))
    assert loss < 1e-3
    assert float((found - gates.by_hand("and", 3)).abs().max()) < 0.1


# ---------------------------------------------------------------- tables and the run


def test_pictures_come_back_from_their_file(experiment, tmp_path):
    measures = experiment("experiment")
    held = {"a": random(2, 784), "b c": random(784) * 9}
    measures.keep_pictures(tmp_path / "x.npz", held)
    back = measures.kept_pictures(tmp_path / "x.npz")
    for name, p in held.items():
        want = p.view(-1, 28, 28) / p.view(-1, 784).abs().amax(1)[:, None, None]
        np.testing.assert_allclose(back[name], want, atol=1 / 200)


def test_a_figure_has_the_published_networks(experiment):
    plan = experiment("plan")
    import tomllib

    config = tomllib.loads((FOLDER / "config.toml").read_text())
    counts = {f: len(plan.specs(config["paper"], f)) for f in plan.FIGURES}
    assert counts == {
        "eigenvectors": 2, "masks": 2, "challenge": 1, "similarity": 30, "sparsity": 36,
        "augment": 39,
    }  # fmt: skip
    one = plan.specs(config["paper"], "similarity")[-1]
    assert (one.hidden, one.seed, one.noise, one.decay) == (1000, 4, 0.4, 1.0)
    assert (one.batch, one.passes, one.lr) == (2048, 100, 1e-3)


def test_an_unknown_figure_or_published_settings_without_a_folder_are_refused():
    for words, message in (
        (["--full", "--figure", "8"], "invalid choice: '8'"),
        (["--full", "--paper"], "--paper goes with --full and --out"),
        ([], "one of the arguments --small --full --page is required"),
    ):
        job = [sys.executable, str(FOLDER / "run.py"), *words]
        done = subprocess.run(job, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr


# ---------------------------------------------------------------- what is kept in the repository


def test_the_kept_results_are_as_published(experiment):
    reporting, tables = experiment("reporting"), experiment("tables")
    numbers = tables.orders(tables.read(FOLDER / "results"))
    checks = reporting.read_checks(FOLDER / "published.csv", numbers)
    assert len(checks) >= 15
    assert [str(c) for c in checks if not c.ok] == []


def test_the_page_is_filled_and_is_made_again_from_the_results(experiment, tmp_path, monkeypatch):
    """With the cheapest of its pictures."""
    text, drawing = PAGE.read_text(), experiment("drawing")
    one = {"similarity": drawing.similarity}
    monkeypatch.setattr(drawing, "pictures", lambda t, k: {n: f(t, k) for n, f in one.items()})
    assert not re.search(r"\{[a-z]|\bnan\b", text) and "0.625" in text
    (tmp_path / "results").symlink_to(FOLDER / "results")
    assert experiment("run").main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "pearce.md").read_text() == text
    pictures = re.findall(r"\.\./_static/(\w+\.png)", text)
    assert len(pictures) == 4
    for picture in pictures:
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 300_000
    made = [p.name for p in (tmp_path / "_static").iterdir()]
    assert made == ["pearce_similarity.png"] and made[0] in pictures


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_the_small_run_finds_the_orders():
    job = [sys.executable, str(FOLDER / "run.py"), "--small"]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
