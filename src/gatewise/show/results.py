"""What the commands give beside rules: pictures with words, tables of text, and their folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatewise.show.files import whole_folder
from gatewise.show.tables import arrow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")


class Drawn(NamedTuple):
    """A picture: its name, title, label for who cannot see it, and how to read it."""

    name: str
    figure: Figure
    title: str
    label: str
    says: str


class Table(NamedTuple):
    """Headings and rows of text; the first column is names."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sources(about: Mapping[str, Path | None]) -> dict[str, str]:
    """Names of the files that something came from: model, data, .."""
    return {name: Path(path).name for name, path in about.items() if path is not None}


def as_unicode(text: object) -> str:
    """Text that a file can hold: no lone surrogates, which names of files may bring."""
    return str(text).encode("utf-8", "replace").decode()


def write_folder(
    out: str | Path,
    ours: frozenset[str],
    texts: Mapping[str, object],
    figures: Sequence[Drawn],
    format: str,
    tables: Iterable[tuple[str, dict[str, Any]]],
) -> list[str]:
    """Pages (text), summaries (JSON), pictures and tables, all or none; the names of the files."""
    with whole_folder(Path(out), ours) as draft:
        for name, text in texts.items():
            if not isinstance(text, str):
                text = json.dumps(text, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (draft / name).write_text(as_unicode(text), "utf-8")
        for picture in figures:
            save_figure(picture.figure, draft / f"{picture.name}.{format}")
        for name, columns in tables:
            arrow().parquet.write_table(arrow().table(columns), draft / name)
        return sorted(path.name for path in draft.iterdir())


def save_figure(figure: Any, path: Path, dpi: int = 200) -> None:
    """The figure as a file that is the same in every run; the format is the name's ending."""
    import matplotlib

    kind = path.suffix.removeprefix(".")
    # what each format would date itself by
    meta = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    with matplotlib.rc_context({"svg.hashsalt": "gatewise", "svg.fonttype": "none"}):
        figure.savefig(path, format=kind, dpi=dpi, facecolor="white", metadata=meta[kind])
