"""What both experiments need: settings, named numbers beside the expected ones, a page."""

from __future__ import annotations

import csv
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "explanation" / "picchiotti.md"
PICTURES = ROOT / "docs" / "_static"


@dataclass(frozen=True)
class Section:
    """What an experiment found: its numbers by name, its text, its pictures (name, figure)."""

    name: str
    numbers: dict[str, float]
    text: str
    pictures: dict[str, object]


@dataclass(frozen=True)
class Check:
    """One number beside the expected one; `ok` within the tolerance."""

    name: str
    value: float
    expected: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return abs(self.value - self.expected) <= self.tolerance


def settings(name: str) -> dict:
    """One table of config.toml."""
    return tomllib.loads((HERE / "config.toml").read_text())[name]


def read_expected(path: Path, experiment: str) -> dict[str, tuple[float, float]]:
    """name -> (value, tolerance)."""
    with path.open(newline="") as file:
        return {
            row["name"]: (float(row["value"]), float(row["tolerance"]))
            for row in csv.DictReader(file)
            if row["experiment"] == experiment
        }


def compare(numbers: dict[str, float], expected: dict[str, tuple[float, float]]) -> list[Check]:
    """A Check a name; a number that is missing, not expected or NaN is never ok."""
    names = [*expected, *(n for n in numbers if n not in expected)]
    return [Check(n, numbers.get(n, math.nan), *expected.get(n, (math.nan, 0.0))) for n in names]


def write_numbers(path: Path, numbers: dict[str, float]) -> None:
    """name,value with twelve digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["name", "value"])
        out.writerows([name, f"{value:.12g}"] for name, value in numbers.items())


def markdown(rows: list[dict[str, object]]) -> str:
    """A table from rows of {heading: cell}."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[h]) for h in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(page: Path, section: Section) -> None:
    """Put the section between its two marks, in the page or in a new copy of the template."""
    text = page.read_text() if page.exists() else (HERE / "page.md").read_text()
    begin, end = f"<!-- begin {section.name} -->", f"<!-- end {section.name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no marks {begin} ... {end}: delete it to start anew")
    inside = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(inside.sub(lambda _: f"{begin}\n{section.text.strip()}\n{end}", text))


def write_pictures(folder: Path, section: Section) -> list[Path]:
    """PNG files without a date or a version in them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in section.pictures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110, facecolor="white", metadata={"Software": None})
    return paths
