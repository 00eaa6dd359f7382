"""The small words that sentences about data share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

SHOWN = 10  # rows or columns named in a message before "and N more"


def listed(items: Sequence[Any]) -> str:
    """'a, b, c and 4 more'."""
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"


def counted(n: int, one: str) -> str:
    """'1 row', '2 rows'."""
    return f"{n} {one if n == 1 else one + 's'}"


def cell(value: Any) -> str:
    """The value as it would be typed, on one line, cut when it is long."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 40 else text[:39] + "…"


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return str(error).partition("\n")[0]


def is_number(value: Any) -> bool:
    """Reads as a number, or is the mark of a missing one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None or type(value).__name__ in ("NAType", "NaTType")
    return True


def is_numbered(names: Iterable[str]) -> bool:
    """Names 0, 1, 2, ...: what pandas calls columns and entries that were given no name."""
    names = list(names)
    return names == [str(j) for j in range(len(names))]
