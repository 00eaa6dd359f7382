"""The measures of an explanation: against other people's code, and on methods known to be bad."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.evaluation import measures as m
from gatewise.explain.evaluation.evaluate import Peer, evaluate
from gatewise.explain.evaluation.methods import Attribution, Method, exact_rule
from gatewise.explain.evaluation.samples import in_region, redrawn
from gatewise.explain.evaluation.target import RIDGE, _logistic, accuracies, auc, ranks
from gatewise.ir.kinds import Affine
from gatewise.regions.halfspaces import region
from nets import mixed, mlp, networks, rows

NET = mlp(5, 12, 12, 1, seed=3)
X = rows(NET, 80, 1).numpy()
EXP = gw.explain(NET, X)
EVALUATION = evaluate(EXP, rows=30)


def with_peers(*peers: Peer):
    return evaluate(EXP, peers=peers, rows=30)


# ---------------------------------------------------------------- samples


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_hit_and_run_stays_in_the_region_and_in_the_box(network, seed):
    x = rows(network, 7, seed)
    low, high = x.amin(0), x.amax(0)
    home = region(network, x, (low, high))
    rng = np.random.default_rng(seed)
    points = in_region(home, np.ones(network.inputs), 5, rng)
    assert (points >= low.numpy() - 1).all() and (points <= high.numpy() + 1).all()
    bits = gw.pattern(network, points.reshape(-1, network.inputs)).bits.reshape(7, 5, -1)
    same = (bits == home.pattern.bits[:, None]).all(-1)  # the pattern, without any half-space
    kept = home.contains(points).numpy()
    assert (same | ~kept).all()
    assert kept.mean() > 0.5


def test_hit_and_run_moves_and_holds_features_without_spread():
    home = region(NET, torch.from_numpy(X), (torch.full((5,), -9.0), torch.full((5,), 9.0)))
    scale = np.array([1.0, 0, 1, 1, 1])
    points = in_region(home, scale, 4, np.random.default_rng(0))
    assert np.array_equal(points[:, :, 1], np.repeat(X[:, [1]], 4, 1))
    away = np.linalg.norm(points - X[:, None], axis=-1)
    assert np.median(away) > 2 * float(home.margin(torch.from_numpy(scale)).scaled.median())
    still = in_region(home, np.zeros(5), 4, np.random.default_rng(0))
    assert np.array_equal(still, np.repeat(X[:, None], 4, 1))


def test_rows_in_a_corner_of_the_box_move_too():
    x = np.array([[0.0, 0, 0, 0, 1], [1, 1, 1, 1, 0]])  # a one-hot table is nothing but corners
    home = region(NET, torch.from_numpy(x), (torch.zeros(5), torch.ones(5)))
    points = in_region(home, np.full(5, 0.5), 6, np.random.default_rng(0))
    assert (np.abs(points - x[:, None]).max(2) > 1e-3).all()
    assert home.contains(points).all()


def test_redrawn_weights_are_new_and_of_the_same_size():
    other = redrawn(NET, np.random.default_rng(0))
    pairs = [
        (a.kind.weights[0], b.kind.weights[0])
        for a, b in zip(NET.nodes, other.nodes, strict=True)
        if isinstance(a.kind, Affine)
    ]
    assert len(pairs) == 3
    for u, v in pairs:
        assert abs(float(torch.corrcoef(torch.stack([u.ravel(), v.ravel()]))[0, 1])) < 0.7
        assert 0.6 < float(v.norm() / u.norm()) < 1.5


# ---------------------------------------------------------------- against other people's code


def test_infidelity_and_sensitivity_are_captums():
    metrics = pytest.importorskip("captum.metrics")
    method = Method(exact_rule(NET, EXP.reference, 0), EXP.reference, EXP.scale)
    t = m.trial(
        NET, 0, X[:20], EXP.reference, EXP.scale, (X.min(0), X.max(0)), (), m.Sizes(moved=300), 0
    )
    a = m.answer(t, method)
    x = torch.from_numpy(t.x)

    def perturb(inputs):
        # captum repeats each row 300 times in place; ours lie in the same order
        step = t.x[:, None] - t.moved.x
        noise = torch.from_numpy(step.reshape(-1, 5))
        return noise, inputs - noise

    theirs = metrics.infidelity(
        lambda z: NET(z)[:, 0],
        perturb,
        x,
        torch.from_numpy(a.slopes),
        n_perturb_samples=300,
        max_examples_per_batch=300 * len(x),
    )
    spread = ((t.f[:, None] - t.moved.f) ** 2).mean()
    assert m.infidelity_moved(t, method, a) == pytest.approx(float(theirs.mean()) / spread)

    def first(z):
        return z[0] if isinstance(z, tuple) else z

    near = iter(np.moveaxis(t.near, 1, 0))
    worst = metrics.sensitivity_max(
        lambda z: (torch.from_numpy(method.vector(method(first(z).detach().numpy()))),),
        x,
        perturb_func=lambda z: torch.from_numpy(next(near).copy()),
        n_perturb_samples=t.near.shape[1],
        max_examples_per_batch=len(x),
    )
    np.testing.assert_allclose(a.swing, worst.numpy(), rtol=1e-6)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.integers(0, 99))
def test_ranks_and_auc_are_scipys_and_sklearns(values, seed):
    score = np.array(values, float)
    np.testing.assert_allclose(ranks(score), scipy.stats.rankdata(score))
    yes = np.random.default_rng(seed).random(len(score)) < 0.5
    if 0 < yes.sum() < len(yes):
        assert auc(score, yes) == pytest.approx(roc_auc_score(yes, score))


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (9, 6)) * 1.0, rng.standard_normal((9, 6))
    want = [scipy.stats.spearmanr(u, v).statistic for u, v in zip(a, b, strict=True)]
    np.testing.assert_allclose(m.rank_correlation(a, b), want)
    assert m.rank_correlation(np.ones((2, 6)), b[:2]).tolist() == [0, 0]


def test_entropy_by_hand():
    values = np.array([[1.0, -1, 1, 1, 0], [3, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    e = evaluate(
        EXP, peers=[Peer("by hand", lambda x: values[np.arange(len(x)) % 3])], rows=[0, 1, 2]
    )
    assert e["effective features"]["by hand"] == pytest.approx((4 + 1 + 1) / 3)
    assert e["entropy"]["by hand"] == pytest.approx(np.log(4) / 3)


# ---------------------------------------------------------------- what must hold of ours


@pytest.mark.parametrize("network", [NET, mixed(2)], ids=["mlp", "mixed"])
def test_the_rule_is_exact_on_its_region_and_adds_up(network):
    x = rows(network, 50, 2).numpy()
    e = evaluate(gw.explain(network, x), output=network.outputs - 1)
    assert e["additivity error"]["exact rule"] < 1e-12
    assert e["region error, largest"]["exact rule"] < 1e-11
    assert e["rule inconsistency"]["exact rule"] < 1e-11
    assert e["randomisation check"]["exact rule"] < 0.9


def test_a_linear_network_is_said_in_full_by_any_slope():
    network = mlp(4, 1)
    e = evaluate(gw.explain(network, rows(network, 40).numpy()))
    for name in ("infidelity, noise", "infidelity, removal"):
        assert e[name]["exact rule"] < 1e-20
    assert e["rules"]["exact rule"] == 1


def test_the_same_seed_gives_the_same_numbers_and_another_others():
    again, other = evaluate(EXP, rows=30), evaluate(EXP, rows=30, seed=1)
    assert [x.values for x in again.measures] == [x.values for x in EVALUATION.measures]
    name = "infidelity, noise"
    assert other[name]["exact rule"] != EVALUATION[name]["exact rule"]


# ---------------------------------------------------------------- methods known to be bad


def test_a_method_that_does_not_look_at_the_weights_is_found():
    blind = Peer("blind", lambda x: x.copy(), lambda network: lambda x: x.copy())
    e = with_peers(blind)
    assert e["randomisation check"]["blind"] == pytest.approx(1)
    assert e["randomisation check"]["exact rule"] < 0.7
    assert e["additivity error"]["blind"] is None


def test_a_method_that_says_nothing_has_infidelity_1():
    nothing = Peer("nothing", lambda x: Attribution(np.zeros(x.shape), np.zeros(len(x))))
    e = with_peers(nothing)
    assert e["infidelity, noise"]["nothing"] == pytest.approx(1)
    assert e["infidelity, removal"]["nothing"] == pytest.approx(1)
    assert e["additivity error"]["nothing"] == pytest.approx(np.abs(EXP.output).max(), rel=0.5)
    assert e["randomisation check"]["nothing"] is None


def test_a_rule_that_is_wrong_by_a_little_is_found():
    right = exact_rule(NET, EXP.reference, 0)

    def wrong(x):
        said = right.attribute(x)
        return dataclasses.replace(said, slopes=said.slopes + 1e-6, base=said.base + 1e-6)

    e = with_peers(Peer("wrong", wrong))
    assert e["additivity error"]["wrong"] == pytest.approx(1e-6, rel=1e-3)
    assert 1e-9 < e["region error, largest"]["wrong"] < 1e-4


def test_noise_in_a_method_shows_as_sensitivity_and_inconsistency():
    rng = np.random.default_rng(0)
    right = exact_rule(NET, EXP.reference, 0)

    def noisy(x):
        said = right.attribute(x)
        return Attribution(said.values, None, said.slopes + rng.standard_normal(x.shape))

    e = with_peers(Peer("noisy", noisy))
    assert e["rule inconsistency"]["noisy"] > 0.1
    shaky = with_peers(Peer("shaky", lambda x: rng.standard_normal(x.shape)))
    assert shaky["sensitivity, median"]["shaky"] > 1


def test_stability_is_1_for_the_same_network_and_less_for_another():
    assert evaluate(EXP, rows=20, retrained=[NET])["stability between seeds"][
        "exact rule"
    ] == pytest.approx(1)
    unlike = gw.explain(mlp(5, 12, 12, 1, seed=9), X)
    other = evaluate(EXP, rows=20, retrained=[NET, unlike])
    assert other["stability between seeds"]["exact rule"] < 0.9
    assert "stability between seeds" not in EVALUATION


# ---------------------------------------------------------------- predictive accuracy


def names(*said, task=None):
    """A network whose outputs are called so: what `accuracies` reads of it."""
    network = mlp(2, max(len(said), 1))
    return dataclasses.replace(network, output_names=said, task=task)


def test_accuracy_and_auc_against_sklearn():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((400, 4))
    yes = data[:, 0] + data[:, 1] + 0.5 * rng.standard_normal(400) > 0
    logit = data[:, :1] + 1.3 * data[:, 1:2]
    found = accuracies(names("yes"), logit, np.where(yes, "yes", "no"), data, 0)
    assert [a.metric for a in found] == ["accuracy", "AUC"]
    assert found[0].network == pytest.approx(((logit[:, 0] > 0) == yes).mean())
    assert found[1].network == pytest.approx(roc_auc_score(yes, logit[:, 0]))
    theirs = LogisticRegression().fit(data, yes).score(data, yes)
    assert found[0].linear == pytest.approx(theirs, abs=0.02)
    assert found[1].linear > 0.95


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_model_is_sklearns(classes):
    rng = np.random.default_rng(3)
    z = np.hstack([rng.standard_normal((150, 4)) * [1, 1, 30, 1], np.ones((150, 1))])
    codes = (z[:, 0] + rng.standard_normal(150) > 0).astype(int) + (z[:, 1] > 1) * (classes - 2)
    mine = _logistic(z, np.eye(classes)[codes])
    mine = mine[:, 1:] - mine[:, :1] if classes == 2 else mine
    for k, column in enumerate(mine.T):
        yes = codes == (1 if classes == 2 else k)
        other = LogisticRegression(C=1 / (RIDGE * 150), fit_intercept=False, tol=1e-10)
        np.testing.assert_allclose(
            column, other.set_params(max_iter=5000).fit(z, yes).coef_[0], atol=1e-4
        )


def test_r_squared_of_a_quantity_and_of_its_linear_model():
    rng = np.random.default_rng(1)
    data = rng.standard_normal((300, 3))
    y = np.abs(data[:, 0]) + data[:, 1]
    (a,) = accuracies(names(), y[:, None], y, data, 0)
    assert (a.metric, a.network) == ("R²", 1)
    residual = (
        y
        - np.hstack([data, np.ones((300, 1))])
        @ np.linalg.lstsq(np.hstack([data, np.ones((300, 1))]), y, rcond=None)[0]
    )
    assert a.linear == pytest.approx(1 - residual.var() / y.var(), abs=0.05)


def test_three_classes_are_matched_by_name_and_strange_labels_are_left_out():
    rng = np.random.default_rng(2)
    outputs, data = rng.standard_normal((90, 3)), rng.standard_normal((90, 2))
    network, answers = names("c", "b", "a"), np.array(["a", "b", "c"])[2 - outputs.argmax(1)]
    (found,) = accuracies(network, outputs, answers, data, 0)
    assert found.network == 1
    assert accuracies(network, outputs, np.array(["d"] * 90), data, 0) == []
    assert accuracies(network, outputs, np.arange(5), data, 0) == []


def test_a_target_that_is_missing_in_places_is_left_out():
    data = np.arange(40.0)[:, None]
    y = np.where(np.arange(40) % 4 == 0, np.nan, data[:, 0])
    (a,) = accuracies(names(), data, y, data, 0)
    assert (a.rows, a.network) == (30, 1) and a.linear == pytest.approx(1)


# ---------------------------------------------------------------- the object, and bad input


def test_cohorts_are_counted_where_given():
    few = gw.cohorts(EXP, max_rules=3)
    e = evaluate(EXP, rows=10, cohorts=few)
    assert e["rules of the cohorts"]["exact rule"] == len(few)
    mean = few.conditions_per_row.mean()
    assert e["conditions a prediction"]["exact rule"] == pytest.approx(mean)
    gap = np.abs(few.predict(X) - EXP.output[:, 0])[few.held].mean()
    assert e["error of the cohorts"]["exact rule"] == pytest.approx(gap / EXP.output.std())
    assert "rules of the cohorts" not in EVALUATION
    with pytest.raises(DataError, match="the cohorts are of output 'y0' of their own explanation"):
        evaluate(gw.explain(NET, X), cohorts=few)


def test_the_table_and_the_text_hold_every_measure():
    table = EVALUATION.table()
    assert table["measure"] == [x.name for x in EVALUATION.measures]
    assert len({len(column) for column in table.values()}) == 1
    assert all(x.definition for x in EVALUATION.measures)
    text = repr(EVALUATION)
    assert "30 rows" in text and "descriptive accuracy" in text and "relevancy" in text
    for measure in EVALUATION.measures:
        assert measure.name in text
    assert "240 points verified inside their region, of 240 drawn" in text
    with pytest.raises(KeyError, match="no measure 'speed'; there are additivity error"):
        EVALUATION["speed"]


def ask(**how):
    return lambda: evaluate(EXP, **{"rows": 5, **how})


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (lambda: evaluate(EXP[:5]), "the Explanation that gatewise.explain returns, got a Sliced"),
        (ask(rows=0), "rows must be at least 1, got 0"),
        (ask(rows=[]), r"rows must be a number of rows, or positions from 0 to 79; got \[\]"),
        (ask(rows=[80]), r"positions from 0 to 79; got \[80\]"),
        (ask(radius=0), "radius must be a number of deviations above 0, got 0"),
        (ask(output=1), r"position among the 1 explained output \(y0\), counted from 0; got 1"),
        (ask(retrained=[mlp(4, 1)]), "a retrained network has 4 inputs and 1 outputs, not 5 and 1"),
        (
            ask(peers=[Peer("p", lambda x: x[:, :2])]),
            r"method 'p' gave values of shape \(5, 2\) for rows of shape \(5, 5\): give one number",
        ),
        (
            ask(peers=[Peer("p", lambda x: x * np.nan)]),
            "method 'p' gave values that are not finite",
        ),
        (
            ask(peers=[Peer("p", lambda x: Attribution())]),
            "method 'p' gave neither values nor slopes: give one of them",
        ),
        (
            ask(peers=[Peer("exact rule", lambda x: x)]),
            "methods exact rule are given twice: give each its own name",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(job, sentence):
    with pytest.raises(DataError, match=sentence):
        job()
