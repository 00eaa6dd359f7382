"""Where regions are asked for, from what a person types: a box, a file of bounds, rows of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.inputs import inputs_of, split_target
from gatewise.explain.names import feature_names, whole
from gatewise.ir.network import Network
from gatewise.regions.cells.slices import MOST, Slice, box_slice, slice_through
from gatewise.tables import counted, listed, load_table

Floats = NDArray[np.float64]
COLUMNS = ("feature", "low", "high")


class Place(NamedTuple):
    """box: 'LOW,HIGH'; box_file: a table of feature, low, high; slice: 'ROW,ROW,ROW' of data;
    hold: 'FEATURE=VALUE' each; target: a column of data that is no input."""

    box: str | None = None
    box_file: Path | None = None
    slice: str | None = None
    hold: Sequence[str] = ()
    data: Path | None = None
    target: str | None = None


class Found(NamedTuple):
    """The slice; the features' names; the rows of data (rows, inputs) and which were named."""

    slice: Slice
    names: tuple[str, ...]
    points: Floats | None
    rows: tuple[int, ...]


def place(network: Network, asked: Place) -> Found:
    """The slice that was asked for; DataError, in one sentence, says what cannot be read."""
    if sum(v is not None for v in (asked.box, asked.box_file)) and asked.slice is not None:
        raise DataError("give either a box or --slice, not both: a slice has a box of its own")
    points, names = _data(network, asked)
    if asked.slice is not None:
        rows = _rows(asked, points)
        assert points is not None
        return Found(slice_through(*points[list(rows)]), names, points, rows)
    low, high = _bounds(network, asked, names, points)
    for feature, value in _held(asked.hold, names):
        low[feature] = high[feature] = value
    _few(low, high, names)
    return Found(box_slice(network, (low, high)), names, points, ())


def _data(network: Network, asked: Place) -> tuple[Floats | None, tuple[str, ...]]:
    if asked.data is None:
        if asked.target is not None:
            raise DataError("--target names a column of --data FILE, which is not given")
        return None, network.feature_names or tuple(f"x{j}" for j in range(network.inputs))
    table, _, _ = split_target(load_table(asked.data), asked.target)
    matrix = inputs_of(network, table)
    return matrix.values, feature_names(network, matrix)


def _rows(asked: Place, points: Floats | None) -> tuple[int, ...]:
    if points is None:
        raise DataError("--slice names rows of a table: give it with --data FILE")
    if asked.hold:
        raise DataError("--hold goes with a box: a slice is fixed by its rows")
    rows = [whole(part.strip()) for part in str(asked.slice).split(",")]
    if len(rows) < 2 or any(r is None or r < 0 for r in rows):
        raise DataError(
            f"--slice takes two row numbers or more, counted from 0, as in 0,5,9; got "
            f"'{asked.slice}'"
        )
    found = tuple(r for r in rows if r is not None)
    if max(found) >= len(points):
        raise DataError(
            f"--slice: there is no row {max(found)}, '{asked.data}' has "
            f"{counted(len(points), 'row')}, counted from 0"
        )
    return found


def _bounds(
    network: Network, asked: Place, names: tuple[str, ...], points: Floats | None
) -> tuple[Floats, Floats]:
    """(inputs,) each: from the file, else --box, else the range of the data."""
    low, high = np.full((2, network.inputs), np.nan)
    if asked.box is not None:
        low[:], high[:] = _pair(asked.box)
    elif asked.box_file is None and points is not None:
        low[:], high[:] = points.min(0), points.max(0)
    if asked.box_file is not None:
        for feature, least, most in _from_file(asked.box_file, names):
            low[feature], high[feature] = least, most
    held = {feature for feature, _ in _held(asked.hold, names)}
    open_ = [names[i] for i in range(network.inputs) if np.isnan(low[i]) and i not in held]
    if len(open_) == network.inputs or (open_ and asked.box_file is None):
        raise DataError(
            "say where to look: --box LOW,HIGH, --box-file FILE, --data FILE for the range of its "
            "rows, or --slice with three rows of --data"
        )
    if open_:
        raise DataError(
            f"'{asked.box_file}' has no bounds for {listed(open_)}: add them, or give --box "
            f"LOW,HIGH for those it does not name"
        )
    return low, high


def _pair(text: str) -> tuple[float, float]:
    parts = [_number(part) for part in text.split(",")]
    if len(parts) != 2 or None in parts:
        raise DataError(f"--box takes two finite numbers, LOW,HIGH, as in -1,1; got '{text}'")
    low, high = parts
    assert low is not None and high is not None
    if low > high:
        raise DataError(f"--box: low must not exceed high, got {low:g} and {high:g}")
    return low, high


def _from_file(path: Path, names: tuple[str, ...]) -> list[tuple[int, float, float]]:
    table = load_table(path)
    if tuple(table.column_names) != COLUMNS:
        raise DataError(
            f"'{path}' must have the columns feature,low,high, got {listed(table.column_names)}"
        )
    found: dict[int, tuple[float, float]] = {}
    for row in table.to_pylist():
        feature = _feature(str(row["feature"]), names, f"'{path}'")
        low, high = _number(row["low"]), _number(row["high"])
        if low is None or high is None or low > high or feature in found:
            raise DataError(
                f"'{path}', feature '{names[feature]}': one line each, with finite numbers "
                f"low <= high; got low {row['low']} and high {row['high']}"
            )
        found[feature] = (low, high)
    return [(feature, *ends) for feature, ends in found.items()]


def _held(hold: Sequence[str], names: tuple[str, ...]) -> list[tuple[int, float]]:
    found: dict[int, float] = {}
    for text in hold:
        name, mark, value = text.rpartition("=")
        number = _number(value)
        if not mark or number is None:
            raise DataError(f"--hold takes FEATURE=NUMBER, as in age=40; got '{text}'")
        feature = _feature(name, names, "--hold")
        if feature in found:
            raise DataError(f"--hold names '{names[feature]}' twice: hold a feature at one value")
        found[feature] = number
    return list(found.items())


def _feature(name: str, names: tuple[str, ...], where: str) -> int:
    if name in names:
        return names.index(name)
    position = whole(name)
    if position is not None and 0 <= position < len(names):
        return position
    raise DataError(f"{where}: no feature '{name}', the model's are {listed(names)}")


def _few(low: Floats, high: Floats, names: tuple[str, ...]) -> None:
    free = int((low < high).sum())
    if free > MOST:
        raise DataError(
            f"the box leaves {free} inputs free and at most {MOST} can be enumerated: hold others "
            f"by --hold {names[0]}=VALUE, one --hold each, or cut a plane through three rows by "
            f"--slice 0,1,2 --data FILE"
        )


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
