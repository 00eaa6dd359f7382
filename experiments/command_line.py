"""The command line of an experiment: which size of it, where it writes, one thread.

Nothing of numpy or torch is imported here: how many threads they take is said before they are.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Any

OUT = "write here and leave the repository as it is"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def command(doc: str | None, *, required: bool = True, **sizes: str) -> argparse.ArgumentParser:
    """A parser that takes one of the sizes, {"small": its help, ..}."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    if sizes:
        size = parser.add_mutually_exclusive_group(required=required)
        for name, says in sizes.items():
            size.add_argument(f"--{name}", action="store_true", help=says)
    return parser


def begun(
    parser: argparse.ArgumentParser, arguments: list[str] | None, here: Path
) -> tuple[argparse.Namespace, dict[str, Any], Path]:
    """What was asked (--out too), config.toml, and the folder of results."""
    parser.add_argument("--out", type=Path, help=OUT)
    asked = parser.parse_args(arguments)
    threads(getattr(asked, "threads", 1))
    results = here / "results" if asked.out is None else asked.out / "results"
    return asked, tomllib.loads((here / "config.toml").read_text()), results


def threads(count: int = 1) -> None:
    """As many, unless the environment says so already: sums are then in one order."""
    for name in THREADS:
        os.environ.setdefault(name, str(count))
