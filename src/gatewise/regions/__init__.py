"""The geometry of a network's regions, and the door to it: `gw.regions.facets(region)` ..

Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.regions.cells.slices import Slice, slice_through
    from gatewise.regions.local.balls import inscribed
    from gatewise.regions.local.beyond import neighbours
    from gatewise.regions.local.constant import constant_units
    from gatewise.regions.local.irredundant import facets
    from gatewise.regions.local.walk import ball, path
    from gatewise.regions.polyhedral.enumeration import enumerate_regions, stream_regions

WHERE = {
    "Slice": "cells.slices",
    "ball": "local.walk",
    "constant_units": "local.constant",
    "enumerate_regions": "polyhedral.enumeration",
    "facets": "local.irredundant",
    "inscribed": "local.balls",
    "neighbours": "local.beyond",
    "path": "local.walk",
    "slice_through": "cells.slices",
    "stream_regions": "polyhedral.enumeration",
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


__getattr__, __dir__ = door(__name__, WHERE)
