"""On a real table: proven answers that the other solver agrees with, replayed on the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gatewise as gw
from gatewise.explain.recourse.recourse import recourse

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def test_denials_of_heloc_are_flipped_at_the_least_cost(shared_data):
    table = pd.read_csv(shared_data / "tabular" / "heloc" / "heloc.csv")
    y = table.pop("RiskPerformance")
    net = MLPClassifier((32, 32), max_iter=15, random_state=0)
    model = make_pipeline(StandardScaler(), net).fit(table, y)
    network = gw.read(model)
    X = table.to_numpy(float)
    score = network(X)[:, 0].numpy()
    denied = np.flatnonzero((score < 0) & (score > -0.6))[:4]
    for i in denied.tolist():
        ask = {"bounds": (X.min(0), X.max(0)), "norm": "weighted", "scale": X.std(0)}
        r = recourse(network, X[i], model=model, **ask)
        assert r.status == "optimal" and r.gap < 1e-6
        assert r.replay_error < 1e-12 and r.model_error < 1e-12
        assert model.predict(pd.DataFrame(r.point[None], columns=table.columns))[0] == 1
        assert recourse(network, X[i], method="milp", **ask).cost == pytest.approx(r.cost, rel=1e-5)
        near = recourse(network, X[i], method="region", **ask)
        assert near.bound <= r.cost * (1 + 1e-6) and r.cost <= near.cost * (1 + 1e-6)
