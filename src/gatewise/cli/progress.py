"""Bars on stderr while a command works, gone when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
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
def counting(what: str) -> Iterator[Callable[..., None]]:
    """A bar of the work done, with how many so far and a second; as `progress` otherwise."""
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
