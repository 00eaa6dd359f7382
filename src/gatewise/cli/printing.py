"""What the commands print: tables, lines, and where the files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import gatewise as gw
from gatewise.tables import counted, listed


def say(explanation: gw.Explanation, folder: Path) -> None:
    """The explanation, its notes, the rows left out, and where the report is."""
    typer.echo(repr(explanation))
    for note in explanation.notes:
        typer.echo(f"  note: {note}")
    if explanation.matrix.skipped:
        typer.echo(
            f"  skipped {counted(len(explanation.matrix.skipped), 'row')} with NaN or infinity: "
            f"{listed(explanation.matrix.skipped)}"
        )
    typer.echo(f"wrote {folder}: open {folder / 'report.html'}")


def print_found(tables: Iterator[Any], lines: Iterator[str], out: Path, files: list[str]) -> None:
    """Tables with their names, the lines below them, and where the files are."""
    for table in tables:
        typer.echo(f"\n{table.name}")
        print_table(table.columns, iter(table.rows))
    for line in lines:
        typer.echo(line)
    typer.echo(f"wrote {out}: " + ", ".join(files))


def print_table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """Aligned columns; cells are shown as they are, never as markup."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)
