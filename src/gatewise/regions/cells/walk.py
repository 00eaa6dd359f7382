"""Chunks through the gates, deepest first, on several threads; leaves come out in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gatewise.regions.cells.chunks import Chunk, divided, root
from gatewise.regions.cells.gates import split
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.stages import Plan

SMALL = 256  # cells: below this a second thread costs more than it brings

Seen = Callable[[Chunk], None]


def leaves(p: Plan, workers: int | None = None, seen: Seen | None = None) -> Generator[Chunk]:
    """Chunks of cells that are behind every gate, as they are done; `seen` gets every chunk split.

    Memory holds a few chunks a gate, however many regions there are.
    """
    decide = Signs(p)
    workers = workers or os.cpu_count() or 1
    waiting, running = [root(p)], set[Future[Chunk]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    chunk = waiting.pop()
                    if chunk.stage == len(p.stages):
                        yield chunk
                    elif workers == 1 or (len(chunk) < SMALL and not running):
                        _after(p, split(p, chunk, decide), workers, waiting, seen)
                    else:
                        running.add(pool.submit(split, p, chunk, decide))
                if running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        _after(p, future.result(), workers, waiting, seen)
        finally:
            for future in running:
                future.cancel()


def _after(
    p: Plan,
    chunk: Chunk,
    workers: int,
    waiting: list[Chunk],
    seen: Seen | None,
) -> None:
    """A chunk behind its gate: told, and divided for the next one."""
    if seen is not None:
        seen(chunk)
    if chunk.stage == len(p.stages):
        waiting.append(chunk)
    else:
        waiting.extend(reversed(list(divided(p, chunk, workers))))
