"""`gatewise regions`: the linear regions of a box or a slice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.options import Coloured, Format, Model, Out, Returned
from gatewise.cli.printing import print_table
from gatewise.cli.progress import counting
from gatewise.cli.reading import read
from gatewise.show.files import check_folder


def regions(
    model: Model,
    out: Out,
    box: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="of every input")] = None,
    box_file: Annotated[Path | None, typer.Option(help="table of feature, low, high")] = None,
    slice_: Annotated[
        str | None, typer.Option("--slice", metavar="ROW,ROW,ROW", help="through rows of --data")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="table: its range, its rows")] = None,
    hold: Annotated[list[str], typer.Option(metavar="FEATURE=VALUE", help="one held")] = [],  # noqa: B006
    target: Annotated[str | None, typer.Option(help="column of --data, not an input")] = None,
    max_regions: Annotated[int | None, typer.Option(help="stop after so many", min=1)] = None,
    colour: Annotated[Coloured | None, typer.Option(help="what the map's colours say")] = None,
    output: Annotated[str | None, typer.Option(help="output to draw: name or index")] = None,
    format: Annotated[Format, typer.Option(help="of the map")] = "svg",
    model_output: Returned = None,
) -> None:
    """Every linear region of MODEL in a box or on a slice: a picture, Parquet, a summary."""
    from gatewise.show import region_files  # compiled code: the other commands do without it
    from gatewise.show.region_box import Place

    check_folder(out, region_files.FILES)
    network = read(model, model_output)
    asked = Place(box, box_file, slice_, hold, data, target)
    with counting("regions") as seen:
        run = region_files.regions(network, asked, max_regions=max_regions, progress=seen)
    look = region_files.Look(format, colour, output)
    said = region_files.write(run, out, look, model=model, data=data)
    print_table(("", ""), region_files.lines(said))
    for note in said["notes"]:
        typer.echo(f"  note: {note}")
    typer.echo(f"wrote {out}: " + ", ".join(said["files"]))
