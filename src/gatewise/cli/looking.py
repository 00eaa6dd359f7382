"""`gatewise inspect` and `gatewise ops`: what a model is, what can be read."""

from __future__ import annotations

import typer

from gatewise.cli.options import Model, Returned
from gatewise.cli.printing import print_table
from gatewise.cli.reading import read
from gatewise.ops import TABLE
from gatewise.show.inspect import COLUMNS, node_rows, summary


def inspect(model: Model, model_output: Returned = None) -> None:
    """Nodes, kinds, gates, parameters; is MODEL piecewise affine, and if not, what breaks it."""
    network = read(model, model_output)
    print_table(COLUMNS, node_rows(network))
    for line in summary(network):
        typer.echo(line)


def ops() -> None:
    """The table of layers that can be read."""
    rows = ((e.name, e.kind, e.doc, " ".join(e.torch), " ".join(e.onnx)) for e in TABLE)
    print_table(("layer", "kind", "what it computes", "torch (aten)", "ONNX"), rows)
