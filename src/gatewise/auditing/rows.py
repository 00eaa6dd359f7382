"""What is audited: a network, rows to fit linear models on, rows to test on, and the truth there.

Scores of a network are one column of log odds for two classes, one logit a class for more, or its
number; classes are counted in the order of the network's answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.auditing.measures import Truth
from gatewise.auditing.nearest import spread
from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.explain import truth
from gatewise.explain.explanation import Explanation, explain
from gatewise.explain.inputs import OnBadRows, inputs_of, split_target
from gatewise.explain.names import feature_names
from gatewise.ir.network import Network
from gatewise.tables import Matrix, counted, listed

Floats = NDArray[np.float64]
BATCH = 4096  # rows through the network at once
FEWEST = 8  # rows to fit on, and to test on


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows: inputs (rows, features), what is true there, and the network's scores."""

    x: Floats
    truth: Truth
    scores: Floats

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[Any]) -> Part:
        """Those of some rows."""
        values = Truth(self.truth.values[rows], self.truth.classes)
        return Part(self.x[rows], values, self.scores[rows])


@dataclass(frozen=True, eq=False)
class Question:
    """explanation: of rows without the test rows where these were given apart or split off here;
    None where the network has no regions. classes: of the target, in the order of the network's
    answers; () for a quantity. held_out: are the test rows a part of the one table given?
    """

    network: Network
    explanation: Explanation | None
    fit: Part
    test: Part
    names: tuple[str, ...]
    target_name: str
    classes: tuple[str, ...]
    held_out: bool
    notes: tuple[str, ...]


def thinned(q: Question, most: int) -> Question:
    """With at most so many rows to fit on, and to test on, evenly spaced."""
    if max(len(q.fit), len(q.test)) <= most:
        return q
    fit, test = (part.take(spread(len(part), most)) for part in (q.fit, q.test))
    _require_spread(fit, q.classes, "the rows that linear models are fitted on")
    said = list(q.notes)
    if len(fit) < len(q.fit):
        said.append(f"linear models were fitted on {len(fit):,} of the rows, evenly spaced")
    if len(test) < len(q.test):
        said.append(f"tested on {len(test):,} of the test rows, evenly spaced")
    return dataclasses.replace(q, fit=fit, test=test, notes=tuple(said))


@dataclass(frozen=True, eq=False)
class Rows:
    """A table read: inputs, the target as it came, and the name of its column."""

    matrix: Matrix
    target: NDArray[Any]
    name: str


def rows_of(network: Network, X: Any, y: Any, on_bad_rows: OnBadRows) -> Rows:
    """The inputs and the target of a table."""
    if y is None:
        raise DataError(
            "an audit compares with the truth: give y, the name of a column of the data or one "
            "value a row"
        )
    rest, given, name = split_target(X, y)
    assert given is not None
    matrix = inputs_of(network, rest, on_bad_rows)
    return Rows(matrix, given[matrix.index], name)


def second_rows(
    network: Network, first: Matrix, pair: tuple[Any, Any], on_bad_rows: OnBadRows
) -> Rows:
    """`rows_of` a test table: columns in the order of the first one, where that order is all there
    is to go by."""
    if not network.feature_names and network.prepare is None:
        network = dataclasses.replace(network, feature_names=first.columns)
    return rows_of(network, *pair, on_bad_rows)


def of_tables(
    network: Network, here: Rows, test: Rows | None, holdout: float, seed: int
) -> Question:
    """From one table that is split by the seed, or from two."""
    network = network.to(torch.float64)
    network = dataclasses.replace(network, feature_names=feature_names(network, here.matrix))
    notes: list[str] = []
    whole = here.target if test is None else _joined(here, test)
    known, values, classes = _truth(network, whole, notes)
    x = here.matrix.values if test is None else np.vstack([here.matrix.values, test.matrix.values])
    second = np.arange(len(x)) >= len(here.matrix.values)
    if test is None:
        second = _drawn(np.flatnonzero(known), len(x), holdout, seed)
    first, second = known & ~second, known & second
    _require_rows(first, second)
    fitting = Matrix(x[first], here.matrix.columns, np.flatnonzero(first), (), here.matrix.origin)
    explained = _explained(network, fitting, classes, notes)
    parts = [_part(network, x[rows], values[rows], classes) for rows in (first, second)]
    notes += _skipped([here.matrix, *([] if test is None else [test.matrix])])
    return _asked(network, explained, parts, here.name, classes, test is None, notes)


def of_explanation(e: Explanation, test: Rows | None, holdout: float, seed: int) -> Question:
    """From the rows of an Explanation, whose clusters stay those of all of them."""
    if e.target is None:
        raise DataError(
            "an audit compares with the truth, and this explanation was made without a target: "
            "give y, one value a row, or explain(..., target=)"
        )
    if len(e.outputs) < e.network.outputs:
        raise DataError(
            f"the explanation is of {len(e.outputs)} of {counted(e.network.outputs, 'output')}: "
            "explain all of them, or give the network and its table"
        )
    notes: list[str] = []
    here = Rows(e.matrix, np.asarray(e.target).reshape(-1), e.target_name)
    whole = here.target if test is None else _joined(here, test)
    known, values, classes = _truth(e.network, whole, notes)
    output = e.census.output.double().cpu().numpy()
    mine = known[: len(e)]
    if test is None:
        held = _drawn(np.flatnonzero(mine), len(e), holdout, seed)
        first, second = mine & ~held, mine & held
        notes.append("the rules were made from all rows, test rows too, but never from the target")
    else:
        first, second = mine, known[len(e) :]
    _require_rows(first, second)
    parts = [_of_output(e.data[first], values[: len(e)][first], output[first], classes)]
    if test is None:
        parts.append(_of_output(e.data[second], values[second], output[second], classes))
    else:
        x = test.matrix.values[second]
        parts.append(_part(e.network, x, values[len(e) :][second], classes))
    notes += _skipped([e.matrix, *([] if test is None else [test.matrix])])
    shown = e.contrast(1, 0) if _two_outputs(e.network, classes) else e
    return _asked(e.network, shown, parts, here.name, classes, test is None, notes)


def _asked(
    network: Network,
    explained: Explanation | None,
    parts: list[Part],
    name: str,
    classes: tuple[str, ...],
    held_out: bool,
    notes: list[str],
) -> Question:
    fit, test = parts
    _require_spread(fit, classes, "the rows that linear models are fitted on")
    _require_spread(test, classes, "the test rows")
    if held_out:
        notes.insert(0, f"no test table was given: {len(test):,} rows were split off by the seed; "
                     "if the network was trained on them, its figures are too good")  # fmt: skip
    notes += _scale(network, parts, classes)
    names = tuple(network.feature_names) or tuple(f"x{j}" for j in range(network.inputs))
    shown = explained.feature_names if explained is not None else names
    return Question(
        network, explained, fit, test, tuple(shown), name, classes, held_out, tuple(notes)
    )


def _skipped(tables: list[Matrix]) -> Iterator[str]:
    lost = sum(len(m.skipped) for m in tables)
    if lost:
        yield f"{counted(lost, 'row')} with NaN or infinity {'is' if lost == 1 else 'are'} left out"


def _scale(network: Network, parts: list[Part], classes: tuple[str, ...]) -> Iterator[str]:
    """What is odd about the scale of the network's outputs."""
    if not classes:
        yield from _another_scale(parts[1])
    elif not network.head:
        yield ("the network ends in no sigmoid or softmax: its outputs are read as logits, and its "
               "log loss, Brier score and gains are true only if they are")  # fmt: skip
        scores = parts[1].scores
        if scores.min() >= 0 and scores.max() <= 1:
            yield ("its outputs lie between 0 and 1: if they are probabilities, take the network "
                   "before they are made")  # fmt: skip
    elif network.outputs > 1 and "sigmoid" in network.head[-1].layer.lower():
        yield ("each output ends in a sigmoid of its own: chances of the classes are the softmax "
               "of what goes into them")  # fmt: skip


def _another_scale(test: Part) -> Iterator[str]:
    y, said = np.asarray(test.truth.values, np.float64), test.scores[:, 0]
    if said.std() == 0:
        return
    best = float(np.corrcoef(y, said)[0, 1])
    found = 1 - float(((y - said) ** 2).mean() / y.var())
    if best**2 > 0.1 and best > 0 and best**2 - found > 0.5:
        yield (f"the network's output follows the target on another scale: R² is {best**2:.2f} "
               "after a shift and a factor; if it learned a scaled target, scale this one "
               "alike")  # fmt: skip


# -- the target --


def _joined(here: Rows, test: Rows) -> NDArray[Any]:
    """Both targets in one array; text beside numbers is refused."""
    kinds = [_is_text(part.target) for part in (here, test)]
    if kinds[0] != kinds[1]:
        said = ["text" if kind else "numbers" for kind in kinds]
        raise DataError(
            f"the target is {said[0]} in the data and {said[1]} in the test rows: give one kind"
        )
    return np.concatenate([here.target, test.target])


def _is_text(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "US" or any(isinstance(v, str) for v in values.tolist())


def _truth(
    network: Network, given: NDArray[Any], notes: list[str]
) -> tuple[NDArray[np.bool_], NDArray[Any], tuple[str, ...]]:
    """Which rows have a target, its values (places of the network's answers), and the classes."""
    t = truth.target_of(given, network.outputs, truth.task_of(network))
    known = t.known
    lost = int((~known).sum())
    if lost:
        notes.append(f"{counted(lost, 'row')} without a target {'is' if lost == 1 else 'are'} "
                     "left out")  # fmt: skip
    if t.measured:
        return known, t.values, ()
    _require_classes(t)
    read = truth.read_target(network, t)
    if read is None:
        raise _unmatched(network, t)
    place = np.full(len(t.names), -1)
    for answer, code in enumerate(read.codes.tolist()):
        if code >= 0:
            place[code] = answer
    names = tuple(t.names[c] if c >= 0 else f"class {k}" for k, c in enumerate(read.codes.tolist()))
    notes.append(read.how)
    return known, np.where(known, place[t.codes], 0), names


def _require_classes(t: truth.Target) -> None:
    if len(t.names) < 2:
        held = f"'{t.names[0]}' in all rows" if t.names else "empty in all rows"
        raise DataError(
            f"the target is {held}, so nothing is told apart: give rows of at least two classes"
        )


def _unmatched(network: Network, t: truth.Target) -> DataError:
    held = listed([f"'{name}'" for name in t.names])
    if network.task == "regression" and network.outputs > 1:
        return DataError(
            f"the network gives {network.outputs} quantities a row, and an audit is of one: give a "
            "network of one output"
        )
    if network.task == "regression":
        return DataError(
            f"the target holds classes ({held}), and the network's output is a quantity: give the "
            "target as numbers"
        )
    said = listed([f"'{name}'" for name in network.classes or network.output_names])
    also = f" ({said})" if said else ""
    return DataError(
        f"the target's classes ({held}) cannot be matched to the network's "
        f"{counted(network.outputs, 'output')}{also}: name the classes as the outputs are named, "
        "or number them from 0 in the order of the outputs"
    )


def _require_spread(part: Part, classes: tuple[str, ...], where: str) -> None:
    values = part.truth.values
    if (values == values[0]).all():
        what = f"'{classes[int(values[0])]}'" if classes else f"{float(values[0]):.6g}"
        raise DataError(
            f"the target is {what} in all of {where} ({len(part):,}), so there is nothing to "
            "compare: give rows in which it differs"
        )


# -- the rows --


def _drawn(known: NDArray[Any], rows: int, holdout: float, seed: int) -> NDArray[np.bool_]:
    """(rows,) True at a share of the known rows, by the seed."""
    order = np.random.default_rng(seed).permutation(known)
    held = np.zeros(rows, bool)
    held[order[: round(len(known) * holdout)]] = True
    return held


def _require_rows(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> None:
    fit, test = int(first.sum()), int(second.sum())
    if min(fit, test) < FEWEST:
        raise DataError(
            f"an audit needs at least {FEWEST} rows with a target to fit on and as many to test "
            f"on, and here are {fit} and {test}: give more rows"
        )


def _two_outputs(network: Network, classes: tuple[str, ...]) -> bool:
    return len(classes) == 2 and network.outputs == 2


def _part(network: Network, x: Floats, values: NDArray[Any], classes: tuple[str, ...]) -> Part:
    parts = [network(x[i : i + BATCH]).double().cpu().numpy() for i in range(0, len(x), BATCH)]
    return _of_output(x, values, np.concatenate(parts), classes)


def _of_output(x: Floats, values: NDArray[Any], output: Floats, classes: tuple[str, ...]) -> Part:
    if not np.isfinite(output).all():
        raise DataError("the network overflows on some rows: repair or leave out extreme numbers")
    two = len(classes) == 2 and output.shape[1] == 2
    scores = output[:, 1:] - output[:, :1] if two else output
    return Part(x, Truth(values, len(classes)), np.ascontiguousarray(scores))


def _explained(
    network: Network, matrix: Matrix, classes: tuple[str, ...], notes: list[str]
) -> Explanation | None:
    """The rules on the fitting rows; None where the network is not piecewise affine."""
    try:
        e = explain(network, matrix, margin=False)
    except NotPiecewiseAffine as why:
        notes.append(f"no units, regions or cohorts: {why}")
        return None
    return e.contrast(1, 0) if _two_outputs(network, classes) else e
