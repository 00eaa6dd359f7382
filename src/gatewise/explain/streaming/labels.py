"""A target read a block at a time: its labels first, then what each row of a block should be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain import truth
from gatewise.explain.truth import Reading
from gatewise.ir.network import Network
from gatewise.patterns.streaming.parts import Table

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
MOST = 1000  # labels; a target of more distinct values is a quantity, or refused


class Labels:
    """Collects the distinct values of a target until there are too many (a builder)."""

    def __init__(self, found: Iterable[Any] = ()) -> None:
        self.found: set[Any] | None = set(found)

    def see(self, column: Any) -> None:
        """More rows of the target."""
        if self.found is not None:
            self.found |= {v for v in column.unique().to_pylist() if v is not None and v == v}
            if len(self.found) > MOST:
                self.found = None

    @property
    def values(self) -> list[Any] | None:
        """In order; None where there are more than MOST."""
        if self.found is None:
            return None
        kinds = {isinstance(v, str) for v in self.found}
        return sorted(self.found, key=str if len(kinds) > 1 else None)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the rows should be, as `truth.target_of` reads all of them at once.

    names: of the labels, () for a quantity; codes: each written value's label; reading: which
    label each answer of the network means, None where they do not fit.
    """

    names: tuple[str, ...]
    codes: dict[Any, int]
    reading: Reading | None
    task: str | None

    @property
    def measured(self) -> bool:
        return not self.names

    def places(self, column: Any) -> Ids:
        """(rows,) the place of each row's label among the network's answers; -1 where unknown."""
        assert self.reading is not None
        coded = column.dictionary_encode()
        own = [self.codes.get(v, -1) for v in coded.dictionary.to_pylist()]
        answer = {code: k for k, code in enumerate(self.reading.codes.tolist())}
        table = np.array([*(answer.get(code, -1) for code in own), -1], np.int64)
        places = coded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
        return np.asarray(table[places])


def wanted(network: Network, values: list[Any] | None, kind: Any) -> Wanted:
    """How a target with these distinct values (None: too many to list) is read."""
    task = truth.task_of(network)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if values is None:
        if not number or network.outputs > 1 or task == "classification":
            raise DataError(
                f"the target has more than {MOST:,} distinct values of type {kind}, too many to be "
                "labels: give a column of classes, or of numbers for a network of one quantity"
            )
        return Wanted((), {}, None, task)
    given = np.array([float(v) for v in values]) if number else np.array(values, object)
    t = truth.target_of(given, network.outputs, task)
    if t.measured:
        return Wanted((), {}, None, task)
    codes = dict(zip(values, t.codes.tolist(), strict=True))
    return Wanted(t.names, codes, truth.read_target(network, t), task)


def numbers(column: Any) -> Floats:
    """(rows,) a quantity, NaN where it is missing."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def kind_of(table: Table) -> Any:
    """The type that the target is read as: one for all files; dates and lists are no target."""
    kinds = [p.kind(table.target) for p in table.parts if not p.trouble]
    kinds = [k for k in kinds if not pa.types.is_null(k)] or [pa.float64()]
    types, first = pa.types, kinds[0]
    if types.is_string(first) or types.is_large_string(first) or types.is_string_view(first):
        return pa.string()
    if all(types.is_boolean(k) for k in kinds):
        return first
    if all(types.is_integer(k) for k in kinds):
        return first if all(k == first for k in kinds) else pa.int64()
    if types.is_integer(first) or types.is_floating(first) or types.is_decimal(first):
        return pa.float64()
    raise DataError(
        f"the target '{table.target}' holds {first}: give a column of numbers or of text"
    )
