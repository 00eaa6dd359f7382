"""Fitted steps, read one after another: what is affine in the raw columns stays in their units.

Between two steps stands a `Frame`: the same matrix twice, once as scikit-learn computes it and
once as A v + c over variables v. A variable is an input column of the Network to be, or what a
gate (a clipped scaler) gives. A step that is not affine starts its columns over as new variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.read.sklearn.prepare import (
    Apply,
    Cell,
    Filled,
    Join,
    Original,
    Raw,
    Source,
    Value,
    pick,
    wants_frame,
)
from gatewise.read.sklearn.rows import Domain

Floats = NDArray[np.float64]
ORIGINAL = "original"


@dataclass(frozen=True, eq=False)
class Variable:
    """An input column of the Network to be (source given), or an output of gate number `gate`.

    origin: positions of the raw columns behind it; level: the category it stands for; levels: the
    categories that its values 0, 1, 2, ... stand for, where it has no others.
    """

    name: str
    origin: tuple[int, ...]
    source: Source | None = None
    unit: str = ORIGINAL
    level: str | None = None
    gate: int = -1
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """A matrix between two steps: `value` computes it; it equals matrix @ variables + offset.

    origins: for each column, the raw columns behind it. matrix: scipy CSR (columns, variables).
    """

    value: Value
    names: tuple[str, ...]
    origins: tuple[tuple[int, ...], ...]
    matrix: Any
    offset: Floats

    def __len__(self) -> int:
        return len(self.names)

    def take(self, columns: Sequence[int], value: Value | None = None) -> Frame:
        """Some columns, in the given order."""
        index = [int(j) for j in columns]
        return Frame(
            pick(self.value, index) if value is None else value,
            tuple(self.names[j] for j in index),
            tuple(self.origins[j] for j in index),
            self.matrix[index],
            self.offset[index],
        )

    def scaled(self, a: Floats, c: Floats, value: Value) -> Frame:
        """a x + c, column by column."""
        from scipy.sparse import diags_array

        matrix = (diags_array(a, shape=(len(self), len(self))) @ self.matrix).tocsr()
        return replace(self, matrix=matrix, offset=a * self.offset + c, value=value)

    def mapped(self, w: Floats, c: Floats, names: Sequence[str], value: Value) -> Frame:
        """W x + c."""
        from scipy.sparse import csr_array

        seen = np.unique(self.matrix.indices)
        product = w @ self.matrix[:, seen].toarray()
        rows, columns = product.shape  # every entry is kept, zero or not: the column is in use
        matrix = csr_array(
            (product.ravel(), np.tile(seen, rows), np.arange(rows + 1) * columns),
            shape=(rows, self.matrix.shape[1]),
        )
        origin = union(self.origins)
        return Frame(value, tuple(names), (origin,) * rows, matrix, w @ self.offset + c)

    def single(self, j: int) -> tuple[int, float, float] | None:
        """(v, a, c) where column j is a v + c with a != 0, for one variable v."""
        start, stop = self.matrix.indptr[j : j + 2]
        if stop - start != 1 or self.matrix.data[start] == 0:
            return None
        entry = (self.matrix.indices[start], self.matrix.data[start], self.offset[j])
        return int(entry[0]), float(entry[1]), float(entry[2])


@dataclass(frozen=True, eq=False)
class Clip:
    """A gate: `frame` clipped to [low, high]."""

    frame: Frame
    low: float
    high: float
    path: str


@dataclass(eq=False)
class Reading:
    """What is collected while the steps are read (a builder, not a value)."""

    columns: tuple[str, ...]
    named: bool
    example: Any = None
    variables: list[Variable] = field(default_factory=list)
    gates: list[Clip] = field(default_factory=list)
    domains: dict[int, Domain] = field(default_factory=dict)
    dropped: dict[tuple[int, str], str] = field(default_factory=dict)

    def start(self) -> Frame:
        """The raw table: each column is its own variable."""
        n = len(self.columns)
        self.variables = [Variable(name, (j,), Original(j)) for j, name in enumerate(self.columns)]
        value = Raw(tuple(range(n)))
        return self.over(range(n), value, self.columns, tuple((j,) for j in range(n)))

    def over(
        self,
        variables: Sequence[int],
        value: Value,
        names: Sequence[str],
        origins: Sequence[tuple[int, ...]],
    ) -> Frame:
        """A frame whose columns are variables, one each."""
        from scipy.sparse import csr_array

        n = len(variables)
        matrix = csr_array(
            (np.ones(n), np.array(variables, dtype=np.int64), np.arange(n + 1)),
            shape=(n, len(self.variables)),
        )
        return Frame(value, tuple(names), tuple(origins), matrix, np.zeros(n))

    def add(self, *variables: Variable) -> list[int]:
        """New variables; their numbers."""
        self.variables += variables
        return list(range(len(self.variables) - len(variables), len(self.variables)))

    def add_once(self, variable: Variable) -> int:
        """The number of a filled-in column, the same one for the same filling."""
        new = variable.source
        for i, old in enumerate(self.variables):
            if (
                isinstance(old.source, Filled)
                and isinstance(new, Filled)
                and (
                    (old.source.of, old.source.fill) == (new.of, new.fill)
                    and np.array_equal(old.source.missing, new.missing, equal_nan=True)
                )
            ):
                return i
        return self.add(variable)[0]

    def restart(
        self,
        step: Any,
        path: str,
        value: Value,
        names: Sequence[str],
        origins: Sequence[tuple[int, ...]],
        levels: Sequence[str | None] = (),
    ) -> Frame:
        """Columns that are not affine in what came before: new inputs, in transformed units."""
        unit = transformed_by(step, path)
        levels = levels or [None] * len(names)
        new = [
            Variable(name, origin, Cell(value, j, name), unit, level)
            for j, (name, origin, level) in enumerate(zip(names, origins, levels, strict=True))
        ]
        return self.over(self.add(*new), value, names, origins)

    def clip(self, frame: Frame, low: float, high: float, path: str) -> Frame:
        """The frame through a gate."""
        new = [
            Variable(name, origin, gate=len(self.gates))
            for name, origin in zip(frame.names, frame.origins, strict=True)
        ]
        self.gates.append(Clip(frame, low, high, path))
        return self.over(self.add(*new), frame.value, frame.names, frame.origins)

    def know(self, frame: Frame, j: int, center: float, spread: float) -> None:
        """Note where column j's values lie, in the raw column's own units, if it has them."""
        found = frame.single(j)
        if found is None or len(self.variables[found[0]].origin) != 1:
            return
        v, a, c = found
        if is_original(self.variables[v]):
            domain = self.domain(self.variables[v].origin[0])
            domain.spread_over((center - c) / a, abs(spread / a))

    def domain(self, column: int) -> Domain:
        """What is known of the values of a raw column."""
        return self.domains.setdefault(column, Domain())


def is_original(variable: Variable) -> bool:
    """Is it a raw column (with absent values filled in, perhaps)?"""
    return variable.source is not None and variable.unit == ORIGINAL


def transformed_by(step: Any, path: str) -> str:
    """The unit of a column that a step made."""
    return f"transformed by '{path}' ({type(step).__name__})"


def applied(step: Any, frame: Frame, path: str, missing: Any = np.nan) -> Apply:
    """The step run on the frame's matrix; missing: how it wants absent texts spelt."""
    of = frame.value
    if isinstance(of, Raw) and of.missing is not missing:
        of = replace(of, missing=missing)
    return Apply(step, of, path, wants_frame(step))


def union(origins: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """All raw columns behind some columns, in order."""
    return tuple(sorted({j for origin in origins for j in origin}))


def joined(parts: Sequence[Frame], frame: Frame, weights: Sequence[float] = ()) -> Frame:
    """Frames side by side."""
    from scipy.sparse import vstack

    if not parts:
        return frame.take([])
    weights = list(weights) or [1.0] * len(parts)
    width = max(p.matrix.shape[1] for p in parts)
    matrices = [widened(p.matrix, width) * w for p, w in zip(parts, weights, strict=True)]
    return Frame(
        Join(tuple(p.value for p in parts), tuple(weights) if set(weights) != {1.0} else ()),
        tuple(name for p in parts for name in p.names),
        tuple(origin for p in parts for origin in p.origins),
        vstack(matrices, format="csr"),
        np.concatenate([p.offset * w for p, w in zip(parts, weights, strict=True)]),
    )


def widened(matrix: Any, width: int) -> Any:
    """The matrix over more variables, on which it does not depend."""
    from scipy.sparse import csr_array

    shape = (matrix.shape[0], width)
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=shape)
