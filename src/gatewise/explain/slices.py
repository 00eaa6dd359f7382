"""exp[i], exp[:, "age"], exp[..., "default"]: a part of an Explanation, by numpy's rules.

Each axis is picked by itself, by position, name, slice, list or mask; an axis picked by one
position or one name is gone. Where a single output is explained and nothing is said about
outputs, that one is meant: exp[0] is then (features,), and exp[0, :, :] is (features, 1).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, missing
from gatewise.tables import counted, listed

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
AXES = ("row", "feature", "output")


@dataclass(frozen=True, eq=False)
class Block:
    """Arrays of some rows, features and outputs, all axes kept: see `SlicedExplanation`."""

    rows: Ids
    values: Floats
    base_values: Floats
    data: Floats
    display_data: NDArray[Any] | None
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    output: Floats
    slopes: Floats | None
    intercept: Floats | None
    error: Floats
    margin: Floats | None
    reference_name: str
    margin_unit: str = "standard deviations"


class Sliceable(Protocol):
    """What can be sliced: it has names, and gives the block of some rows, features, outputs."""

    @property
    def feature_names(self) -> tuple[str, ...]: ...
    @property
    def output_names(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def block(self, rows: Ids, features: Ids, outputs: Ids) -> Block: ...


def take(whole: Sliceable, item: Any) -> SlicedExplanation:
    """The part of `whole` that an index asks for."""
    picks = _picks(whole, item)
    places = [np.atleast_1d(p) for p in picks]
    kept = tuple(p.ndim > 0 for p in picks)
    return SlicedExplanation(whole.block(*places), (kept[0], kept[1], kept[2]))


@dataclass(frozen=True, eq=False)
class SlicedExplanation:
    """Some rows, features and outputs of an Explanation, in arrays named as SHAP's users know.

    For a row and an output, base_values + values.sum() = output, if all features are there.
    Axes are (rows, features, outputs), less those in which one thing was picked; a name stands
    alone where its axis is gone. margin: in standard deviations (of a row alone: in input units).
    SHAP's plots take it as it is.
    """

    block: Block
    axes: tuple[bool, bool, bool]

    def _on(self, array: Any, axes: str) -> Any:
        """The array without the axes that are gone; `axes` says which it has, of "nfo"."""
        return array[tuple(slice(None) if self.axes["nfo".index(a)] else 0 for a in axes)]

    @property
    def values(self) -> Any:
        """Contributions W_j (x_j - reference_j)."""
        return self._on(self.block.values, "nfo")

    @property
    def base_values(self) -> Any:
        """W . reference + b, over all features."""
        return self._on(self.block.base_values, "no")

    @property
    def data(self) -> Any:
        """The inputs."""
        return self._on(self.block.data, "nf")

    @property
    def display_data(self) -> Any:
        """The inputs as a reader knows them, where that is not `data`; else None."""
        shown = self.block.display_data
        return None if shown is None else self._on(shown, "nf")

    @property
    def slopes(self) -> Any:
        """W, the gradient (None where categories are folded)."""
        return None if self.block.slopes is None else self._on(self.block.slopes, "nfo")

    @property
    def intercept(self) -> Any:
        """b (None where categories are folded)."""
        return None if self.block.intercept is None else self._on(self.block.intercept, "no")

    @property
    def output(self) -> Any:
        """f(x)."""
        return self._on(self.block.output, "no")

    @property
    def margin(self) -> Any:
        """Distance to the wall of the region, in standard deviations; None if not asked for."""
        return None if self.block.margin is None else self._on(self.block.margin, "n")

    @property
    def rows(self) -> Any:
        """Positions of the rows in the Explanation."""
        return self._on(self.block.rows, "n")

    @property
    def max_error(self) -> float:
        """The largest measured |W x + b - f(x)| over these rows and outputs."""
        return float(self.block.error.max(initial=0.0))

    @property
    def feature_names(self) -> Any:
        """A list of names, or one name."""
        return list(self.block.feature_names) if self.axes[1] else self.block.feature_names[0]

    @property
    def output_names(self) -> Any:
        """A list of names, or one name."""
        return list(self.block.output_names) if self.axes[2] else self.block.output_names[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `values`."""
        sizes = zip(self.block.values.shape, self.axes, strict=True)
        return tuple(n for n, kept in sizes if kept)

    def __len__(self) -> int:
        if not self.shape:
            raise DataError("a single value has no length: its axes are all gone")
        return self.shape[0]

    def __iter__(self) -> Iterator[SlicedExplanation]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, item: Any) -> SlicedExplanation:
        asked = iter(_spread(item, len(self.shape)))
        full = [next(asked) if kept else 0 for kept in self.axes]
        picks = [_pick(self._side(a), a, i) for a, i in enumerate(full)]
        b, (n, f, o) = self.block, (np.atleast_1d(p) for p in picks)

        def cut(array: Any, *axes: Ids) -> Any:
            return None if array is None else array[np.ix_(*axes)]

        part = Block(
            b.rows[n],
            cut(b.values, n, f, o),
            cut(b.base_values, n, o),
            cut(b.data, n, f),
            cut(b.display_data, n, f),
            tuple(b.feature_names[j] for j in f),
            tuple(b.output_names[k] for k in o),
            cut(b.output, n, o),
            cut(b.slopes, n, f, o),
            cut(b.intercept, n, o),
            cut(b.error, n, o),
            None if b.margin is None else b.margin[n],
            b.reference_name,
            b.margin_unit,
        )
        kept = [was and p.ndim > 0 for was, p in zip(self.axes, picks, strict=True)]
        return SlicedExplanation(part, (kept[0], kept[1], kept[2]))

    def _side(self, axis: int) -> Any:
        return (len(self.block.rows), self.block.feature_names, self.block.output_names)[axis]

    def __repr__(self) -> str:
        from gatewise.explain.say import card

        return card(self)

    def _repr_html_(self) -> str:
        from gatewise.explain.say import card_html

        return card_html(self)

    # -- SHAP --

    def to_shap(self) -> Any:
        """The same arrays as a `shap.Explanation`."""
        return shap_of(
            self.values,
            self.base_values,
            self.data,
            self.display_data,
            self.feature_names,
            self.output_names,
        )

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Its own class; and once SHAP is imported, isinstance() says it is SHAP's too.

        SHAP's plots refuse what is not a `shap.Explanation`; they then ask for the names above,
        and whatever else they ask for (`abs`, `cohorts`) comes from `to_shap`.
        """
        shap = sys.modules.get("shap")
        return SlicedExplanation if shap is None else shap.Explanation

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(sys.modules.get("shap"), "Explanation"):
            raise AttributeError(f"'SlicedExplanation' has no attribute '{name}'")
        return getattr(self.to_shap(), name)


def shap_of(values: Any, base: Any, data: Any, shown: Any, features: Any, outputs: Any) -> Any:
    """A `shap.Explanation` of these arrays."""
    try:
        import shap
    except ImportError:
        raise missing("shap", "bench", "a shap.Explanation") from None
    # Told of one name for no axis, SHAP looks for that axis and fails; afterwards it takes it.
    names = None if isinstance(outputs, str) else outputs
    made = shap.Explanation(values, base, data, shown, feature_names=features, output_names=names)
    if names is None:
        made.output_names = outputs
    return made


# -- an index, axis by axis --


def _picks(whole: Sliceable, item: Any) -> list[NDArray[np.int64]]:
    """Positions on each axis: an array, or a single number (no axes) where one thing is picked."""
    given = item if isinstance(item, tuple) else (item,)
    said = any(i is Ellipsis for i in given) or len(given) == 3
    full = _spread(item, 3)
    if not said and len(whole.output_names) == 1:
        full[2] = 0
    sides = (len(whole), whole.feature_names, whole.output_names)
    return [_pick(sides[axis], axis, full[axis]) for axis in range(3)]


def _spread(item: Any, axes: int) -> list[Any]:
    """One entry an axis: `...` and what is not said stand for whole axes."""
    given = list(item) if isinstance(item, tuple) else [item]
    dots = [k for k, i in enumerate(given) if i is Ellipsis]
    if len(dots) > 1 or len(given) - len(dots) > axes:
        raise DataError(
            f"the index has {counted(len(given), 'entry').replace('entrys', 'entries')} for "
            f"{counted(axes, 'axis').replace('axiss', 'axes')}: at most one each of "
            "rows, features, outputs, and one '...'"
        )
    if dots:
        given[dots[0] : dots[0] + 1] = [slice(None)] * (axes - len(given) + 1)
    return given + [slice(None)] * (axes - len(given))


def _pick(side: int | Sequence[str], axis: int, asked: Any) -> NDArray[np.int64]:
    """Positions along one axis, which has a size or names."""
    size, names = (side, ()) if isinstance(side, int) else (len(side), tuple(side))
    if isinstance(asked, str):
        return np.asarray(_named(asked, names, axis))
    if isinstance(asked, slice):
        return np.arange(size)[asked]
    if isinstance(asked, list | tuple) and any(isinstance(a, str) for a in asked):
        return np.array([_pick(side, axis, a) for a in asked], np.int64)
    try:
        return np.asarray(np.arange(size)[_positions(asked)])
    except (IndexError, TypeError, ValueError):
        many = f"has {counted(size, AXES[axis])}, counted from 0"
        raise DataError(
            f"no {AXES[axis]} {asked!r}: the explanation {many}"
            f"{f' ({listed(names)})' if names else ''}"
        ) from None


def _positions(asked: Any) -> Any:
    """A whole number, or an array of whole numbers or of truth values."""
    found = np.asarray(asked)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim > 1 or found.dtype.kind not in ("iub" if found.ndim else "iu"):
        raise TypeError
    return found if found.ndim else int(found)


def _named(asked: str, names: tuple[str, ...], axis: int) -> int:
    if asked in names:
        return names.index(asked)
    if axis == 0:
        raise DataError(
            f"rows are picked by position, counted from 0, got {asked!r}: a feature is "
            f"exp[:, {asked!r}], an output exp[..., {asked!r}]"
        )
    raise DataError(f"no {AXES[axis]} {asked!r}: there is {listed(names)}")
