"""A reading against the estimator's own answers, on raw rows: so `prepare` is checked with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import DataError, GatewiseError, ModelError
from gatewise.ir.network import Network
from gatewise.read.check import check_reading, require_finite
from gatewise.read.sklearn.encoders import tables
from gatewise.read.sklearn.estimators import Scores
from gatewise.read.sklearn.pipeline import Reading
from gatewise.read.sklearn.raw_table import input_matrix
from gatewise.read.sklearn.rows import quiet


class Answers:
    """The estimator's answers, handed out in the order in which the rows are asked for."""

    def __init__(self, answers: NDArray[np.float64]) -> None:
        self.answers, self.start = answers, 0

    def __call__(self, x: Tensor) -> NDArray[np.float64]:
        part = self.answers[self.start : self.start + len(x)]
        self.start += len(x)
        return part


def check_estimator(network: Network, estimator: Any, scores: Scores, reading: Reading) -> Network:
    """The network, once prepare and it give what `estimator` gives from raw rows.

    ReadingMismatch where they differ; ModelError where no rows could be made up and none given.
    """
    require_finite(network)
    single = holds_float32(estimator) or scores.rounds
    tried: GatewiseError | None = None
    for rows in tables(reading, single):
        try:
            with quiet():
                answers = _answers(network, estimator, scores, rows)
                inputs = _inputs(network, reading, rows)
        except GatewiseError as error:
            tried = error
            continue
        if np.isfinite(answers).all(1).any() or reading.example is not None:
            return check_reading(
                network,
                Answers(answers),
                rows=torch.from_numpy(inputs),
                source=f"the scikit-learn {type(estimator).__name__}",
                exact_dtype=torch.float32 if single else torch.float64,
            )
    raise ModelError(
        f"the reading could not be checked: {type(estimator).__name__} failed on "
        f"{'the rows of `example`' if reading.example is not None else 'made-up rows'} "
        f"({tried}). Pass a few real rows: read(model, example=rows)."
    ) from tried


def _answers(network: Network, estimator: Any, scores: Scores, rows: Any) -> NDArray[np.float64]:
    """What the estimator itself says of some raw rows, (rows, outputs)."""
    try:
        found = getattr(estimator, scores.method)(rows)
    except Exception as error:  # users' own functions in it may raise anything on made-up rows
        raise DataError(f"{type(error).__name__}: {error}") from error
    answers = np.asarray(found, dtype=np.float64)
    answers = answers.reshape(len(answers), -1)
    two = scores.method == "predict_proba" and network.outputs == 1 and answers.shape[1] == 2
    return answers[:, 1:] if two else answers


def _inputs(network: Network, reading: Reading, rows: Any) -> NDArray[np.float64]:
    if network.prepare is None:
        return input_matrix(rows, reading.columns, reading.named)
    inputs: NDArray[np.float64] = network.prepare(rows)
    return inputs


def holds_float32(found: Any, depth: int = 6) -> bool:
    """Does an estimator, or one in it, hold float32 numbers, and so compute in float32?"""
    if isinstance(found, np.ndarray):
        return bool(found.dtype == np.float32)
    if depth == 0:
        return False
    if isinstance(found, Mapping):
        return any(holds_float32(v, depth - 1) for v in found.values())
    if isinstance(found, list | tuple):
        return any(holds_float32(v, depth - 1) for v in found)
    if type(found).__module__.startswith("sklearn.") and hasattr(found, "__dict__"):
        return any(holds_float32(v, depth - 1) for v in vars(found).values())
    return False
