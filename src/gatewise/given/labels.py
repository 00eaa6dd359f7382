"""What rows are told apart by: labels, or the numbers of a regression, read in one way everywhere.

Labels are text, or numbers, or True and False: one a row, (rows,) or one column (rows, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import BadRows, DataError, EmptyData, WrongShape
from gatewise.ir.network import Network
from gatewise.tables.words import cell, counted, listed

Floats = NDArray[np.float64]
Task = Literal["classification", "regression"]
BATCH = 2048  # rows at once
CONSTANT = 1e-12  # of the largest value: a spread below it is rounding


def column_of(y: Any, rows: int, name: str = "y") -> NDArray[Any]:
    """One label a row, (rows,): text, or numbers without NaN, or True and False."""
    held = _held(y, name)
    if held.shape not in ((rows,), (rows, 1)):
        raise WrongShape(
            f"{name} must hold one label for each of {counted(rows, 'row')}, and it has shape "
            f"{held.shape}"
        )
    if not rows:
        raise EmptyData(f"{name} holds no label: give at least one row")
    found = held.reshape(rows)
    found = _of_one_type(found, name) if found.dtype.kind == "O" else found
    if found.dtype.kind not in "biufUS":
        raise DataError(
            f"{name} holds {cell(found.tolist()[0])}, and a label is text, a number, or True or "
            "False"
        )
    if found.dtype.kind == "f":
        _finite(found, name)
    return found


def classes_of(y: Any, rows: int, name: str = "y") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes (k,) in order, and the place of each row's among them (rows,)."""
    classes, codes = np.unique(column_of(y, rows, name), return_inverse=True)
    return classes, codes.reshape(-1)


def told_apart(y: Any, rows: int, name: str = "y") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """`classes_of`, refused where there is one class."""
    classes, codes = classes_of(y, rows, name)
    require_two(classes.tolist(), rows)
    return classes, codes


def require_two(classes: list[Any], rows: int) -> None:
    """Labels of one class have nothing to tell apart."""
    if len(classes) < 2:
        raise DataError(
            f"all {rows} labels are {classes[0]!r}, so nothing is told apart: give rows of at "
            "least two classes"
        )


def signs_of(codes: NDArray[np.int64], classes: int) -> Floats:
    """(rows, classes) of +1 and -1; one column, +1 for the second, where there are two."""
    signs = np.where(codes[:, None] == np.arange(classes), 1.0, -1.0)
    return signs[:, 1:] if classes == 2 else signs


def targets_of(y: Any, rows: int, name: str = "y") -> Floats:
    """The numbers of a regression, (rows, outputs), finite."""
    held = _held(y, name)
    if held.ndim not in (1, 2) or len(held) != rows:
        raise WrongShape(
            f"{name} must hold the numbers of {counted(rows, 'row')}, shape ({rows},) or ({rows}, "
            f"outputs), and it has shape {held.shape}"
        )
    if not held.size:
        raise EmptyData(f"{name} holds no number: give at least one row")
    try:
        found = held.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} must hold the numbers of a regression, got {cell(y)}") from None
    _finite(found, name)
    return found.reshape(rows, -1)


def _held(y: Any, name: str) -> NDArray[Any]:
    """y as an array; lists as objects, so that numbers beside text stay numbers."""
    if y is None:
        raise DataError(f"{name} is None: give one label or number for each row")
    if isinstance(y, list | tuple):
        held = np.asarray(y, object)
    else:
        held = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if held.ndim == 0:
        raise WrongShape(f"{name} must hold one label or number for each row, got {cell(y)}")
    return held


def _of_one_type(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Objects that are all text, or all numbers, in an array of that type."""
    held = values.tolist()
    lost = [i for i, v in enumerate(held) if is_missing(v)]
    if lost:
        raise BadRows(
            f"{name} holds no label in rows {listed(lost)}: fill them in or drop those rows",
            tuple(lost),
        )
    text = [isinstance(v, str) for v in held]
    number = [isinstance(v, bool | int | float | np.number | np.bool_) for v in held]
    if all(text) or all(number):
        return np.array(held)
    if any(text) and any(number):
        pair = f"{cell(held[text.index(True)])} and {cell(held[number.index(True)])}"
        raise DataError(f"{name} mixes text and numbers ({pair}): give labels of one kind")
    strange = next(v for v, t, n in zip(held, text, number, strict=True) if not t and not n)
    raise DataError(
        f"{name} holds {cell(strange)}, and a label is text, a number, or True or False"
    )


def is_missing(value: Any) -> bool:
    """None, NaN, or a table's mark of a missing entry."""
    odd = isinstance(value, float | np.floating) and bool(value != value)
    return odd or value is None or type(value).__name__ in ("NAType", "NaTType")


def _finite(values: NDArray[Any], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1)).tolist()
    if bad:
        raise BadRows(
            f"{name} holds NaN or infinity in rows {listed(bad)}: fill them in or drop those rows",
            tuple(bad),
        )


# -- labels of a network --


@dataclass(frozen=True, eq=False)
class Truth:
    """What a network's outputs are held against.

    values: labels as places of its classes, (rows,), or the numbers of a regression, (rows,
    outputs); names: of the classes.
    """

    task: Task
    values: NDArray[Any]
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> bool:
        """Is it a classification?"""
        return self.task == "classification"

    def score(self, outputs: Floats) -> float:
        """The share of right labels, or R2, of what a network gave (rows, outputs)."""
        return quality(winners(outputs) if self.labels else outputs, self.values, self.labels)

    def take(self, rows: NDArray[np.int64]) -> Truth:
        """Those of some rows."""
        return Truth(self.task, self.values[rows], self.names)


def truth_of(network: Network, y: Any, rows: int, name: str = "y", task: Any = None) -> Truth:
    """y read as the network's labels, or as its targets where it is a regression."""
    if task_of(network, y, rows, name, task) == "regression":
        numbers = targets_of(y, rows, name)
        if numbers.shape[1] != network.outputs:
            raise WrongShape(
                f"the network has {counted(network.outputs, 'output')}, and {name} has "
                f"{counted(numbers.shape[1], 'number')} a row"
            )
        return Truth("regression", numbers)
    labels, codes = classes_of(y, rows, name)
    names = network.classes or tuple(str(k) for k in range(max(2, network.outputs)))
    places = {n: k for k, n in enumerate(names)}
    found = [next((places[s] for s in _said(v) if s in places), -1) for v in labels.tolist()]
    if -1 in found:
        wrong = labels.tolist()[found.index(-1)]
        known = "the network's classes" if network.classes else "the positions of its outputs"
        raise DataError(
            f"the label {wrong!r} in {name} is none of {known} ({listed(names)}): read the model "
            "with classes=, or give labels as it says them"
        )
    return Truth("classification", np.array(found)[codes], names)


def task_of(network: Network, y: Any, rows: int, name: str = "y", task: Any = None) -> Task:
    """The task that is asked for, else what the network says it does, else what y looks like."""
    chosen = network.task if task is None else require_task(task)
    if chosen is not None:
        return chosen
    held = _held(y, name)
    if network.classes:
        return "classification"
    if held.ndim == 2 and held.shape[1] > 1:
        return "regression"
    labels = column_of(y, rows, name)
    if labels.dtype.kind not in "iuf":
        return "classification"
    whole = bool((labels == np.round(labels)).all())
    few = set(np.unique(labels).tolist()) <= set(range(max(2, network.outputs)))
    return "classification" if whole and (few or network.outputs > 1) else "regression"


def require_task(task: Any) -> Task:
    """The task, one of two by name."""
    for known in get_args(Task):
        if isinstance(task, str) and task == known:
            return cast(Task, known)
    raise DataError(f"task must be 'classification' or 'regression', got {task!r}")


def _said(label: Any) -> tuple[str, ...]:
    """How a label may be written: 1, 1.0 and True are one number."""
    if isinstance(label, bool | int | float) and label == int(label):
        return str(label), str(int(label)), str(float(label))
    return (label.decode() if isinstance(label, bytes) else str(label),)


# -- how right a network or a machine is --


def network_score(network: Network, x: Tensor, truth: Truth) -> float:
    """The share of right labels, or R2, at the rows x, a batch at a time."""
    found = torch.cat([network(part) for part in x.split(BATCH)])
    return truth.score(found.cpu().double().numpy())


def winners(scores: Floats) -> NDArray[np.int64]:
    """The place of the largest score (rows, outputs); of one score 1 where it is above 0."""
    one = scores.shape[1] == 1
    return np.asarray((scores[:, 0] > 0).astype(np.int64) if one else scores.argmax(1))


def quality(found: Any, y: Any, labels: bool) -> float:
    """The share of labels that are right, or R2 = 1 - |found - y|^2 / |y - mean y|^2 (NaN where y
    is constant but for rounding)."""
    said = np.asarray(found)
    if labels:
        truth = column_of(y, len(said))
        if (said.dtype.kind in "US") != (truth.dtype.kind in "US"):
            raise DataError(
                f"y holds {cell(truth.tolist()[0])}, and the labels that were learned are such as "
                f"{cell(said.tolist()[0])}: give labels of one kind"
            )
        return float((said == truth).mean())
    numbers = targets_of(y, len(said))
    if said.size != numbers.size:
        raise WrongShape(f"predictions have shape {said.shape}, and y has {numbers.shape}")
    off = ((said.reshape(numbers.shape) - numbers) ** 2).sum()
    spread = ((numbers - numbers.mean(0)) ** 2).sum()
    rounding = ((CONSTANT * np.abs(numbers)) ** 2).sum()
    return float(1 - off / spread) if spread > rounding else float("nan")


# -- columns --


def spread_of(X: Floats) -> Floats:
    """The standard deviation of each column; 1 where the column is constant within rounding."""
    spread = X.std(0)
    constant = spread <= CONSTANT * np.abs(X).max(0)
    return np.asarray(np.where(constant, 1.0, spread))
