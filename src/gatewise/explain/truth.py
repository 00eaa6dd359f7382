"""What a target says beside a network's outputs: one reading for report, cohorts and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.names import output_names
from gatewise.ir.network import Network
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


def target_of(given: NDArray[Any], outputs: int, head: bool) -> Target:
    """A target as a quantity or as labels; head: was a sigmoid or the like set aside?

    More than two numbers for one output with no head are a quantity.
    """
    given = np.asarray(given).reshape(-1)
    if _is_measured(given, outputs, head):
        return Target(True, given.astype(np.float64), (), np.empty(0, np.int64))
    texts = [_text(value) for value in given.tolist()]
    names = sorted({text for text in texts if text is not None})
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    codes = np.array([place.get(text, -1) for text in texts], np.int64)
    return Target(False, np.empty(0), tuple(names), codes)


def _is_measured(given: NDArray[Any], outputs: int, head: bool) -> bool:
    if given.dtype.kind not in "iuf" or outputs > 1 or head:
        return False
    return len(np.unique(given[np.isfinite(given.astype(np.float64))])) > 2


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


def reading(t: Target, names: tuple[str, ...], outputs: int, classes: bool) -> Reading | None:
    """What the outputs say of a target's labels; None where they do not fit together.

    One output above 0 says the label it is named after, or else the second in order; of several,
    the largest says the label of its name, or else of its place. classes: the names are the
    model's classes, so that nothing else is tried. Raises DataError where a target holds others.
    """
    if t.measured or not t.names:
        return None
    return _of_one(t, names, classes) if outputs == 1 else _of_many(t, names, outputs, classes)


def _of_one(t: Target, names: tuple[str, ...], classes: bool) -> Reading | None:
    if len(t.names) != 2:
        return None
    found = [i for i, label in enumerate(t.names) if names and _key(label) == _key(names[0])]
    if classes and not found:
        raise _other(t, f"'{names[0]}' or not")
    yes = found[0] if found else 1
    how = f"an output above 0 is read as “{t.names[yes]}”"
    return Reading(np.array([1 - yes, yes]), how)


def _of_many(t: Target, names: tuple[str, ...], outputs: int, classes: bool) -> Reading | None:
    place = {_key(name): i for i, name in enumerate(t.names)}
    by_place = tuple(map(str, range(outputs)))
    for said, what in ((names, "name"), (by_place, "index")):
        answers = [_key(str(name)) for name in said]
        if set(place) <= set(answers) and len(set(answers)) == outputs:
            codes = np.array([place.get(a, -2) for a in answers])
            return Reading(codes, f"the largest output, matched to the target by {what}")
        if classes:
            raise _other(t, listed([f"'{name}'" for name in names]))
    return None


def _other(t: Target, said: str) -> DataError:
    return DataError(
        f"the target holds {listed([repr(name) for name in t.names])}, the model says {said}: map "
        "the target's values to the model's classes"
    )


def target(network: Network, given: Any, rows: int) -> Target | None:
    """The Target of a network's rows, if it has one value a row."""
    if given is None or np.asarray(given).size != rows:
        return None
    return target_of(np.asarray(given), network.outputs, bool(network.head))


def read_target(network: Network, t: Target) -> Reading | None:
    """`reading` of a target for a network's outputs."""
    return reading(t, network.output_names, network.outputs, names_classes(network))


def names_classes(network: Network) -> bool:
    """Are the outputs named after the classes of a scikit-learn classifier?

    Its reader calls outputs that stand for no class y, or y0, y1, ...; a contrast has two names.
    """
    # A Network does not say who read it: its preparation, or the note of the check, does.
    read = network.prepare is not None or any("scikit-learn" in note for note in network.notes)
    names = output_names(network)
    plain = ("y",) if network.outputs == 1 else tuple(f"y{i}" for i in range(len(names)))
    own = not network.nodes or network.nodes[-1].layer != "Difference"
    return read and own and bool(network.output_names) and names != plain


def decides(network: Network, read: Reading | None) -> bool:
    """Do the outputs decide? A sigmoid or softmax set aside, or a target of classes, says so."""
    head = {node.layer.lower().replace("_", "").replace(" ", "") for node in network.head}
    return read is not None or not head.isdisjoint(DECIDING)
