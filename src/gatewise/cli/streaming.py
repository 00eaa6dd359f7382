"""`gatewise census`: the patterns of a table that may be larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import gatewise as gw
from gatewise.cli.options import BadRows, BatchSize, Model, Returned
from gatewise.cli.progress import counting
from gatewise.cli.reading import read
from gatewise.explain.inputs import OnBadRows


def census(
    model: Model,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="file or folder: .parquet, .arrow, .csv")
    ],
    out: Annotated[Path, typer.Option(help="folder for the results; one that was killed goes on")],
    batch_size: BatchSize = None,
    on_bad_rows: BadRows = "raise",
    on_bad_files: Annotated[OnBadRows, typer.Option(help="files that cannot be read")] = "raise",
    engine: Annotated[Literal["ray"] | None, typer.Option(help="what shares the work out")] = None,
    address: Annotated[
        str | None, typer.Option(help="of its cluster: host:port, auto; without it, one of its own")
    ] = None,
    model_output: Returned = None,
) -> None:
    """The patterns of all rows of DATA, which may be larger than memory: one pass, resumable."""
    network = read(model, model_output)
    bad = {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
    with counting("rows") as seen:
        found = gw.census(
            network,
            data,
            out=out,
            batch_size=batch_size,
            progress=lambda done, total, rate: seen(done, done / total if total else 0.0, rate),
            engine=engine,
            address=address,
            **bad,
        )
    typer.echo(repr(found))
    for broken in found.broken:
        typer.echo(f"  left out: '{broken.file}' from row {broken.row} on: {broken.why}")
    typer.echo(f"wrote {out}: meta.json, patterns.parquet, rows.parquet")
