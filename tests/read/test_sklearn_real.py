"""Typical Pipelines on real tables: imputed and scaled numbers, imputed and one-hot categories."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gatewise.read.sklearn import read_sklearn

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def titanic(folder):
    table = pd.read_csv(folder / "tabular" / "titanic" / "titanic_kaggle.csv")
    numbers = ["Age", "SibSp", "Parch", "Fare"]
    return table, table["Survived"], numbers, ["Pclass", "Sex", "Embarked"]


def german(folder):
    table = pd.read_csv(folder / "tabular" / "german_credit" / "german.csv", header=None)
    table.columns = [f"A{i}" for i in range(1, 22)]
    numbers = [c for c in table.columns[:-1] if table[c].dtype.kind in "iuf"]
    return table, table["A21"], numbers, [c for c in table.columns[:-1] if c not in numbers]


def adult(folder):
    file = folder / "tabular" / "adult" / "adult-train.csv"
    table = pd.read_csv(file, header=None, na_values="?", skipinitialspace=True).head(4000)
    table.columns = [f"a{i}" for i in range(15)]
    numbers = [c for c in table.columns[:-1] if table[c].dtype.kind in "iuf"]
    return table, table["a14"], numbers, [c for c in table.columns[:-1] if c not in numbers]


def housing(folder):
    table = pd.read_csv(folder / "tabular" / "california_housing" / "housing.csv").head(4000)
    numbers = [c for c in table.columns if c not in {"median_house_value", "ocean_proximity"}]
    return table, table["median_house_value"], numbers, ["ocean_proximity"]


def typical(numbers, categories) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("num", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "cat",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"),
                    OneHotEncoder(drop="if_binary", handle_unknown="ignore"),
                ),
                categories,
            ),
        ]
    )


def fitted(data):
    table, y, numbers, categories = data
    if y.dtype.kind == "f":
        net = MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=15, random_state=0)
        end = TransformedTargetRegressor(net, transformer=StandardScaler())
    else:
        end = MLPClassifier((16, 8), max_iter=15, random_state=0)
    return make_pipeline(typical(numbers, categories), end).fit(table[numbers + categories], y)


@pytest.mark.parametrize("source", [titanic, german, adult, housing])
def test_typical_pipeline(source, shared_data):
    table, y, numbers, categories = source(shared_data)
    model = fitted((table, y, numbers, categories))
    net = read_sklearn(model)
    assert set(numbers) <= set(net.feature_names)
    assert set(net.prepare.groups) == set(categories)
    units = dict(zip(net.feature_names, net.prepare.units, strict=True))
    assert {units[name] for name in numbers} == {"original"}
    x = net.prepare(table)
    assert np.isfinite(x).all()
    used = table[numbers + categories]
    theirs = model.predict(used) if y.dtype.kind == "f" else model.predict_proba(used)[:, 1]
    ours = net.predict(x).numpy()[:, 0]
    assert np.abs(ours - theirs).max() <= 1e-12 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("source", [titanic, german, adult, housing])
def test_polars_and_pyarrow_give_the_same_rows(source, shared_data):
    table, y, numbers, categories = source(shared_data)
    net = read_sklearn(fitted((table, y, numbers, categories)))
    other = pl.from_pandas(table)
    assert np.array_equal(net.prepare(other), net.prepare(table))
    assert np.array_equal(net.prepare(other.to_arrow()), net.prepare(table))


def test_a_coefficient_is_what_one_unit_of_the_raw_column_does(shared_data):
    """Dollars a room, not standard deviations of it: against the Pipeline itself."""
    table, y, numbers, categories = housing(shared_data)
    model = fitted((table, y, numbers, categories))
    net = read_sklearn(model)
    rows = table.dropna().head(50)
    x = torch.as_tensor(net.prepare(rows))
    slopes = torch.func.vmap(torch.func.jacrev(lambda row: net(row[None])[0, 0]))(x).numpy()
    for name in numbers:
        step = 1e-6 * max(1.0, rows[name].abs().max())
        up, down = (rows.assign(**{name: rows[name] + s * step}) for s in (1, -1))
        here = model.predict(rows)
        right, left = (model.predict(up) - here) / step, (here - model.predict(down)) / step
        smooth = np.isclose(right, left, rtol=1e-3, atol=1e-3)
        assert smooth.mean() > 0.9
        mine = slopes[:, net.feature_names.index(name)]
        assert np.allclose(mine[smooth], right[smooth], rtol=1e-3, atol=1e-2)
