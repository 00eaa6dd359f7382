"""What experiments that reproduce a published table need: rows kept as CSV, checks, a page."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES, PICTURES = ROOT / "docs" / "explanation", ROOT / "docs" / "_static"

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Check:
    """A number beside the published one; ok within the tolerance, or, for a floor, from it on."""

    name: str
    value: float
    published: float
    tolerance: float  # nan: `published` is a floor

    @property
    def ok(self) -> bool:
        """Never for a number that is missing."""
        if math.isnan(self.tolerance):
            return self.value >= self.published
        return abs(self.value - self.published) <= self.tolerance

    def __str__(self) -> str:
        rule = "at least" if math.isnan(self.tolerance) else f"within {self.tolerance:g} of"
        verdict = "ok" if self.ok else "OUT"
        return f"{verdict:4}{self.name:44}{self.value:10.4f}   {rule} {self.published:g}"


@dataclass(frozen=True)
class Spread:
    """Mean and sample deviation (nan of one number) of n numbers."""

    mean: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        a = np.asarray(values, dtype=float)
        return cls(float(a.mean()), float(a.std(ddof=1)) if len(a) > 1 else math.nan, len(a))

    def text(self, digits: int = 2) -> str:
        """`98.14 ± 0.07 (5)`; `98.14 (1)` of one."""
        spread = "" if self.n == 1 else f" ± {self.deviation:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread} ({self.n})"


def read_checks(path: Path, numbers: dict[str, float]) -> list[Check]:
    """name,published,tolerance; an empty tolerance makes a floor. A missing number is never ok."""
    with path.open(newline="") as file:
        return [
            Check(
                row["name"],
                numbers.get(row["name"], math.nan),
                float(row["published"]),
                float(row["tolerance"] or "nan"),
            )
            for row in csv.DictReader(file)
        ]


def number(cell: str) -> str | int | float:
    """An int or a float where the cell is one, else its text."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """A CSV file; floats with nine digits. All rows have the first one's columns."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        for row in rows:
            out.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
    return path


def read_rows(path: Path) -> list[Row]:
    """The rows of `write_rows`, numbers as numbers."""
    with path.open(newline="") as file:
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def markdown(rows: list[dict[str, object]]) -> str:
    """A table from rows of {heading: cell}."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[h]) for h in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_section(page: Path, template: Path, name: str, text: str) -> Path:
    """Put text between its marks, in the page or in a new copy of the template."""
    whole = page.read_text() if page.exists() else template.read_text()
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if begin not in whole or end not in whole:
        raise ValueError(f"{page} has no marks {begin} ... {end}: delete it to start anew")
    inside = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(inside.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", whole))
    return page


def write_picture(folder: Path, name: str, figure) -> Path:
    """A PNG file without a date or a version in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=110, facecolor="white", metadata={"Software": None})
    return path


def verdict(checks: list[Check]) -> int:
    """Print every check; 0 if all are ok, else 1."""
    for check in checks:
        print(check)
    good = sum(check.ok for check in checks)
    print(f"{good} of {len(checks)} as published")
    return 0 if good == len(checks) else 1
