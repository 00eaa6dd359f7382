"""Cohorts with groups of the user's own, and with targets that fit the model's classes or not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gatewise as gw
from gatewise.errors import DataError, InternalError
from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.cohorts.words import Condition, assigned
from gatewise.show.truth import fit
from gatewise.show.truth import target as truth_of
from nets import mlp

RNG = np.random.default_rng(0)


def relus(*layers):
    """A network from (W, b) pairs, a ReLU between them."""
    return gw.read([(np.array(w, float), np.array(b, float)) for w, b in layers])


def explained(network, n):
    x = np.random.default_rng(0).normal(size=(n, network.inputs)) * 1.5
    return gw.explain(network, x)


# |x0| + 2 x1 - 1
FOLD = relus(([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4), ([[1, 1, 2, -2]], [-1]))


@pytest.mark.parametrize(
    "groups",
    [
        {"person": ["age", "male"]},
        {"flags": ["male", "rich"]},
        {"both": ["male", "rich"], "rest": ["age", "income"]},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_meets_one_conjunction_with_groups_of_the_users(groups, seed):
    rng = np.random.default_rng(seed)
    flags = rng.integers(0, 2, (300, 2))
    x = np.column_stack([flags, rng.normal(size=(300, 2))]).astype(float)
    names = ("male", "rich", "age", "income")
    network = dataclasses.replace(mlp(4, 16, 16, 1, seed=seed), feature_names=names)
    found = cohorts(gw.explain(network, x, groups=groups, margin=False), max_rules=8)
    met = sum(
        np.all([c.holds(x) for c in conjunction] or [[True] * 300], 0).astype(int)
        for some in found.conditions
        for conjunction in some
    )
    assert (met == 1).all()
    assert {c.op for some in found.conditions for one in some for c in one} <= {"<=", ">"}
    np.testing.assert_array_equal(found.assign(x), found.ids)
    np.testing.assert_array_equal(cohorts(gw.explain(network, x), max_rules=8).assign(x) >= 0, True)


def test_a_row_in_no_cohort_or_in_two_is_never_given_one_silently():
    a = Condition(0, "town", "is", 0.5, ("A",), (0,), "town is A")
    b = Condition(1, "town", "is", 0.5, ("B",), (1,), "town is B")
    good = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = cohorts(explained(FOLD, 60), max_rules=2, conjunctions=1)
    found = dataclasses.replace(found, conditions=(((a,),), ((b,),)))
    assert found.assign(good).tolist() == [0, 1]
    for bad in ([1.0, 1.0], [0.0, 0.0]):
        with pytest.raises(DataError, match="row 1 is in no one cohort: the 0/1 columns"):
            found.predict(np.array([[1.0, 0.0], bad]))
        with pytest.raises(InternalError, match="row 0 meets"):
            assigned(found.conditions, np.array([bad]))


def alive(names=("alive",)):
    """A network named as given whose output says 'alive', and its own answers."""
    network = dataclasses.replace(FOLD, output_names=names)
    e = explained(network, 100)
    return e, e.output[:, 0] > 0


def accuracy(e, target):
    return cohorts(dataclasses.replace(e, target=target), max_rules=1).overall.network_accuracy


def test_a_targets_label_that_the_output_is_named_after_is_its_yes():
    e, yes = alive()
    assert accuracy(e, np.where(yes, "alive", "dead")) == 1
    assert accuracy(e, np.where(yes, "dead", "alive")) == 0
    assert accuracy(e, yes) == 1


@pytest.mark.parametrize(
    ("classes", "target", "words"),
    [
        (
            ("alive", "dead"),
            (False, True),
            "the target holds '0', '1', the model says 'alive', 'dead'",
        ),
        ((0, 1), ("alive", "dead"), "the target holds 'alive', 'dead', the model says '0', '1'"),
        (("a", "b", "c"), (0, 1), "the target holds '0', '1', the model says 'a', 'b', 'c': map"),
    ],
)
def test_labels_that_are_not_the_models_classes_are_refused(classes, target, words):
    x = RNG.normal(size=(90, 2))
    codes = np.arange(90) % len(classes)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, np.array(classes)[codes])
    e = gw.explain(model, x, target=np.array(target)[codes % 2])
    for ask in (cohorts, gw.evaluate):
        with pytest.raises(gw.GatewiseError, match=words) as caught:
            ask(e)
        assert "\n" not in str(caught.value)
    assert fit(e, truth_of(e)) is None  # the report shows no accuracy
    own = dataclasses.replace(e, target=model.predict(x))
    assert cohorts(own, max_rules=1).overall.network_accuracy == 1
    assert fit(own, truth_of(own)).value == 1


def test_report_cohorts_and_evaluation_read_one_target_alike():
    e, yes = alive()
    for target in (np.where(yes, "alive", "dead"), np.where(yes, "dead", "alive"), yes):
        e = dataclasses.replace(e, target=target)
        every = fit(e, truth_of(e)).value
        assert gw.evaluate(e, rows=5)["accuracy of the network"]["exact rule"] == every
        assert cohorts(e, max_rules=1).overall.network_accuracy == every


def test_of_several_outputs_right_is_said_to_be_one_against_the_rest():
    network = dataclasses.replace(mlp(3, 10, 3, seed=2), output_names=("a", "b", "c"))
    e = explained(network, 60)
    e = dataclasses.replace(e, target=np.array(["a", "b", "c"])[e.output.argmax(1)])
    assert "right on b against the rest" in repr(cohorts(e, output="b", max_rules=1))
    one, _ = alive()
    assert "against the rest" not in repr(cohorts(one, max_rules=1))
