"""Neural path features and kernels, 2020: the machinery on tiny nets; whole runs by `run.py`."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import shared

FOLDER = shared.ROOT / "experiments" / "lakshminarayanan2020npf"
PAGE = shared.ROOT / "docs" / "explanation" / "npf.md"
KINDS = ("own", "frozen", "decoupled")


# ---------------------------------------------------------------- forward and backward, written out


def by_autograd(nets, kind, x, target):
    """Logits and gradient of the summed losses: the same networks in plain torch."""
    flat = nets.params.data.clone().requires_grad_()
    towers, at = [], 0
    for sizes in nets.towers():
        towers.append([])
        for a, b in itertools.pairwise(sizes):
            w = flat[at : at + nets.nets * a * b].view(nets.nets, a, b)
            at += nets.nets * a * b
            towers[-1].append((w, flat[at : at + nets.nets * b].view(nets.nets, 1, b)))
            at += nets.nets * b
    f, soft = x, []
    for w, b in towers[-1] if kind == "decoupled" else []:
        q = f @ w + b
        soft.append(1.1 * torch.sigmoid(4 * q))
        f = torch.relu(q)
    h = x
    for k, (w, b) in enumerate(towers[0][:-1]):
        u = h @ w + b
        masks = {"own": lambda u=u: (u > 0).to(u.dtype), "frozen": lambda k=k: nets.m[k]}
        h = u * (soft[k] if kind == "decoupled" else masks[kind]())
    logits = h @ towers[0][-1][0] + towers[0][-1][1]
    loss = sum(F.cross_entropy(a, b) for a, b in zip(logits, target.argmax(-1), strict=True))
    (gradient,) = torch.autograd.grad(loss, flat)
    return logits.detach(), gradient


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_written_out_gradient_is_autograds(experiment, kind, dtype, close):
    train = experiment("train")
    draw = torch.Generator().manual_seed(0)
    nets = train.KINDS[kind]((5, 4, 3, 6, 3), 2, 7, dtype)
    size = nets.params.data.shape
    nets.params.data.copy_(torch.randn(size, generator=draw, dtype=torch.float64) * 0.7)
    x = torch.randn(2, 7, 5, generator=draw, dtype=torch.float64).to(dtype)
    labels = torch.randint(3, (2, 7), generator=draw)
    target = F.one_hot(labels, 3).to(dtype)
    if kind == "frozen":
        nets.look_up((torch.rand(2, 7, 13, generator=draw) > 0.5).to(torch.uint8))
    logits = nets.forward(x).clone()
    nets.backward(x, target)
    want, gradient = by_autograd(nets, kind, x, target)
    torch.testing.assert_close(logits, want, rtol=0, atol=close)
    torch.testing.assert_close(nets.grads.data, gradient, rtol=0, atol=close)
    assert float(gradient.abs().max()) > 0.01


def test_networks_of_a_batch_do_not_touch_one_another(experiment):
    train = experiment("train")
    draw = torch.Generator().manual_seed(1)
    both = train.KINDS["own"]((3, 4, 2), 2, 5, torch.float64)
    both.params.data.copy_(torch.randn(both.params.data.shape, generator=draw))
    x = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    before = both.forward(x).clone()
    both.params.weights[0][0][1].zero_()
    after = both.forward(x)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def test_gates_of_its_own_start_leave_the_network_as_it_is(experiment):
    """FRNPF-DI before its first step is the ReLU network; -II is not."""
    train, batched = experiment("train"), experiment("batched")
    sizes, x = (6, 5, 4, 3), torch.randn(9, 6, generator=torch.Generator().manual_seed(2))
    outs = {}
    for kind, source in (("own", None), ("frozen", "FRNPF-DI"), ("frozen", "gates")):
        nets = train.KINDS[kind](sizes, 1, 9)
        nets.start(0, train.start_of(sizes, "FRNPF-DI", 0))
        if source:
            weights = [w.float() for w in train.start_of(sizes, source, 0)[:-1]]
            biases = [torch.zeros(w.shape[1]) for w in weights]
            nets.look_up(batched.hard_gates(weights, biases, x)[None])
        outs[source] = nets.forward(x[None]).clone()
    torch.testing.assert_close(outs[None], outs["FRNPF-DI"])
    assert not torch.allclose(outs[None], outs["gates"], atol=1e-3)


# ---------------------------------------------------------------- training


def tiny(train, kind: str = "own", name: str = "tiny", epochs: int = 8):
    """A job and data whose labels can be learnt."""
    draw = torch.Generator().manual_seed(3)
    x, test = torch.rand(64, 6, generator=draw), torch.rand(50, 6, generator=draw)
    hot = torch.eye(3)
    labels = [hot[(a[:, :3].argmax(1))] for a in (x, test)]
    data = train.Data(x, labels[0], test, labels[1])
    feature = None
    if kind == "frozen":
        weights = [w.float() for w in train.start_of((6, 8, 8, 3), "gates", 0)[:-1]]
        feature = weights, [torch.zeros(8), torch.zeros(8)]
    every = np.arange(64)
    nets = [
        train.Net("one", 0, every[:48], every[48:] if kind == "own" else every[:0], feature),
        train.Net("two", 1, every, every[:0], feature),
    ]
    return train.Job(name, kind, (6, 8, 8, 3), nets, epochs, 8, 0.03, every=1), data


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_run_ends_where_an_uninterrupted_one_does(experiment, tmp_path, kind):
    train = experiment("train")
    job, data = tiny(train, kind)
    whole = train.run(job, data, tmp_path / "whole")
    train.run(job, data, tmp_path / "cut", stop=2)
    cut = train.run(job, data, tmp_path / "cut")
    for name in ("params", "first", "second", "test", "held", "best_test", "best_held"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=name)
    assert whole.test[:, -1].mean() > whole.test[:, 0].mean()
    assert not list((tmp_path / "cut").glob("*.part"))


def test_a_finished_run_is_read_and_not_repeated(experiment, tmp_path, capsys):
    train = experiment("train")
    job, data = tiny(train)
    first = train.run(job, data, tmp_path)
    capsys.readouterr()
    again = train.run(job, data, tmp_path)
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(first.params, again.params)


def test_a_checkpoint_of_other_settings_is_refused(experiment, tmp_path):
    train = experiment("train")
    job, data = tiny(train)
    train.run(job, data, tmp_path, stop=1)
    longer, _ = tiny(train, epochs=9)
    with pytest.raises(ValueError, match=r"tiny\.npz is of other settings than tiny: delete it"):
        train.run(longer, data, tmp_path)


def test_the_best_parameters_are_those_of_the_best_pass(experiment, tmp_path):
    train = experiment("train")
    job, data = tiny(train)
    state = train.run(job, data, tmp_path)
    for rates, best, x, y in (
        (state.test[1], state.best_test, data.test_x, data.test_y),
        (state.held[0], state.best_held, data.x[48:], data.y[48:]),
    ):
        net = 1 if best is state.best_test else 0
        weights, biases = train.network_of(job, best, net)
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            x = torch.relu(x @ w + b)
        right = (x @ weights[-1] + biases[-1]).argmax(1) == y.argmax(1)
        assert float(right.double().mean()) == pytest.approx(rates.max())


def test_a_pass_sees_every_row_once_and_no_row_held_out(experiment):
    train, mnist = experiment("train"), experiment("mnist")
    one = train.Net("one", 0, np.arange(64), np.arange(0))
    rows = train.order(one, 0, 8, 8)
    assert sorted(rows.ravel()) == list(range(64))
    assert not np.array_equal(rows, train.order(one, 1, 8, 8))
    np.testing.assert_array_equal(rows, train.order(one, 0, 8, 8))
    net = mnist.net({"held": 16}, "ReLU held", 0, 64)
    assert sorted([*net.rows, *net.held]) == list(range(64)) and len(net.held) == 16
    assert not set(train.order(net, 0, 8, 8).ravel()) & set(net.held)


def test_weights_start_as_glorot_says(experiment):
    train = experiment("train")
    first, last = train.start_of((300, 100, 50), "ReLU", 0)
    limit = math.sqrt(6 / 400)
    assert 0.99 * limit < float(first.abs().max()) <= limit
    assert float(first.var()) == pytest.approx(limit**2 / 3, rel=0.05)
    assert last.shape == (100, 50)
    assert not torch.equal(first, train.start_of((300, 100, 50), "ReLU", 1)[0])
    assert not torch.equal(first, train.start_of((300, 100, 50), "gates", 0)[0])


# ---------------------------------------------------------------- MNIST


@pytest.mark.real_data
def test_mnist_is_read_as_published(experiment):
    mnist = experiment("mnist")
    data = mnist.load()
    assert data.x.shape == (60000, 784) and data.test_x.shape == (10000, 784)
    assert float(data.x.max()) == 1 and float(data.x.min()) == 0
    counts = data.y.sum(0).int().tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.real_data
def test_every_regime_learns_and_learnt_gates_are_the_relu_networks(experiment, tmp_path):
    mnist, train = experiment("mnist"), experiment("train")
    tables = experiment("tables")
    c = {"hidden": [16, 16], "epochs": 2, "batch": 32, "lr": 0.002, "seeds": [0], "held": 128}
    c |= {"together": 2}
    data = mnist.load(1280)
    found = mnist.protocol(c, data, tmp_path)
    assert {regime for regime, _ in found.curves} == set(mnist.REGIMES)
    rows = tables.mnist_rows(found)
    assert min(r["best"] for r in rows) > 30 and max(r["best"] for r in rows) < 95
    relu = mnist.relu_job(c, [0], 1280)
    state = train.State.load(tmp_path / "relu-0.npz")
    job = mnist.learned_job(c, [0], 1280, relu, state)
    assert [net.regime for net in job.nets] == ["FLNPF", "FLNPF held"]
    weights, _ = train.network_of(relu, state.best_test, 0)
    assert torch.equal(job.nets[0].feature[0][0], weights[0])
    weights, _ = train.network_of(relu, state.best_held, 1)
    assert torch.equal(job.nets[1].feature[0][0], weights[0])
    so_far = mnist.protocol(c, data, tmp_path, stop=0)
    np.testing.assert_array_equal(so_far.curves["DNPFL", 0], found.curves["DNPFL", 0])


# ---------------------------------------------------------------- convolutions


def small_conv(**changes) -> dict:
    c = {"net": "GCONV", "channels": [4, 4], "dense": [5], "size": 8, "pooled": True, "batch": 8}
    return {**c, "optimizer": "adam", "lr": 0.01, "epochs": 2, **changes}


def random_images(conv):
    draw = torch.Generator().manual_seed(5)
    x, y = torch.rand(40, 3, 8, 8, generator=draw), torch.randint(10, (40,), generator=draw)
    return conv.Images(x, y, x[:20], y[:20])


@pytest.mark.parametrize("pooled", [True, False])
def test_a_network_under_its_own_frozen_gates_is_the_relu_network(experiment, pooled):
    conv = experiment("conv")
    c, x = small_conv(pooled=pooled), random_images(conv).x
    relu = conv.made("ReLU", c, 0)
    own = conv.made("FRNPF-DI", c, 0)
    other = conv.made("FRNPF-II", c, 0)
    torch.testing.assert_close(relu(x), own(x))
    assert not torch.allclose(relu(x), other(x), atol=1e-4)


def test_frozen_gates_stay_and_soft_gates_move(experiment):
    conv = experiment("conv")
    c, data = small_conv(), random_images(conv)
    for regime, moves in (("FRNPF-II", False), ("DNPFL", True)):
        one = conv.made(regime, c, 0)
        before = [p.detach().clone() for p in one.feature.parameters()]
        conv.train(one, data, c, 0, 1)
        same = [torch.equal(a, b) for a, b in zip(before, one.feature.parameters(), strict=True)]
        assert all(same) != moves


def test_the_convolutional_table_has_every_regime(experiment):
    conv, tables = experiment("conv"), experiment("tables")
    rows = conv.rows(small_conv(), random_images(conv), 0)
    assert sorted(r["regime"] for r in rows) == sorted(conv.REGIMES)
    text = tables.conv_table(rows, "GCONV")
    assert text.count("\n") == 6 and "80.32 ± 0.35" in text


def test_gates_are_taken_at_the_start_and_every_ten_passes(experiment):
    conv = experiment("conv")
    c = small_conv(stages=1, stage_epochs=1)
    assert [r["stage"] for r in conv.stepwise(c, random_images(conv), 0)] == [0, 1]


@pytest.mark.real_data
def test_cifar_images_are_shrunk_by_averaging(experiment):
    conv = experiment("conv")
    data = conv.load(16, 20, "cpu")
    assert data.x.shape == (20, 3, 16, 16) and 0 <= float(data.x.min()) < float(data.x.max()) <= 1
    whole = conv.load(32, 20, "cpu").x
    np.testing.assert_allclose(data.x[0, 0, 0, 0], whole[0, 0, :2, :2].mean(), rtol=1e-5)


# ---------------------------------------------------------------- alignment


def test_nu_is_that_of_the_kernel_of_explicit_paths(experiment):
    alignment = experiment("alignment")
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 8, bias=False), torch.nn.ReLU(),
        torch.nn.Linear(8, 9, bias=False), torch.nn.ReLU(), torch.nn.Linear(9, 1, bias=False),
    )  # fmt: skip
    draw = torch.Generator().manual_seed(6)
    for p in net.parameters():
        p.data.copy_(torch.randn(p.shape, generator=draw))
    x = torch.randn(6, 3, generator=draw).abs()
    y = torch.tensor([1.0, -1, 1, 1, -1, -1])
    rows = x.double().numpy()
    with torch.no_grad():
        a = (net[0](x) > 0).double().numpy()
        b = (net[:3](x) > 0).double().numpy()
    paths = itertools.product(range(3), range(8), range(9))
    features = np.stack([rows[:, i] * a[:, j] * b[:, k] for i, j, k in paths], 1)
    kernel = features @ features.T
    labels = y.double().numpy()
    want = np.trace(kernel) * labels @ np.linalg.solve(kernel, labels)
    assert alignment.nu(net, x, y) == pytest.approx(want, rel=1e-8)


def test_its_network_starts_with_signs_of_one_size(experiment):
    net = experiment("alignment").network(100, 5, 0)
    layers = [m for m in net if isinstance(m, torch.nn.Linear)]
    assert [tuple(m.weight.shape) for m in layers] == [(100, 784), *[(100, 100)] * 4, (1, 100)]
    for m in layers:
        assert m.bias is None
        np.testing.assert_allclose(m.weight.detach().abs(), math.sqrt(2 / 100), rtol=1e-6)
    assert abs(float(layers[0].weight.detach().sign().mean())) < 0.02


@pytest.mark.real_data
def test_fours_are_set_against_sevens(experiment):
    pair = experiment("alignment").load(10, 500)
    assert pair.x.shape == (500, 784) and pair.test_x.shape == (2010, 784)
    assert pair.shown_y.tolist() == [1.0] * 10 + [-1.0] * 10


# ---------------------------------------------------------------- tables


def test_rows_come_back_from_their_file_with_numbers_as_numbers(experiment, tmp_path):
    reporting = experiment("reporting")
    rows = [
        {"regime": "FRNPF-II", "seed": 0, "best": 96.0123456789, "chosen": ""},
        {"regime": 'a, "b"', "seed": 12, "best": 1e-7, "chosen": 3.5},
    ]
    back = reporting.read_rows(reporting.write_rows(tmp_path / "deep" / "t.csv", rows))
    assert back[0]["best"] == pytest.approx(96.0123457, abs=1e-7)
    assert back[0]["chosen"] == "" and back[0]["seed"] == 0 and back[1]["chosen"] == 3.5
    assert back[1]["regime"] == 'a, "b"'


def test_a_check_fails_outside_the_tolerance_below_the_floor_and_without_a_number(
    experiment, tmp_path
):
    reporting = experiment("reporting")
    path = tmp_path / "published.csv"
    path.write_text("name,published,tolerance\na,98.1,0.3\nb,0,\nc,1,1\n")
    ok = reporting.read_checks(path, {"a": 98.39, "b": 0.01, "c": 1.5})
    assert [c.ok for c in ok] == [True] * 3 and reporting.verdict(ok) == 0
    off = reporting.read_checks(path, {"a": 98.41, "b": -0.01})
    assert [c.ok for c in off] == [False] * 3 and reporting.verdict(off) == 1


def test_a_spread_of_one_has_no_deviation(experiment):
    spread = experiment("reporting").Spread
    assert spread.of([98.0]).text() == "98.00 (1)"
    assert spread.of([98.0, 98.2]).text() == "98.10 ± 0.14 (2)"


def test_a_table_without_some_regimes_leaves_them_out(experiment):
    tables = experiment("tables")
    rows = [{"regime": "ReLU", "seed": 0, "passes": 3, "best": 98.0, "last": 97.9}]
    assert tables.mnist_table(rows).count("\n") == 2
    assert tables.mnist_numbers(rows) == {"ReLU": 98.0}
    assert tables.honest(rows) == {"held_relu": "-", "held_gates": "-"}


def test_a_part_or_a_size_that_does_not_exist_is_refused():
    for words, message in (
        (["--full", "--part", "svhn"], "invalid choice: 'svhn'"),
        (["--full", "--small"], "not allowed with argument"),
        ([], "one of the arguments --small --full --page is required"),
    ):
        job = [sys.executable, str(FOLDER / "run.py"), *words]
        done = subprocess.run(job, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr


# ---------------------------------------------------------------- what is kept in the repository


def test_the_kept_results_are_as_published(experiment):
    reporting, tables = experiment("reporting"), experiment("tables")
    rows = reporting.read_rows(FOLDER / "results" / "mnist.csv")
    numbers = tables.mnist_numbers(rows)
    checks = reporting.read_checks(FOLDER / "published.csv", numbers)
    known = [c for c in checks if c.name in numbers]
    assert len(known) >= 8
    assert [str(c) for c in known if not c.ok] == []
    assert {r["passes"] for r in rows} == {100}


def test_the_page_is_filled_and_is_made_again_from_the_results(experiment, tmp_path):
    text = PAGE.read_text()
    assert not re.search(r"\{[a-z]|\bnan\b", text) and "98.14 ± 0.07" in text
    (tmp_path / "results").symlink_to(FOLDER / "results")
    assert experiment("experiment").page(tmp_path) == 0
    assert (tmp_path / "npf.md").read_text() == text
    for picture in re.findall(r"\.\./_static/(\w+\.png)", text):
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 150_000
        assert (tmp_path / "_static" / picture).exists()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_the_small_run_finds_the_order():
    job = [sys.executable, str(FOLDER / "run.py"), "--small"]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
