"""What `gatewise bilinear` shows of one bilinear layer, worked out: from weights, and from rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatewise.bilinear.deep.stack import embedded
from gatewise.bilinear.layer import BilinearLayer, extended
from gatewise.bilinear.quadratic import forms
from gatewise.bilinear.reading import layer_input
from gatewise.bilinear.spectral.spectrum import Spectrum, spectrum
from gatewise.errors import DataError
from gatewise.explain import truth
from gatewise.explain.inputs import OnBadRows, inputs_of, split_target
from gatewise.explain.names import feature_names
from gatewise.ir.network import Network, fold
from gatewise.show.bilinear import names, parts
from gatewise.show.bilinear.parts import Floats
from gatewise.show.gates.facts import Tell
from gatewise.show.words import number
from gatewise.tables import Matrix, counted

TOP = 20  # eigenpairs of each output
MANY = 64  # outputs up to which all are worked out, for the accuracy
PAIRS = 50  # of inputs, an output
STEPS = 3  # spectrum, weights, rows


class Asked(NamedTuple):
    """layer: name of a Product (None: the last); outputs: names or positions (None: the first
    few); top: eigenpairs of each; labels: a column; row: counted from 0 (None: the first of those
    used); image: (height, width); on_bad_rows: "raise" or "skip" rows with NaN or infinity."""

    layer: str | None = None
    outputs: tuple[str, ...] = ()
    top: int = TOP
    labels: str | None = None
    row: int | None = None
    image: tuple[int, int] | None = None
    on_bad_rows: OnBadRows = "raise"


@dataclass(frozen=True, eq=False)
class Bilinear:
    """Everything the page shows.

    layer: as it stands in the network; view: the same of the space that is shown, the network's
    input where it is affine in it; final: its outputs are the network's. inputs: names of what
    view reads; outputs: of the shown ones, whose positions are chosen. norms, kept: |Q| of each,
    and the share of its square in the eigenpairs of found. means (outputs, k): mean λ (v·x)² over
    the rows, None without.
    """

    network: Network
    layer: BilinearLayer
    view: BilinearLayer
    layers: tuple[str, ...]
    final: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    every_output: tuple[str, ...]
    chosen: tuple[int, ...]
    image: tuple[int, int] | None
    found: Spectrum
    norms: Floats
    kept: Floats
    ranks: Floats | None
    interactions: parts.Interactions | None
    directions: parts.Directions | None
    rows: int
    means: Floats | None
    curve: parts.Curve | None
    row: parts.Row | None
    labels_name: str
    label: str
    notes: tuple[str, ...]
    seconds: float

    @property
    def constant(self) -> bool:
        """Is a 1 appended to what is read?"""
        return self.found.constant


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the network's input (X) and of what is shown (x, with its 1); labels as given.

    index: position of each row in the table; row: of the one explained, in X.
    """

    X: Floats
    index: Any
    row: int
    x: Tensor
    target: truth.Target | None
    reading: truth.Reading | None
    given: Any
    name: str


def bilinear(
    network: Network, table: Any = None, asked: Asked | None = None, tell: Tell | None = None
) -> Bilinear:
    """Work it all out; NotBilinear or DataError, in one sentence, says what cannot be."""
    began, asked, notes = time.process_time(), asked or Asked(), list[str]()
    done = _steps(tell)
    if table is None:
        _require_data(asked)
    layers, layer = names.layer_of(network, asked.layer, notes)
    view = layer if layer.embedding is None else embedded(layer)
    final = layer.target == network.output and not layer.positions
    rows, columns = _rows(network, layer, view, table, asked, final, notes)
    said = (None, None) if rows is None else (rows.target, rows.reading)
    every = names.of_outputs(network, layer, final, *said)
    chosen = names.chosen_of(view, every, asked.outputs, notes)
    image = names.image_size(network, view, asked.image)
    found = spectrum(view, min(asked.top, forms(view).size), directions=_units(view, chosen))
    found = _oriented(found, rows)
    done(1)
    weights = _of_weights(view, found, rows, notes)
    done(2)
    seen = _of_rows(network, layer, view, found, chosen, len(every), final, rows)
    done(STEPS)
    return Bilinear(
        network=network,
        layer=layer,
        view=view,
        layers=layers,
        final=final,
        inputs=names.of_inputs(view, columns),
        outputs=tuple(every[u] for u in chosen),
        every_output=every,
        chosen=chosen,
        image=image,
        found=found,
        notes=tuple(notes),
        seconds=time.process_time() - began,
        **weights,
        **seen,
    )


def _steps(tell: Tell | None) -> Callable[[int], None]:
    """Says how many of the parts are done."""

    def done(count: int) -> None:
        if tell:
            tell("bilinear", count, STEPS)

    done(0)
    return done


# -- rows --


def _rows(
    network: Network,
    layer: BilinearLayer,
    view: BilinearLayer,
    table: Any,
    asked: Asked,
    final: bool,
    notes: list[str],
) -> tuple[_Rows | None, tuple[str, ...]]:
    """The rows, as the network and as the layer reads them; the names of the inputs."""
    if table is None:
        return None, network.feature_names or tuple(f"x{j}" for j in range(network.inputs))
    rest, given, name = split_target(table, asked.labels)
    matrix = inputs_of(network, rest, asked.on_bad_rows)
    columns, X = feature_names(network, matrix), matrix.values
    row = _place(matrix, asked.row)
    if matrix.skipped:
        notes.append(f"{counted(len(matrix.skipped), 'row')} with NaN or infinity left out")
    given = None if given is None else given[matrix.index]
    if layer.positions:
        notes.append(
            f"layer '{layer.name}' acts at {counted(int(np.prod(layer.positions)), 'position')} "
            "of a row alike: DATA are left out, its weights alone are shown"
        )
        return None, columns
    bare = dataclasses.replace(network, prepare=None)
    read = torch.as_tensor(X) if view is not layer else layer_input(bare, layer, X)
    target, reading = _labels(network, given, len(X), final, notes)
    x = extended(view, read.reshape(len(X), -1))
    return _Rows(X, matrix.index, row, x, target, reading, given, name), columns


def _place(matrix: Matrix, row: int | None) -> int:
    """Where the row of the table is among those used."""
    found = np.flatnonzero(matrix.index == (matrix.index[0] if row is None else row))
    if len(found):
        return int(found[0])
    rows = len(matrix.index) + len(matrix.skipped)
    if row in matrix.skipped:
        raise DataError(f"row {row} holds NaN or infinity: ask for another --row")
    raise DataError(f"there is no row {row}: the data have {counted(rows, 'row')}, counted from 0")


def _require_data(asked: Asked) -> None:
    """Nothing is asked of DATA that were not given."""
    if asked.labels is not None:
        raise DataError("--labels names a column of DATA, and no DATA were given")
    if asked.row is not None:
        raise DataError("--row is a row of DATA, and no DATA were given")


def _labels(
    network: Network, given: Any, rows: int, final: bool, notes: list[str]
) -> tuple[truth.Target | None, truth.Reading | None]:
    """The labels, and which output says which; a note where they do not fit."""
    if given is None:
        return None, None
    if not final:
        notes.append("the labels are left out: the layer's outputs are not the network's")
        return None, None
    target = truth.target(network, given, rows)
    if target is None or target.measured:
        return target, None
    try:
        reading = truth.read_target(network, target)
    except DataError as why:
        notes.append(f"the labels are left out: {why}")
        return None, None
    if reading is None:
        notes.append("the labels are left out: they are none of the network's answers")
    return target, reading


def _label(value: Any) -> str:
    return number(float(value)) if isinstance(value, float | np.floating) else str(value)


# -- the parts --


def _units(view: BilinearLayer, chosen: tuple[int, ...]) -> Tensor:
    return torch.eye(view.outputs, dtype=view.P.dtype)[list(chosen)]


def _oriented(found: Spectrum, rows: _Rows | None) -> Spectrum:
    """An eigenvector's sign says nothing: it is positive at the mean row, or on the whole."""
    last = found.readers.shape[2] - found.constant
    lean = found.readers[..., :last].sum(2) if rows is None else found.readers @ rows.x.mean(0)
    sign = torch.where(lean < 0, -1.0, 1.0).unsqueeze(2)
    return dataclasses.replace(found, vectors=found.vectors * sign, readers=found.readers * sign)


def _of_weights(
    view: BilinearLayer, found: Spectrum, rows: _Rows | None, notes: list[str]
) -> dict[str, Any]:
    """Sizes, output directions; effective ranks and interactions where the forms can be built."""
    whole = found.forms
    norms = parts.numbers(whole.norms())
    held = parts.numbers(found.values.square().sum(1)) / np.maximum(norms**2, 1e-300)
    held[(norms == 0) | (found.k == whole.size)] = 1.0  # all there is, however it is rounded
    said: dict[str, Any] = {"norms": norms, "kept": np.minimum(held, 1.0)}
    said |= {"directions": parts.directions(view, found.k), "ranks": None, "interactions": None}
    if whole.size > parts.FULL:
        notes.append(
            f"effective ranks and pairs of inputs are left out: they need the whole form, and "
            f"{whole.size:,} coordinates are more than {parts.FULL:,}"
        )
        return said
    scale = torch.ones(whole.size).double() if rows is None else rows.x.square().mean(0).sqrt()
    pairs = parts.interactions(whole, found.constant, scale, PAIRS)
    return said | {"ranks": parts.effective_ranks(whole), "interactions": pairs}


def _of_rows(
    network: Network,
    layer: BilinearLayer,
    view: BilinearLayer,
    found: Spectrum,
    chosen: tuple[int, ...],
    outputs: int,
    final: bool,
    rows: _Rows | None,
) -> dict[str, Any]:
    """What DATA add: mean terms, the curve, the row; nothing of it without."""
    none = dict.fromkeys(("means", "curve", "row"))
    if rows is None:
        return none | {"rows": 0, "labels_name": "", "label": ""}
    return {
        "rows": len(rows.X),
        "means": _means(found, rows.x),
        "curve": _curve(found, view, outputs, final, rows),
        "row": _row(network, layer, view, found, chosen, rows),
        "labels_name": rows.name,
        "label": "" if rows.given is None else _label(rows.given[rows.row]),
    }


def _means(found: Spectrum, x: Tensor) -> Floats:
    """Mean λ (v·x)² over the rows, from their second moment: (outputs, k)."""
    moment = x.mT @ x / len(x)
    seen = torch.einsum("uki,ij,ukj->uk", found.readers, moment, found.readers)
    return parts.numbers(found.values * seen)


def _curve(
    found: Spectrum, view: BilinearLayer, outputs: int, final: bool, rows: _Rows
) -> parts.Curve:
    """Over all outputs, where their answer is the network's and they are not too many."""
    whole = found
    if final and len(found.values) < outputs <= MANY:
        whole = spectrum(view, found.k)
    all_there = final and len(whole.values) == outputs
    plain = rows.x[:, :-1] if whole.constant else rows.x
    target = rows.target if all_there else None
    return parts.curve(whole, plain, target, rows.reading)


def _row(
    network: Network,
    layer: BilinearLayer,
    view: BilinearLayer,
    found: Spectrum,
    chosen: tuple[int, ...],
    rows: _Rows,
) -> parts.Row:
    """The row's output as its terms, held against what the network itself computes."""
    net = dataclasses.replace(network.to(torch.float64), prepare=None)
    row = rows.row
    start = net.rows(rows.X[row : row + 1])
    values = fold(net, start, lambda n, xs: n.kind(*xs), keep=(layer.target,))
    own = values[layer.target].reshape(-1)[list(chosen)]
    plain = rows.x[row, :-1] if found.constant else rows.x[row]
    return parts.of_row(view, found, list(chosen), int(rows.index[row]), plain, own)
