"""The command: parses, calls the façade, prints. No logic lives here."""

from __future__ import annotations

import typer

from gatewise.cli.auditing import audit
from gatewise.cli.enumerating import regions
from gatewise.cli.explaining import demo, explain
from gatewise.cli.gating import gates
from gatewise.cli.looking import inspect, ops
from gatewise.cli.spectra import bilinear
from gatewise.cli.streaming import census
from gatewise.cli.wording import Commands

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    help="Exact rules from trained networks: a network is a linear map chosen by gates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (explain, regions, gates, bilinear, audit, census, inspect, ops, demo):
    app.command()(command)
