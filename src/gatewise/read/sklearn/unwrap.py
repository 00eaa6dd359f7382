"""A scikit-learn estimator taken apart: its steps, the model, what is done to its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.read.sklearn.prepare import is_own

INNER = {  # what stands around one model without changing its scores -> where that model is
    "FixedThresholdClassifier": "estimator_",
    "FrozenEstimator": "estimator",
    "GridSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "RANSACRegressor": "estimator_",
    "RFE": "estimator_",
    "RFECV": "estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "SelfTrainingClassifier": "estimator_",
    "TunedThresholdClassifierCV": "estimator_",
}
SEVERAL = {  # each holds several models: reading one of them would be reading another model
    *("CalibratedClassifierCV", "VotingClassifier", "VotingRegressor", "StackingClassifier"),
    *("StackingRegressor", "BaggingClassifier", "BaggingRegressor", "AdaBoostClassifier"),
    *("AdaBoostRegressor", "OneVsRestClassifier", "OneVsOneClassifier", "OutputCodeClassifier"),
    *("MultiOutputClassifier", "MultiOutputRegressor", "ClassifierChain", "RegressorChain"),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """steps: (path, fitted transformer); final: the model itself, at `path`.

    targets: transformers of y, the innermost first, whose inverses follow the model;
    outermost: the estimator and what it unwraps to, from the outside in, then its first step.
    """

    steps: tuple[tuple[str, Any], ...]
    final: Any
    path: str
    targets: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    outermost: tuple[Any, ...] = ()


def unwrap(estimator: Any, path: str = "") -> Plan:
    """The plan of an estimator; ModelError if it is not fitted, UnsupportedLayer for ensembles."""
    name = type(estimator).__name__
    if is_own(estimator) and name in SEVERAL:
        raise UnsupportedLayer(_several(name, path))
    if _is(estimator, "Pipeline"):
        plan = _pipeline(estimator, path)
    elif _is(estimator, "TransformedTargetRegressor"):
        inner = unwrap(_fitted(estimator, "regressor_"), under(path, "regressor_"))
        plan = replace(inner, targets=(*inner.targets, estimator.transformer_))
    elif is_own(estimator) and name in INNER:
        plan = _inner(estimator, path)
    else:
        require_fitted(estimator)
        plan = Plan((), estimator, path or name)
    return replace(plan, outermost=(estimator, *plan.outermost))


def _pipeline(estimator: Any, path: str) -> Plan:
    steps = [(under(path, name), step) for name, step in estimator.steps]
    where, last = steps.pop()
    if last is None or isinstance(last, str) or not hasattr(last, "predict"):
        what = last if isinstance(last, str) else type(last).__name__
        raise UnsupportedLayer(
            f"the Pipeline ends in '{where}' ({what}), which predicts nothing. "
            f"Read a Pipeline whose last step is the model."
        )
    inner = unwrap(last, where)
    first = [s for _, s in steps if not (s is None or isinstance(s, str))][:1]
    return replace(inner, steps=(*steps, *inner.steps), outermost=tuple(first) or inner.outermost)


def _inner(estimator: Any, path: str) -> Plan:
    name = type(estimator).__name__
    attribute = INNER[name]
    inner = unwrap(_fitted(estimator, attribute), under(path, attribute))
    if name.startswith("RFE"):
        return replace(inner, steps=((path or name, estimator), *inner.steps))
    threshold = getattr(estimator, "best_threshold_", getattr(estimator, "threshold", None))
    if name.endswith(("ThresholdClassifier", "ThresholdClassifierCV")):
        note = f"{name} decides at threshold {threshold}; the scores are those of its model"
        return replace(inner, notes=(*inner.notes, note))
    return inner


def _fitted(estimator: Any, attribute: str) -> Any:
    if not hasattr(estimator, attribute):
        raise ModelError(_unfitted(estimator, f"no `{attribute}`"))
    return getattr(estimator, attribute)


def require_fitted(estimator: Any) -> None:
    """ModelError if the estimator has not been fitted."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise ModelError(_unfitted(estimator, "no fitted attribute")) from None


def _unfitted(estimator: Any, lacks: str) -> str:
    return (
        f"{type(estimator).__name__} is not fitted, so there are no weights to read (it has "
        f"{lacks}). Call fit first (a search needs refit=True)."
    )


def _several(name: str, path: str) -> str:
    where = f" at '{path}'" if path else ""
    return (
        f"{name}{where} combines several fitted models, so there is no one network in it. "
        f"Read one of the models it holds (its `estimators_` or `calibrated_classifiers_`)."
    )


def _is(estimator: Any, name: str) -> bool:
    """Is it scikit-learn's class of that name, or a subclass of it (imblearn's Pipeline, say)?"""
    return any(
        c.__name__ == name and c.__module__.startswith("sklearn.") for c in type(estimator).__mro__
    )


def under(path: str, name: str) -> str:
    """The path of a part."""
    return f"{path}.{name}" if path else name


# -- the way back from a transformed target: y = a z + c --


def inverse(transformer: Any, outputs: int) -> tuple[Floats, Floats]:
    """(a, c) of an affine target transformer's inverse, one entry an output."""
    one, zero = np.ones(outputs), np.zeros(outputs)
    name = type(transformer).__name__ if is_own(transformer) else ""
    if name == "FunctionTransformer" and transformer.func is transformer.inverse_func is None:
        return one, zero
    if name == "StandardScaler":
        return _or(transformer.scale_, one), _or(transformer.mean_, zero)
    if name == "RobustScaler":
        return _or(transformer.scale_, one), _or(transformer.center_, zero)
    if name == "MaxAbsScaler" and not getattr(transformer, "clip", False):
        return _or(transformer.scale_, one), zero
    if name == "MinMaxScaler" and not transformer.clip:
        return 1 / transformer.scale_, -transformer.min_ / transformer.scale_
    raise UnsupportedLayer(
        f"TransformedTargetRegressor undoes {type(transformer).__name__} on the target, which is "
        f"not known to be affine, so the answer is not piecewise affine in the columns. Read its "
        f"`regressor_`, which predicts the transformed target."
    )


def _or(found: Any, default: Floats) -> Floats:
    return default if found is None else np.asarray(found, dtype=np.float64)
