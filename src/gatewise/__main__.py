"""`gatewise` and `python -m gatewise`: a mistake is one line on stderr and exit code 1.

Ctrl-C is caught from the first line of `main` on. Before it Python imports this package, and with
it torch (about a second): an interrupt there ends in Python's own traceback, and since nothing has
been opened or written by then, nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

from gatewise.errors import GatewiseError, missing


class Interrupted(BaseException):
    """Ctrl-C or a request to terminate: unwinds everything, so that drafts are removed."""


def main() -> None:
    """Run the command."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        code = _run()
    except GatewiseError as error:
        code = f"gatewise: {error}"
    except BrokenPipeError:
        code = 1  # who read us has gone (`| head`): nobody to tell
    except OSError as error:
        place = f"'{error.filename}'" if error.filename else "the output"
        code = f"gatewise: {place} could not be read or written: {error.strerror or error}"
    except (Interrupted, KeyboardInterrupt):
        sys.stderr.write("gatewise: interrupted; nothing was left half-written\n")
        code = 130
    _finish(code)


def _run() -> Any:
    """The command's exit code, after all it printed has been written."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows ASCII alone shows '?'
    try:
        _app()()
    except SystemExit as done:
        sys.stdout.flush()
        return done.code
    return 0


def _finish(code: Any) -> None:
    """Exit; what could not be written to stdout is dropped, or Python would complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


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
