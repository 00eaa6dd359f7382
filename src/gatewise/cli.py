"""The command: parses, calls the façade, prints. No logic lives here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import gatewise as gw
from gatewise.demo import run
from gatewise.errors import ModelError
from gatewise.explain.inputs import OnBadRows
from gatewise.ops import TABLE
from gatewise.show.files import check_folder
from gatewise.show.inspect import COLUMNS, node_rows, summary
from gatewise.show.save import FILES
from gatewise.tables import counted, listed, load_table

app = typer.Typer(
    help="Exact rules from trained networks: a network is a linear map chosen by gates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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


@app.command()
def explain(
    model: Model,
    data: Data,
    out: Out,
    target: Annotated[str | None, typer.Option(help="column to compare with, not an input")] = None,
    output: Annotated[str | None, typer.Option(help="output to explain: name or index")] = None,
    model_output: Returned = None,
    top: Top = 10,
    batch_size: Annotated[int | None, typer.Option(help="rows at a time", min=1)] = None,
    on_bad_rows: Annotated[OnBadRows, typer.Option(help="rows with NaN or infinity")] = "raise",
    margin: Annotated[bool, typer.Option(help="distance of each row to its region's wall")] = True,
    cohorts: Cohorts = True,
    max_rules: Rules = None,
    max_error: Error = None,
    evaluate: Evaluate = False,
    title: Annotated[str | None, typer.Option(help="heading of the report")] = None,
) -> None:
    """Clusters of the rows of DATA, the exact affine rule of each, its reach and certificate."""
    check_folder(out, FILES)
    network = _read(model, model_output)
    table = load_table(data)
    with _progress() as tell:
        explanation = gw.explain(
            network,
            table,
            target=target,
            output=output,
            batch_size=batch_size,
            margin=margin,
            on_bad_rows=on_bad_rows,
            progress=tell,
        )
        parts: dict[str, Any] = {}
        if cohorts:
            parts["cohorts"] = _cohorts(explanation, max_rules, max_error, tell)
        if evaluate:
            parts["evaluation"] = gw.evaluate(explanation)
    folder = gw.save(explanation, out, top=top, model=model, data=data, title=title, **parts)
    _say(explanation, folder)


@app.command()
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
    network = _read(model, model_output)
    asked = Place(box, box_file, slice_, hold, data, target)
    with _counting("regions") as seen:
        run = region_files.regions(network, asked, max_regions=max_regions, progress=seen)
    look = region_files.Look(format, colour, output)
    said = region_files.write(run, out, look, model=model, data=data)
    _print_table(("", ""), region_files.lines(said))
    for note in said["notes"]:
        typer.echo(f"  note: {note}")
    typer.echo(f"wrote {out}: " + ", ".join(said["files"]))


@app.command()
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
    draws: Annotated[int | None, typer.Option(help="of random gates", min=1)] = None,
    paths: Annotated[int, typer.Option(help="strongest paths shown", min=1)] = 12,
    format: Annotated[Format, typer.Option(help="of the pictures")] = "svg",
    title: Annotated[str | None, typer.Option(help="heading of the page")] = None,
    model_output: Returned = None,
) -> None:
    """What the gates of MODEL say of DATA: overlap, what they know, units and paths of a row."""
    from gatewise.show.gates import facts, files, words

    check_folder(out, files.FILES)
    network = _read(model, model_output)
    unseen = None if test is None else load_table(test)
    asked = facts.Asked(row, output, labels, unseen, rows, draws, paths)
    with _progress() as tell:
        found = facts.gates(network, load_table(data), asked, tell)
    made = files.write(found, out, format, title, model=model, data=data, test=test)
    _print_found(words.tables(found), words.closing(found), out, made)


@app.command()
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
    on_bad_rows: Annotated[OnBadRows, typer.Option(help="rows with NaN or infinity")] = "raise",
    format: Annotated[Format, typer.Option(help="of the pictures")] = "svg",
    title: Annotated[str | None, typer.Option(help="heading of the page")] = None,
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
        _print_found(paths.tables(expanded), paths.closing(expanded), out, made)
        return
    network = _read(model, model_output)
    table = None if data is None else load_table(data)
    with _progress() as tell:
        found = facts.bilinear(network, table, asked, tell)
    made = files.write(found, out, format, title, model=model, data=data)
    _print_found(words.tables(found), words.closing(found), out, made)


@app.command()
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
    repeats: Annotated[int, typer.Option(help="draws of the bootstrap", min=100)] = 2000,
    seed: Annotated[int, typer.Option(help="of the split, the draws, the cohorts", min=0)] = 0,
    on_bad_rows: Annotated[OnBadRows, typer.Option(help="rows with NaN or infinity")] = "raise",
    format: Annotated[Format, typer.Option(help="of the pictures")] = "svg",
    title: Annotated[str | None, typer.Option(help="heading of the page")] = None,
    model_output: Returned = None,
) -> None:
    """Is MODEL better than the best linear model on rows it never saw, and where?"""
    from gatewise.show.audit import files, words

    check_folder(out, files.FILES)
    network = _read(model, model_output)
    unseen = None if test is None else load_table(test)
    how: dict[str, Any] = {"holdout": holdout, "repeats": repeats, "seed": seed}
    how |= words.rules_of(rules) | {"on_bad_rows": on_bad_rows}
    with _progress() as tell:
        found = gw.audit(network, load_table(data), target, test=unseen, progress=tell, **how)
    made = files.write(found, out, format, title, model=model, data=data, test=test)
    typer.echo(words.verdict(found))
    _print_found(words.tables(found), words.closing(found), out, made)


@app.command()
def census(
    model: Model,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="file or folder: .parquet, .arrow, .csv")
    ],
    out: Annotated[Path, typer.Option(help="folder for the results; one that was killed goes on")],
    batch_size: Annotated[int | None, typer.Option(help="rows at a time", min=1)] = None,
    on_bad_rows: Annotated[OnBadRows, typer.Option(help="rows with NaN or infinity")] = "raise",
    on_bad_files: Annotated[OnBadRows, typer.Option(help="files that cannot be read")] = "raise",
    model_output: Returned = None,
) -> None:
    """The patterns of all rows of DATA, which may be larger than memory: one pass, resumable."""
    network = _read(model, model_output)
    bad = {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
    with _counting("rows") as seen:
        found = gw.census(
            network,
            data,
            out=out,
            batch_size=batch_size,
            progress=lambda done, total, rate: seen(done, done / total if total else 0.0, rate),
            **bad,
        )
    typer.echo(repr(found))
    for broken in found.broken:
        typer.echo(f"  left out: '{broken.file}' from row {broken.row} on: {broken.why}")
    typer.echo(f"wrote {out}: meta.json, patterns.parquet, rows.parquet")


@app.command()
def inspect(model: Model, model_output: Returned = None) -> None:
    """Nodes, kinds, gates, parameters; is MODEL piecewise affine, and if not, what breaks it."""
    network = _read(model, model_output)
    _print_table(COLUMNS, node_rows(network))
    for line in summary(network):
        typer.echo(line)


@app.command()
def ops() -> None:
    """The table of layers that can be read."""
    rows = ((e.name, e.kind, e.doc, " ".join(e.torch), " ".join(e.onnx)) for e in TABLE)
    _print_table(("layer", "kind", "what it computes", "torch (aten)", "ONNX"), rows)


@app.command()
def demo(out: Out = Path("demo-report"), top: Top = 10) -> None:
    """Train a small network on scikit-learn's breast cancer data and explain it."""
    check_folder(out, FILES)
    with _progress() as tell:
        explanation = run(tell)
        found = _cohorts(explanation, None, None, tell)
    _say(explanation, gw.save(explanation, out, top=top, cohorts=found))


def _read(model: Path, output: str | None) -> gw.Network:
    """The network; a .pt2 file's outputs have positions, an ONNX file's have names."""
    by_position = output is not None and model.suffix.lower() == ".pt2" and output.isdecimal()
    try:
        return gw.read(model, output=int(output or 0) if by_position else output)
    except ModelError as error:
        if "output=" not in str(error):
            raise
        raise ModelError(f"{error} (here: the option --model-output)") from None


def _cohorts(
    explanation: gw.Explanation,
    max_rules: int | None,
    max_error: float | None,
    tell: Callable[[str, int, int], None],
) -> Any:
    """The cohorts; where nothing was asked of them, what stops them is a line and no error."""
    try:
        return gw.cohorts(explanation, max_rules=max_rules, max_error=max_error, progress=tell)
    except gw.GatewiseError as why:
        if max_rules is not None or max_error is not None:
            raise
        typer.echo(f"  no cohorts: {why}")
        return None


def _say(explanation: gw.Explanation, folder: Path) -> None:
    typer.echo(repr(explanation))
    for note in explanation.notes:
        typer.echo(f"  note: {note}")
    if explanation.matrix.skipped:
        typer.echo(
            f"  skipped {counted(len(explanation.matrix.skipped), 'row')} with NaN or infinity: "
            f"{listed(explanation.matrix.skipped)}"
        )
    typer.echo(f"wrote {folder}: open {folder / 'report.html'}")


def _print_found(tables: Iterator[Any], lines: Iterator[str], out: Path, files: list[str]) -> None:
    """Tables with their names, the lines below them, and where the files are."""
    for table in tables:
        typer.echo(f"\n{table.name}")
        _print_table(table.columns, iter(table.rows))
    for line in lines:
        typer.echo(line)
    typer.echo(f"wrote {out}: " + ", ".join(files))


def _print_table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """Aligned columns; cells are shown as they are, never as markup."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a job, on stderr, gone when done; nothing where stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        tasks: dict[str, int] = {}

        def tell(job: str, done: int, total: int) -> None:
            task = tasks.setdefault(job, -1)
            if task == -1:
                tasks[job] = task = bars.add_task(job, total=total)
            bars.update(task, completed=done)  # type: ignore[arg-type]

        yield tell


@contextmanager
def _counting(what: str) -> Iterator[Callable[..., None]]:
    """A bar of the work done, with how many so far and a second; as `_progress` otherwise."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(what, total=1.0)
        begin = time.monotonic()

        def seen(count: int, share: float, rate: float | None = None) -> None:
            rate = count / max(time.monotonic() - begin, 1e-9) if rate is None else rate
            said = f"{count:,} {what}, {rate:,.0f} a second"
            bars.update(task, completed=share, description=said)

        yield seen
