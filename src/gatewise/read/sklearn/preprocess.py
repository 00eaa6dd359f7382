"""From the last Frame of a pipeline to a Network's first nodes, input names and Prepare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.ir.kinds import scale, scale_back
from gatewise.ops import TORCH, Builder, Ref
from gatewise.ops.affine import linear
from gatewise.read.sklearn.pipeline import ORIGINAL, Floats, Frame, Reading, Variable, union
from gatewise.read.sklearn.prepare import Group, Original, Prepare, needed_columns, own
from gatewise.read.sklearn.raw_table import listed, plural


def preprocess(reading: Reading, frame: Frame) -> tuple[Builder, Ref, dict[str, Any]]:
    """The frame as nodes: for each gate its affine map, the gate, and what passes it by; then A, c.

    Also feature_names and prepare (None where the inputs are the raw columns themselves).
    """
    order = _inputs(reading, frame)
    b = Builder((1, len(order)))
    x = b.input
    for number, gate in enumerate(reading.gates):
        outputs = [i for i, v in enumerate(reading.variables) if v.gate == number]
        if not _used(reading, frame, outputs):
            continue
        b.at(gate.path, "Linear")
        z = stage(b, x, _columns(gate.frame.matrix, order), gate.frame.offset)
        b.at(f"{gate.path}.clip", "Clip")
        z = _one(TORCH["hardtanh"][1](b, z, gate.low, gate.high))
        b.at(f"{gate.path}.join", "Concat")
        x = _one(TORCH["cat"][1](b, [x, z], -1))
        order = [*order, *outputs]
    b.at("preprocessing", "Linear")
    y = stage(b, x, _columns(frame.matrix, order), frame.offset)
    inputs = [v for v in order if reading.variables[v].gate < 0]
    return b, y, _names(reading, b, inputs)


def stage(b: Builder, x: Ref, matrix: Any, offset: Floats) -> Ref:
    """y = A x + c: nothing if it is x itself, a scaling where no row of A mixes columns."""
    rows, columns = matrix.shape
    if np.diff(matrix.indptr).max(initial=0) > 1:
        return linear(b, x, _tensor(matrix.toarray()), _tensor(offset))
    index, factor = np.zeros(rows, dtype=np.int64), np.zeros(rows)
    filled = np.diff(matrix.indptr) == 1
    index[filled], factor[filled] = matrix.indices, matrix.data
    bias = _tensor(offset) if offset.any() else None
    terms = int((factor != 1).any())
    if rows == columns and (index == np.arange(columns)).all():
        if not terms and bias is None:
            return x
        return b.affine(
            scale, x, weights=(_tensor(factor),), bias=bias, terms=terms, pullback=scale_back
        )
    back = int(np.bincount(index).max(initial=1))
    weights = (torch.as_tensor(index), _tensor(factor))
    pullback = partial(pick_back, columns)
    return b.affine(
        pick_scale, x, weights=weights, bias=bias, terms=terms, terms_back=back, pullback=pullback
    )


def pick_scale(index: Tensor, factor: Tensor, x: Tensor) -> Tensor:
    """factor * x[index] over the last axis."""
    return x[..., index] * factor


def pick_back(columns: int, index: Tensor, factor: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """The transpose of `pick_scale`."""
    return (g.new_zeros(*g.shape[:-1], columns).index_add(-1, index, g * factor),)


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float64))


def _one(found: Ref | tuple[Ref, ...]) -> Ref:
    assert isinstance(found, Ref)
    return found


def _columns(matrix: Any, order: Sequence[int]) -> Any:
    """The matrix over the variables in `order` (it may have been made before some of them)."""
    from scipy.sparse import csr_array

    place = np.full(max([*order, matrix.shape[1]], default=0) + 1, -1)
    place[list(order)] = range(len(order))
    shape = (matrix.shape[0], len(order))
    return csr_array((matrix.data, place[matrix.indices], matrix.indptr), shape=shape)


def _used(reading: Reading, frame: Frame, outputs: Sequence[int]) -> bool:
    return not set(outputs).isdisjoint(_reach(reading, frame))


def _reach(reading: Reading, frame: Frame) -> set[int]:
    """The variables that the frame depends on, through gates too."""
    found, todo = set[int](), [frame]
    while todo:
        new = set(todo.pop().matrix.indices.tolist()) - found
        found |= new
        gates = {reading.variables[v].gate for v in new} - {-1}
        todo += [reading.gates[g].frame for g in gates]
    return found


def _inputs(reading: Reading, frame: Frame) -> list[int]:
    """The input variables in use, in the order of the raw columns they come from."""
    used = [v for v in _reach(reading, frame) if reading.variables[v].gate < 0]
    return sorted(used, key=lambda v: (reading.variables[v].origin[:1] or (1 << 62,), v))


def _names(reading: Reading, b: Builder, inputs: Sequence[int]) -> dict[str, Any]:
    chosen = [reading.variables[v] for v in inputs]
    names = tuple(_numbered([v.name for v in chosen]))
    plain = [v.source for v in chosen] == [Original(j) for j in range(len(reading.columns))]
    b.notes += _notes(reading, chosen)
    if plain:
        return {"feature_names": names, "prepare": None}
    sources = own([v.source for v in chosen if v.source is not None])
    prepare = Prepare(
        reading.columns,
        reading.named,
        needed_columns(sources),
        sources,
        names,
        tuple(v.unit for v in chosen),
        _groups(reading, chosen, names),
        {name: v.levels for name, v in zip(names, chosen, strict=True) if v.levels},
    )
    return {"feature_names": names, "prepare": prepare}


def _numbered(names: Sequence[str]) -> list[str]:
    """Names, the second of two equal ones numbered (`age#2`)."""
    taken: dict[str, None] = {}
    for name in names:
        count, new = 2, name
        while new in taken:
            new, count = f"{name}#{count}", count + 1
        taken[new] = None
    return list(taken)


def _groups(reading: Reading, chosen: Sequence[Variable], names: Sequence[str]) -> dict[str, Group]:
    found: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for variable, name in zip(chosen, names, strict=True):
        if variable.level is not None:
            key = (variable.origin[0], variable.unit)
            found.setdefault(key, []).append((name, variable.level))
    raw = _numbered([reading.columns[column] for column, _ in found])
    return {
        column: Group(
            tuple(name for name, _ in members),
            tuple(level for _, level in members),
            reading.dropped.get(key),
        )
        for column, (key, members) in zip(raw, found.items(), strict=True)
    }


def _notes(reading: Reading, chosen: Sequence[Variable]) -> list[str]:
    """One note a step that left columns in its own units; one for the raw columns not used."""
    units: dict[str, list[Variable]] = {}
    for variable in chosen:
        units.setdefault(variable.unit, []).append(variable)
    notes = [_unit_note(reading, unit, made) for unit, made in units.items() if unit != ORIGINAL]
    seen = {j for v in chosen for j in v.origin}
    unseen = [name for j, name in enumerate(reading.columns) if j not in seen]
    notes += _product_notes(chosen)
    return [*notes, f"columns the model does not use: {listed(unseen)}"] if unseen else notes


def _product_notes(chosen: Sequence[Variable]) -> list[str]:
    """Said where a raw column is an input, and powers or products of it are inputs too."""
    original = {v.origin[0]: v.name for v in chosen if v.unit == ORIGINAL and v.origin}
    made = {j for v in chosen if v.unit.endswith("(PolynomialFeatures)") for j in v.origin}
    partial_ = [name for j, name in original.items() if j in made]
    if not partial_:
        return []
    return [
        f"the coefficients of {listed(partial_, 20)} are partial: powers and products of them are "
        f"inputs of their own, so a change of such a column changes those inputs too"
    ]


def _unit_note(reading: Reading, unit: str, made: Sequence[Variable]) -> str:
    raw = [reading.columns[j] for j in union([v.origin for v in made])]
    noun = "columns" if len(raw) > 1 else "column"
    return (
        f"{plural(len(made), 'input')} made of {noun} {listed(raw, 20)}: {unit}, a step that is "
        f"not affine, so they are in its units"
    )
