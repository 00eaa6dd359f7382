"""Explainer(model)(X), and `.attribute` as Captum's users call it, against Captum and autograd."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

import gatewise as gw
from gatewise.errors import DataError, NotPiecewiseAffine, WrongColumns, WrongShape
from nets import mlp, rows

NETWORK = mlp(3, 6, 2)
X = rows(NETWORK, 10)


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    )


# ---------------------------------------------------------------- a table in


def test_it_is_explain_with_the_settings_kept():
    explainer = gw.Explainer(NETWORK, output=1, feature_names=["a", "b", "c"])
    for x in (X[:4].numpy(), X[4:].numpy()):
        mine, theirs = explainer(x), gw.explain(NETWORK, x, output=1)
        np.testing.assert_array_equal(mine.values, theirs.values)
        np.testing.assert_array_equal(mine.margin.scaled, theirs.margin.scaled)
        assert mine.feature_names == ("a", "b", "c")
    assert repr(explainer).startswith("Explainer(Network(3 inputs -> 2 outputs")


def test_a_background_gives_the_reference_and_the_scale():
    back = rows(NETWORK, 200, seed=5).numpy() * 3
    for reference, row in (
        (None, back.mean(0)),
        ("median", np.median(back, 0)),
        ("zero", np.zeros(3)),
        ("row 7", back[7]),
        (back[:, 0] > 0, back[back[:, 0] > 0].mean(0)),
    ):
        exp = gw.Explainer(NETWORK, back, reference=reference)(X)
        np.testing.assert_allclose(exp.reference, row, rtol=1e-13)
        np.testing.assert_allclose(exp.scale, back.std(0), rtol=1e-13)
        total = exp.base_values + exp.values.sum(1)
        np.testing.assert_allclose(total, NETWORK(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gw.Explainer(NETWORK)(X).reference, X.numpy().mean(0))


def test_a_raw_row_is_a_reference_for_a_pipeline():
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pd.DataFrame({"age": [1.0, 2, 3, 4], "sex": ["f", "m", "m", "f"]})
    steps = make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression()).fit(table, [0, 1, 1, 0])
    for row in ({"age": 3.0, "sex": "m"}, table.iloc[2], table.iloc[[2]], {"sex": "m", "age": 3}):
        exp = gw.explain(model, table, reference=row)
        np.testing.assert_array_equal(exp.reference, exp.data[2])
    inputs = {"age": 3, "sex=f": 0, "sex=m": 1}
    assert gw.explain(model, table, reference=inputs).reference.tolist() == exp.data[2].tolist()
    with pytest.raises(WrongColumns, match="wage"):
        gw.explain(model, table, reference={"wage": 3.0, "sex": "m"})
    with pytest.raises(WrongColumns, match="sex"):
        gw.explain(model, table, reference=table.iloc[[2]][["age"]])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"feature_names": ["a", "b"]},
            WrongColumns,
            "feature_names has 2 names (2 different), and the network has 3",
        ),
        (
            {"feature_names": ["a", "b", "a"]},
            WrongColumns,
            "has 3 names (2 different)",
        ),
        ({"output": "maybe"}, DataError, "no output 'maybe': the network has 2 (y0, y1)"),
        ({"batch_size": 0}, DataError, "batch_size must be a whole number, at least 1, got 0"),
        ({"data": np.ones((4, 2))}, WrongShape, "the network takes 3 inputs a row, got 2"),
    ],
)
def test_settings_are_refused_at_once(options, error, words):
    with pytest.raises(error) as caught:
        gw.Explainer(NETWORK, **options)
    assert words in str(caught.value)


def test_inputs_of_a_pipeline_can_be_renamed():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    iris = load_iris(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target)
    exp = gw.Explainer(model, feature_names=list("abcd"))(iris.data.to_numpy())
    assert exp.feature_names == tuple("abcd")
    np.testing.assert_array_equal(exp.values, gw.explain(model, iris.data).values)


# ---------------------------------------------------------------- tensors in


@pytest.mark.parametrize("target", [2, -1, "y2", torch.tensor(2), [2, 0, 1, 2], np.array([3] * 4)])
def test_attributions_are_slope_times_distance(target):
    module, x = conv(), torch.randn(4, 2, 6, 6)
    found = gw.Explainer(module, example=x).attribute(x, target)
    assert (found.shape, found.dtype, found.device) == (x.shape, x.dtype, x.device)
    assert not found.requires_grad
    place = 2 if isinstance(target, str) else target
    chosen = np.broadcast_to(np.asarray(place), 4).tolist()
    exact = module.double()
    for i, t in enumerate(chosen):
        slope = torch.func.jacrev(lambda r: exact(r[None])[0])(x[i].double())[t]
        torch.testing.assert_close(found[i], (slope * x[i]).float(), rtol=1e-5, atol=1e-6)


def test_captum_agrees_where_it_answers_the_same_question():
    attr = pytest.importorskip("captum.attr")
    module, x = conv().double(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    ours = gw.Explainer(module, example=x).attribute(x, target=1)
    theirs = attr.InputXGradient(module).attribute(x.clone().requires_grad_(), target=1)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-12)
    (alone,) = gw.Explainer(module, example=x).attribute((x,), target=1)
    torch.testing.assert_close(alone, ours)


def test_baselines_and_the_convergence_delta():
    explainer = gw.Explainer(NETWORK)
    slopes = explainer(X).slopes[..., 1]
    for base in (0.5, torch.ones(3), rows(NETWORK, 10, 3), (torch.zeros(1, 3),), 2):
        found, delta = explainer.attribute(X, 1, base, return_convergence_delta=True)
        b = torch.as_tensor(base[0] if isinstance(base, tuple) else base, dtype=torch.float64)
        b = b.broadcast_to(X.shape)
        torch.testing.assert_close(
            found, torch.from_numpy(slopes) * (X - b), rtol=1e-12, atol=1e-12
        )
        change = (NETWORK(X) - NETWORK(b.contiguous()))[:, 1]
        torch.testing.assert_close(delta, found.sum(1) - change, rtol=1e-11, atol=1e-11)
    near = X + 1e-9
    _, delta = explainer.attribute(X, 0, near, return_convergence_delta=True)
    assert delta.abs().max() < 1e-14


def test_the_explainers_reference_is_the_baseline():
    back = rows(NETWORK, 50, 9)
    explainer = gw.Explainer(NETWORK, back, reference="median")
    median = torch.from_numpy(np.median(back.numpy(), 0))
    found = explainer.attribute(X, 0)
    torch.testing.assert_close(found, gw.Explainer(NETWORK).attribute(X, 0, median))
    np.testing.assert_allclose(found, explainer(X).values[..., 0], rtol=1e-12, atol=1e-12)
    with pytest.raises(DataError, match="attribute has no table to take the reference from"):
        gw.Explainer(NETWORK, reference="median").attribute(X, 0)


def test_integers_give_float64_and_one_output_needs_no_target():
    network = mlp(2, 3, 1)
    found = gw.Explainer(network).attribute(torch.tensor([[1, 2], [3, 4]]))
    assert found.dtype is torch.float64
    exp = gw.explain(network, np.array([[1.0, 2], [3, 4]]), reference="zero")
    np.testing.assert_allclose(found, exp.values[..., 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((X,), DataError, "the network has 2 outputs: say which one as target="),
        ((X, 2), DataError, "no output 2: the network has 2 (y0, y1)"),
        ((X, [0, 1, 0]), DataError, "target holds 3 outputs for 10 rows: give one for all, or one"),
        ((X, {0}), DataError, "target is a set: give an output's position or name, or a list"),
        ((X, (0, 1)), DataError, "no output (0, 1): the outputs have shape"),
        ((X, 0, torch.ones(4)), WrongShape, "baselines of shape (4,) do not fit inputs of shape"),
        ((X, 0, "mean"), WrongShape, "do not fit inputs"),
        ((X, 0, float("nan")), DataError, "baselines hold NaN or infinity: give finite numbers"),
        (
            (X.numpy(), 0),
            WrongShape,
            "attribute takes one tensor (rows, *input_shape), got nda",
        ),
        (((X, X), 0), WrongShape, "attribute takes one tensor (rows, *input_shape), got Tens"),
        ((X[:, :2], 0), WrongShape, "the network takes rows of 3 inputs"),
        ((X * float("inf"), 0), DataError, "rows 0, 1"),
    ],
)
def test_what_attribute_refuses(arguments, error, words):
    with pytest.raises(error) as caught:
        gw.Explainer(NETWORK).attribute(*arguments)
    assert words in str(caught.value)


def test_a_curved_network_has_no_exact_attribution():
    with pytest.raises(NotPiecewiseAffine, match="an attribution needs a piecewise-affine network"):
        gw.Explainer(nn.Sequential(nn.Linear(3, 2), nn.GELU())).attribute(X, 0)


@pytest.mark.parametrize("kind", ["list", "array", "pandas", "polars", "tensor", "nullable"])
def test_a_mask_of_any_kind_is_a_reference(kind):
    import polars as pl

    X = np.arange(15.0).reshape(5, 3)
    mask = [True, False, True, False, False]
    made = {
        "list": list,
        "array": np.array,
        "pandas": lambda m: pd.Series(m, index=list("vwxyz")[: len(m)]),
        "nullable": lambda m: pd.Series(m, dtype="boolean"),
        "polars": pl.Series,
        "tensor": torch.tensor,
    }[kind]
    exp = gw.explain(NETWORK, X, reference=made(mask))
    np.testing.assert_array_equal(exp.reference, X[[0, 2]].mean(0))
    assert exp.reference_name == "the mean of 2 rows"
    with pytest.raises(DataError, match="one truth value for each of the 5 rows"):
        gw.explain(NETWORK, X, reference=made([True, False, True]))


def test_a_mask_with_a_gap_is_refused_and_a_labelled_row_is_a_row():
    X = pd.DataFrame(np.arange(15.0).reshape(5, 3), columns=["a", "b", "c"])
    with pytest.raises(DataError, match="holds missing values: fill them"):
        gw.explain(NETWORK, X, reference=pd.Series([True, None, True, True, True], dtype="boolean"))
    row = pd.Series([True, False, True], index=["a", "b", "c"])
    assert gw.explain(NETWORK, X, reference=row).reference.tolist() == [1, 0, 1]


def piped():
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pd.DataFrame({"age": [1.0, 2, 3, 4], "sex": ["f", "m", "m", "f"]})
    steps = make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression()).fit(table, [0, 1, 1, 0])
    return model, table


def test_a_mask_is_a_reference_for_a_pipeline():
    model, table = piped()
    exp = gw.explain(model, table, reference=table["sex"] == "m")
    np.testing.assert_array_equal(exp.reference, exp.data[1:3].mean(0))
    again = gw.Explainer(model, table, reference=(table["sex"] == "m").tolist())(table)
    np.testing.assert_array_equal(again.reference, exp.reference)


def test_numbers_are_network_inputs_and_tables_are_prepared_everywhere():
    model, table = piped()
    exp = gw.explain(model, table)
    way = [1.0, 0, 0]
    for source in (exp, model):
        one, two = gw.trace(source, exp.data, way), gw.trace(source, table, way)
        np.testing.assert_array_equal(one.values, two.values)
        one, two = (gw.integrated_gradients(source, x, "zero") for x in (exp.data, table))
        np.testing.assert_array_equal(one.values, two.values)
        one, two = (gw.profile(source, x, "age") for x in (exp.data, table))
        np.testing.assert_array_equal(one.mean, two.mean)


def test_a_direction_has_a_number_for_each_input():
    X = pd.DataFrame(np.arange(15.0).reshape(5, 3), columns=["a", "b", "c"])
    exp = gw.explain(NETWORK, X)
    expected = gw.trace(exp, exp.data, [1.0, 0, 2]).values
    ways = (
        {"c": 2, "a": 1, "b": 0},
        pd.Series({"b": 0.0, "a": 1, "c": 2}),
        pd.DataFrame({"b": [0.0], "a": [1], "c": [2]}),
        torch.tensor([1.0, 0, 2], requires_grad=True),
        [[1.0, 0, 2]] * 5,
    )
    for way in ways:
        np.testing.assert_array_equal(gw.trace(exp, exp.data, way).values, expected)
    for way, words in (
        ([1.0, 0], "direction has 2 values, and the network takes 3 inputs"),
        ([1.0] * 6, "direction has 6 values, and the network takes 3 inputs"),
        ({"a": 1.0}, "direction's columns are not the network's"),
        ([[1.0, 0]], "the network takes 3 inputs a row, got 2"),
        ("up", "direction is not a row of 3 numbers"),
        (None, "direction is not a row of 3 numbers"),
        (1.0, "direction is not a row of 3 numbers"),
    ):
        with pytest.raises(DataError, match=words):
            gw.trace(exp, exp.data, way)


def test_a_mask_of_reference_rows_is_of_the_rows_kept_or_of_the_table_as_it_came():
    """Bad rows that were skipped are left out of the mask as they were out of the table."""
    network = mlp(2, 5, 1)
    x = rows(network, 10).numpy()
    x[3, 0] = np.nan
    good = np.arange(10) != 3
    mask = np.arange(10) % 2 == 1
    whole, short = (
        gw.explain(network, x, reference=m, on_bad_rows="skip") for m in (mask, mask[good])
    )
    np.testing.assert_array_equal(whole.reference, x[mask & good].mean(0))
    np.testing.assert_array_equal(whole.reference, short.reference)
    np.testing.assert_array_equal(short.against(mask).reference, whole.reference)
    np.testing.assert_array_equal(
        gw.integrated_gradients(short, baseline=mask).baseline[0], whole.reference
    )
    codes = [gw.reason_codes(short, 1, reference=m).codes for m in (mask, mask[good])]
    np.testing.assert_array_equal(*codes)
    with pytest.raises(DataError, match="each of the 9 rows, or of the 10 before 1 were left out"):
        short.against(mask[:8])
    with pytest.raises(DataError, match=r"each of the 10 rows$"):
        gw.explain(network, x[good].repeat(2, 0)[:10], reference=mask[:9])


def test_the_facade_says_its_options():
    """Every name of gatewise has its keywords in its signature, none of them behind **."""
    for name in gw.__all__:
        thing = getattr(gw, name)
        if inspect.isfunction(thing):
            kinds = {p.kind for p in inspect.signature(thing).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, name


@pytest.mark.parametrize(
    ("ours", "theirs", "own"),
    [
        (gw.recourse, "recourse.recourse.recourse", {"network", "model"}),
        (gw.integrated_gradients, "integrated.integrated_gradients", {"source", "x"}),
        (gw.profile, "profile.profile", {"source"}),
        (gw.evaluate, "evaluation.evaluate.evaluate", {"exp"}),
    ],
)
def test_the_facade_has_the_options_of_what_it_calls_and_their_defaults(ours, theirs, own):
    module, name = theirs.rsplit(".", 1)
    inner = getattr(importlib.import_module(f"gatewise.explain.{module}"), name)
    mine, asked = (inspect.signature(f).parameters for f in (ours, inner))
    assert set(asked) - own <= set(mine)
    for key in set(asked) & set(mine) - own:
        assert mine[key].default == asked[key].default, key
