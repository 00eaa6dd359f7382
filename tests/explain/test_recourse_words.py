"""What recourse refuses, in one sentence each; and the solver it needs."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.svm import LinearSVC

import gatewise as gw
from gatewise.errors import DataError, MissingExtra, NotPiecewiseAffine
from gatewise.explain.recourse.recourse import recourse
from gatewise.ir.kinds import Affine
from nets import Chain, dense, mixed, mlp

HOME = np.array([0.5, 1.0, 0.0])
NAMED = dataclasses.replace(mlp(3, 5, 1, seed=1), feature_names=("age", "red", "blue"))
MANY = mlp(3, 5, 3, seed=1)

REFUSED = [
    ({"immutable": ["age", "red", "blue"]}, "immutable= covers all 3 inputs: nothing is left"),
    (
        {"immutable": ["age"], "bounds": {"red": (1, 1), "blue": (0, 0)}},
        "together leave no input free: nothing is left to change",
    ),
    ({"bounds": {"age": (2, 1)}}, "bounds of 'age' contradict each other: at least 2 and at most"),
    (
        {"bounds": {"age": (None, 0)}, "monotone": {"age": "increase"}},
        "bounds of 'age' contradict each other: at least 0.5 and at most 0 (what monotone=",
    ),
    (
        {"bounds": {"age": (0.2, 0.8)}, "integers": ["age"]},
        "contradict integers=: there is no whole number from 0.2 to 0.8",
    ),
    (
        {"bounds": {"age": (1, 2)}, "immutable": "age"},
        "'age' may not change from 0.5, which contradicts its bounds 1 to 2",
    ),
    (
        {"categories": {"colour": ["red", "blue"]}, "bounds": {"red": (0, 0), "blue": (0, 0)}},
        "group 'colour' contradict each other: they leave it no level",
    ),
    (
        {"categories": {"colour": ["red", "blue"]}, "bounds": {"red": (1, 1), "blue": (1, 1)}},
        "group 'colour' contradict each other: they ask for more than one level",
    ),
    (
        {"categories": {"both": ["age", "red"]}},
        "'both' is not 0/1 columns with one 1 at most in this row",
    ),
    (
        {"categories": {"colour": ["red", "blue"]}, "bounds": {"blue": (0, 6)}},
        "category 'colour' holds 'blue', whose bounds are 0 to 6: categories= takes 0/1 columns",
    ),
    ({"categories": ["red", "blue"]}, "categories is a list: give a dict, each category with its"),
    ({"bounds": (pd.Series({"income": 1}), pd.Series({"age": 2}))}, "bounds names 'income', which"),
    ({"bounds": (pd.DataFrame(np.zeros((2, 3))),) * 2}, "an end of bounds is a table of 2 rows"),
    ({"time_limit": "3"}, "time_limit must be a number of seconds above 0, got '3'"),
    ({"categories": {"colour": ["pink"]}}, "group 'colour' names 'pink', which is no input"),
    ({"immutable": ["agee"]}, "immutable names 'agee', which is no input: name some of age, red"),
    ({"immutable": [7]}, "immutable names 7, which is no input"),
    ({"bounds": {"income": (0, 1)}}, "bounds names 'income', which is no input"),
    ({"bounds": {"age": 3}}, "bounds of 'age' are 3: give (lowest, highest), None for an open end"),
    ({"bounds": [1, 2, 3]}, "bounds must be a dict"),
    ({"integers": "income"}, "integers names 'income', which is no input"),
    ({"monotone": {"age": "up"}}, "monotone of 'age' is 'up': say 'increase' or 'decrease'"),
    ({"monotone": {"income": "increase"}}, "monotone names 'income', which is no input"),
    ({"norm": "l2"}, "costs are 'l1' (sum of changes), 'linf' (largest change) or 'weighted'"),
    ({"norm": "weighted"}, "norm='weighted' needs scale=, the size of one step of each input"),
    ({"scale": [1, -1, 1]}, "scale is negative at red: give sizes of at least 0"),
    ({"scale": [1, 1]}, "scale has 2 values, and the network takes 3 inputs"),
    ({"scale": [0, 0, 0]}, "together leave no input free"),
    ({"method": "fast"}, "method is 'fast': say 'region' (fast), 'exact' (proven) or 'milp'"),
    ({"time_limit": 0}, "time_limit must be a number of seconds above 0, got 0"),
    ({"margin": -1}, "margin must be at least 0, got -1"),
    ({"margin": None}, "margin must be a finite number, got None"),
    ({"target": 2}, "a network with one score has two sides, 1 (y0, above the threshold) and 0"),
    ({"at_least": 1, "target": 1}, "give one or the other"),
    ({"at_least": np.inf}, "at_least must be a finite number, got inf"),
    ({"at_least": 2, "at_most": 1}, "at_least=2 and at_most=1 contradict each other"),
    ({"output": "score", "at_least": 1}, "no output 'score'"),
]


@pytest.mark.parametrize(("asked", "said"), REFUSED)
def test_a_bad_question_is_refused_in_a_sentence(asked, said):
    with pytest.raises(DataError) as caught:
        recourse(NAMED, HOME, **asked)
    assert said in str(caught.value)


def test_many_outputs_need_one_to_be_named():
    with pytest.raises(DataError, match=r"has 3 outputs \(y0, y1, y2\): say which with output="):
        recourse(MANY, HOME, at_least=1)
    with pytest.raises(DataError, match="no output 'cat': the network has 3"):
        recourse(MANY, HOME, target="cat")


def test_a_row_that_is_none_is_refused():
    with pytest.raises(DataError, match="x has 2 values, and the network takes 3 inputs"):
        recourse(NAMED, [1, 2])
    with pytest.raises(DataError, match="x holds NaN or infinity at red"):
        recourse(NAMED, [1, np.nan, 2])
    with pytest.raises(DataError, match="x is a table of 2 rows: give one row"):
        recourse(NAMED, pd.DataFrame(np.zeros((2, 3)), columns=["age", "red", "blue"]))


def test_a_step_is_refused_by_name_for_a_proof():
    with pytest.raises(NotPiecewiseAffine, match=r"needs .* node 'n\d+' .*method='region'"):
        recourse(mixed(0), np.zeros(4), method="exact")


def below_zero():
    """A network that is at most 0 everywhere: a sum of ReLUs with weights -1."""
    chain = Chain(2, 0)
    chain.linear(4)
    chain.gate("relu")
    ones = torch.ones(1, 4, dtype=torch.float64)
    chain.put(Affine(dense, (-ones,), None, 4, 1), shape=(1,))
    return chain.network()


def test_a_milp_needs_finite_bounds_or_an_answer():
    with pytest.raises(DataError, match="method='milp' needs finite bounds where the walk finds"):
        recourse(below_zero(), np.ones(2), at_least=1.0, method="milp")


def test_the_solver_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(MissingExtra, match=r"highspy.*pip install 'gatewise\[lp\]'"):
        recourse(NAMED, HOME)


def test_an_input_of_scale_0_is_held_and_told():
    r = recourse(NAMED, HOME, scale=[0, 1, 1], bounds=([-9] * 3, [9] * 3))
    assert r.notes == ("held fixed, for their scale is 0: age",)
    assert r.point is None or r.change[0] == 0


def test_a_regression_has_no_decision_to_flip():
    x = np.random.default_rng(0).normal(size=(40, 3))
    price, sign = 100 + x.sum(1), x.sum(1) > 0
    for model in (LinearRegression().fit(x, price), PoissonRegressor().fit(x, price)):
        for ask in ({"model": model}, {}):
            with pytest.raises(DataError, match=r"is a regression \(y\).* at_least= or at_most="):
                recourse(gw.read(model), x[0], **ask)
        network = gw.read(model)
        before = float(network(x[:1])[0, 0])
        for ask in ({"at_least": before + 0.01}, {"threshold": before + 0.01}):
            assert recourse(network, x[0], model=model, **ask).status == "optimal"
    for model in (LogisticRegression().fit(x, sign), LinearSVC().fit(x, sign)):
        assert recourse(gw.read(model), x[0], model=model).status == "optimal"
        assert recourse(gw.read(model), x[0]).status == "optimal"


def test_a_flip_is_told_as_a_logit_on_a_side():
    x = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(x, x.sum(1) > 0)
    side = "below" if model.predict(x[:1])[0] else "above"
    said = repr(recourse(gw.read(model), x[0]))
    assert said.startswith(f"Recourse to logit of 'True' {side} 0, a flip of the decision: l1 cost")


def test_a_category_changes_in_one_line():
    network = gw.read([(np.array([[0.0, -1.0, 1.0]]), np.zeros(1))])
    colour = {"colour": [1, 2]}
    r = recourse(network, [0.0, 1.0, 0.0], categories=colour, at_least=0.5)
    assert r.changes == {"x1": (1, 0), "x2": (0, 1)}
    assert repr(r).splitlines()[1] == "  colour: x1 -> x2"


def test_numbers_of_numpy_are_time_limits():
    assert recourse(NAMED, HOME, time_limit=np.float32(9), bounds=([-9] * 3, [9] * 3)).gap < 1e-6
