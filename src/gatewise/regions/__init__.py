"""The geometry of a network's regions, and the door to it: `gw.regions.facets(region)` ..

Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatewise.regions.balls import inscribed
    from gatewise.regions.beyond import neighbours
    from gatewise.regions.cells.slices import Slice, slice_through
    from gatewise.regions.constant import constant_units
    from gatewise.regions.enumeration import enumerate_regions, stream_regions
    from gatewise.regions.irredundant import facets
    from gatewise.regions.walk import ball, path

WHERE = {
    "Slice": "cells.slices",
    "ball": "walk",
    "constant_units": "constant",
    "enumerate_regions": "enumeration",
    "facets": "irredundant",
    "inscribed": "balls",
    "neighbours": "beyond",
    "path": "walk",
    "slice_through": "cells.slices",
    "stream_regions": "enumeration",
}

__all__ = [
    "Slice",
    "ball",
    "constant_units",
    "enumerate_regions",
    "facets",
    "inscribed",
    "neighbours",
    "path",
    "slice_through",
    "stream_regions",
]


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module 'gatewise.regions' has no attribute '{name}'")
    return getattr(import_module(f"gatewise.regions.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
