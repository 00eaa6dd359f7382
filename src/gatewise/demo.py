"""The main job on data bundled with scikit-learn: what `gatewise demo` and `make demo` run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatewise.api import explain, read
from gatewise.errors import missing
from gatewise.explain.explanation import Explanation


def breast_cancer() -> tuple[Any, Any, Any]:
    """A fitted Pipeline (scaler, 30-16-16-1 ReLU net), the table in original units, the labels."""
    try:
        from sklearn.datasets import load_breast_cancer
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise missing("scikit-learn", "all", "the demo") from None
    bunch = load_breast_cancer()
    net = MLPClassifier((16, 16), alpha=0.1, max_iter=400, random_state=0)
    model = make_pipeline(StandardScaler(), net).fit(bunch.data, bunch.target)
    return model, bunch, bunch.target


def run(progress: Callable[[str, int, int], None] | None = None) -> Explanation:
    """Train the demo's network and explain it."""
    import dataclasses

    model, bunch, labels = breast_cancer()
    names = tuple(str(name) for name in bunch.feature_names)
    network = dataclasses.replace(read(model), feature_names=names)
    found: Explanation = explain(network, bunch.data, target=labels, progress=progress)
    return found
