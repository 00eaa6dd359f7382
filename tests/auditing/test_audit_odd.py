"""The audit on hostile input: other orders of columns, scales, settings, rows lost; and words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import gatewise as gw
from gatewise.auditing import models
from gatewise.auditing.audit import audit
from gatewise.auditing.bootstrap import Interval, draws, together
from gatewise.auditing.gains import Gain
from gatewise.auditing.models import affine
from gatewise.auditing.rows import of_tables, rows_of
from gatewise.auditing.verdict import figure, measured, verdict

QUICK = {"rules": (), "repeats": 100}


def bent(outputs=1):
    """3 |x0| - 2.4; with two outputs, (0, that)."""
    w = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1, 0]])
    v, b = np.array([[3.0, 3.0, 0.0]]), np.array([-2.4])
    if outputs == 2:
        v, b = np.vstack([0 * v, v]), np.append(0.0, b)
    return gw.read([(w, np.zeros(3)), (v, b)])


def refused(what, *words):
    with pytest.raises(gw.GatewiseError) as caught:
        what()
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    yes = 3 * (np.abs(x[:, 0]) - 0.8) + rng.logistic(size=400) > 0
    return pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=np.where(yes, "yes", "no"))


def test_a_test_table_in_another_order_is_matched_by_the_names_of_the_first(table):
    first, second = table[:250], table[250:]
    turned = second[["y", "c", "b", "a"]]
    one, other = (audit(bent(), first, "y", test=t, **QUICK) for t in (second, turned))
    assert one["network"].figures == other["network"].figures
    e = gw.explain(bent(), first, target="y")
    assert audit(e, test=turned, **QUICK)["network"].figures == one["network"].figures
    refused(lambda: audit(bent(), first, "y", test=second.drop(columns="b")), "missing: b")


def test_ahead_is_better_in_every_measure(table):
    a = audit(bent(), table, "y", **QUICK)
    net, linear = a["network"].figures, a["linear"]
    for m in a.measures:
        gap = net[m.name].value - linear.figures[m.name].value
        assert linear.ahead[m.name].value == pytest.approx(gap if m.high else -gap)
        assert linear.ahead[m.name].value > 0  # it is better in all of them
        assert linear.ahead[m.name].low < linear.ahead[m.name].value < linear.ahead[m.name].high


def test_settings_are_refused_by_name_and_none_is_passed_over(table):
    net, half = bent(), table[:200]
    refused(lambda: audit(net, table, "y", rules=4), "rules", "4")
    refused(lambda: audit(net, table, "y", rules=None), "rules", "None")
    refused(lambda: audit(net, half, "y", test=table[200:], holdout=0.5), "holdout", "test=")


def test_what_is_left_out_or_odd_is_a_note(table):
    bad = table.copy()
    bad.loc[3, "a"] = np.nan
    a = audit(bent(), table[:200], "y", test=bad, on_bad_rows="skip", **QUICK)
    assert "1 row with NaN or infinity is left out" in a.notes and a.test_rows == 399
    assert any("true only if they are" in note for note in a.notes)
    thin = audit(bent(), table, "y", rows=60, **QUICK)
    assert any("fitted on 60" in n for n in thin.notes) and "tested on 60" in thin.notes[-1]
    net = gw.read(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sigmoid()).eval())
    three = np.arange(400) % 3
    own = audit(net, table[["a", "b", "c"]], three, **QUICK)
    assert any("a sigmoid of its own" in note for note in own.notes)
    flat = gw.read([(np.zeros((1, 3)), np.array([0.5]))])
    assert any("between 0 and 1" in n for n in audit(flat, table, "y", **QUICK).notes)


def test_a_target_on_another_scale_is_said(table):
    x = table[["a", "b", "c"]]
    net = dataclasses.replace(bent(), task="regression")
    y = net(x.to_numpy(copy=True)).numpy()[:, 0]
    noisy = y + np.random.default_rng(0).normal(size=400)
    said = [n for n in audit(net, x, 1000 + 50 * noisy, **QUICK).notes if "another scale" in n]
    assert len(said) == 1
    assert not any("another scale" in n for n in audit(net, x, noisy, **QUICK).notes)
    assert not any("another scale" in n for n in audit(net, x, noisy - 9 * y, **QUICK).notes)


def test_several_quantities_are_refused_as_what_they_are(table):
    net = dataclasses.replace(bent(outputs=2), task="regression")
    refused(lambda: audit(net, table[["a", "b", "c"]], np.arange(400.0)), "gives 2 quantities")


def test_the_affine_map_of_a_wide_table_is_one_for_other_rows():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(240, 60)), rng.normal(size=60)
    net = gw.read([(np.vstack([w, -w]), np.zeros(2)), (np.array([[1.0, 0.2]]), np.zeros(1))])
    y = (w @ x.T + rng.logistic(size=240) > 0) * 1
    q = of_tables(net, rows_of(net, x[:80], y[:80], "raise"),
                  rows_of(net, x[80:], y[80:], "raise"), 0.25, 0)  # fmt: skip
    shrunk = affine(q)
    assert "leave-one-out" in shrunk.how
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "THIN", 0)
        plain = affine(q)
    assert models.agreement(q, shrunk.scores)[0] > models.agreement(q, plain.scores)[0] + 0.05


def test_gains_have_the_intervals_of_all_cohorts_at_once_at_the_level_asked_for(table):
    first, test = table[:200], table[200:]
    a = audit(bent(), first, "y", test=test, rules=(3,), repeats=100, level=0.7, seed=5)
    z, yes = test[["a", "b", "c"]].to_numpy(copy=True), (test["y"] == "yes").to_numpy()
    net, linear = (1 / (1 + np.exp(-s[:, 0])) for s in (bent()(z).numpy(), a.linear.scores(z)))
    saved = ((yes - linear) ** 2 - (yes - net) ** 2) / yes.var()
    mine = a.cohorts.assign(z) == np.array([[g.cohort] for g in a.gains])
    held = np.concatenate(list(draws(200, 100, 5)))
    drawn = np.array([[saved[np.repeat(np.arange(200), (w * m).astype(int))].mean() for m in mine]
                      for w in held])  # fmt: skip
    at_once = together(np.array([saved[m].mean() for m in mine]), drawn, 0.7)
    assert len(at_once) > 1
    for g, i in zip(a.gains, at_once, strict=True):
        assert (g.gain.low, g.gain.high) == pytest.approx((i.low, i.high))


def test_the_linear_model_and_the_regional_map_are_the_best_of_those_tried(table):
    first, test = table[:250], table[250:]
    a = audit(bent(), first, "y", test=test, **QUICK)
    x, z = (t[["a", "b", "c"]].to_numpy(copy=True) for t in (first, test))
    there = gw.linear.logistic(x, first["y"], alpha="loo")
    assert a.linear.alpha == there.alpha != 1 and "leave-one-out" in a.linear_how
    e = gw.explain(bent(), x)
    off = [((first["y"] == "yes") - 1 / (1 + np.exp(-(x @ w[0] + b[0])))).pow(2).mean()
           for w, b in zip(e.coefficients, e.intercepts, strict=True)]  # fmt: skip
    k = int(np.argmin(off))
    p = 1 / (1 + np.exp(-(z @ e.coefficients[k, 0] + e.intercepts[k, 0])))
    brier = ((test["y"] == "yes") - p).pow(2).mean()
    assert a["regional"].figures["Brier score"].value == pytest.approx(brier)


def test_a_class_that_was_never_fitted_has_next_to_no_chance(table):
    x = table[["a", "b", "c"]].to_numpy(copy=True)
    net = gw.read([(np.eye(3), np.zeros(3)), (np.eye(3), np.zeros(3))])
    y = np.arange(400) % 2
    y[390:] = 2
    q = of_tables(net, rows_of(net, x[:300], y[:300], "raise"),
                  rows_of(net, x[300:], y[300:], "raise"), 0.25, 0)  # fmt: skip
    linear, _ = models.linear_model(q)
    chance = gw.linear.LinearModel.probabilities
    assert linear.classes == (0, 1) and q.classes == ("0", "1", "2")
    scores = models.said(linear, q, x[300:])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert p[:, 2].max() < 1e-12
    np.testing.assert_allclose(p[:, :2], chance(linear, x[300:]), atol=1e-12)


def gain(answer, value=0.1):
    held = Interval(value, value - 0.01, value + 0.01)
    return Gain(0, "a > 0", 30, 0.5, 0.9, 0.8, held, answer)


def test_sentences_for_one_and_for_several_cohorts(table):
    a = audit(bent(), table, "y", **QUICK)
    better, worse, open_ = gain("better"), gain("worse", -0.1), gain("undecided", 0)
    one = verdict(dataclasses.replace(a, gains=(better, worse)))
    assert "It earns its keep in 1 of 2 cohorts, where a > 0 (+10.0 %" in one
    assert "It is worse in 1 of 2 cohorts, where a > 0 (-10.0 %" in one
    many = verdict(dataclasses.replace(a, gains=(better, better, worse, worse)))
    assert "keep in 2 of 4 cohorts, most where" in many
    assert "worse in 2 of 4 cohorts, most where" in many
    none = verdict(dataclasses.replace(a, gains=(open_, open_)))
    assert "In none of its 2 cohorts is either better beyond doubt." in none


def test_figures_of_any_size():
    assert figure(-0.0001) == "0.000" and figure(-9.4e11) == "-9.4e+11"
    assert measured(3.2e-7, "RMSE") == "3.2e-07" and measured(0.25, "R²") == "0.250"
    assert measured(float("nan"), "RMSE") == "–"
