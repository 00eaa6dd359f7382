"""What a user says of the inputs: which are meant, between what ends, and which way they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.groups import Group
from gatewise.explain.names import whole
from gatewise.tables import listed, open_table

Floats = NDArray[np.float64]


def places_of(asked: Any, names: Sequence[str], groups: Sequence[Group], what: str) -> list[int]:
    """Positions of inputs given by name, position, or the name of their group."""
    items = [asked] if isinstance(asked, str | int) else list(asked)
    return [j for item in items for j in place_of(item, names, groups, what)]


def place_of(
    item: Any, names: Sequence[str], groups: Sequence[Group], what: str
) -> tuple[int, ...]:
    """The position of one input, by name or position, or those of a group by its name."""
    if isinstance(item, str) and item in names:
        return (list(names).index(item),)
    group = next((g for g in groups if g.name == item), None)
    if group is not None:
        return group.members
    place = None if isinstance(item, str) else whole(item)
    if place is not None and -len(names) <= place < len(names):
        return (place % len(names),)
    raise DataError(f"{what} names {item!r}, which is no input: name some of {listed(names)}")


def box_of(bounds: Any, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Lowest and highest value of every input; unlimited where nothing finite was said."""
    d = len(names)
    low, high = np.full(d, -np.inf), np.full(d, np.inf)
    if bounds is None:
        return low, high
    if not isinstance(bounds, Mapping):
        try:
            below, above = (_side(side, names) for side in bounds)
        except (TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"bounds must be a dict, {{'age': (18, 80)}} with None for an open end, or two "
                f"rows of {d} numbers (lowest, highest)"
            ) from None
        return np.where(np.isfinite(below), below, low), np.where(np.isfinite(above), above, high)
    for item, pair in bounds.items():
        (j,) = place_of(item, names, (), "bounds")
        low[j], high[j] = _ends(pair, names[j])
    return low, high


def _side(given: Any, names: Sequence[str]) -> Floats:
    """(features,) one end of every input, by name where it has names; NaN: none was given."""
    held = _named(given)
    if held is None:
        return np.asarray(given, np.float64).reshape(len(names))
    row = np.full(len(names), np.nan)
    for item, value in held.items():
        (j,) = place_of(item, names, (), "bounds")
        row[j] = np.nan if value is None else float(value)
    return row


def _named(given: Any) -> dict[Any, Any] | None:
    """The ends with the names they have: a dict, a Series, a table of one row."""
    if isinstance(given, Mapping):
        return dict(given)
    frame = None if isinstance(given, np.ndarray | list | tuple) else open_table(given)
    if frame is not None:
        if len(frame) != 1:
            raise DataError(f"an end of bounds is a table of {len(frame)} rows: give one row")
        return {name: frame[name][0] for name in frame.columns}
    return dict(given.to_dict()) if hasattr(given, "to_dict") and hasattr(given, "index") else None


def _ends(pair: Any, name: str) -> tuple[float, float]:
    try:
        low, high = (np.nan if end is None else float(end) for end in pair)
    except (TypeError, ValueError):
        raise DataError(
            f"bounds of '{name}' are {pair!r}: give (lowest, highest), None for an open end"
        ) from None
    return low if np.isfinite(low) else -np.inf, high if np.isfinite(high) else np.inf


def one_way(
    monotone: Mapping[Any, Any] | None,
    home: Floats,
    names: Sequence[str],
    low: Floats,
    high: Floats,
) -> None:
    """Inputs that may only increase or only decrease."""
    for item, way in (monotone or {}).items():
        (j,) = place_of(item, names, (), "monotone")
        if way not in ("increase", "decrease"):
            raise DataError(f"monotone of '{names[j]}' is {way!r}: say 'increase' or 'decrease'")
        if way == "increase":
            low[j] = max(low[j], home[j])
        else:
            high[j] = min(high[j], home[j])
