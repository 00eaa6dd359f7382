"""scikit-learn: perceptrons and linear models, with the whole Pipeline that stands before them."""

from __future__ import annotations

import sys
from typing import Any

from gatewise.errors import ModelError
from gatewise.ir.network import Network
from gatewise.read.sklearn.check import check_estimator
from gatewise.read.sklearn.estimators import Scores, append_scores
from gatewise.read.sklearn.pipeline import Reading
from gatewise.read.sklearn.preprocess import preprocess
from gatewise.read.sklearn.steps import read_step
from gatewise.read.sklearn.unwrap import Plan, unwrap


def is_sklearn(model: Any) -> bool:
    """Is it a scikit-learn estimator? (skorch's are torch modules: they are read as such.)"""
    base = sys.modules.get("sklearn.base")
    if base is None or hasattr(type(model), "initialize_module"):
        return False
    return isinstance(model, base.BaseEstimator)


def read_sklearn(estimator: Any, example: Any = None) -> Network:
    """f in the raw columns' own units where the steps are affine; `prepare` does the rest.

    Affine steps become one leading node; a step that is not affine starts its columns over as
    inputs in transformed units, and a note names them. Classifiers give logits (their softmax or
    sigmoid is the head) or their decision function. example: a few raw rows to check the reading
    on, where made-up ones will not do.
    """
    plan = unwrap(estimator)
    columns, named = _raw_columns(plan, example)
    reading = Reading(columns, named, example)
    frame = reading.start()
    for path, step in plan.steps:
        frame = read_step(reading, step, frame, path)
    scores = Scores.of(plan)
    if scores.width != len(frame):
        raise ModelError(
            f"'{plan.path}' takes {scores.width} columns, but the steps before it give "
            f"{len(frame)}: the Pipeline was changed after it was fitted. Fit it again."
        )
    b, x, names = preprocess(reading, frame)
    b.notes += plan.notes
    return check_estimator(append_scores(b, x, scores, names), estimator, scores, reading)


def _raw_columns(plan: Plan, example: Any) -> tuple[tuple[str, ...], bool]:
    """Names of the columns in training, and whether the model knows them (else x0, x1, ...)."""
    for part in plan.outermost:
        names = getattr(part, "feature_names_in_", None)
        if names is not None:
            return tuple(str(name) for name in names), True
        count = getattr(part, "n_features_in_", None)
        if count is not None:
            return tuple(f"x{j}" for j in range(count)), False
    names = getattr(example, "columns", None)
    if names is not None:
        return tuple(str(name) for name in names), True
    shape: tuple[int, ...] = getattr(example, "shape", ())
    if len(shape) == 2:
        return tuple(f"x{j}" for j in range(shape[1])), False
    raise ModelError(
        f"{type(plan.outermost[0]).__name__} does not say which columns it takes (its first step "
        f"is no scikit-learn transformer of tables). Pass a few raw rows, "
        f"read(model, example=rows); for a model of texts, read the part after the vectorizer: "
        f"read(pipeline[1:])."
    )
