"""Ray for an explanation of files: answers in the order of the jobs, and sums merged in a tree."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

from gatewise.errors import DataError, EngineError, GatewiseError
from gatewise.ir.network import Network
from gatewise.patterns.ray_session import session
from gatewise.patterns.streaming.pieces import sent
from gatewise.tables.words import one_line

RETRIES = 5  # of a job whose worker died
AHEAD = 2  # jobs on the cluster a processor: it need not wait for the driver
FAN = 8  # sums merged by one task


@dataclass(frozen=True, eq=False)
class Workers:
    """A Ray that is connected; network: as it travels, put there once; processors: of all."""

    ray: Any
    network: Any
    processors: int

    def each(
        self, job: Callable[..., Any], asked: Iterable[tuple[Any, ...]], answers: int = 1
    ) -> Iterator[Any]:
        """job(network, *arguments), answer after answer in order; an error among them is raised.

        answers: of each job; the first is fetched, and of the others, where there are any, comes
        where they lie.
        """
        task = self.ray.remote(max_retries=RETRIES, num_returns=answers)(job)
        away: deque[Any] = deque()
        for arguments in asked:
            away.append(task.remote(self.network, *arguments))
            if len(away) >= AHEAD * self.processors:
                yield self._fetched(away.popleft())
        while away:
            yield self._fetched(away.popleft())

    def _fetched(self, said: Any) -> Any:
        first, *rest = said if isinstance(said, list) else [said]
        found = self.ray.get(first)
        if isinstance(found, GatewiseError):
            raise found
        return (found, *rest) if rest else found

    def total(self, parts: list[Any]) -> Any:
        """The sum of some that lie on the cluster: FAN of them a task, and so on with the sums."""
        task = self.ray.remote(max_retries=RETRIES)(merged)
        while len(parts) > 1:
            parts = [task.remote(*parts[a : a + FAN]) for a in range(0, len(parts), FAN)]
        return self.ray.get(parts[0])


def merged(*parts: Any) -> Any:
    """The sum of elements of a commutative monoid."""
    return reduce(lambda one, other: one.merge(other), parts)


def require(network: Network, engine: str | None, address: str | None) -> None:
    """The engine is one we know, an address is that of an engine, and the network can travel."""
    if engine not in (None, "ray"):
        raise DataError(f"engine must be 'ray', or None for this process, got {engine!r}")
    if engine is None and address is not None:
        raise DataError(f"an address ('{address}') is that of an engine: name it, engine='ray'")
    if engine is not None and network.prepare is not None:
        raise DataError(
            "the model prepares raw columns (a scikit-learn Pipeline), which is not sent to other "
            "processes: explain without an engine, or write the prepared table and read the "
            "network alone"
        )


@contextmanager
def workers(network: Network, engine: str | None, address: str | None) -> Iterator[Workers | None]:
    """Those of the engine; None where this process works alone."""
    if engine is None:
        yield None
        return
    data = sent(network)
    with session(address) as ray:
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            yield Workers(ray, ray.put(data), processors)
        except ray.exceptions.RayError as why:
            cause = getattr(why, "cause", None) or why
            raise EngineError(
                f"Ray gave up on a part of the explanation ({type(cause).__name__}: "
                f"{one_line(cause)}): every machine needs the same Gatewise, the files, the "
                f"folder out=, and memory for a part; a worker that dies is replaced {RETRIES} "
                "times. What is done is kept: call again to go on"
            ) from why
