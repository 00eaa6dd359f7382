"""Cohorts say what they do, do what they say, and find the rules that are there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import tabular
from gatewise.explain.cohorts.cohorts import Cohorts, cohorts
from nets import mlp, rows

RNG = np.random.default_rng(0)


def relus(*layers):
    """A network from (W, b) pairs, a ReLU between them."""
    return gw.read([(np.array(w, float), np.array(b, float)) for w, b in layers])


def explained(network, n=600, seed=0, **options):
    x = np.random.default_rng(seed).normal(size=(n, network.inputs)) * 1.5
    return gw.explain(network, x, **options)


# |x0| + 2 x1 - 1
FOLD = relus(([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4), ([[1, 1, 2, -2]], [-1]))
# x1 + a hat over -1 <= x0 <= 1: three rules, one of which holds in two places
HAT = relus(
    ([[1, 0], [1, 0], [1, 0], [0, 1], [0, -1]], [1, 0, -1, 0, 0]), ([[4, -8, 4, 1, -1]], [0])
)
BARE = explained(mlp(4, 12, 12, 1, seed=3))
# a target of two classes makes its output a decision
CLASSES = (BARE.output[:, 0] > np.median(BARE.output)).astype(int)
MADE = dataclasses.replace(BARE, target=CLASSES)
FOUND = cohorts(MADE, max_rules=6)


def test_two_rules_of_a_folded_plane_are_found():
    found = cohorts(explained(FOLD, 2000), max_rules=2, conjunctions=1)
    assert len(found) == 2
    # the fold is at 0, and the nearest threshold between two rows is not quite there
    assert found.overall.mean < 0.01
    order = np.argsort(found.coefficients[:, 0])
    np.testing.assert_allclose(found.coefficients[order], [[-1, 2], [1, 2]], atol=0.02)
    np.testing.assert_allclose(found.intercepts, -1, atol=0.02)
    (((condition,),), _) = found.conditions
    assert condition.feature == 0 and abs(condition.threshold) < 0.05


def test_one_rule_that_holds_in_two_places_is_one_cohort():
    exp = explained(HAT, 3000)
    shared, plain = (cohorts(exp, max_rules=3, conjunctions=c) for c in (4, 1))
    assert len(shared) == 3
    assert shared.overall.mean < 0.05 < plain.overall.mean
    outside = shared.assign(np.array([[-3.0, 0.0], [3.0, 1.0]]))
    assert outside[0] == outside[1]
    np.testing.assert_allclose(shared.coefficients[outside[0]], [0, 1], atol=0.05)


def test_an_affine_network_needs_one_rule():
    found = cohorts(explained(relus(([[2, -3]], [1]))), max_error=1e-6)
    assert len(found) == 1
    np.testing.assert_allclose(found.coefficients, [[2, -3]], atol=1e-6)
    assert found.condition(0) == "all rows"
    assert (found.conditions_per_row == 0).all()


@settings(max_examples=5)
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 4))
def test_every_input_meets_exactly_one_conjunction(seed, rules, conjunctions):
    exp = explained(mlp(3, 6, 6, 1, seed=seed), 60, seed)
    found = cohorts(exp, max_rules=rules, conjunctions=conjunctions, seed=seed)
    assert len(found) <= rules
    anywhere = np.random.default_rng(seed).normal(size=(200, 3)) * 5
    met = np.zeros((len(found), 200), int)
    for k, some in enumerate(found.conditions):
        for conjunction in some:
            met[k] += np.all([c.holds(anywhere) for c in conjunction] or [[True] * 200], 0)
    assert (met.sum(0) == 1).all()
    np.testing.assert_array_equal(met.argmax(0), found.assign(anywhere))


def test_numbers_are_those_of_the_rules_row_by_row():
    x, f = MADE.data, MADE.output[:, 0]
    rule = np.array(
        [
            FOUND.intercepts[k] + float(FOUND.coefficients[k] @ row)
            for k, row in zip(FOUND.ids, x, strict=True)
        ]
    )
    np.testing.assert_allclose(FOUND.predict(x), rule, rtol=1e-12)
    np.testing.assert_array_equal(FOUND.assign(x), FOUND.ids)
    gap = np.abs(rule - f)
    for k, score in [*enumerate(FOUND.fidelity), (None, FOUND.overall)]:
        mine = FOUND.held & (np.ones(len(x), bool) if k is None else FOUND.ids == k)
        assert score.rows == mine.sum()
        assert score.mean == pytest.approx(gap[mine].mean())
        assert score.p99 == pytest.approx(np.quantile(gap[mine], 0.99))
        assert score.largest == pytest.approx(gap[mine].max())
        assert score.decisions == pytest.approx(((rule > 0) == (f > 0))[mine].mean())
    assert FOUND.sizes.tolist() == [int((FOUND.ids == k).sum()) for k in range(len(FOUND))]
    assert (np.diff(FOUND.sizes) <= 0).all()
    margin = MADE.margin.scaled.numpy()
    assert FOUND.margin[1] == np.median(margin[FOUND.ids == 1])


def test_conditions_are_counted_row_by_row():
    for i in range(0, len(MADE), 37):
        own = [
            len(c)
            for c in FOUND.conditions[FOUND.ids[i]]
            if all(t.holds(MADE.data[[i]])[0] for t in c)
        ]
        assert own == [FOUND.conditions_per_row[i]]


def test_held_out_rows_are_a_quarter_and_change_no_rule():
    """Their outputs may be anything: the rules are the same."""
    assert FOUND.held.sum() == 150
    assert cohorts(MADE, max_rules=2, holdout=0.5).held.sum() == 300
    census = MADE.census
    output = census.output.clone()
    output[np.flatnonzero(FOUND.held)] = 7.0

    lied = dataclasses.replace(MADE, census=dataclasses.replace(census, output=output))
    other = cohorts(lied, max_rules=6)
    np.testing.assert_array_equal(other.coefficients, FOUND.coefficients)
    assert other.overall.mean > FOUND.overall.mean


def test_the_same_seed_gives_the_same_cohorts():
    again, other = cohorts(MADE, max_rules=6), cohorts(MADE, max_rules=6, seed=1)
    np.testing.assert_array_equal(again.coefficients, FOUND.coefficients)
    assert again.conditions == FOUND.conditions
    assert not np.array_equal(other.held, FOUND.held)


def test_more_rules_are_truer_and_the_curve_says_how_much():
    curve = FOUND.curve
    assert curve["rules"].tolist() == [1, 2, 3, 4, 5, 6]
    assert curve["mean"][-1] == FOUND.overall.mean < 0.8 * curve["mean"][0]
    assert curve["conditions"][-1] == FOUND.conditions_per_row.mean()
    assert curve["conjunctions"][-1] == sum(map(len, FOUND.conditions))
    names = ["rules", "conjunctions", "conditions", "mean", "p99", "max", "decisions"]
    assert [c for c in curve if not c.endswith("_followed")] == names


def test_a_row_follows_the_rule_nearest_its_own_map():
    """Against the mean square of rule - map, over a cloud with the covariance of the data."""
    x, w = MADE.data, MADE.slopes[:, :, 0]
    cloud = x - x.mean(0)
    slow = []
    for i in range(0, 600, 50):
        points = x[i] + cloud
        own = MADE.output[i, 0] + cloud @ w[i]
        rules = FOUND.intercepts[:, None] + FOUND.coefficients @ points.T
        slow.append(((rules - own) ** 2).mean(1).argmin())
    assert FOUND.followed[::50].tolist() == slow
    rule = FOUND.intercepts + x @ FOUND.coefficients.T
    gap = np.abs(rule[np.arange(600), FOUND.followed] - MADE.output[:, 0])[FOUND.held]
    assert FOUND.curve["mean_followed"][-1] == pytest.approx(gap.mean())


@pytest.mark.parametrize("measure", ["mean", "p99", "max", "decisions"])
def test_max_error_takes_the_fewest_rules_within_it(measure):
    of = {"decisions": 1 - FOUND.curve["decisions"]}.get(measure, FOUND.curve.get(measure))
    aim = float(np.sort(of)[2])
    found = cohorts(MADE, max_error=aim, max_rules=6, measure=measure)
    first = int(np.flatnonzero(of <= aim)[0])
    assert len(found) == FOUND.curve["rules"][first]
    assert found.overall.error(measure) <= aim


def test_accuracy_is_against_the_target():
    x = MADE.data
    target = np.where(MADE.output[:, 0] + RNG.normal(size=len(x)) * 0.3 > 0, "yes", "no")
    exp = gw.explain(MADE.network, x, target=target)
    found = cohorts(exp, max_rules=6)
    held = found.held
    right = (np.where(found.predict(x) > 0, "yes", "no") == target)[held].mean()
    assert found.overall.accuracy == pytest.approx(right)
    own = (np.where(MADE.output[:, 0] > 0, "yes", "no") == target)[held].mean()
    assert found.overall.network_accuracy == pytest.approx(own)
    assert "right" in repr(found)
    assert np.isnan(cohorts(BARE, max_rules=2).overall.accuracy)


def test_a_quantity_has_no_decisions_but_a_distance_from_its_target():
    target = MADE.output[:, 0] + RNG.normal(size=len(MADE))
    found = cohorts(gw.explain(MADE.network, MADE.data, target=target), max_rules=4)
    assert np.isnan(found.overall.decisions)
    gap = np.abs(found.predict(MADE.data) - target)[found.held].mean()
    assert found.overall.accuracy == pytest.approx(gap)
    with pytest.raises(gw.GatewiseError, match="needs an output that decides"):
        cohorts(found.explanation, max_error=0.1, measure="decisions")


def test_a_bare_output_decides_nothing():
    found = cohorts(BARE, max_rules=2)
    assert np.isnan(found.overall.decisions)
    assert "decisions" not in repr(found)
    for e in (BARE, gw.explain(mlp(3, 10, 3, seed=2), RNG.normal(size=(40, 3)))):
        for error in (None, 0.1):
            with pytest.raises(gw.GatewiseError, match="needs an output that decides"):
                cohorts(e, measure="decisions", max_error=error, max_rules=2)


def test_a_sigmoid_decides_without_a_target():
    module = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())
    found = cohorts(explained(gw.read(module.double()), 60), max_rules=1)
    assert found.overall.decisions == 1
    assert "equal decisions 100.0%" in repr(found)


def test_a_missing_target_is_neither_right_nor_wrong():
    truth = np.where(BARE.output[:, 0] > 0, 1.0, 0.0)
    truth[::3] = np.nan
    truth[1] = 1 - truth[1]
    found = cohorts(dataclasses.replace(BARE, target=truth), max_rules=1, holdout=0.5)
    known = found.held & np.isfinite(truth)
    right = ((BARE.output[:, 0] > 0) == truth)[known].mean()
    assert found.overall.network_accuracy == pytest.approx(right)


def test_one_of_several_outputs_wins_or_not():
    network = mlp(3, 10, 3, seed=2)
    x = rows(network, 400).numpy()
    f = network(rows(network, 400)).numpy()
    exp = gw.explain(network, x, target=f.argmax(1))
    found = cohorts(exp, output=2, max_rules=4)
    held, rule = found.held, found.predict(x)
    others = f[:, :2].max(1)
    same = ((rule > others) == (f[:, 2] > others))[held].mean()
    assert found.overall.decisions == pytest.approx(same)
    assert found.overall.network_accuracy == 1
    assert found.output_name == "y2"
    assert cohorts(exp, output="y2", max_rules=4).conditions == found.conditions
    pair = cohorts(exp.contrast(0, 1), max_rules=4)
    gap = np.abs(pair.predict(x) - (f[:, 0] - f[:, 1]))
    assert gap[pair.held].mean() == pytest.approx(pair.overall.mean)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_a_table_is_taken_by_name(kind):
    x = MADE.data[:50]
    network = MADE.network
    exp = gw.explain(network, pd.DataFrame(MADE.data, columns=list("abcd")))
    found = cohorts(exp, max_rules=3)
    np.testing.assert_array_equal(found.assign(x), found.ids[:50])
    if network.feature_names:
        shuffled = kind({name: x[:, "abcd".index(name)] for name in "dbca"})
        np.testing.assert_array_equal(found.assign(shuffled), found.ids[:50])


def test_the_table_has_one_entry_a_cohort():
    table = pd.DataFrame(FOUND.table())
    assert len(table) == len(FOUND) == 6
    np.testing.assert_array_equal(table["coefficient of x2"], FOUND.coefficients[:, 2])
    assert table["rows"].sum() == len(MADE)
    assert table["condition"][0] == FOUND.condition(0)


def test_the_text_holds_rules_conditions_and_errors():
    text = repr(FOUND)
    assert text.startswith("Cohorts: 6 rules for y0, 600 rows, ")
    for k in range(6):
        assert FOUND.condition(k) in text and FOUND.rule(k) in text
    assert f"mean |rule - network| {FOUND.overall.mean:.3g}" in text
    many = cohorts(explained(mlp(4, 20, 1), 400), max_rules=16)
    assert f"and {len(many) - 12} more: see table()" in repr(many)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_error": 1e-9, "max_rules": 4}, r"reach max_error=1e-09 \(mean\).*the best is 0"),
        ({"max_error": -1.0}, "max_error must be a finite number, at least 0; got -1.0"),
        ({"max_error": float("nan")}, "max_error must be a finite number"),
        ({"max_rules": 0}, "max_rules must be a whole number, at least 1, got 0"),
        ({"max_rules": 2.5}, "max_rules must be a whole number"),
        ({"conjunctions": 0}, "conjunctions must be a whole number"),
        ({"measure": "rmse"}, "measure must be one of mean, p99, max, decisions; got 'rmse'"),
        ({"holdout": 1.0}, "holdout is the share of rows kept for measuring"),
        ({"max_error": "a"}, "max_error must be a finite number, at least 0; got 'a'"),
        ({"holdout": "a"}, "holdout is the share of rows kept for measuring.*got 'a'"),
        ({"seed": -1}, "seed must be a whole number, at least 0, got -1"),
        ({"seed": "1"}, "seed must be a whole number, at least 0, got '1'"),
        ({"output": "loan"}, r"no output 'loan': the explanation has 1 \(y0\)"),
        ({"output": 3}, "no output 3: the explanation has 1"),
    ],
)
def test_what_cannot_be_done_is_said(options, words):
    with pytest.raises(gw.GatewiseError, match=words):
        cohorts(MADE, **options)


def test_only_a_whole_explanation_is_taken():
    for asked in (BARE.network, BARE[:30]):
        for ask, name in ((cohorts, "cohorts"), (gw.reason_codes, "reason_codes")):
            with pytest.raises(gw.GatewiseError, match=f"^{name} takes the Explanation that gat"):
                ask(asked)


def test_too_few_rows_are_refused():
    with pytest.raises(gw.GatewiseError, match=r"at least 20 rows.*got 12: explain more rows"):
        cohorts(explained(FOLD, 12))


def test_too_many_inputs_are_refused():
    exp = gw.explain(mlp(201, 2, 1), np.ones((30, 201)), margin=False)
    with pytest.raises(gw.GatewiseError, match="at most 200 inputs, and this network takes 201"):
        cohorts(exp)


@pytest.mark.parametrize("n", [20, 21, 40])
def test_few_rows_are_enough(n):
    found = cohorts(explained(FOLD, n), max_rules=8)
    assert isinstance(found, Cohorts) and found.sizes.sum() == n


def test_rows_that_are_all_one_are_one_cohort():
    exp = gw.explain(FOLD, np.ones((30, 2)), margin=False)
    found = cohorts(exp, max_rules=4)
    assert len(found) == 1 and found.overall.largest < 1e-9
    assert np.isnan(found.margin).all()


@pytest.mark.real_data
def test_titanic_in_few_rules():
    """Categories by name, and truer than one rule or k-means of the rows' own maps."""
    from sklearn.cluster import KMeans

    model, train, _, target, _ = tabular.pipeline("titanic", (16,), max_iter=30)
    exp = gw.explain(model, train, target=target.tolist())
    found = cohorts(exp, max_rules=8)
    texts = [str(c) for some in found.conditions for conjunction in some for c in conjunction]
    assert any(t in ("Sex is male", "Sex is female") for t in texts)
    assert not any("=" in t.replace("<=", "") for t in texts)
    np.testing.assert_array_equal(found.assign(train), found.ids)
    assert 0.6 < found.overall.accuracy <= 1
    assert found.overall.mean < 0.7 * found.curve["mean"][0]
    x, f = exp.data, exp.output[:, 0]
    z = np.column_stack([np.ones(len(x)), x])
    maps = exp.coefficients[exp.ids, 0] * exp.scale
    kmeans = KMeans(8, n_init=4, random_state=0).fit(maps[~found.held])
    gaps = []
    for k in range(8):
        rows = np.flatnonzero(~found.held)[kmeans.labels_ == k]
        rule = np.linalg.lstsq(z[rows], f[rows], rcond=None)[0]
        mine = np.flatnonzero(found.held)[kmeans.predict(maps[found.held]) == k]
        gaps.append(np.abs(z[mine] @ rule - f[mine]))
    assert found.overall.mean < np.concatenate(gaps).mean()
