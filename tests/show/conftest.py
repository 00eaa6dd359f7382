from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gatewise.explain.explanation import Explanation, explain
from gatewise.tables import Matrix
from nets import mlp


@pytest.fixture(scope="session")
def explained() -> Callable[..., Explanation]:
    """explained(2, 8, 1, rows=50, names=..., outputs=..., notes=..., target=..., ...)."""

    def make(*sizes, rows=60, names=(), outputs=(), notes=(), seed=0, X=None, **settings):
        import dataclasses

        network = dataclasses.replace(
            mlp(*sizes), feature_names=tuple(names), output_names=tuple(outputs), notes=tuple(notes)
        )
        if X is None:
            X = np.random.default_rng(seed).normal(size=(rows, network.inputs))
        return explain(network, Matrix(X, tuple(names), np.arange(len(X))), **settings)

    return make
