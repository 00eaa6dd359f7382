"""Raw rows to check a reading on: made up from what the fitted steps say of each column."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from gatewise.read.sklearn.raw_table import frame_of, matrix_of

ROWS = 48


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings: rows that are made up may well leave the range of training."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@dataclass(eq=False)
class Domain:
    """Where a raw column's values lie, as far as its fitted steps tell.

    missing: what an absent value is there, where the model takes one.
    """

    center: float | None = None
    spread: float = 1.0
    categories: list[Any] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    missing: list[Any] = field(default_factory=list)

    def spread_over(self, center: float, spread: float) -> None:
        """Numbers around `center`; the first step that says so is the nearest to the raw column."""
        if self.center is None and np.isfinite([center, spread]).all():
            self.center, self.spread = float(center), float(spread) or 1.0

    def draw(
        self, rng: np.random.Generator, count: int, positive: bool, gaps: bool
    ) -> NDArray[Any]:
        """`count` values: categories, texts of known words, or normal numbers; some absent."""
        values = self._values(rng, count, positive)
        if self.missing and gaps:
            absent = rng.random(count) < 0.15
            kept = values if _fits(self.missing[0]) else values.astype(object)
            kept[absent] = self.missing[0]
            return kept
        return values

    def _values(self, rng: np.random.Generator, count: int, positive: bool) -> NDArray[Any]:
        if self.words:
            texts = [" ".join(rng.choice(self.words, 4)) for _ in range(count)]
            return np.array(texts, dtype=object)
        if self.categories:
            return _of(self.categories, rng.integers(len(self.categories), size=count))
        center = 0.0 if self.center is None else self.center
        values = center + self.spread * rng.standard_normal(count)
        return np.abs(values) + 0.1 if positive else values


def _fits(missing: Any) -> bool:
    return isinstance(missing, float)


def _of(categories: Sequence[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """categories[index]: float64 if all are numbers, else objects."""
    out = np.empty(len(index), dtype=object)
    out[:] = [categories[i] for i in index]
    real = all(isinstance(c, int | float | np.number | np.bool_) for c in categories)
    return out.astype(np.float64) if real else out


def random_tables(
    domains: Mapping[int, Domain], names: Sequence[str], named: bool, single: bool = False
) -> Iterator[Any]:
    """Tables of random rows, in the kinds a model may want.

    With absent values where some step takes them, then without, then with no negatives.
    single: round numbers to float32, for a model whose own weights are float32.
    """
    for positive, gaps in ((False, True), (False, False), (True, True), (True, False)):
        rng = np.random.default_rng(0)
        known = [domains.get(j, Domain()) for j in range(len(names))]
        columns = [domain.draw(rng, ROWS, positive, gaps) for domain in known]
        if single:
            columns = [_rounded(c) for c in columns]
        if not named:
            yield matrix_of(columns)
            continue
        yield frame_of(columns, names)
        if {"pandas", "polars"} <= sys.modules.keys():
            data = {name: _nullable(c) for name, c in zip(names, columns, strict=True)}
            yield sys.modules["polars"].DataFrame(data, strict=False)


def _nullable(column: NDArray[Any]) -> Any:
    """Texts with None where they are absent; numbers as they are."""
    if column.dtype != object:
        return column
    return [None if isinstance(value, float) else value for value in column]


def _rounded(column: NDArray[Any]) -> NDArray[Any]:
    return column if column.dtype == object else column.astype(np.float32).astype(np.float64)


def some_rows(example: Any, names: Sequence[str], named: bool) -> Any:
    """At most `ROWS` rows of the user's own, with just the columns of training, in its order."""
    frame = nw.from_native(example, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return np.asarray(example)[:ROWS]
    part = frame.head(ROWS)
    part = part.select(list(names)) if named and set(names) <= set(part.columns) else part
    return part.to_pandas() if part.implementation.is_pyarrow() else part.to_native()
