"""`gatewise explain` and `gatewise demo`: rules of clusters, and a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import gatewise as gw
from gatewise.cli.options import (
    BadRows,
    BatchSize,
    Cohorts,
    Error,
    Evaluate,
    Model,
    Out,
    Returned,
    Rules,
    Top,
)
from gatewise.cli.printing import print_table, say
from gatewise.cli.progress import progress
from gatewise.cli.reading import read
from gatewise.demo import run
from gatewise.errors import DataError
from gatewise.explain.inputs import OnBadRows
from gatewise.show.files import check_folder
from gatewise.show.save import FILES
from gatewise.tables import listed, load_table

Tables = Annotated[
    Path, typer.Argument(metavar="DATA", help="a .csv (with header) or .parquet file, or a folder")
]
Stream = Annotated[
    bool, typer.Option("--stream", help="DATA is larger than memory (a folder always is)")
]


def explain(
    model: Model,
    data: Tables,
    out: Out,
    target: Annotated[str | None, typer.Option(help="column to compare with, not an input")] = None,
    output: Annotated[str | None, typer.Option(help="output to explain: name or index")] = None,
    model_output: Returned = None,
    top: Top = 10,
    batch_size: BatchSize = None,
    on_bad_rows: BadRows = "raise",
    margin: Annotated[bool, typer.Option(help="distance of each row to its region's wall")] = True,
    cohorts: Cohorts = True,
    max_rules: Rules = None,
    max_error: Error = None,
    evaluate: Evaluate = False,
    title: Annotated[str | None, typer.Option(help="heading of the report")] = None,
    stream: Stream = False,
    on_bad_files: Annotated[
        OnBadRows, typer.Option(help="of a stream: files that cannot be read")
    ] = "raise",
    engine: Annotated[Literal["ray"] | None, typer.Option(help="what shares a stream out")] = None,
    address: Annotated[
        str | None, typer.Option(help="of its cluster: host:port, auto; without it, one of its own")
    ] = None,
) -> None:
    """Clusters of the rows of DATA, the exact affine rule of each, its reach and certificate.

    A folder, or --stream: rows are explained into Parquet files, part by part; killed and started
    again it goes on.
    """
    if stream or data.is_dir():
        _require_alone(max_rules=max_rules, max_error=max_error, evaluate=evaluate, title=title)
        how: dict[str, Any] = {"target": target, "output": output, "margin": margin}
        how |= {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
        how |= {"engine": engine, "address": address}
        _streamed(read(model, model_output), data, out, top, batch_size=batch_size, **how)
        return
    _require_stream(engine=engine, address=address)
    check_folder(out, FILES)
    network = read(model, model_output)
    table = load_table(data)
    with progress() as tell:
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
            parts["cohorts"] = found_cohorts(explanation, max_rules, max_error, tell)
        if evaluate:
            parts["evaluation"] = gw.evaluate(explanation)
    folder = gw.save(explanation, out, top=top, model=model, data=data, title=title, **parts)
    say(explanation, folder)


def _require_alone(**asked: Any) -> None:
    """What needs all rows at once is refused where they are streamed."""
    idle = ["--" + name.replace("_", "-") for name, value in asked.items() if value]
    if idle:
        raise DataError(
            f"not for rows that are streamed: {listed(idle)}. Leave that out, or explain a sample "
            "of the rows in memory"
        )


def _require_stream(**asked: Any) -> None:
    """What shares the rows of files out is refused where they are read into memory."""
    idle = ["--" + name for name, value in asked.items() if value]
    if idle:
        raise DataError(
            f"only for rows that are streamed: {listed(idle)}. Give a folder, or add --stream"
        )


def _streamed(network: gw.Network, data: Path, out: Path, top: int, **how: Any) -> None:
    """Rows explained into files; the largest clusters on the screen."""
    with progress() as tell:
        found = gw.explain(network, data, out=out, progress=tell, **how)
    typer.echo(repr(found))
    shown = found.table()
    names: list[str] = [
        n for n in ("cluster", "rows", "share", "mean target", "mean right") if n in shown
    ]
    names += [n for n in shown if n.startswith("mean output:")][:4]
    cells = ([_cell(shown[n][k]) for n in names] for k in range(min(top, len(found.sums) - 1)))
    print_table(tuple(names), (tuple(row) for row in cells))
    for broken in found.broken:
        typer.echo(f"  left out: '{broken.file}' from row {broken.row} on: {broken.why}")
    made = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    typer.echo(f"wrote {out}: " + ", ".join(made))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def demo(out: Out = Path("demo-report"), top: Top = 10) -> None:
    """Train a small network on scikit-learn's breast cancer data and explain it."""
    check_folder(out, FILES)
    with progress() as tell:
        explanation = run(tell)
        found = found_cohorts(explanation, None, None, tell)
    say(explanation, gw.save(explanation, out, top=top, cohorts=found))


def found_cohorts(
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
