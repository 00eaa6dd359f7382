"""The census of tables larger than memory: read once, spilled, merged, resumed.

pyarrow is imported when such a census is asked for, not before.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewise.errors import DataError
from gatewise.ir.network import Network

if TYPE_CHECKING:
    from gatewise.patterns.streaming.census import StreamedCensus


def is_stored(source: Any) -> bool:
    """A path or a pyarrow dataset: rows to be streamed."""
    return isinstance(source, str | Path) or type(source).__module__ == "pyarrow._dataset"


def streamed(network: Network, source: Any, **settings: Any) -> StreamedCensus:
    """`streaming.census.streamed`; a setting that it does not have is refused by name."""
    from gatewise.patterns.streaming import census

    parameters = signature(census.streamed).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in settings.keys() - set(known):
        raise DataError(f"a census has no setting '{name}': it takes {', '.join(known)}")
    return census.streamed(network, source, **settings)
