"""Groups: what a Pipeline encoded or the user names, folded into exact sums; bad ones refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.groups import Group, settled
from nets import mlp, rows

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age": RNG.normal(40, 9, 60),
        "sex": RNG.choice(["f", "m"], 60),
        "town": RNG.choice(["A", "B", "C"], 60),
        "income": RNG.normal(3, 1, 60),
    }
)
LABEL = RNG.integers(0, 2, 60)


@pytest.fixture(scope="module")
def model():
    steps = make_column_transformer(
        (StandardScaler(), ["age", "income"]),
        (OneHotEncoder(drop="if_binary"), ["sex", "town"]),
    )
    return make_pipeline(steps, LogisticRegression()).fit(TABLE, LABEL)


def test_a_pipelines_categories_with_members_levels_and_what_was_dropped(model):
    exp = gw.explain(model, TABLE)
    sex, town = exp.groups
    assert (sex.name, sex.levels, sex.dropped) == ("sex", ("m",), "f")
    assert (town.name, town.levels, town.dropped) == ("town", ("A", "B", "C"), None)
    assert [exp.feature_names[j] for j in town.members] == ["town=A", "town=B", "town=C"]
    folded = exp.folded()
    assert folded.feature_names == ("age", "sex", "town", "income")
    assert folded.display_data[:, 1].tolist() == TABLE["sex"].tolist()
    assert folded.display_data[:, 2].tolist() == TABLE["town"].tolist()
    assert "sex: m; dropped: f" in repr(folded)
    assert "town: A, B, C" in repr(folded)


def test_a_given_group_may_hold_encoded_columns_and_takes_their_place(model):
    exp = gw.explain(model, TABLE, groups={"person": ["age", "sex"]})
    assert [g.name for g in exp.groups] == ["person", "town"]
    person = exp.groups[0]
    assert [exp.feature_names[j] for j in person.members] == ["age", "sex=m"]
    shown = exp.folded().display_data
    column = exp.folded().feature_names.index("person")
    first = exp.data[0, list(person.members)]
    names = [exp.feature_names[j] for j in person.members]
    assert shown[0, column] == ", ".join(f"{n}={v:.4g}" for n, v in zip(names, first, strict=True))
    assert (exp.folded().data[:, column] == -1).all()


def test_an_encoded_column_may_be_renamed(model):
    exp = gw.explain(model, TABLE, groups={"place": ["town"]})
    place = next(g for g in exp.groups if g.name == "place")
    assert place.levels == ("A", "B", "C")
    assert exp.folded()[:, "place"].display_data.tolist() == TABLE["town"].tolist()


def test_the_users_own_dummies():
    table = pd.get_dummies(TABLE[["age", "town"]], columns=["town"], dtype=float)
    network = dataclasses.replace(mlp(4, 6, 2), feature_names=tuple(table.columns))
    exp = gw.explain(network, table, groups={"town": [c for c in table if "town" in c]})
    assert exp.groups[0].levels == ("A", "B", "C")
    assert exp.folded().display_data[:, 1].tolist() == TABLE["town"].tolist()
    assert (exp.folded().data[:, 1] == TABLE["town"].map("ABC".index)).all()


def test_a_row_with_no_level_or_two():
    group = gw.explain(
        [(np.ones((1, 3)), np.ones(1))], np.eye(3), groups={"g": [0, 1]}, margin=False
    ).groups[0]
    rows = np.array([[1.0, 0, 5], [0, 1, 5], [0, 0, 5], [1, 1, 5], [0.5, 0, 5]])
    assert group.level(rows).tolist() == [0, 1, 2, -1, -1]
    assert group.said(rows).tolist() == ["x0", "x1", "none", "x0=1, x1=1", "x0=0.5, x1=0"]


def test_numbers_that_are_no_category_name_no_level():
    """SibSp=1, Parch=0 is not the family "SibSp": another row has 1 in both."""
    x = np.array([[1.0, 0, 3], [0, 0, 4], [1, 1, 5]])
    network = dataclasses.replace(mlp(3, 4, 1), feature_names=("SibSp", "Parch", "Age"))
    exp = gw.explain(network, x, groups={"family": ["SibSp", "Parch"]}, margin=False)
    folded = exp.folded()
    expected = ["SibSp=1, Parch=0", "SibSp=0, Parch=0", "SibSp=1, Parch=1"]
    assert folded.display_data[:, 0].tolist() == expected
    assert folded[0:1, "family"].display_data.tolist() == expected[:1]
    assert (folded.data[:, 0] == -1).all()
    assert "family: 2 inputs" in repr(folded)
    codes = gw.reason_codes(exp, rows=[0, 1, 2], adverse="high").table()
    codes_low = gw.reason_codes(exp, rows=[0, 1, 2], adverse="low").table()
    said = {
        (row, value)
        for t in (codes, codes_low)
        for row, factor, value in zip(t["row"], t["factor"], t["value"], strict=True)
        if factor == "family"
    }
    assert said and said <= set(enumerate(expected))


def test_only_columns_with_at_most_one_1_are_a_category():
    for x, levels in (([[1, 0], [0, 1]], ("a", "b")), ([[1, 1], [0, 1]], ()), ([[2, 0]], ())):
        (found,) = settled([Group("g", (0, 1), ("a", "b"))], np.array(x, float))
        assert found.levels == levels


def test_a_long_group_is_cut_short():
    group = Group("g", tuple(range(6)), (), None, tuple("abcdef"))
    assert group.said(np.ones((1, 6))).tolist() == ["a=1, b=1, c=1, d=1, 2 more"]


@given(st.data(), st.integers(0, 50))
def test_folding_is_a_sum_over_members_and_nothing_is_lost(data, seed):
    network = mlp(6, 5, 2, seed=seed)
    order = data.draw(st.permutations(range(6)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 5), max_size=3)))
    parts = [list(p) for p in np.split(np.array(order), cuts)]
    chosen = {f"g{k}": [int(j) for j in p] for k, p in enumerate(parts) if k % 2 == 0}
    exp = gw.explain(network, rows(network, 7, seed), groups=chosen, margin=False)
    folded = exp.folded()
    assert sorted(j for m in folded.members for j in m) == list(range(6))
    for k, name in enumerate(folded.feature_names):
        members = chosen.get(name, [folded.members[k][0]])
        assert sorted(members) == list(folded.members[k])
        slow = sum(exp.values[:, j] for j in sorted(members))
        np.testing.assert_allclose(folded.values[:, k], slow, rtol=1e-12, atol=1e-13)
    total = folded.base_values + folded.values.sum(1)
    np.testing.assert_allclose(total, exp.output, rtol=1e-11, atol=1e-11)
    part = folded[2:5, 0]
    np.testing.assert_array_equal(part.values, folded.values[2:5, 0])
    assert part.slopes is None
    assert part.intercept is None


NETWORK = dataclasses.replace(mlp(3, 4, 1), feature_names=("a", "b", "c"))
X = rows(NETWORK, 5).numpy()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"g": []}, "group 'g' is empty: name at least one input, or leave the group out"),
        ({"g": ["a", "d"]}, "group 'g' names 'd', which is no input: name some of a, b, c"),
        ({"g": [3]}, "group 'g' names 3, which is no input"),
        ({"g": [True]}, "group 'g' names True, which is no input"),
        ({"g": ["a", "b"], "h": ["b", "c"]}, "input 'b' is in the groups 'g' and 'h'"),
        ({"g": ["a", 0]}, "group 'g' names the input 'a' twice: name each input once"),
        ({"c": ["a", "b"]}, "group 'c' has the name of another input or group"),
        ([["a", "b"]], "groups is a list: give a dict, each name with a list of inputs"),
    ],
)
def test_a_group_that_is_none(groups, words):
    with pytest.raises(DataError) as caught:
        gw.explain(NETWORK, X, groups=groups)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_that_cuts_an_encoded_column_in_two(model):
    with pytest.raises(DataError, match="input 'town=A' is in the groups 'g' and 'town'"):
        gw.explain(model, TABLE, groups={"g": ["age", "town=A"]})
    with pytest.raises(DataError, match=r"which is no input: .* or the encoded sex, town"):
        gw.explain(model, TABLE, groups={"g": ["village"]})
