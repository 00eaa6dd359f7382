"""Items worked on by several threads, answers in order; the next is read meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def abreast(make: Callable[[], Callable[[T], R]], items: Iterator[T], threads: int) -> Iterator[R]:
    """work(item) of each item, in order; `make` gives every thread a `work` of its own.

    Four items more than there are threads are held. The first error, in order of the items, is
    raised in its turn.
    """
    own = threading.local()

    def run(item: T) -> R:
        if not hasattr(own, "work"):
            torch.set_num_threads(1)
            own.work = make()
        answer: R = own.work(item)
        return answer

    coming: deque[Future[R]] = deque()
    with _threads_of_torch_kept(), ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                coming.append(pool.submit(run, item))
                if len(coming) > threads + 3:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads_of_torch_kept() -> Iterator[None]:
    """What a worker sets for itself would be the default of threads to come."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
