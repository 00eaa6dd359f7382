"""The ten real tables, and the usual Pipeline fitted on each: impute, scale, one-hot, a ReLU net.

A target of floats is a regression; of whole numbers or text, a classification.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

import shared

Table = tuple[pd.DataFrame, np.ndarray[Any, Any], list[str], list[str]]

COLUMNS = {
    "adult": """age workclass fnlwgt education education_num marital_status occupation relationship
        race sex capital_gain capital_loss hours_per_week native_country income""",
    "banknote": "variance skewness curtosis entropy class",
    "cancer": """clump_thickness cell_size cell_shape adhesion epithelial_size bare_nuclei chromatin
        nucleoli mitoses class""",
    "german": """checking duration history purpose amount savings employment installment_rate
        personal_status debtors residence_since property age other_plans housing credits job
        dependants telephone foreign class""",
    "pima": "pregnancies glucose pressure skin insulin bmi pedigree age diabetes",
    "wine": """fixed_acidity volatile_acidity citric_acid residual_sugar chlorides free_sulfur
        total_sulfur density ph sulphates alcohol quality""",
}


def load(name: str) -> Table:
    """The inputs, the target (rows,), and the names of the numeric and categorical inputs.

    Missing cells are NaN. Rows come in the order of the file, numeric columns before the
    others; columns that no model should see (Titanic's names and tickets) are left out.
    """
    table, target, categories = SETS[name]()
    numbers = [c for c in table.columns if c not in categories]
    return table[numbers + categories], np.asarray(target), numbers, categories


def split(name: str, rows: int | None = None, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """X_train, X_test, y_train, y_test: a quarter is held out; `rows`: of a random part only."""
    from sklearn.model_selection import train_test_split

    table, y, _, _ = load(name)
    if rows is not None and rows < len(table):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(table))[:rows])
        table, y = table.iloc[chosen], y[chosen]
    classes = None if y.dtype.kind == "f" else y
    return tuple(train_test_split(table, y, test_size=0.25, random_state=seed, stratify=classes))


def pipeline(
    name: str,
    hidden: tuple[int, ...] = (32, 32),
    max_iter: int = 60,
    seed: int = 0,
    rows: int | None = None,
    **settings: Any,
) -> tuple[Any, pd.DataFrame, pd.DataFrame, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A Pipeline fitted on raw columns, X_train, X_test, y_train, y_test.

    settings: of scikit-learn's MLPClassifier or MLPRegressor (alpha=..., say).
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x_train, x_test, y_train, y_test = split(name, rows, seed)
    table, _, numbers, categories = load(name)
    kind = MLPRegressor if y_train.dtype.kind == "f" else MLPClassifier
    net = kind(hidden_layer_sizes=hidden, max_iter=max_iter, random_state=seed, **settings)
    if kind is MLPRegressor:
        net = TransformedTargetRegressor(net, transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        steps = make_pipeline(typical(table, numbers, categories), net)
        return steps.fit(x_train, y_train), x_train, x_test, y_train, y_test


def typical(table: pd.DataFrame, numbers: list[str], categories: list[str]) -> Any:
    """Medians for absent numbers, then scaled; the most frequent level, then one-hot.

    Levels are those of the whole table: a rare one met first in testing would only warn.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    levels = [np.unique(table[c].dropna()) for c in categories]
    encoder = OneHotEncoder(categories=levels, drop="if_binary", handle_unknown="ignore")
    parts = [
        ("num", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        ("cat", make_pipeline(SimpleImputer(strategy="most_frequent"), encoder), categories),
    ]
    return ColumnTransformer([part for part in parts if part[2]])


def _read(path: str, columns: str = "", **options: Any) -> pd.DataFrame:
    names, header = (COLUMNS[columns].split(), None) if columns else (None, 0)
    return pd.read_csv(shared.folder() / "tabular" / path, header=header, names=names, **options)


def _adult() -> Any:
    table = _read("adult/adult-train.csv", "adult", na_values="?", skipinitialspace=True)
    target = (table.pop("income") == ">50K").astype(int)
    return table, target, list(table.columns[table.dtypes.map(_is_text)])


def _banknote() -> Any:
    table = _read("banknote/banknote_authentication.csv", "banknote")
    return table, table.pop("class"), []


def _cancer() -> Any:
    path = "breast_cancer_wisconsin/breast-cancer-wisconsin.csv"
    table = _read(path, "cancer", na_values="?")
    return table, (table.pop("class") == 4).astype(int), []


def _housing() -> Any:
    table = _read("california_housing/housing.csv")
    return table, table.pop("median_house_value").astype(float), ["ocean_proximity"]


def _german() -> Any:
    table = _read("german_credit/german.csv", "german")
    bad = (table.pop("class") == 2).astype(int)
    return table, bad, list(table.columns[table.dtypes.map(_is_text)])


def _heloc() -> Any:
    table = _read("heloc/heloc.csv")
    return table, table.pop("RiskPerformance").astype(int), []


def _penguins() -> Any:
    table = _read("penguins/penguins.csv")
    return table, table.pop("species").astype(object), ["island", "sex"]


def _pima() -> Any:
    """Zeros where nobody alive has one stand for cells that were not measured."""
    table = _read("pima_diabetes/pima-indians-diabetes.csv", "pima")
    absent = ["glucose", "pressure", "skin", "insulin", "bmi"]
    table[absent] = table[absent].astype(float).replace(0.0, np.nan)
    return table, table.pop("diabetes"), []


def _titanic() -> Any:
    table = _read("titanic/titanic_kaggle.csv")
    columns = ["Age", "SibSp", "Parch", "Fare", "Pclass", "Sex", "Embarked"]
    return table[columns], table["Survived"], columns[4:]


def _wine() -> Any:
    table = _read("wine_quality/winequality-red.csv", "wine")
    return table, table.pop("quality").astype(float), []


def _is_text(kind: Any) -> bool:
    return not pd.api.types.is_numeric_dtype(kind)


SETS = {
    "adult": _adult,
    "banknote": _banknote,
    "breast_cancer_wisconsin": _cancer,
    "california_housing": _housing,
    "german_credit": _german,
    "heloc": _heloc,
    "penguins": _penguins,
    "pima_diabetes": _pima,
    "titanic": _titanic,
    "wine_quality": _wine,
}
NAMES = tuple(SETS)
