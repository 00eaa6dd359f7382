"""A Ray that does everything at once in this process; what travels is pickled, as there."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Ref:
    """Where a value lies."""

    def __init__(self, value: Any) -> None:
        self.data = pickle.dumps(value)


class Task:
    def __init__(self, function: Callable[..., Any], answers: int) -> None:
        self.function, self.answers = function, answers

    def remote(self, *arguments: Any) -> Any:
        held = [a if isinstance(a, Ref) else Ref(a) for a in arguments]
        found = self.function(*(pickle.loads(h.data) for h in held))
        if self.answers == 1:
            return Ref(found)
        assert len(found) == self.answers
        return [Ref(f) for f in found]


class InlineRay:
    """As much of the module `ray` as the engine uses; jobs: what was done, in order."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, processors: int = 2) -> None:
        self.processors = processors
        self.jobs: list[str] = []

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.processors)}

    def put(self, value: Any) -> Ref:
        return Ref(value)

    def get(self, refs: Any) -> Any:
        return [self.get(r) for r in refs] if isinstance(refs, list) else pickle.loads(refs.data)

    def wait(self, refs: list[Ref], num_returns: int) -> tuple[list[Ref], list[Ref]]:
        return refs[-num_returns:], refs[:-num_returns]  # the last to be asked is done first

    def remote(self, num_returns: int = 1, **settings: Any) -> Callable[..., Task]:
        def made(function: Callable[..., Any]) -> Task:
            def told(*arguments: Any) -> Any:
                self.jobs.append(function.__name__)
                return function(*arguments)

            return Task(told, num_returns)

        return made

    @contextmanager
    def session(self, address: str | None) -> Iterator[InlineRay]:
        yield self
