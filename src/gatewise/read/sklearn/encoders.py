"""Steps that are not affine, or only in part: imputers, one-hot columns, bins, powers, others."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from gatewise.errors import GatewiseError, ModelError
from gatewise.read.sklearn.pipeline import (
    Frame,
    Reading,
    Variable,
    applied,
    is_original,
    joined,
    transformed_by,
    union,
)
from gatewise.read.sklearn.prepare import Apply, Cell, Filled, Original, Run, Source, Value
from gatewise.read.sklearn.raw_table import open_table
from gatewise.read.sklearn.rows import quiet, random_tables, some_rows

INFREQUENT = "(infrequent)"
SHORT = 40  # characters of categories in a name
PER_COLUMN = {  # transformers whose j-th output is made from the j-th input alone
    *("PowerTransformer", "QuantileTransformer", "Binarizer"),
    *("KBinsDiscretizer", "TargetEncoder"),
}


# -- absent values --


def simple_imputer(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """Absent values are filled in where a column starts, so it stays in the units it has."""
    missing = None if step.missing_values is None else np.nan
    value = applied(step, frame, path, missing)
    statistics = step.statistics_
    kept = [j for j, s in enumerate(statistics) if step.keep_empty_features or not is_gap(s)]
    parts = [_filled(reading, step, frame, j, Cell(value, i), path) for i, j in enumerate(kept)]
    if is_gap(step.missing_values):
        for j in kept:
            _takes_missing(reading, frame, j, missing)
    if step.add_indicator:
        parts.append(_indicator(reading, step, frame, path, value, len(kept)))
    return replace(joined(parts, frame), value=value)


def _filled(reading: Reading, step: Any, frame: Frame, j: int, cell: Cell, path: str) -> Frame:
    found, statistic = frame.single(j), step.statistics_[j]
    if found is None:  # a mixture of columns has no gaps: the step before would not take them
        return frame.take([j])
    v, a, c = found
    old = reading.variables[v]
    if isinstance(old.source, Filled) and math.isnan(old.source.missing):
        return frame.take([j])
    source = _fill(step, old.source, statistic, a, c)
    if source is None:
        cell = replace(cell, name=frame.names[j])
        new = Variable(frame.names[j], frame.origins[j], cell, transformed_by(step, path))
        return reading.over(reading.add(new), cell.value, (new.name,), (new.origin,))
    reading.know(frame, j, statistic, abs(statistic) or 1.0)
    where = reading.add_once(replace(old, source=source))
    alone = reading.over([where], cell.value, (frame.names[j],), (frame.origins[j],))
    return alone.scaled(np.array([a]), np.array([c]), cell.value)


def _fill(step: Any, of: Source | None, statistic: Any, a: float, c: float) -> Source | None:
    """`of` with its gaps filled, in its own units; None where only the step itself can say."""
    if of is None or not isinstance(statistic, numbers.Real):
        return None
    if is_gap(step.missing_values):
        return Filled(of, math.nan, (float(statistic) - c) / a)
    exact = (a, c) == (1, 0) and isinstance(of, Original)
    if exact and isinstance(step.missing_values, numbers.Real):
        return Filled(of, float(step.missing_values), float(statistic))
    return None


def _indicator(
    reading: Reading, step: Any, frame: Frame, path: str, value: Value, first: int
) -> Frame:
    """The 0/1 columns that say where a value was absent."""
    unit = transformed_by(step, path)
    index = [int(j) for j in step.indicator_.features_]
    new = [
        Variable(f"{frame.names[j]} is missing", frame.origins[j], Cell(value, first + k), unit)
        for k, j in enumerate(index)
    ]
    return reading.over(reading.add(*new), value, [v.name for v in new], [v.origin for v in new])


def is_gap(value: Any) -> bool:
    """Is it what stands for an absent value: NaN, None, pandas' NA?"""
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _takes_missing(reading: Reading, frame: Frame, j: int, missing: Any) -> None:
    if len(frame.origins[j]) == 1:
        reading.domain(frame.origins[j][0]).missing = [missing]


# -- one-hot columns --


def one_hot(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """One 0/1 input for each category, named `sex=male`; the group and the dropped level kept."""
    value = applied(step, frame, path, absent_spelling(step))
    _know_categories(reading, step, frame)
    unit, names, origins, levels = transformed_by(step, path), [], [], []
    for j in range(len(frame)):
        origin = frame.origins[j]
        label = reading.columns[origin[0]] if len(origin) == 1 else frame.names[j]
        shown, dropped = _levels(step, j)
        if dropped is not None and len(origin) == 1:
            reading.dropped[origin[0], unit] = dropped
        names += [f"{label}={level}" for level in shown]
        levels += [level if len(origin) == 1 else None for level in shown]
        origins += [origin] * len(shown)
    return reading.restart(step, path, value, names, origins, levels)


def _levels(step: Any, j: int) -> tuple[list[str], str | None]:
    """The categories that have a column of their own, in order, and the one dropped."""
    all_ = list(step.categories_[j])
    rare = (getattr(step, "infrequent_categories_", None) or [None] * (j + 1))[j]
    rare_names = set() if rare is None else {level_name(c) for c in rare}
    shown = [name for name in map(level_name, all_) if name not in rare_names]
    shown += [INFREQUENT] if rare_names else []
    drop = None if step.drop_idx_ is None else step.drop_idx_[j]
    if drop is None:
        return shown, None
    name = level_name(all_[drop])
    gone = INFREQUENT if name in rare_names else name
    return [s for s in shown if s != gone], gone


def level_name(category: Any) -> str:
    """A category as text: 3.0 as '3', an absent one as '(missing)'."""
    if is_gap(category):
        return "(missing)"
    if isinstance(category, float | np.floating) and float(category).is_integer():
        return str(int(category))
    return str(category)


def absent_spelling(step: Any) -> Any:
    """How a fitted encoder knows absent values: NaN if it does, else None or pandas' NA."""
    found = [c for of in getattr(step, "categories_", ()) for c in of if is_gap(c)]
    return np.nan if not found or any(isinstance(c, float) for c in found) else found[0]


def ordinal(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """One input for each column, its categories by number: named `size (S < M < L)`, from 0."""
    value = applied(step, frame, path, absent_spelling(step))
    _know_categories(reading, step, frame)
    unit, new = transformed_by(step, path), []
    for j, origin in enumerate(frame.origins):
        label = reading.columns[origin[0]] if len(origin) == 1 else frame.names[j]
        levels = _ordered(step, j)
        name = f"{label} ({_short(levels)})"
        closed = step.handle_unknown == "error" and not any(map(is_gap, step.categories_[j]))
        kept = levels if closed else ()  # else -1, say, may stand for what is absent or unknown
        new.append(Variable(name, origin, Cell(value, j, name), unit, levels=kept))
    return reading.over(reading.add(*new), value, [v.name for v in new], frame.origins)


def _ordered(step: Any, j: int) -> tuple[str, ...]:
    """The categories that get 0, 1, 2, ...; the infrequent ones share the last number."""
    rare = (getattr(step, "infrequent_categories_", None) or [None] * (j + 1))[j]
    rare_names = set() if rare is None else {level_name(c) for c in rare}
    names = [level_name(c) for c in step.categories_[j] if not is_gap(c)]
    kept = tuple(name for name in names if name not in rare_names)
    return (*kept, INFREQUENT) if rare_names else kept


def _short(levels: tuple[str, ...]) -> str:
    """All of them, or the first and the last of many."""
    whole = " < ".join(levels)
    return whole if len(whole) <= SHORT or len(levels) < 3 else f"{levels[0]} < ... < {levels[-1]}"


def _know_categories(reading: Reading, step: Any, frame: Frame) -> None:
    for j, categories in enumerate(step.categories_):
        column = raw_column(reading, frame, j)
        if column is not None:
            reading.domain(column).categories = [c for c in categories if not is_gap(c)]
            gaps = [c for c in categories if is_gap(c)]
            reading.domain(column).missing = reading.domain(column).missing or gaps


def raw_column(reading: Reading, frame: Frame, j: int) -> int | None:
    """The raw column whose own values (absent ones filled in, perhaps) column j holds."""
    found = frame.single(j)
    if found is None or len(frame.origins[j]) != 1:
        return None
    v, a, c = found
    source = reading.variables[v].source
    filled = isinstance(source, Cell) and isinstance(source.value, Apply)
    if filled and type(source.value.step).__name__ == "SimpleImputer":  # type: ignore[union-attr]
        return frame.origins[j][0]
    same = (a, c) == (1, 0) and is_original(reading.variables[v])
    return frame.origins[j][0] if same else None


# -- bins and powers --


def bins(reading: Reading, step: Any, frame: Frame, path: str) -> Frame | None:
    """One 0/1 input for each bin, its edges in the raw column's units where it has them."""
    for j, edges in enumerate(step.bin_edges_):
        reading.know(frame, j, (edges[0] + edges[-1]) / 2, (edges[-1] - edges[0]) / 2)
    if step.encode == "ordinal":
        return None
    names, origins, levels = [], [], []
    for j, edges in enumerate(step.bin_edges_):
        shown = _ranges(reading, frame, j, edges)
        names += [f"{frame.names[j]} {level}" for level in shown]
        origins += [frame.origins[j]] * len(shown)
        levels += [level if len(frame.origins[j]) == 1 else None for level in shown]
    return reading.restart(step, path, applied(step, frame, path), names, origins, levels)


def _ranges(reading: Reading, frame: Frame, j: int, edges: Any) -> list[str]:
    """'< 2', 'in [2, 5)', '>= 5'."""
    found = frame.single(j)
    if found is not None and found[1] > 0 and is_original(reading.variables[found[0]]):
        edges = (np.asarray(edges) - found[2]) / found[1]
    inner = [f"{e:.6g}" for e in edges[1:-1]]
    if not inner:
        return ["in its only bin"]
    between = [f"in [{a}, {b})" for a, b in itertools.pairwise(inner)]
    return [f"< {inner[0]}", *between, f">= {inner[-1]}"]


def polynomial(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """Powers of degree 0 and 1 are affine; each of the others is an input of its own."""
    value, powers = applied(step, frame, path), np.asarray(step.powers_)
    degree = powers.sum(1)
    curved, plain = np.flatnonzero(degree > 1), np.flatnonzero(degree == 1)
    constant = np.flatnonzero(degree == 0)
    unit = transformed_by(step, path)
    new = [
        Variable(_monomial(frame, powers[i]), _behind(frame, powers[i]), Cell(value, int(i)), unit)
        for i in curved
    ]
    parts = [
        frame.take(powers[plain].argmax(1).tolist()),
        reading.over(reading.add(*new), value, [v.name for v in new], [v.origin for v in new]),
        constant_frame(frame, len(constant), value),
    ]
    order = np.argsort(np.concatenate([plain, curved, constant]))
    return joined(parts, frame).take(order.tolist(), value)


def _monomial(frame: Frame, powers: Any) -> str:
    factors = [(name, int(p)) for name, p in zip(frame.names, powers, strict=True) if p]
    return "*".join(name if p == 1 else f"{name}^{p}" for name, p in factors)


def _behind(frame: Frame, powers: Any) -> tuple[int, ...]:
    return union([o for o, p in zip(frame.origins, powers, strict=True) if p])


def constant_frame(frame: Frame, count: int, value: Value) -> Frame:
    """Columns of ones."""
    from scipy.sparse import csr_array

    empty = csr_array((count, frame.matrix.shape[1]))
    return Frame(value, ("1",) * count, ((),) * count, empty, np.ones(count))


# -- any other transformer --


def restart(reading: Reading, step: Any, frame: Frame, path: str) -> Frame:
    """A step that is not affine, or not known to be: what it gives are new inputs."""
    if not hasattr(step, "transform"):
        raise ModelError(
            f"step '{path}' ({type(step).__name__}) has no `transform`, so it is no "
            f"preprocessing; give the fitted Pipeline, or the model in it."
        )
    value = applied(step, frame, path, absent_spelling(step))
    _hints(reading, step, frame)
    names, one_to_one = _names_out(step, frame)
    width = len(names) if names is not None else probe(reading, value, path, step)
    label = getattr(getattr(step, "func", None), "__name__", type(step).__name__)
    if (one_to_one or names is None) and width == len(frame):
        names = [f"{label}({name})" for name in frame.names]
    names = names or [f"{label}{i}" for i in range(width)]
    alone = type(step).__name__ in PER_COLUMN or isinstance(getattr(step, "func", None), np.ufunc)
    everything = union(frame.origins)
    origins = [
        frame.origins[j] if alone and len(frame) == width else everything for j in range(width)
    ]
    return reading.restart(step, path, value, names, origins)


def _hints(reading: Reading, step: Any, frame: Frame) -> None:
    """What its fitted attributes say of the raw columns: categories, words."""
    categories = getattr(step, "categories_", None)
    if isinstance(categories, list) and len(categories) == len(frame):
        _know_categories(reading, step, frame)
    words = getattr(step, "vocabulary_", None)
    if isinstance(words, dict) and len(frame) == 1 and len(frame.origins[0]) == 1:
        reading.domain(frame.origins[0][0]).words = sorted(words)[:200]


def _names_out(step: Any, frame: Frame) -> tuple[list[str] | None, bool]:
    """The step's own names for what it gives, and whether they are those of what it takes."""
    given = [str(n) for n in getattr(step, "feature_names_in_", frame.names)]
    try:
        names = [str(n) for n in step.get_feature_names_out(np.array(given, dtype=object))]
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return None, False
    return names, names == given


def probe(reading: Reading, value: Apply, path: str, step: Any) -> int:
    """How many columns a step gives, seen by running it on a few rows."""
    tried = ""
    for rows in tables(reading):
        try:
            with quiet():
                found = Run(open_table(rows, reading.columns, reading.named))(value)
        except GatewiseError as error:
            tried = str(error)
        else:
            return int(found.shape[1])
    raise ModelError(
        f"step '{path}' ({type(step).__name__}) does not say how many columns it gives, and it "
        f"failed on made-up rows: {tried}. Pass a few real rows: read(model, example=rows)."
    )


def tables(reading: Reading, single: bool = False) -> Iterable[Any]:
    """Rows to try: the user's own if there are any, else made-up ones of several kinds."""
    if reading.example is not None:
        return [some_rows(reading.example, reading.columns, reading.named)]
    return random_tables(reading.domains, reading.columns, reading.named, single)
