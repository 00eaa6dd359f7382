"""`gatewise audit`: a network against the best linear model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gatewise as gw
from gatewise.cli.options import BadRows, Data, Heading, Model, Out, Pictures, Returned
from gatewise.cli.printing import print_found
from gatewise.cli.progress import progress
from gatewise.cli.reading import read
from gatewise.show.files import check_folder
from gatewise.tables import load_table


def audit(
    model: Model,
    data: Data,
    out: Out,
    target: Annotated[str, typer.Option(help="column that MODEL predicts, not an input")],
    test: Annotated[
        Path | None, typer.Option(help="table of rows MODEL was not trained on, with the target")
    ] = None,
    rules: Annotated[str, typer.Option(metavar="N,N,..", help="cohorts compared; or none")] = "",
    holdout: Annotated[
        float | None, typer.Option(help="share of DATA to test on, without --test  \\[0.25]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="draws of the bootstrap", min=100, max=1_000_000)
    ] = 2000,
    seed: Annotated[int, typer.Option(help="of the split, the draws, the cohorts", min=0)] = 0,
    on_bad_rows: BadRows = "raise",
    format: Pictures = "svg",
    title: Heading = None,
    model_output: Returned = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="DATA is larger than memory (a folder always is)")
    ] = False,
) -> None:
    """Is MODEL better than the best linear model on rows it never saw, and where?"""
    from gatewise.show.audit import files, words

    check_folder(out, files.FILES)
    network = read(model, model_output)
    table = (lambda path: path) if stream or data.is_dir() else load_table
    unseen = None if test is None else table(test)
    how: dict[str, Any] = {"holdout": holdout, "repeats": repeats, "seed": seed}
    how |= words.rules_of(rules) | {"on_bad_rows": on_bad_rows}
    with progress() as tell:
        found = gw.audit(network, table(data), target, test=unseen, progress=tell, **how)
    made = files.write(found, out, format, title, model=model, data=data, test=test)
    typer.echo(words.verdict(found))
    print_found(words.tables(found), words.closing(found), out, made)
