"""What each fitted scikit-learn transformer does to a `Frame`; one not named here restarts it."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from gatewise.read.sklearn import encoders
from gatewise.read.sklearn.encoders import restart
from gatewise.read.sklearn.pipeline import Floats, Frame, Reading, applied, joined
from gatewise.read.sklearn.prepare import is_own, pick
from gatewise.read.sklearn.unwrap import under

# A reader gives the frame after a step, or None: "not affine after all, restart".
Reader = Callable[[Reading, Any, Frame, str], Frame | None]


def read_step(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """The frame after one fitted step."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return frame
    if isinstance(step, str) and step == "drop":
        return frame.take([])
    reader = READERS.get(type(step).__name__) if is_own(step) else None
    if reader is None and is_own(step) and hasattr(step, "get_support"):
        reader = select
    found = reader(reading, step, frame, path) if reader is not None else None
    return restart(reading, step, frame, path) if found is None else found


# -- composites --


def pipeline(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """The steps of a Pipeline, one after another."""
    for name, part in step.steps:
        frame = read_step(reading, part, frame, under(path, name))
    return frame


def column_transformer(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """Each part on its own columns, the results side by side in the order of `transformers_`."""
    parts = []
    for name, part, columns in step.transformers_:
        index, flat = resolve(columns, step, len(frame))
        if not index or (isinstance(part, str) and part == "drop"):
            continue
        chosen = frame.take(index, pick(frame.value, index, flat))
        parts.append(read_step(reading, part, chosen, under(path, name)))
    return joined(parts, frame)


def feature_union(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """Every part on all columns, each times its weight."""
    parts, weights = [], []
    for name, part in step.transformer_list:
        if not (isinstance(part, str) and part == "drop"):
            parts.append(read_step(reading, part, frame, under(path, name)))
            weights.append(float((step.transformer_weights or {}).get(name, 1.0)))
    return joined(parts, frame, weights)


def resolve(columns: Any, step: Any, count: int) -> tuple[list[int], bool]:
    """Positions of a ColumnTransformer's columns, and whether the part gets a 1-d array."""
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    if isinstance(columns, str | numbers.Integral):
        return [_position(columns, names, count)], True
    if isinstance(columns, slice):
        return _slice(columns, names, count), False
    listed = list(columns)
    if listed and all(isinstance(c, bool | np.bool_) for c in listed):
        return [j for j, keep in enumerate(listed) if keep], False
    return [_position(c, names, count) for c in listed], False


def _position(column: Any, names: list[str], count: int) -> int:
    return names.index(column) if isinstance(column, str) else int(column) % count


def _slice(columns: slice, names: list[str], count: int) -> list[int]:
    """Labels include the end, positions do not."""
    if not isinstance(columns.start, str) and not isinstance(columns.stop, str):
        return list(range(count))[columns]
    start = 0 if columns.start is None else names.index(columns.start)
    stop = count if columns.stop is None else names.index(columns.stop) + 1
    return list(range(start, stop))


# -- affine steps --


def standard_scaler(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """(x - mean) / scale."""
    return _centred(reading, step, frame, path, step.mean_, step.scale_, step.with_mean)


def robust_scaler(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """(x - center) / scale."""
    center, spread = step.center_, step.scale_
    return _centred(reading, step, frame, path, center, spread, step.with_centering)


def _centred(
    reading: Reading, step: Any, frame: Frame, path: str, mean: Any, spread: Any, centred: bool
) -> Frame:
    one, zero = np.ones(len(frame)), np.zeros(len(frame))
    center = zero if mean is None else np.asarray(mean, dtype=np.float64)
    scale = one if spread is None else np.asarray(spread, dtype=np.float64)
    for j in range(len(frame)):
        reading.know(frame, j, center[j], scale[j])
    shift = -center / scale if centred else zero
    return frame.scaled(1 / scale, shift, applied(step, frame, path))


def min_max_scaler(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """x scale + min, clipped to the range where `clip` is set."""
    for j, (low, high) in enumerate(zip(step.data_min_, step.data_max_, strict=True)):
        reading.know(frame, j, (low + high) / 2, (high - low) / 2)
    a, c = np.asarray(step.scale_, np.float64), np.asarray(step.min_, np.float64)
    low, high = step.feature_range
    scaled = frame.scaled(a, c, applied(step, frame, path))
    return reading.clip(scaled, float(low), float(high), path) if step.clip else scaled


def max_abs_scaler(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """x / scale, clipped to [-1, 1] where `clip` is set."""
    spread = np.asarray(step.scale_, dtype=np.float64)
    for j in range(len(frame)):
        reading.know(frame, j, 0.0, spread[j])
    scaled = frame.scaled(1 / spread, np.zeros(len(frame)), applied(step, frame, path))
    return reading.clip(scaled, -1.0, 1.0, path) if getattr(step, "clip", False) else scaled


def pca(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """(x - mean) componentsᵀ, over the standard deviations where whitened."""
    w = np.asarray(step.components_, dtype=np.float64)
    if step.whiten:
        deviation = np.sqrt(step.explained_variance_)
        smallest = np.finfo(deviation.dtype).eps
        w = w / np.maximum(deviation, smallest)[:, None]
    mean = np.asarray(step.mean_, dtype=np.float64)
    for j in range(len(frame)):
        reading.know(frame, j, mean[j], 1.0)
    return _mapped(step, frame, path, w, -w @ mean)


def components(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """x componentsᵀ: TruncatedSVD, random projections."""
    found = step.components_
    w = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)
    return _mapped(step, frame, path, w, np.zeros(len(w)))


def fast_ica(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """(x - mean) componentsᵀ; there is a mean only if it whitens."""
    w = np.asarray(step.components_, dtype=np.float64)
    mean = np.asarray(step.mean_, np.float64) if step.whiten else np.zeros(len(frame))
    return _mapped(step, frame, path, w, -w @ mean)


def _mapped(step: Any, frame: Frame, path: str, w: Floats, c: Floats) -> Frame:
    names = [f"{type(step).__name__.lower()}{i}" for i in range(len(w))]
    return frame.mapped(w, c, names, applied(step, frame, path))


def select(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """Feature selection: some of the columns."""
    return frame.take(step.get_support(indices=True), applied(step, frame, path))


def function(reading: Reading, step: Any, frame: Frame, path: str) -> Frame | None:
    """FunctionTransformer without a function is the identity."""
    return frame if step.func is None else None


READERS: dict[str, Reader] = {
    "Pipeline": pipeline,
    "ColumnTransformer": column_transformer,
    "FeatureUnion": feature_union,
    "StandardScaler": standard_scaler,
    "RobustScaler": robust_scaler,
    "MinMaxScaler": min_max_scaler,
    "MaxAbsScaler": max_abs_scaler,
    "PCA": pca,
    "IncrementalPCA": pca,
    "TruncatedSVD": components,
    "GaussianRandomProjection": components,
    "SparseRandomProjection": components,
    "FastICA": fast_ica,
    "FunctionTransformer": function,
    "SimpleImputer": encoders.simple_imputer,
    "OneHotEncoder": encoders.one_hot,
    "OrdinalEncoder": encoders.ordinal,
    "KBinsDiscretizer": encoders.bins,
    "PolynomialFeatures": encoders.polynomial,
}
