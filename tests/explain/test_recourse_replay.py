"""Answers are tried on the model: torch in float32, a Pipeline with categories, a function."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.recourse.local import piece_at
from gatewise.explain.recourse.milp import Goal
from gatewise.explain.recourse.problem import domain_of
from gatewise.explain.recourse.recourse import recourse
from gatewise.explain.recourse.replay import repaired
from nets import mlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def people(count=300):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 80, count).astype(float),
            "city": rng.choice(["rome", "oslo", "lima"], count),
            "rooms": rng.integers(1, 6, count),
            "owner": rng.choice(["no", "yes"], count),
        }
    )
    y = (table.age / 40 + (table.city == "oslo") + (table.owner == "yes") > 2.2).astype(int)
    return table, y


def pipeline():
    table, y = people()
    steps = ColumnTransformer(
        [
            ("num", StandardScaler(), ["age", "rooms"]),
            ("cat", OneHotEncoder(drop="if_binary"), ["city", "owner"]),
        ]
    )
    net = MLPClassifier((8, 6), max_iter=200, random_state=0)
    return make_pipeline(steps, net).fit(table, y), table


def test_a_pipeline_is_replayed_on_raw_columns():
    model, table = pipeline()
    network = gw.read(model)
    flipped = 0
    for i in range(4):
        row = table.iloc[[i]]
        r = recourse(
            network,
            row,
            bounds={"age": (18, 80), "rooms": (1, 5)},
            integers=["age", "rooms"],
            scale=dict.fromkeys(network.feature_names, 1.0) | {"age": 15.0},
            model=model,
        )
        if r.point is None:
            continue
        assert r.model_error is not None and r.model_error < 1e-9
        raw = row.copy()
        for name, (_, now) in r.changes.items():
            if name in raw.columns:
                raw[name] = now
        hot = {n.removeprefix("city="): v for n, v in zip(r.names, r.point, strict=True)}
        raw["city"] = next((c for c in ("rome", "oslo", "lima") if _on(hot, c)), None)
        owner = next(v for n, v in zip(r.names, r.point, strict=True) if "owner" in n)
        raw["owner"] = "yes" if owner == 1 else "no"
        assert model.predict(raw)[0] != model.predict(row)[0]
        flipped += 1
    assert flipped


def _on(hot, city):
    return any(city in name and value == 1 for name, value in hot.items())


def test_a_pipeline_without_a_raw_row_says_it_was_not_tried():
    model, table = pipeline()
    network = gw.read(model)
    r = recourse(network, network.prepare(table.iloc[[0]])[0], model=model, time_limit=5)
    assert r.model_error is None
    assert r.notes == ("the Pipeline was not tried: give x as a raw table of one row",)


def test_a_torch_module_is_replayed_in_its_own_floats():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    network = gw.read(module, example=torch.zeros(2, 4))
    f = float(network(np.zeros((1, 4)))[0, 0])
    r = recourse(network, np.zeros(4), threshold=f + 0.1, margin=1e-3, model=module)
    assert r.status == "optimal"
    assert 0 < r.model_error < 1e-5  # float32
    assert "model - network" in repr(r)


def test_a_function_is_replayed_and_another_model_refused():
    network = mlp(3, 5, 1, seed=1)
    f = float(network(np.zeros((1, 3)))[0, 0])
    ask = {"threshold": f + 0.1}
    r = recourse(network, np.zeros(3), model=lambda x: network(x).numpy() + 0.25, **ask)
    assert r.model_error == pytest.approx(0.25)
    with pytest.raises(DataError, match="the model gives 3 numbers for a row and the network 1"):
        recourse(network, np.zeros(3), model=lambda x: np.zeros((1, 3)), **ask)
    with pytest.raises(DataError, match="model is a str: give a torch module"):
        recourse(network, np.zeros(3), model="net.onnx", **ask)


def test_a_point_that_misses_by_a_tolerance_is_repaired():
    network = gw.read([(np.array([[1.0, 2.0]]), np.zeros(1))])
    domain, _ = domain_of(network, np.zeros(2), ("a", "b"), bounds=([-9] * 2, [9] * 2))
    goal = Goal(np.eye(1), np.array([-4.0]))

    def f(x):
        return network(x[None])[0].numpy()

    def piece(x):
        return piece_at(network, x)

    missed = np.array([0.0, 2 - 1e-9])
    assert goal.short(f(missed)) > 0
    point = repaired(missed, domain, goal, f, piece)
    assert goal.short(f(point)) <= 0
    np.testing.assert_allclose(point, [0, 2], atol=1e-8)
    good = np.array([0.0, 2.5])
    assert repaired(good, domain, goal, f, piece) is good
    assert repaired(missed, domain, Goal(np.eye(1), np.array([-1e3])), f, piece) is None


def test_a_level_that_stands_for_several_is_an_answer_that_was_not_tried():
    rng = np.random.default_rng(0)
    odds = [0.45, 0.45, 0.04, 0.03, 0.03]
    table = pd.DataFrame({"z": rng.normal(size=400), "city": rng.choice([*"ABCDE"], 400, p=odds)})
    y = (np.where(table.city.isin(["A", "B"]), 0, 4) + table.z > 1.5).astype(int)
    steps = ColumnTransformer(
        [("city", OneHotEncoder(min_frequency=40), ["city"]), ("z", StandardScaler(), ["z"])]
    )
    model = make_pipeline(steps, MLPClassifier((6,), max_iter=200, random_state=0)).fit(table, y)
    row = table[(table.city == "A") & (model.predict(table) == 0)].iloc[[0]]
    r = recourse(gw.read(model), row, immutable="z", model=model)
    assert r.status == "optimal" and r.changes["city=(infrequent)"] == (0, 1)
    assert r.model_error is None and "the Pipeline was not tried" in r.notes[0]
