"""A room's door: `gw.regions.facets` imports its file when it is asked for, and not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def door(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], Any]]:
    """__getattr__ and __dir__ of a package whose names lie in the files that `where` says.

    A name must not be that of a file or folder beside the door: Python would give that instead.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{where[name]}"), name)

    return get, lambda: sorted(where)
