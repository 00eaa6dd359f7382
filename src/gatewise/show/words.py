"""Numbers and names as people read them: three digits, thousands apart, names on one line."""

from __future__ import annotations

import math
import re
import unicodedata

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
UNSEEN = frozenset({"Cc", "Zl", "Zp"})
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


def number(x: float, digits: int = 3) -> str:
    """`digits` significant digits: 0.0217, −12,300, 1.4×10⁻¹⁴; whole numbers stay whole."""
    x = float(x)
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else MINUS + "∞"
    if x == int(x) and abs(x) < 1e6:
        return f"{int(x):,}".replace("-", MINUS)
    power = int(f"{x:.{digits - 1}e}".partition("e")[2])
    if not -5 < power < 6:
        return _scientific(x, digits)
    rounded = float(f"{x:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - power)}f}".replace("-", MINUS)


def _scientific(x: float, digits: int) -> str:
    mantissa, _, power = f"{x:.{digits - 1}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return mantissa.replace("-", MINUS) + "×10" + str(int(power)).translate(RAISED)


def percent(share: float) -> str:
    """A share as a percentage that never rounds to none or to all."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.001:
        return f"under{SPACE}0.1{SPACE}%"
    if 0.999 < share < 1:
        return f"over{SPACE}99.9{SPACE}%"
    sharp = 0 < share < 0.0995 or 0.99 < share < 1
    return f"{100 * share:.{1 if sharp else 0}f}{SPACE}%"


def count(n: int, one: str, many: str = "") -> str:
    """'1 row', '9,871 rows'."""
    return f"{n:,}{SPACE}{one if n == 1 else many or one + 's'}"


def signed(x: float) -> str:
    """A number with its sign."""
    return ("+" if x > 0 else "") + number(float(x))


def compact(n: int) -> str:
    """A count in at most four characters: 987, 9.9k, 12k, 2M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if n >= size:
            return f"{n / size:.{1 if n < 9.95 * size else 0}f}".replace(".0", "") + letter
    return str(n)


def plain(name: object) -> str:
    """A name on one line: control and direction marks become spaces, lone surrogates '?'."""
    text = str(name).encode("utf-8", "replace").decode()
    shown = "".join(" " if c in BIDI or unicodedata.category(c) in UNSEEN else c for c in text)
    return " ".join(shown.split()) or "(no name)"


def pieces(name: object) -> list[str]:
    """The name on one line, cut where it may be broken: before capitals, after _ . / = -."""
    return re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_./=-])(?=[^\W\d])", plain(name))


def short(name: object, limit: int = 24) -> str:
    """The name, with its middle left out when it is long."""
    text = plain(name)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 3
    return text[: limit - 1 - tail] + "…" + text[-tail:]
