"""Whole Pipelines: tables of any kind in, original units where steps are affine, names, groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from gatewise.errors import DataError, EmptyData, WrongColumns, WrongShape
from gatewise.read.sklearn import read_sklearn
from gatewise.read.sklearn.raw_table import input_matrix

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unknown categories.*:UserWarning"),
]


def people(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Numbers of several scales, texts, whole numbers, yes or no; some absent."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 12, rows).round(1),
            "income": rng.lognormal(10, 1, rows),
            "sex": rng.choice(["male", "female"], rows),
            "city": rng.choice(["Ulm", "Rom", "Oslo", "Bern"], rows, p=[0.6, 0.3, 0.06, 0.04]),
            "rooms": rng.integers(1, 5, rows),
            "owner": rng.choice([True, False], rows),
        }
    )
    table.loc[rng.random(rows) < 0.1, "age"] = np.nan
    table.loc[rng.random(rows) < 0.1, "city"] = None
    return table


TABLE = people()
Y = (
    TABLE.age.fillna(40) / 10
    + np.log(TABLE.income)
    + (TABLE.sex == "male")
    + 2 * (TABLE.city == "Rom")
    + TABLE.rooms
).to_numpy()
NUMBERS = np.random.default_rng(3).normal([5, -3, 0, 100, 2], [1, 10, 0.1, 30, 1], (150, 5))


def fit(*steps, table=TABLE, y=Y, **more):
    end = more or {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}
    return make_pipeline(*steps, MLPRegressor(**end)).fit(table, y)


def of(*parts, **more) -> ColumnTransformer:
    return ColumnTransformer([(f"part{i}", *part) for i, part in enumerate(parts)], **more)


def inputs(net, table):
    if net.prepare is None:
        return input_matrix(table, net.feature_names, not isinstance(table, np.ndarray))
    return net.prepare(table)


def agree(model, table, tolerance: float = 1e-10):
    """Read the model, compare it with what scikit-learn says of every row; the Network."""
    net = read_sklearn(model)
    ours = net.predict(inputs(net, table)).numpy()
    theirs = np.asarray(model.predict(table)).reshape(len(ours), -1)
    assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max())
    return net


def units(net) -> dict[str, str]:
    return dict(zip(net.prepare.names, net.prepare.units, strict=True))


# ---------------------------------------------------------------- affine steps fold in


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False, with_std=False),
        RobustScaler(),
        RobustScaler(with_centering=False),
        RobustScaler(with_scaling=False, unit_variance=False),
        MinMaxScaler((-2, 3)),
        MaxAbsScaler(),
        PCA(3),
        PCA(3, whiten=True),
        IncrementalPCA(2, whiten=True),
        TruncatedSVD(3, random_state=0),
        FastICA(2, random_state=0),
        GaussianRandomProjection(3, random_state=0),
        SparseRandomProjection(3, random_state=0),
        FunctionTransformer(),
        "passthrough",
        PolynomialFeatures(1),
    ],
    ids=str,
)
def test_affine_step_leaves_the_raw_columns_as_inputs(step):
    y = NUMBERS @ np.arange(1.0, 6.0)
    net = agree(fit(step, table=NUMBERS, y=y), NUMBERS)
    assert net.prepare is None
    assert net.feature_names == ("x0", "x1", "x2", "x3", "x4")
    assert [n.layer for n in net.nodes].count("Linear") <= 3


@pytest.mark.parametrize("scaler", [MinMaxScaler((0, 2), clip=True), MaxAbsScaler(clip=True)])
def test_a_clipped_scaler_is_a_gate(scaler):
    y = NUMBERS.sum(1)
    model = make_pipeline(scaler, StandardScaler(), PCA(3), LinearRegression())
    model.fit(NUMBERS, y)
    net = agree(model, NUMBERS * 3)  # beyond the range of training
    assert net.prepare is None
    assert len(net.gates) == 1


def test_two_clips_in_different_parts_and_one_after_the_other():
    union = FeatureUnion(
        [("a", make_pipeline(MinMaxScaler(clip=True), MaxAbsScaler(clip=True))),
         ("b", make_pipeline(StandardScaler(), MinMaxScaler((0, 1), clip=True))),
         ("c", "passthrough"), ("d", "drop")],
        transformer_weights={"b": 3.0},
    )  # fmt: skip
    net = agree(fit(union, table=NUMBERS, y=NUMBERS.sum(1)), NUMBERS * 2)
    assert len(net.gates) == 4
    assert net.prepare is None


def test_a_gate_that_nothing_uses_is_left_out():
    parts = of((MinMaxScaler(clip=True), [0, 1]), (StandardScaler(), [2, 3]))
    model = make_pipeline(parts, ColumnTransformer([("k", "passthrough", [2, 3])]), Ridge())
    net = agree(model.fit(NUMBERS, NUMBERS[:, 2]), NUMBERS)
    assert net.gates == ()
    assert net.feature_names == ("x2", "x3")


def test_selection_keeps_the_chosen_columns():
    y = NUMBERS[:, 1] + NUMBERS[:, 3]
    chosen = SelectKBest(f_regression, k=2)
    net = agree(fit(StandardScaler(), VarianceThreshold(), chosen, table=NUMBERS, y=y), NUMBERS)
    assert net.feature_names == ("x1", "x3")
    assert set(net.prepare.units) == {"original"}
    assert "columns the model does not use: 'x0', 'x2', 'x4'" in net.notes


def slopes(net, x) -> torch.Tensor:
    x = torch.as_tensor(x, dtype=torch.float64)
    return torch.func.vmap(torch.func.jacrev(lambda row: net(row[None])[0]))(x)[:, 0]


def test_slopes_are_those_of_the_raw_columns():
    """Finite differences of the whole Pipeline, on rows where both sides agree."""
    table = TABLE[["age", "income", "rooms"]].dropna()
    y = Y[table.index]
    model = fit(MinMaxScaler(), PCA(2, whiten=True), table=table, y=y)
    net = agree(model, table)
    ours = slopes(net, table.to_numpy(float)).numpy()
    for j, name in enumerate(net.feature_names):
        step = 1e-5 * table[name].std()
        up, down = (table.assign(**{name: table[name] + s * step}) for s in (1, -1))
        here = model.predict(table)
        right = (model.predict(up) - here) / step
        left = (here - model.predict(down)) / step
        smooth = np.isclose(right, left, rtol=1e-4, atol=1e-8)
        assert smooth.mean() > 0.9
        assert np.allclose(ours[smooth, j], right[smooth], rtol=1e-3, atol=1e-7)


# ---------------------------------------------------------------- absent values


def test_imputed_columns_stay_in_original_units():
    steps = (StandardScaler(), SimpleImputer(strategy="mean"), MinMaxScaler())
    table = TABLE[["age", "income", "rooms"]]
    net = agree(fit(*steps, table=table), table)
    assert net.feature_names == ("age", "income", "rooms")
    assert set(net.prepare.units) == {"original"}
    filled = net.prepare(table)[table.age.isna(), 0]
    assert np.allclose(filled, table.age.mean())


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("indicator", [False, True])
def test_imputers(strategy, indicator):
    imputer = SimpleImputer(strategy=strategy, add_indicator=indicator)
    table = TABLE[["income", "age"]]
    net = agree(fit(imputer, StandardScaler(), table=table), table)
    expected = ("income", "age", "age is missing") if indicator else ("income", "age")
    assert net.feature_names == expected


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize("keep", [False, True])
def test_an_empty_column(keep):
    table = TABLE[["age", "income"]].assign(empty=np.nan)
    net = agree(fit(SimpleImputer(keep_empty_features=keep), table=table), table)
    assert ("empty" in net.feature_names) == keep


def test_a_number_that_stands_for_absent():
    table = TABLE[["income", "rooms"]]
    net = agree(fit(SimpleImputer(missing_values=2, strategy="mean"), table=table), table)
    assert net.feature_names == ("income", "rooms")
    assert set(net.prepare.units) == {"original"}


def test_two_fillings_of_one_column():
    parts = of(
        (SimpleImputer(strategy="mean"), ["age"]),
        (SimpleImputer(strategy="constant", fill_value=-1), ["age", "income"]),
        (SimpleImputer(strategy="mean"), ["age"]),
    )
    net = agree(fit(parts), TABLE)
    assert net.feature_names == ("age", "age#2", "income")


def test_texts_and_numbers_imputed_together():
    encode = of((OneHotEncoder(), [1]), remainder="passthrough")
    columns = TABLE[["age", "city", "rooms"]].astype({"city": object})
    model = fit(SimpleImputer(strategy="most_frequent"), encode, table=columns)
    net = agree(model, columns)
    assert net.feature_names[0] == "age"
    assert net.feature_names[-1] == "rooms"
    assert units(net)["age"] == "original"


def test_an_imputer_after_a_clip_is_in_transformed_units():
    table = TABLE[["age", "income"]]
    steps = (MinMaxScaler(clip=True), SimpleImputer(strategy="constant", fill_value=-1))
    net = agree(fit(*steps, table=table), table)
    assert units(net)["age"] == "transformed by 'simpleimputer' (SimpleImputer)"


def test_neighbours_fill_in_transformed_units():
    table = TABLE[["age", "income", "rooms"]]
    net = agree(fit(KNNImputer(n_neighbors=2), table=table), table)
    assert net.feature_names == tuple(f"KNNImputer({c})" for c in table.columns)


# ---------------------------------------------------------------- categories


def test_one_hot_names_and_groups():
    parts = of((OneHotEncoder(drop="if_binary"), ["sex", "city", "rooms", "owner"]))
    net = agree(fit(parts), TABLE)
    assert net.feature_names == (
        "sex=male", "city=Bern", "city=Oslo", "city=Rom", "city=Ulm", "city=(missing)",
        "rooms=1", "rooms=2", "rooms=3", "rooms=4", "owner=True",
    )  # fmt: skip
    groups = net.prepare.groups
    assert (groups["sex"].names, groups["sex"].dropped) == (("sex=male",), "female")
    assert groups["city"].levels == ("Bern", "Oslo", "Rom", "Ulm", "(missing)")
    assert groups["city"].dropped is None
    unit = "transformed by 'columntransformer.part0' (OneHotEncoder)"
    assert set(net.prepare.units) == {unit}
    made = "11 inputs made of columns 'sex', 'city', 'rooms', 'owner'"
    assert f"{made}: {unit}, a step that is not affine, so they are in its units" in net.notes


@pytest.mark.parametrize("drop", [None, "first", "if_binary", ["female", "Rom"]])
@pytest.mark.parametrize("rare", [None, 30])
@pytest.mark.parametrize("sparse", [True, False])
def test_one_hot_settings(drop, rare, sparse):
    encoder = OneHotEncoder(drop=drop, min_frequency=rare, sparse_output=sparse)
    parts = of((encoder, ["sex", "city"]), (StandardScaler(), ["rooms"]), sparse_threshold=0.9)
    net = agree(fit(parts), TABLE)
    assert ("city=(infrequent)" in net.feature_names) == (rare is not None)
    width = sum(len(g.names) for g in net.prepare.groups.values())
    assert width == len(net.feature_names) - 1


def test_one_hot_of_an_imputed_text():
    parts = of(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
    )
    net = agree(fit(parts), TABLE)
    assert net.feature_names == ("age", "city=Bern", "city=Oslo", "city=Rom", "city=Ulm")
    assert net.prepare.groups["city"].names == net.feature_names[1:]


def test_unknown_categories():
    strict = of((OneHotEncoder(), ["city"]))
    lenient = of((OneHotEncoder(handle_unknown="ignore"), ["city"]))
    other = TABLE.assign(city="Paris")
    with pytest.raises(DataError, match=r"'columntransformer.part0' \(OneHotEncoder\) cannot take"):
        agree(fit(strict), TABLE).prepare(other)
    net = agree(fit(lenient), other)
    assert not net.prepare(other).any()


def test_ordinal_codes_are_in_transformed_units_and_later_scaling_folds():
    parts = make_pipeline(of((OrdinalEncoder(), ["sex", "rooms"])), StandardScaler())
    net = agree(fit(parts), TABLE)
    assert net.feature_names[0] == "sex (female < male)"
    assert set(net.prepare(TABLE)[:, 0]) == {0.0, 1.0}
    assert net.prepare.levels["sex (female < male)"] == ("female", "male")


def test_ordinal_columns_are_named_by_their_categories_in_the_order_of_their_numbers():
    table = pd.DataFrame(
        {
            "size": ["S", "M", "L", "S", "L", np.nan] * 5,
            "town": [f"the town called {k % 5}" for k in range(30)],
            "rare": ["a", "b", "c", "c", "b", "b"] * 5,
        }
    )
    sizes = OrdinalEncoder(categories=[["S", "M", "L", np.nan]], encoded_missing_value=-1)
    rare = OrdinalEncoder(min_frequency=6)
    parts = of((sizes, ["size"]), (OrdinalEncoder(), ["town"]), (rare, ["rare"]))
    net = agree(fit(parts, table=table, y=np.arange(30.0)), table)
    towns = tuple(f"the town called {k}" for k in range(5))
    assert net.prepare.levels == {
        "town (the town called 0 < ... < the town called 4)": towns,
        "rare (b < c < (infrequent))": ("b", "c", "(infrequent)"),
    }
    assert net.feature_names[0] == "size (S < M < L)"  # -1 is no level, so it has none
    x = net.prepare(table)
    assert x[:6, 0].tolist() == [0, 1, 2, 0, 2, -1] and x[:3, 2].tolist() == [2, 0, 1]


def test_bins_are_named_by_their_edges_in_original_units():
    bins = KBinsDiscretizer(3, strategy="uniform", encode="onehot")
    table = TABLE[["rooms"]]
    net = agree(fit(MinMaxScaler(), bins, table=table), table)
    assert net.feature_names == ("rooms < 2", "rooms in [2, 3)", "rooms >= 3")
    assert net.prepare.groups["rooms"].names == net.feature_names


def test_texts_as_words():
    texts = ["good film", "bad film", "so good", "so bad"] * 5
    table = pd.DataFrame({"text": texts, "n": range(20)})
    parts = of((CountVectorizer(), "text"), (StandardScaler(), ["n"]))
    net = agree(fit(parts, table=table, y=np.arange(20.0)), table)
    assert net.feature_names == ("bad", "film", "good", "so", "n")


# ---------------------------------------------------------------- other steps


def test_powers_keep_the_linear_terms_in_original_units():
    table = TABLE[["income", "rooms"]]
    steps = (StandardScaler(), PolynomialFeatures(2))
    net = agree(fit(*steps, table=table), table)
    assert net.feature_names == ("income", "income^2", "income*rooms", "rooms", "rooms^2")
    assert units(net)["income"] == "original"
    assert units(net)["rooms^2"].endswith("(PolynomialFeatures)")
    assert any(n.startswith("the coefficients of 'income', 'rooms' are partial") for n in net.notes)
    affine = agree(fit(PolynomialFeatures(1), table=table), table)
    assert not any("partial" in n for n in affine.notes)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (FunctionTransformer(np.log1p), "log1p(income)"),
        (FunctionTransformer(np.log), "log(income)"),
        (PowerTransformer("box-cox"), "PowerTransformer(income)"),
        (QuantileTransformer(n_quantiles=20), "QuantileTransformer(income)"),
        (Binarizer(threshold=1e4), "Binarizer(income)"),
        (KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), "KBinsDiscretizer(income)"),
        (Normalizer(), "Normalizer(income)"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The current default behavior")
def test_curved_step(step, name):
    table = TABLE[["income", "rooms"]]
    net = agree(fit(step, StandardScaler(), table=table), table)
    assert net.feature_names[0] == name
    assert net.prepare.units[0].startswith("transformed by ")


def test_a_function_of_the_users_data_frame():
    def ratio(frame):
        return frame.assign(per_room=frame["income"] / frame["rooms"])[["per_room", "age"]]

    steps = (FunctionTransformer(ratio), SimpleImputer(), StandardScaler())
    net = agree(fit(*steps), TABLE)
    assert net.feature_names == ("ratio0", "ratio1") or len(net.feature_names) == 2


def test_nested_pipelines_and_pandas_between_steps():
    numeric = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    inner = ColumnTransformer(
        [("num", numeric, make_column_selector(dtype_include=np.number)),
         ("cat", OneHotEncoder(sparse_output=False), ["sex"])],
        verbose_feature_names_out=False,
    )  # fmt: skip
    second = ColumnTransformer([("a", PCA(2), ["age", "income"])], remainder="passthrough")
    model = make_pipeline(inner, second).set_output(transform="pandas")
    model = make_pipeline(model, Ridge()).fit(TABLE, Y)
    net = agree(model, TABLE)
    assert set(net.feature_names) == {"age", "income", "rooms", "sex=female", "sex=male"}


@pytest.mark.parametrize(
    "columns",
    [
        [0, 3, 1],
        [-1, 0],
        slice(1, 3),
        slice(0, None),
        np.array([True, False, True, False, True]),
        [True, True, False, False, False],
        make_column_selector(dtype_include=float),
    ],
    ids=lambda c: type(c).__name__,
)
@pytest.mark.parametrize("remainder", ["drop", "passthrough", MinMaxScaler()])
def test_column_selectors(columns, remainder):
    table = pd.DataFrame(NUMBERS, columns=list("abcde"))
    parts = of((StandardScaler(), columns), remainder=remainder)
    agree(fit(parts, table=table, y=NUMBERS.sum(1)), table)
    if not isinstance(columns, make_column_selector):
        agree(fit(parts, table=NUMBERS, y=NUMBERS.sum(1)), NUMBERS)


@pytest.mark.parametrize(
    ("columns", "names"),
    [(["c", "a"], ("a", "c")), (slice("b", "d"), ("b", "c", "d")), (slice(None, "b"), ("a", "b"))],
)
def test_column_selectors_by_name(columns, names):
    table = pd.DataFrame(NUMBERS, columns=list("abcde"))
    net = agree(fit(of((StandardScaler(), columns)), table=table, y=NUMBERS.sum(1)), table)
    assert net.feature_names == names


# ---------------------------------------------------------------- kinds of table

MIXED = of(
    (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
    (OneHotEncoder(), ["sex", "city", "owner"]),
)


def kinds(table: pd.DataFrame) -> dict:
    return {
        "pandas": table,
        "nullable": table.convert_dtypes(),
        "object": table.astype(object),
        "polars": pl.from_pandas(table),
        "pyarrow": pa.Table.from_pandas(table),
        "category": table.assign(sex=table.sex.astype("category")),
        "shuffled": table[table.columns[::-1]].assign(extra="x"),
        "numpy": table.to_numpy(object),
    }


@pytest.mark.parametrize("kind", list(kinds(TABLE.head())))
def test_every_kind_of_table_gives_the_same(kind):
    net = agree(fit(MIXED), TABLE)
    ours = net.prepare(kinds(TABLE)[kind])
    assert ours.dtype == np.float64
    assert np.array_equal(ours, net.prepare(TABLE))


def test_a_model_trained_on_polars():
    table = pl.from_pandas(TABLE)
    fill = SimpleImputer(missing_values=None, strategy="most_frequent")
    parts = of(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(), ["city"]),
        (make_pipeline(fill, OneHotEncoder()), ["city"]),
    )
    model = make_pipeline(parts, MLPRegressor(hidden_layer_sizes=(5,), max_iter=5)).fit(table, Y)
    net = agree(model, table)
    assert "city=(missing)" in net.feature_names
    # a second encoding of the same column
    assert "city=Rom#2" in net.feature_names
    assert np.array_equal(net.prepare(table.to_arrow()), net.prepare(table))


def test_an_affine_model_of_a_data_frame_needs_no_prepare():
    table = TABLE[["income", "rooms"]]
    net = agree(fit(StandardScaler(), table=table), table)
    assert net.prepare is None
    assert net.feature_names == ("income", "rooms")


def test_the_original_steps_may_change_afterwards():
    model = fit(MIXED)
    net = agree(model, TABLE)
    before = net.prepare(TABLE)
    model.fit(TABLE.assign(city="Rom"), Y)
    assert np.array_equal(net.prepare(TABLE), before)


def test_classes_from_a_table():
    labels = np.where(np.median(Y) < Y, "rich", "poor")
    model = make_pipeline(MIXED, MLPClassifier((5,), max_iter=8, random_state=0)).fit(TABLE, labels)
    net = read_sklearn(model)
    assert net.output_names == ("rich",)
    theirs = model.predict_proba(TABLE)[:, 1:]
    assert np.allclose(net.predict(net.prepare(TABLE)), theirs, atol=1e-12)


# ---------------------------------------------------------------- wrong tables


def words(prepare, table, kind=WrongColumns) -> str:
    with pytest.raises(kind) as caught:
        prepare(table)
    return str(caught.value)


def test_missing_columns_are_named():
    prepare = read_sklearn(fit(MIXED)).prepare
    said = words(prepare, TABLE.drop(columns=["income", "sex"]))
    assert said.startswith("the table lacks 2 columns the model was trained on: 'income', 'sex';")
    assert "it has 'age', 'city', 'rooms', 'owner'" in said
    assert "Add or rename them" in said


def test_columns_that_are_not_used_may_be_absent():
    net = read_sklearn(fit(MIXED))
    assert "columns the model does not use: 'rooms'" in net.notes
    assert np.array_equal(net.prepare(TABLE.drop(columns="rooms")), net.prepare(TABLE))


def test_text_in_a_column_of_numbers():
    prepare = read_sklearn(fit(MIXED)).prepare
    bad = TABLE.astype({"income": object})
    bad.loc[3, "income"] = "much"
    said = words(prepare, bad)
    assert said.startswith("column 'income' must hold numbers, as it did in training, but row 3")
    assert "holds 'much' (str)" in said
    assert "Convert the column to numbers first" in said


def test_wrong_number_of_columns():
    net = read_sklearn(fit(SimpleImputer(), table=NUMBERS, y=NUMBERS.sum(1)))
    for table in (NUMBERS[:, :4], pd.DataFrame(NUMBERS[:, :4])):
        said = words(net.prepare, table)
        assert "was trained on 5 columns, 'x0', 'x1', 'x2', 'x3', 'x4'; got 4" in said
        assert "Give exactly these, in this order" in said


def test_one_row_without_its_axis():
    net = read_sklearn(fit(SimpleImputer(), table=NUMBERS, y=NUMBERS.sum(1)))
    said = words(net.prepare, NUMBERS[0], WrongShape)
    assert "got ndarray of shape (5,)" in said
    assert "Reshape one row to (1, 5)" in said


@pytest.mark.parametrize("table", [TABLE.head(0), pl.from_pandas(TABLE.head(0))])
def test_no_rows(table):
    assert "no rows" in words(read_sklearn(fit(MIXED)).prepare, table, EmptyData)


# ---------------------------------------------------------------- random pipelines

STEPS = st.sampled_from(
    [
        StandardScaler(),
        StandardScaler(with_std=False),
        MinMaxScaler(),
        MinMaxScaler((-1, 0.5), clip=True),
        MaxAbsScaler(),
        MaxAbsScaler(clip=True),
        RobustScaler(quantile_range=(10, 90)),
        PCA(0.99),
        PCA(2, whiten=True),
        TruncatedSVD(2),
        VarianceThreshold(),
        SelectKBest(f_regression, k=2),
        PolynomialFeatures(2, interaction_only=True),
        PolynomialFeatures(2, include_bias=False),
        KBinsDiscretizer(3, encode="onehot", strategy="uniform"),
        KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform"),
        KBinsDiscretizer(4, encode="ordinal", strategy="uniform"),
        QuantileTransformer(n_quantiles=10),
        PowerTransformer(),
        Normalizer(),
        Binarizer(),
        FunctionTransformer(np.tanh),
        FunctionTransformer(),
        SimpleImputer(add_indicator=True),
        "passthrough",
        FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler(clip=True))]),
        FeatureUnion([("a", PCA(1)), ("b", "passthrough")], transformer_weights={"a": 0.5}),
        ColumnTransformer([("a", StandardScaler(), [0])], remainder="passthrough"),
        ColumnTransformer([("a", "drop", [0])], remainder=MaxAbsScaler()),
        ColumnTransformer([("a", MinMaxScaler(), slice(0, 2)), ("b", Normalizer(), [-1, 0])]),
    ]
)


def one_power(steps) -> bool:
    """Powers of powers of powers of four columns are millions of columns."""
    return sum(isinstance(step, PolynomialFeatures) for step in steps) <= 1


def wobble(model, x) -> float:
    """How far the answers move, of the largest, when x does by 1e-13 of itself: some Pipelines
    whiten a direction in which the data do not vary, and so magnify every rounding."""
    here = model.predict(x)
    moved = np.abs(model.predict(x * (1 + 1e-13 * (-1.0) ** np.arange(4))) - here).max()
    return float(moved / max(1, np.abs(here).max()))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@given(
    steps=st.lists(STEPS, min_size=1, max_size=4).filter(one_power),
    gaps=st.booleans(),
    linear=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_random_pipelines(steps, gaps, linear, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal([5, -3, 0, 100], [1, 10, 0.1, 30], (60, 4))
    y = x @ [1.0, 0.2, 5.0, 0.01] + rng.normal(size=60)
    if gaps:
        x[rng.random(x.shape) < 0.1] = np.nan
        steps = [steps[0], *steps] if isinstance(steps[0], StandardScaler) else list(steps)
        steps = [StandardScaler(), SimpleImputer(), *steps]
    end = Ridge() if linear else MLPRegressor(hidden_layer_sizes=(5,), max_iter=4, random_state=0)
    named = [(f"s{i}", s if isinstance(s, str) else clone(s)) for i, s in enumerate(steps)]
    model = Pipeline([*named, ("end", end)])
    try:
        model.fit(x, y)
    except (TypeError, ValueError):
        return  # sparse where it must not be, more components than columns, and the like
    net = agree(model, x, 1e-9 + wobble(model, x))
    assert len(net.feature_names) == net.inputs
