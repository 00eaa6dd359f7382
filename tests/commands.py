"""A `gatewise` command in this process, with its exit code and what it printed."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from gatewise.__main__ import main

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """`gatewise ARGS`; the handlers that it sets are put back."""
    argv, handlers = sys.argv, [signal.getsignal(s) for s in SIGNALS]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    sys.argv = ["gatewise", *map(str, args)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as done:
            main()
    finally:
        sys.argv = argv
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
    code = done.value.code
    if isinstance(code, str):  # Python prints it and exits with 1
        err.write(code + "\n")
        code = 1
    said = [s.flush() or s.buffer.getvalue().decode() for s in (out, err)]
    return subprocess.CompletedProcess(list(map(str, args)), code or 0, *said)


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr that holds these words, and exit code 1."""
    assert result.returncode == 1, result.stdout
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("gatewise: ")
    for word in words:
        assert word in result.stderr, result.stderr


def names(folder: Path) -> list[str]:
    """Names of the files of a folder."""
    return sorted(p.name for p in folder.iterdir())
