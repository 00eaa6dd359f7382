"""`gatewise bilinear`: eigenvectors of a layer, paths of a transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.options import BadRows, Heading, Labels, Out, Pictures, Returned
from gatewise.cli.printing import print_found
from gatewise.cli.progress import progress
from gatewise.cli.reading import read
from gatewise.show.files import check_folder
from gatewise.tables import load_table


def bilinear(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=".onnx, .pt2, transformer's .npz")],
    out: Out,
    data: Annotated[Path | None, typer.Argument(metavar="[DATA]", help="rows, for more")] = None,
    layer: Annotated[str | None, typer.Option(help="bilinear layer; without: the last")] = None,
    outputs: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="those shown")] = None,
    top: Annotated[int, typer.Option(help="eigenpairs of each output; paths", min=1)] = 20,
    labels: Labels = None,
    row: Annotated[int | None, typer.Option(help="of DATA, explained; from 0", min=0)] = None,
    image: Annotated[str | None, typer.Option(metavar="HxW", help="draw inputs as 28x28")] = None,
    tokens: Annotated[str | None, typer.Option(metavar="N,N,..", help="for a .npz")] = None,
    on_bad_rows: BadRows = "raise",
    format: Pictures = "svg",
    title: Heading = None,
    model_output: Returned = None,
) -> None:
    """Eigenvectors of a bilinear layer of MODEL; with DATA, how few are enough, and one row."""
    from gatewise.show.bilinear import facts, files, paths, words
    from gatewise.show.bilinear.names import image_of, names_of

    check_folder(out, files.FILES)
    pixels = image_of(image)
    asked = facts.Asked(layer, names_of(outputs), top, labels, row, pixels, on_bad_rows)
    idle = {"--layer": layer, "--labels": labels, "--row": row, "--image": image}
    idle["--model-output"] = model_output
    if paths.is_transformer(model, data, tokens, idle):
        expanded = paths.paths(model, tokens or "", asked)
        made = paths.write(expanded, out, format, title, model=model)
        print_found(paths.tables(expanded), paths.closing(expanded), out, made)
        return
    network = read(model, model_output)
    table = None if data is None else load_table(data)
    with progress() as tell:
        found = facts.bilinear(network, table, asked, tell)
    made = files.write(found, out, format, title, model=model, data=data)
    print_found(words.tables(found), words.closing(found), out, made)
