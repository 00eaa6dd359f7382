"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gatewise.explain.inputs import OnBadRows

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="a .onnx or .pt2 file")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="a .csv (with header) or .parquet file")]
Out = Annotated[Path, typer.Option(help="folder for the results; replaced if it holds only ours")]
Returned = Annotated[
    str | None,
    typer.Option(metavar="NAME|INDEX", help="which one, where MODEL returns several tensors"),
]
Top = Annotated[int, typer.Option(help="clusters shown in the report", min=1)]
Cohorts = Annotated[bool, typer.Option(help="few rules for all rows, each with its condition")]
Rules = Annotated[int | None, typer.Option(help="cohorts at most", min=1)]
Error = Annotated[float | None, typer.Option(help="largest mean |rule - network| of the cohorts")]
Coloured = Literal["region", "output", "class", "creases"]
Format = Literal["svg", "png", "pdf"]
Labels = Annotated[
    str | None, typer.Option("--labels", "--target", help="column of labels, not an input")
]
Evaluate = Annotated[bool, typer.Option(help="measure the rules as the literature does (slow)")]
BadRows = Annotated[OnBadRows, typer.Option(help="rows with NaN or infinity")]
BatchSize = Annotated[int | None, typer.Option(help="rows at a time", min=1)]
Pictures = Annotated[Format, typer.Option(help="of the pictures")]
Heading = Annotated[str | None, typer.Option(help="heading of the page")]
