"""The training loop against steps worked out by hand, and all that it refuses or gives back."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from gatewise.errors import BadRows, DataError, Diverged, EmptyData, ModelError, WrongShape
from gatewise.models import DLGN, ConvDLGN, Epoch, History, Layout, ReLUNet, fit
from gatewise.models.training import flushed_denormals, rate
from oracles.gated import rows

X = rows(80, 3).float()
Y = (X[:, 0] * X[:, 1] > 0).long()


def net(outputs=2, seed=0):
    return ReLUNet((3, 8, 8, outputs), bias=True, seed=seed)


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------- steps


def test_one_epoch_of_whole_batches_is_a_step_down_the_gradient():
    trained, by_hand = net(), net()
    history = fit(trained, X, Y, epochs=1, batch=80, lr=0.3, optimizer="sgd", momentum=0)
    loss = nn.functional.cross_entropy(by_hand(X), Y)
    loss.backward()
    assert history.losses == [pytest.approx(loss.item(), rel=1e-6)]
    for p, q in zip(trained.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.3 * q.grad)


def test_numbers_are_learnt_by_squares_and_two_classes_by_one_output():
    y = X @ torch.tensor([[1.0], [2.0], [0.0]]) + 1
    one = net(1)
    first = nn.functional.mse_loss(one(X), y).item()
    history = fit(one, X.numpy(), y.numpy()[:, 0], epochs=40, lr=0.01, validation=(X, y))
    assert history.epochs[0].validation_score < history.epochs[history.kept - 1].validation_score
    assert nn.functional.mse_loss(one(X), y).item() < first / 20
    logit = net(1)
    history = fit(logit, X, Y, epochs=60, lr=0.02, validation=(X, Y))
    right = ((logit(X)[:, 0] > 0).long() == Y).float().mean().item()
    assert right > 0.95
    assert history.epochs[history.kept - 1].validation_score == pytest.approx(right)


def test_soft_gates_learn_what_lines_cannot_and_hard_ones_are_named():
    soft, hard = (DLGN((3, 16, 16, 2), gate, seed=1) for gate in ("sigmoid", "hard"))
    settings = {"epochs": 80, "lr": 0.02, "schedule": "one-cycle"}
    history = fit(soft, X, Y, **settings)
    assert (soft(X).argmax(1) == Y).float().mean() > 0.95
    assert history.without_gradient == ()
    before = weights(hard.features)
    history = fit(hard, X, Y, **settings)
    assert history.without_gradient == ("features.0.weight", "features.1.weight")
    assert "never trained: features.0.weight, features.1.weight" in str(history)
    assert equal(weights(hard.features), before)


@pytest.mark.parametrize("steps", [10, 64])
def test_the_cosine_is_torchs_and_the_one_cycle_its_shape(steps):
    moved = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(moved, steps)
    ours = rate("cosine")
    for step in range(steps):
        assert ours(step / steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        moved.step()
        theirs.step()
    cycle = rate("one-cycle")
    assert cycle(0) == pytest.approx(1 / 25) and cycle(0.3) == 1
    assert cycle(1) == pytest.approx(4e-6)
    rising = [cycle(t) for t in np.linspace(0, 0.3, 20)]
    falling = [cycle(t) for t in np.linspace(0.3, 1, 20)]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    assert {rate("constant")(t) for t in (0, 0.5, 1)} == {1.0}


def test_a_schedule_moves_the_rate_batch_by_batch():
    start = weights(net())
    ends = []
    for schedule in ("constant", "cosine", "one-cycle"):
        moved = net()
        fit(moved, X, Y, epochs=3, schedule=schedule)
        ends.append(weights(moved))
    assert not any(equal(a, b) for a in ends for b in [start, *ends] if a is not b)


def test_a_change_of_rows_reaches_every_batch_and_not_the_validation():
    seen = []

    def zeroed(part, rng):
        seen.append((len(part), torch.rand(1, generator=rng).item()))
        return torch.zeros_like(part)

    moved = net()
    history = fit(moved, X, Y, epochs=2, batch=30, augment=zeroed, validation=(X, Y))
    assert [n for n, _ in seen] == [30, 30, 20] * 2
    assert len({draw for _, draw in seen}) == 6
    again = nn.functional.cross_entropy(moved(X), Y).item()
    assert history.epochs[history.kept - 1].validation_loss == pytest.approx(again, rel=1e-5)


def test_along_hears_the_share_that_is_done_before_each_step_and_at_each_epochs_end():
    told, shares = [], []
    module = net()
    module.register_forward_pre_hook(lambda m, _: told.append(shares[-1]) if m.training else None)
    fit(module, X, Y, epochs=2, batch=30, along=shares.append)
    assert shares == pytest.approx([0, 1 / 6, 2 / 6, 0.5, 0.5, 4 / 6, 5 / 6, 1])
    assert told == pytest.approx([n / 6 for n in range(6)])


def test_a_smaller_last_batch_is_left_out_of_the_steps_and_of_the_loss():
    seen, shares = [], []
    module = net()
    module.register_forward_hook(lambda m, args, out: seen.append(args[0]) if m.training else None)
    settings = {"batch": 30, "lr": 0.3, "optimizer": "sgd", "momentum": 0}
    history = fit(module, X, Y, epochs=1, drop_last=True, along=shares.append, **settings)
    assert [len(part) for part in seen] == [30, 30] and shares == [0, 0.5, 1]
    by_hand, losses = net(), []
    for part in seen:
        at = torch.cdist(part, X).argmin(1)
        loss = nn.functional.cross_entropy(by_hand(X[at]), Y[at])
        losses.append(loss.item())
        by_hand.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in by_hand.parameters():
                p -= 0.3 * p.grad
    assert history.losses == [pytest.approx(sum(losses) / 2, rel=1e-5)]
    for p, q in zip(module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_epochs_before_the_share_are_never_kept_and_are_not_waited_for():
    settings = {"epochs": 10, "lr": 0.02, "validation": (X, 1 - Y)}  # the first scores best
    assert fit(net(), X, Y, **settings, patience=2).kept <= 3
    late = fit(net(), X, Y, **settings, patience=2, keep_after=0.6)
    assert late.kept >= 6 and len(late.epochs) >= 8


# ---------------------------------------------------------------- what is kept


def test_the_best_epochs_weights_are_kept_and_patience_ends_the_run():
    seen, kept = [], []

    def progress(epoch: Epoch):
        seen.append(epoch)
        kept.append(weights(moved))

    moved = net()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, 80)  # nothing to learn: validation gets worse sooner or later
    history = fit(
        moved, X, noise, epochs=400, lr=0.02, validation=0.5, patience=7, progress=progress
    )
    assert history.stopped_by == "patience" and len(seen) < 400
    best = max(seen, key=lambda e: (e.validation_score, -e.validation_loss))
    assert history.kept == best.number == len(seen) - 7
    assert equal(weights(moved), kept[best.number - 1])
    assert history.epochs == tuple(seen)
    assert f"kept epoch {best.number}" in str(history)


def test_without_validation_the_last_weights_are_kept_and_scores_are_nan():
    history = fit(net(), X, Y, epochs=3)
    assert isinstance(history, History) and history.kept == 3 and history.stopped_by == "epochs"
    assert all(math.isnan(epoch.validation_score) for epoch in history.epochs)
    assert "validation" not in str(history) and "3 epochs" in str(history)


def test_rows_are_held_out_of_every_class():
    labels = torch.arange(80) % 4
    seen = []
    module = net(4)
    module.register_forward_hook(lambda m, args, out: seen.append((m.training, len(out))))
    fit(module, X, labels, epochs=1, validation=0.25, batch=100)
    assert seen == [(False, 2), (True, 60), (False, 20)]


def test_a_seed_repeats_a_run_dropout_too_and_leaves_torchs_state_alone():
    def trained(seed, start):
        torch.manual_seed(start)
        module = nn.Sequential(nn.Linear(3, 20), nn.Dropout(0.5), nn.Linear(20, 2))
        fit_to = [p.data.fill_(0.1 * (i + 1)) for i, p in enumerate(module.parameters())]
        before = torch.get_rng_state()
        fit(module, X, Y, epochs=2, seed=seed, validation=0.2)
        assert torch.equal(torch.get_rng_state(), before) and len(fit_to) == 4
        return weights(module)

    assert equal(trained(1, 0), trained(1, 5))
    assert not equal(trained(1, 0), trained(2, 0))


def test_the_module_is_left_in_evaluation_mode_without_gradients():
    module = ConvDLGN(Layout((1, 2), 2, batch_norm=True), "sigmoid", seed=0)
    fit(module, rows(20, 1, 4, 4), Y[:20], epochs=1)
    assert not any(part.training for part in module.modules())
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zero_inside_and_as_before_afterwards(before):
    def flushed():
        return bool((torch.tensor([1e-40]) * 1.0 == 0).all())

    torch.set_flush_denormal(before)
    try:
        with pytest.raises(KeyError), flushed_denormals():
            assert flushed()
            raise KeyError
        assert flushed() is before
        inside = []
        fit(net(), X, Y, epochs=1, progress=lambda _: inside.append(flushed()))
        assert inside == [True] and flushed() is before
    finally:
        torch.set_flush_denormal(False)


def test_a_frozen_part_is_left_alone():
    module = net()
    module.values[0].requires_grad_(False)
    before = weights(module.values[0])
    history = fit(module, X, Y, epochs=2)
    assert equal(weights(module.values[0]), before) and history.without_gradient == ()


# ---------------------------------------------------------------- refusals


def refused(error, sentence):
    return pytest.raises(error, match="^" + re.escape(sentence))


def test_rows_that_cannot_be_learnt_are_refused():
    bad = X.clone()
    bad[3, 1], bad[7, 0] = math.nan, math.inf
    with refused(BadRows, "X holds NaN or infinity in rows 3, 7: repair or leave out these") as e:
        fit(net(), bad, Y)
    assert e.value.rows == (3, 7)
    with refused(BadRows, "y holds NaN or infinity in rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 70"):
        fit(net(1), X, np.full(80, np.nan))
    with refused(WrongShape, "X has 80 rows and y has 79: give one each"):
        fit(net(), X, Y[:79])
    with refused(WrongShape, "X is one row an entry of its first axis, (rows, *input), and its"):
        fit(net(), X[:, 0], Y)
    with refused(WrongShape, "the module does not take rows of shape (2,): "):
        fit(net(), X[:, :2], Y)
    with refused(EmptyData, "X has no rows: give at least one"):
        fit(net(), X[:0], Y[:0])
    with refused(DataError, "y is to be numbers, and its dtype is <U1: number classes from 0"):
        fit(net(), X, np.array(["a"] * 80))


def test_labels_that_cannot_be_learnt_are_refused():
    with refused(DataError, "every label is 1: a classifier needs rows of at least two classes"):
        fit(net(), X, torch.ones(80, dtype=torch.long))
    with refused(DataError, "labels run from 0 to 3, and a module with 2 outputs takes 0 .. 1"):
        fit(net(), X, torch.arange(80) % 4)
    with refused(DataError, "labels run from 0 to 3, and a module with 1 output takes 0 .. 1"):
        fit(net(1), X, torch.arange(80) % 4)
    with refused(WrongShape, "labels are one a row, (rows,), and y's shape is (80, 1)"):
        fit(net(), X, Y[:, None])
    with refused(WrongShape, "y has 1 numbers a row and the module 2 outputs"):
        fit(net(), X, Y.float())
    with refused(DataError, "y holds labels and the validation y numbers: give the same"):
        fit(net(1), X, Y, validation=(X, Y.float()))
    with refused(WrongShape, "the module's outputs are (rows, outputs), and here (2, 1, 1)"):
        fit(nn.Sequential(nn.Linear(3, 1), nn.Unflatten(1, (1, 1))), X, Y)


def test_settings_that_are_no_run_are_refused():
    for name in ("epochs", "batch", "patience"):
        with refused(ModelError, f"`{name}` is a whole number from 1, and it is 0"):
            fit(net(), X, Y, validation=0.5, **{name: 0})
    for lr in (0, "x", math.nan):
        with refused(ModelError, f"the learning rate is positive, and `lr` is {lr!r}: 1e-3 is"):
            fit(net(), X, Y, lr=lr)
    for seed in (None, "a", -1, 0.5):
        with refused(ModelError, f"`seed` is a whole number from 0, and it is {seed!r}"):
            fit(net(), X, Y, seed=seed)
    for name in ("weight_decay", "momentum"):
        with refused(ModelError, f"`{name}` is a number from 0, and it is -1"):
            fit(net(), X, Y, **{name: -1})
    for name in ("augment", "progress", "along"):
        with refused(ModelError, f"`{name}` is a function, and it is 3"):
            fit(net(), X, Y, **{name: 3})
    for share in (-1, 2, None):
        with refused(ModelError, f"`keep_after` is a share from 0 to 1, and it is {share!r}"):
            fit(net(), X, Y, keep_after=share)
    with refused(ModelError, "`drop_last` leaves out all 80 rows, less than one `batch` of 81: gi"):
        fit(net(), X, Y, batch=81, drop_last=True)
    with refused(ModelError, "`epochs` is a whole number from 1, and it is True"):
        fit(net(), X, Y, epochs=True)
    with refused(ModelError, "torch cannot work on `device` 'nope': "):
        fit(net(), X, Y, device="nope")
    with refused(ModelError, "there is no optimizer 'lion': choose one of 'adam', 'sgd'"):
        fit(net(), X, Y, optimizer="lion")
    with refused(ModelError, "there is no schedule 'step': choose one of 'constant', 'cosine'"):
        fit(net(), X, Y, schedule="step")
    with refused(ModelError, "`patience` waits for a better validation score: give `validation`"):
        fit(net(), X, Y, patience=3)
    with refused(ModelError, "the module has no parameter with requires_grad: there is nothing"):
        fit(net().requires_grad_(False), X, Y)
    with refused(DataError, "`validation` is a share between 0 and 1, or (X, y), and it is a tu"):
        fit(net(), X, Y, validation=(X,))
    for share in (0.0, 1.0, 2.0, "a", [X, Y]):
        with refused(DataError, "`validation` is a share between 0 and 1, or (X, y), and it is"):
            fit(net(), X, Y, validation=share)
    with refused(DataError, "`validation` = 0.1 of 4 rows leaves one side with no row: give more"):
        fit(net(), X[:4], torch.tensor([0, 1, 0, 1]), validation=0.1)


def test_a_run_that_diverges_stops_at_its_epoch_and_says_what_to_do():
    y = X.sum(1)
    with refused(Diverged, "the loss of epoch ") as e:
        fit(net(1), 100 * X, y, optimizer="sgd", lr=1e3, epochs=50)
    assert "Lower `lr` (it is 1000) or scale the columns of X, and start anew" in str(e.value)
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_a_run_that_diverges_leaves_every_part_in_the_mode_it_was_in(training):
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 1)).train(training)
    module[1].train(not training)
    with pytest.raises(Diverged):
        fit(module, 100 * X, X.sum(1), optimizer="sgd", lr=1e9, epochs=50, validation=0.2)
    assert [part.training for part in module] == [training, not training, training]
    assert module.training is training


def test_a_refused_run_leaves_the_module_as_it_was():
    module = ConvDLGN(Layout((1, 2), 2, batch_norm=True), "sigmoid", seed=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with refused(DataError, "every label is 0"):
        fit(module, rows(9, 1, 4, 4), torch.zeros(9, dtype=torch.long))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
