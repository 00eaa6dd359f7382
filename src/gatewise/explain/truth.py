"""What a target says beside a network's outputs: one reading for report, cohorts and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.ir.network import Network, Task
from gatewise.tables import listed

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
DECIDING = ("sigmoid", "softmax", "logsigmoid", "logsoftmax")


@dataclass(frozen=True, eq=False)
class Target:
    """A target with one value a row: measured (numbers, NaN unknown) or labels (code, -1 unknown).

    As labels, 1, 1.0 and True are one: "1".
    """

    measured: bool
    values: Floats
    names: tuple[str, ...]
    codes: Ids

    @property
    def known(self) -> NDArray[np.bool_]:
        """(rows,) which rows have a value."""
        return np.isfinite(self.values) if self.measured else self.codes >= 0

    def summary(self, rows: Ids) -> tuple[str, float] | None:
        """('', mean) if measured, else (the commonest label, its share); None if none is known."""
        rows = rows[self.known[rows]]
        if not len(rows):
            return None
        if self.measured:
            return "", float(self.values[rows].mean())
        counts = np.bincount(self.codes[rows])
        return self.names[int(counts.argmax())], float(counts.max() / len(rows))


def target_of(given: NDArray[Any], outputs: int, task: Task | None) -> Target:
    """A target as a quantity or as labels.

    Numbers are a quantity for one output that regresses; for one that does not say what it does,
    where there are more than two of them.
    """
    given = np.asarray(given).reshape(-1)
    if _is_measured(given, outputs, task):
        return Target(True, given.astype(np.float64), (), np.empty(0, np.int64))
    texts = [_text(value) for value in given.tolist()]
    names = sorted({text for text in texts if text is not None})
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    codes = np.array([place.get(text, -1) for text in texts], np.int64)
    return Target(False, np.empty(0), tuple(names), codes)


def _is_measured(given: NDArray[Any], outputs: int, task: Task | None) -> bool:
    if given.dtype.kind not in "iuf" or outputs > 1 or task == "classification":
        return False
    return task == "regression" or len(np.unique(given[np.isfinite(given.astype(np.float64))])) > 2


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool | int | float) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _key(text: str) -> str:
    """A label for comparing: 'True', '1.0' and '1' are one."""
    text = {"True": "1", "False": "0"}.get(text, text)
    whole = text.removesuffix(".0")
    return whole if whole.removeprefix("-").isdecimal() else text


@dataclass(frozen=True, eq=False)
class Reading:
    """For each answer of the network (one output: no, yes) the code of the label it means; how."""

    codes: Ids
    how: str


def reading(
    t: Target, names: tuple[str, ...], outputs: int, classes: tuple[str, ...] = ()
) -> Reading | None:
    """What the outputs say of a target's labels; None where they do not fit together.

    One output above 0 says the label it is named after, or else the second in order; of several,
    the largest says the label of its name, or else of its place. classes: the model's own, so that
    nothing else is tried. Raises DataError where a target holds others.
    """
    if t.measured or not t.names:
        return None
    return _of_one(t, names, classes) if outputs == 1 else _of_many(t, names, outputs, classes)


def _of_one(t: Target, names: tuple[str, ...], classes: tuple[str, ...]) -> Reading | None:
    if len(t.names) != 2:
        return None
    keys = [_key(label) for label in t.names]
    if classes and set(keys) != {_key(label) for label in classes}:
        raise _other(t, classes)
    said = classes[-1:] or names[:1]
    found = [i for i, key in enumerate(keys) if said and key == _key(said[0])]
    yes = found[0] if found else 1
    how = f"an output above 0 is read as “{t.names[yes]}”"
    return Reading(np.array([1 - yes, yes]), how)


def _of_many(
    t: Target, names: tuple[str, ...], outputs: int, classes: tuple[str, ...]
) -> Reading | None:
    place = {_key(name): i for i, name in enumerate(t.names)}
    by_place = tuple(map(str, range(outputs)))
    for said, what in ((classes or names, "name"), (by_place, "index")):
        answers = [_key(str(name)) for name in said]
        if set(place) <= set(answers) and len(set(answers)) == outputs:
            codes = np.array([place.get(a, -2) for a in answers])
            return Reading(codes, f"the largest output, matched to the target by {what}")
        if classes:
            raise _other(t, classes)
    return None


def _other(t: Target, classes: tuple[str, ...]) -> DataError:
    said = listed([f"'{name}'" for name in classes])
    return DataError(
        f"the target holds {listed([repr(name) for name in t.names])}, the model says {said}: map "
        "the target's values to the model's classes"
    )


def target(network: Network, given: Any, rows: int) -> Target | None:
    """The Target of a network's rows, if it has one value a row."""
    if given is None or np.asarray(given).size != rows:
        return None
    return target_of(np.asarray(given), network.outputs, task_of(network))


def read_target(network: Network, t: Target) -> Reading | None:
    """`reading` of a target for a network's outputs; None where they are quantities."""
    if network.task == "regression":
        return None
    return reading(t, network.output_names, network.outputs, network.classes)


def task_of(network: Network) -> Task | None:
    """What the network says it does, or else what was set aside from its end does."""
    head = {node.layer.lower().replace("_", "").replace(" ", "") for node in network.head}
    return network.task or (None if head.isdisjoint(DECIDING) else "classification")


def decides(network: Network, read: Reading | None) -> bool:
    """Do the outputs decide? The network says so, or its head; else a target of classes does."""
    task = task_of(network)
    return read is not None if task is None else task == "classification"
