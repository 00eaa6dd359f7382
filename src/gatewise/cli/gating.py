"""`gatewise gates`: what the gates of a network say of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.options import Data, Heading, Labels, Model, Out, Pictures, Returned
from gatewise.cli.printing import print_found
from gatewise.cli.progress import progress
from gatewise.cli.reading import read
from gatewise.show.files import check_folder
from gatewise.tables import load_table


def gates(
    model: Model,
    data: Data,
    out: Out,
    labels: Labels = None,
    test: Annotated[
        Path | None, typer.Option(help="table of rows the network never saw, labelled alike")
    ] = None,
    row: Annotated[int, typer.Option(help="whose units and paths, counted from 0", min=0)] = 0,
    output: Annotated[str | None, typer.Option(help="of that row: name or index")] = None,
    rows: Annotated[int | None, typer.Option(help="rows to fit on, at most", min=4)] = None,
    draws: Annotated[int | None, typer.Option(help="of random gates", min=1, max=10_000)] = None,
    paths: Annotated[int, typer.Option(help="strongest paths shown", min=1)] = 12,
    format: Pictures = "svg",
    title: Heading = None,
    model_output: Returned = None,
) -> None:
    """What the gates of MODEL say of DATA: overlap, what they know, units and paths of a row."""
    from gatewise.show.gates import facts, files, words

    check_folder(out, files.FILES)
    network = read(model, model_output)
    unseen = None if test is None else load_table(test)
    asked = facts.Asked(row, output, labels, unseen, rows, draws, paths)
    with progress() as tell:
        found = facts.gates(network, load_table(data), asked, tell)
    made = files.write(found, out, format, title, model=model, data=data, test=test)
    print_found(words.tables(found), words.closing(found), out, made)
