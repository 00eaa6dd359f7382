"""What the gates of a network say of a table: overlap, what they know, units and paths of a row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise import dual
from gatewise.errors import DataError, GatewiseError, NotGated
from gatewise.explain import truth
from gatewise.explain.inputs import inputs_of, split_target
from gatewise.explain.names import feature_names, output_index, output_names
from gatewise.ir.network import Network
from gatewise.tables import Matrix, counted

Floats = NDArray[np.float64]
Tell = Callable[[str, int, int], None]
PATHS = 12  # strongest paths of the row
FIT = {True: (2000, 3), False: (200, 1)}  # plain chain or not: rows to fit on, random draws
SECTION_ROWS = 1000  # of the section in the report: about two seconds
STEPS = 3  # overlap, what the gates know, units and paths


class Asked(NamedTuple):
    """row: of the table, counted from 0; output: name or position (None: its largest); labels:
    a column; test: a second table, of rows the network never saw; rows, draws: of `gates_know`."""

    row: int = 0
    output: str | None = None
    labels: str | None = None
    test: Any = None
    rows: int | None = None
    draws: int | None = None
    paths: int = PATHS


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of the rows, as text and as the network's own answers.

    known (rows,): which rows have one; names (rows,) text, or None where they are numbers; values:
    as `gates_know` takes them, of the known rows; None, with `why`, where the labels are none of
    the network's answers.
    """

    known: NDArray[np.bool_]
    names: NDArray[Any] | None
    values: NDArray[Any] | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Gates:
    """Everything the page shows; overlap, know, shares, starts, paths, partings: what `gw.dual`'s
    functions return, know and paths None where there is none, with a note that says why.

    on (layers,): gates of each layer that are on at the row; seconds: CPU time of the analysis.
    """

    network: Network
    gated: Any
    rows: int
    row: int
    output: int
    outputs: tuple[str, ...]
    label: str
    labels_name: str
    overlap: Any
    know: Any
    shares: Any
    starts: Any
    paths: Any
    on: tuple[int, ...]
    notes: tuple[str, ...]
    seconds: float


def gates(network: Network, table: Any, asked: Asked, tell: Tell | None = None) -> Gates:
    """Work it all out; NotGated or DataError, in one sentence, says what cannot be."""
    began = time.process_time()
    require_gates(network)  # before any work
    if asked.test is not None and asked.labels is None:
        raise DataError("--test holds rows with labels: name their column with --labels")
    matrix, given, name = _table(network, table, asked.labels)
    network = dataclasses.replace(network, feature_names=feature_names(network, matrix))
    whole, x = require_gates(network), matrix.values
    row = _row(asked.row, len(x))
    which = None if asked.output is None else output_index(asked.output, output_names(network))
    labels = None if given is None else labels_of(network, given, len(x))
    done = _steps(tell)
    found, notes = _overlap(whole, x, labels), list[str]()
    done(1)
    know = None if labels is None else _know(whole, x, labels, asked, notes)
    done(2)
    shares, starts, paths = _of_row(whole, x[row], which, asked.paths, notes)
    done(3)
    return Gates(
        network,
        whole,
        len(x),
        row,
        int(shares.outputs[0]),
        output_names(network),
        "" if given is None else str(given[row]),
        name,
        found,
        know,
        shares,
        starts,
        paths,
        tuple(int(m.sum()) for m in dual.masks(whole, x[row : row + 1])),
        tuple(notes),
        time.process_time() - began,
    )


def _steps(tell: Tell | None) -> Callable[[int], None]:
    """Says how many of the parts are done."""

    def done(count: int) -> None:
        if tell:
            tell("gates", count, STEPS)

    done(0)
    return done


def require_gates(network: Network) -> Any:
    """The network as values and masks; refused where it has no gates at all."""
    whole = dual.gated(dataclasses.replace(network, prepare=None))
    if not whole.sites:
        raise NotGated(
            "the network has no gates that multiply values: it is one linear map for all rows, so "
            "there is nothing to show here"
        )
    return whole


def _table(
    network: Network, table: Any, column: str | None
) -> tuple[Matrix, NDArray[Any] | None, str]:
    """The inputs, the labels as they stand there, and the name of their column."""
    rest, given, name = split_target(table, column)
    return inputs_of(network, rest), given, name


def _row(row: int, rows: int) -> int:
    if not 0 <= row < rows:
        raise DataError(
            f"there is no row {row}: the data have {counted(rows, 'row')}, counted from 0"
        )
    return row


# -- labels --


def labels_of(network: Network, given: Any, rows: int) -> Labels:
    """Labels as text for the overlap, and as the network's own answers for the machines."""
    t = truth.target(network, given, rows)
    if t is None:
        raise DataError(f"the labels are not one value for each of {counted(rows, 'row')}")
    if t.measured:
        return Labels(t.known, None, t.values[t.known])
    names = np.array(t.names, object)[t.codes].astype(str)
    codes = t.codes[t.known]
    if len(np.unique(codes)) < 2:
        return Labels(t.known, names, None, f"all labels are '{t.names[0]}'")
    try:
        values = _answers(network, t, codes)
    except DataError as why:
        return Labels(t.known, names, None, str(why))
    odd = "" if values is not None else "the labels are none of the network's answers"
    return Labels(t.known, names, values, odd)


def _answers(
    network: Network, t: truth.Target, codes: NDArray[np.int64]
) -> NDArray[np.str_] | None:
    """Which answer of the network each label is, as the network says it."""
    read = truth.read_target(network, t)
    if read is None:
        return None
    place = {int(code): k for k, code in enumerate(read.codes)}
    if not set(np.unique(codes).tolist()) <= set(place):
        return None
    answer = np.array([place[c] for c in codes.tolist()])
    said = network.classes or tuple(str(k) for k in range(max(2, network.outputs)))
    found: NDArray[np.str_] = np.array(said)[answer]
    return found


# -- the parts --


def _overlap(whole: Any, x: Floats, labels: Labels | None) -> Any:
    if labels is None or labels.names is None or not labels.known.any():
        return dual.overlap(whole, x)
    return dual.overlap(whole, x[labels.known], y=labels.names[labels.known])


def _know(whole: Any, x: Floats, labels: Labels, asked: Asked, notes: list[str]) -> Any:
    """`gates_know`; where nothing but the labels is in the way, a note and no error."""
    if labels.values is None:
        notes.append(f"what the gates know is left out: {labels.why}")
        return None
    rows, draws = FIT[whole.layers is not None]
    options = {"rows": asked.rows or rows, "draws": asked.draws or draws}
    if whole.layers is None and asked.rows is None:
        notes.append(
            f"a kernel of convolutions or skips is a recursion for every pair of rows, so "
            f"{rows} rows were used: --rows takes more"
        )
    if asked.test is not None:
        options |= _unseen(whole.network, asked)
    return know(whole, x[labels.known], labels.values, options)


def know(whole: Any, x: Floats, values: NDArray[Any], options: dict[str, Any]) -> Any:
    """What the gates know of labels as `labels_of` gives them."""
    options["task"] = "regression" if values.dtype.kind == "f" else "classification"
    return dual.gates_know(whole, x, values, **options)


def _unseen(network: Network, asked: Asked) -> dict[str, Any]:
    """X_test and y_test, from the second table."""
    matrix, given, _ = _table(network, asked.test, asked.labels)
    labels = labels_of(network, given, len(matrix.values))
    if labels.values is None:
        raise DataError(f"the labels of --test cannot be used: {labels.why}")
    return {"X_test": matrix.values[labels.known], "y_test": labels.values}


def _of_row(
    whole: Any, x: Floats, output: int | None, count: int, notes: list[str]
) -> tuple[Any, Any, Any]:
    """Shares of units, where paths start, and the strongest paths (None: too many weights)."""
    network = whole.network
    shares = dual.unit_shares(network, x[None], output)
    starts = dual.layer_shares(network, x[None], output)
    try:
        paths = dual.strongest_paths(whole, x, k=count, output=int(shares.outputs[0]))
    except GatewiseError as why:
        notes.append(f"no paths are shown: {why}")
        return shares, starts, None
    return shares, starts, paths


def largest_units(layer: Any, count: int) -> list[tuple[str, float]]:
    """The units of a layer with the largest |share| at its first row, by name."""
    shares = layer.shares[0]
    order = np.argsort(-np.abs(shares), kind="stable")[:count]
    return [(f"[{unit_name(int(u), layer.shape)}]", float(shares[u])) for u in order if shares[u]]


def unit_name(unit: int, shape: tuple[int, ...]) -> str:
    """Its number, or channel and position."""
    inner = [n for n in shape if n > 1] or [1]
    return ",".join(str(int(i)) for i in np.unravel_index(unit, inner))
