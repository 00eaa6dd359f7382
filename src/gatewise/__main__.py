"""`gatewise` and `python -m gatewise`: a mistake is one line on stderr and exit code 1."""

from __future__ import annotations

import signal
import sys
from typing import Any

from gatewise.errors import GatewiseError, missing


class Interrupted(BaseException):
    """Ctrl-C or a request to terminate: unwinds everything, so that drafts are removed."""


def main() -> None:
    """Run the command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        _app()()
    except GatewiseError as error:
        sys.exit(f"gatewise: {error}")
    except Interrupted:
        sys.stderr.write("gatewise: interrupted; nothing was left half-written\n")
        sys.exit(130)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted


def _app() -> Any:
    try:
        from gatewise.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        raise missing(str(error.name), "cli", "the command") from None
    return app


if __name__ == "__main__":
    main()
