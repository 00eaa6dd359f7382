"""The audit against scikit-learn, explicit resampling, and networks whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

import gatewise as gw
from gatewise.auditing import bootstrap, measures
from gatewise.auditing.audit import audit
from gatewise.auditing.bootstrap import Interval
from gatewise.auditing.gains import gains
from gatewise.auditing.measures import Truth, figures
from gatewise.ir.kinds import Smooth
from nets import Chain

ROWS = 400


def bent(scale=3.0, outputs=1):
    """|x0| - 0.8 times a scale: no linear model can say it; with two outputs, (0, that)."""
    w = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1, 0]])
    v = np.array([[scale, scale, 0.0]])
    b = np.array([-0.8 * scale])
    if outputs == 2:
        v, b = np.vstack([0 * v, v]), np.append(0.0, b)
    return gw.read([(w, np.zeros(3)), (v, b)])


def straight(slopes):
    """A sum of its inputs that never switches: the gates stay on."""
    w = np.eye(len(slopes))
    return gw.read([(w, np.full(len(slopes), 100.0)), (np.array([slopes]), [-100.0 * sum(slopes)])])


def inputs(frame):
    return frame[["a", "b", "c"]].to_numpy(copy=True)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3))
    yes = 3 * (np.abs(x[:, 0]) - 0.8) + rng.logistic(size=ROWS) > 0
    return pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=np.where(yes, "yes", "no"))


@pytest.fixture(scope="module")
def found(table):
    rest, test = table[:250], table[250:]
    return audit(bent(), rest, "y", test=test, rules=(1, 3), repeats=100)


# ---------------------------------------------------------------- measures and draws


def test_measures_are_those_of_scikit_learn_on_repeated_rows():
    """A weight is a row held so often."""
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, (5, 60))
    score = rng.normal(size=(60, 1)).round(1)  # with ties
    codes = (score[:, 0] + rng.normal(size=60) > 0).astype(int)
    logits, three = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    number = rng.normal(size=60)
    two = figures(Truth(codes, 2), score, weights)
    many = figures(Truth(three, 3), logits, weights)
    real = figures(Truth(number, 0), score, weights)
    for k, w in enumerate(weights):
        y, s = np.repeat(codes, w), np.repeat(score[:, 0], w)
        p = 1 / (1 + np.exp(-s))
        assert two["AUC"][k] == pytest.approx(metrics.roc_auc_score(y, s))
        assert two["accuracy"][k] == pytest.approx(metrics.accuracy_score(y, s > 0))
        assert two["log loss"][k] == pytest.approx(metrics.log_loss(y, p))
        assert two["Brier score"][k] == pytest.approx(metrics.brier_score_loss(y, p))
        y, z = np.repeat(three, w), np.repeat(logits, w, 0)
        q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        auc = metrics.roc_auc_score(y, q, multi_class="ovr")
        assert many["AUC"][k] == pytest.approx(auc)
        assert many["log loss"][k] == pytest.approx(metrics.log_loss(y, q))
        assert many["Brier score"][k] == pytest.approx(((q - np.eye(3)[y]) ** 2).sum(1).mean())
        y, s = np.repeat(number, w), np.repeat(score[:, 0], w)
        assert real["R²"][k] == pytest.approx(metrics.r2_score(y, s))
        assert real["RMSE"][k] == pytest.approx(metrics.root_mean_squared_error(y, s))


def test_draws_are_rows_with_replacement():
    whole = np.concatenate(list(bootstrap.draws(30, 500, 0)))
    assert whole.shape == (500, 30) and (whole.sum(1) == 30).all()
    assert whole.mean() == 1 and abs(whole.var() - (1 - 1 / 30)) < 0.05
    again = np.concatenate(list(bootstrap.draws(30, 500, 0)))
    assert np.array_equal(whole, again)


def test_intervals_together_hold_for_all_cohorts_at_once():
    """Nothing differs in ten cohorts of 40 rows: some interval misses 0 in about 1 of 20 trials."""
    rng = np.random.default_rng(0)
    missed = alone = 0
    for trial in range(150):
        d = rng.normal(size=(10, 40))
        drawn = np.empty((200, 10))
        for k in range(10):
            (w,) = bootstrap.draws(40, 200, 10 * trial + k)
            drawn[:, k] = w @ d[k] / 40
        value = d.mean(1)
        missed += any(i.settled for i in bootstrap.together(value, drawn, 0.95))
        each = zip(value, drawn.T, strict=True)
        alone += any(bootstrap.interval(v, c, 0.95).settled for v, c in each)
    assert missed / 150 < 0.15 < 0.3 < alone / 150


# ---------------------------------------------------------------- the audit


def test_figures_are_those_of_scikit_learn(found, table):
    fit, test = table[:250], table[250:]
    x, z = inputs(fit), inputs(test)
    y, truth = fit["y"] == "yes", test["y"] == "yes"
    net = bent()(z).numpy()[:, 0]
    scaled = (x - x.mean(0)) / x.std(0)
    there = LogisticRegression(C=1 / found.linear.alpha, tol=1e-10).fit(scaled, y)
    linear = there.decision_function((z - x.mean(0)) / x.std(0))
    own = LinearRegression().fit(x, bent()(x).numpy()[:, 0]).predict(z)
    for key, score in (("network", net), ("linear", linear), ("affine", own)):
        got = found[key].figures
        p = 1 / (1 + np.exp(-score))
        assert got["AUC"].value == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-6)
        assert got["accuracy"].value == pytest.approx(((score > 0) == truth).mean())
        assert got["log loss"].value == pytest.approx(metrics.log_loss(truth, p), abs=1e-6)
        assert got["Brier score"].value == pytest.approx(np.mean((p - truth) ** 2), abs=1e-6)
        ahead = found["network"].figures["AUC"].value - got["AUC"].value
        assert found[key].ahead["AUC"].value == pytest.approx(ahead)
    assert (found.fit_rows, found.test_rows, found.held_out) == (250, 150, False)
    assert found.affine_explains == pytest.approx(metrics.r2_score(net, own), abs=1e-9)
    assert found.affine_agrees == pytest.approx(((own > 0) == (net > 0)).mean())


def test_intervals_are_paired_draws(found, table):
    """Every draw taken anew, row by row."""
    test = table[250:]
    z, truth = inputs(test), (test["y"] == "yes").to_numpy()
    net, linear = bent()(z).numpy()[:, 0], found.linear.scores(z)[:, 0]
    gaps = []
    for weights in np.concatenate(list(bootstrap.draws(150, 100, 0))):
        rows = np.repeat(np.arange(150), weights.astype(int))
        one, other = (metrics.roc_auc_score(truth[rows], s[rows]) for s in (net, linear))
        gaps.append(one - other)
    low, high = np.quantile(gaps, [0.025, 0.975])
    assert (found.ahead.low, found.ahead.high) == pytest.approx((low, high), abs=1e-9)


def test_a_bend_that_no_linear_model_has_is_found(found):
    assert found.answer == "better" and found.ahead.low > 0.1
    assert found.verdict.startswith("The network is better than a logistic regression: AUC 0.")
    assert "It earns its keep in" in found.verdict and " where a " in found.verdict
    assert [line.key for line in found.lines][:4] == ["network", "linear", "affine", "regional"]
    assert [line.rules for line in found.lines if line.key == "cohorts"] == [1, 3]
    assert found["cohorts"].figures["AUC"].value < found.lines[-1].figures["AUC"].value
    assert (found.uses[0].units, found.linear_units) == (3, 0)
    assert found.regions == 4 and 3 < found.effective <= 4


def test_gains_add_up(found, table):
    sizes = np.array([g.rows for g in found.gains])
    assert sizes.sum() == found.test_rows
    total = sum(g.share * g.gain.value for g in found.gains)
    assert total == pytest.approx(found.overall.value)
    net, linear = (found[k].figures["Brier score"].value for k in ("network", "linear"))
    p = (table[250:]["y"] == "yes").mean()
    assert total == pytest.approx((linear - net) / (p * (1 - p)))
    first = found.gains[0]
    rows = found.cohorts.assign(inputs(table[250:])) == first.cohort
    assert first.rows == rows.sum()
    assert len(found.cohort_table()["gain"]) == len(found.gains)


def test_two_logits_are_as_good_as_their_difference(found, table):
    rest, test = table[:250], table[250:]
    two = dataclasses.replace(bent(outputs=2), output_names=("no", "yes"))
    other = audit(two, rest, "y", test=test, rules=(1, 3), repeats=100)
    for mine, theirs in zip(found.lines, other.lines, strict=True):
        assert mine.figures["AUC"].value == pytest.approx(theirs.figures["AUC"].value)
    assert other.gains[0].gain.value == pytest.approx(found.gains[0].gain.value)


def test_a_network_that_is_linear_is_no_better():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, 3))
    slopes = [1.0, -1, 0.5]
    y = x @ slopes + rng.normal(size=4000)
    a = audit(straight(slopes), x, y, rules=(), repeats=200)
    assert a.answer == "equal" and a.headline is measures.R2 and a.held_out
    assert a.verdict.startswith("The network is no better than a ridge regression: R² 0.")
    assert (a.linear_units, a.regions, a.gains) == (1.0, 1, ())
    assert "split off by the seed" in a.notes[0]
    held = np.zeros(4000, bool)
    held[np.random.default_rng(0).permutation(4000)[:1000]] = True
    assert a["network"].figures["R²"].value == pytest.approx(
        metrics.r2_score(y[held], x[held] @ slopes)
    )
    mean, sd = x[~held].mean(0), x[~held].std(0)
    there = Ridge(a.linear.alpha).fit((x[~held] - mean) / sd, y[~held])
    said = there.predict((x[held] - mean) / sd)
    assert a["linear"].figures["RMSE"].value == pytest.approx(
        metrics.root_mean_squared_error(y[held], said)
    )


def test_more_than_two_classes():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(800, 3))
    w = np.vstack([np.eye(3), -np.eye(3)])
    net = gw.read([(w, np.zeros(6)), (np.hstack([np.eye(3), np.eye(3)]) * 2, np.zeros(3))])
    y = (np.abs(x) * 2 + rng.gumbel(size=(800, 3)) / 2).argmax(1)
    a = audit(net, x, y, rules=(3,), repeats=100)
    assert a.headline is measures.ACCURACY and a.answer == "better"
    assert a["linear"].name == "a multinomial regression"
    assert any("cohorts are of one output" in note for note in a.notes) and len(a.gains) > 1
    some = np.where(y == 2, 1, y)  # a class that is never seen
    a = audit(net, x, some, rules=(), repeats=100)
    assert np.isfinite(a["linear"].figures["log loss"].value)


def test_an_explanation_is_audited_on_its_own_rows(table):
    e = gw.explain(bent(), table, target="y")
    a = audit(e, rules=(), repeats=100)
    assert (a.fit_rows, a.test_rows) == (300, 100) and a.regions == e.clusters
    assert any("test rows too" in note for note in a.notes)
    b = audit(gw.explain(bent(), table.drop(columns="y")), y=table["y"], rules=(), repeats=100)
    assert b["linear"].figures == a["linear"].figures
    x, y = table.drop(columns="y")[:50], table["y"][:50]
    c = audit(e, test=(x, y), rules=(), repeats=100)
    assert (c.fit_rows, c.test_rows, c.held_out) == (400, 50, False)


def test_a_network_without_regions_is_compared_all_the_same(table):
    chain = Chain(3)
    chain.linear(4)
    chain.put(Smooth(torch.nn.functional.gelu, (), 1.13))
    chain.linear(1)
    a = gw.audit(chain.network(), table, "y", repeats=100)
    assert [line.key for line in a.lines] == ["network", "linear", "affine"]
    assert any("no units, regions or cohorts" in note for note in a.notes)
    assert np.isnan(a.effective) and np.isnan(a.linear_units) and repr(a)


def test_the_four_answers_are_worded(found):
    def said(low, value, high):
        lines = list(found.lines)
        ahead = lines[1].ahead | {"AUC": Interval(value, low, high)}
        lines[1] = dataclasses.replace(lines[1], ahead=ahead)
        return dataclasses.replace(found, lines=tuple(lines), gains=()).verdict

    assert said(0.01, 0.02, 0.03).startswith("The network is better than a logistic regression")
    assert "less than 0.01" in said(0.001, 0.005, 0.009)
    assert said(-0.03, -0.02, -0.01).startswith("The network is worse than")
    assert said(-0.004, 0.002, 0.008).startswith("The network is no better than")
    undecided = said(-0.02, 0.01, 0.04)
    assert undecided.startswith("Whether the network is better than a logistic regression is")
    assert "undecided on 150 test rows" in undecided and "[-0.020, 0.040]" in undecided


def test_cohorts_of_few_rows_are_called_so(found, table):
    few = table[250:290]
    x = inputs(few)
    from gatewise.auditing.rows import Part

    part = Part(x, Truth((few["y"] == "yes").to_numpy().astype(int), 2), bent()(x).numpy())
    answers = gains(part, found.linear.scores(x), found.cohorts, bootstrap.Draws(100, 0.95, 0))
    assert any(g.answer == "too few rows" and np.isnan(g.gain.low) for g in answers)
    assert sum(g.rows for g in answers) == 40


# ---------------------------------------------------------------- what is refused


def refused(what, *words):
    with pytest.raises(gw.GatewiseError) as caught:
        what()
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_in_one_sentence(table):
    net, x = bent(), table[["a", "b", "c"]]
    y = table["y"].to_numpy()
    text = np.where(np.arange(ROWS) % 3 == 0, "maybe", y)
    refused(lambda: audit(net, x, ["no"] * ROWS), "'no' in all rows", "two classes")
    refused(lambda: audit(net, x, text), "'maybe'", "cannot be matched", "1 output")
    quantity = dataclasses.replace(net, task="regression")
    refused(lambda: audit(quantity, x, y), "holds classes", "quantity", "numbers")
    refused(lambda: audit(quantity, x, [4.5] * ROWS), "4.5 in all", "nothing to compare")
    refused(lambda: audit(net, x), "give y")
    refused(lambda: audit(net, y=y), "give X")
    refused(lambda: audit(net, table, "z"), "no column 'z'")
    refused(lambda: audit(net, table[:10], "y"), "at least 8 rows")
    refused(lambda: audit(net, x.assign(a=np.nan), y), "NaN")
    refused(lambda: audit(net, table, "y", test=x), "target")
    refused(lambda: audit(net, x, y, test=x), "(X_test, y_test)")
    refused(lambda: audit(net, x, y, test=(x, y, y)), "tuple of 3")
    refused(lambda: audit(net, x, y, test=(x, np.arange(ROWS))), "text in the data and numbers")
    refused(lambda: audit(net, x, y, test=(x[:50], ["no"] * 50)), "'no' in all of the test rows")
    refused(lambda: audit(net, x, y, holdout=1.5), "holdout", "1.5")
    refused(lambda: audit(net, x, y, repeats=10), "repeats", "100")
    refused(lambda: audit(net, x, y, rules=(0,)), "rules")
    e = gw.explain(net, x)
    refused(lambda: audit(e), "without a target")
    refused(lambda: audit(e, x, y), "leave out X")
    two = gw.explain(bent(outputs=2), table, target="y", output=0)
    refused(lambda: audit(two), "1 of 2 outputs")


def test_rows_without_a_target_are_left_out_and_it_is_said(table):
    y = table["y"].to_numpy(object)
    y[:40] = None
    a = audit(bent(), table[["a", "b", "c"]], y, rules=(), repeats=100)
    assert a.fit_rows + a.test_rows == ROWS - 40
    assert any("40 rows without a target" in note for note in a.notes)
