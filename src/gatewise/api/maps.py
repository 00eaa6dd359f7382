"""Patterns, maps, regions and lines of a model on rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch

from gatewise.api.source import Model, as_network, inputs, network_of
from gatewise.errors import DataError
from gatewise.explain.compute import require_finite
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import OnBadRows
from gatewise.explain.names import feature_names as names_of
from gatewise.ir.network import require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns import observe
from gatewise.patterns.census import Census
from gatewise.patterns.census import census as _census
from gatewise.patterns.streaming import is_stored
from gatewise.regions.halfspaces import Region
from gatewise.regions.halfspaces import region as _region

if TYPE_CHECKING:
    from gatewise.patterns.streaming.answer import StreamedCensus
    from gatewise.patterns.streaming.census import Progress as Rate
    from gatewise.patterns.streaming.parts import OnBadFiles
    from gatewise.regions.lines import Trace

Engine = Literal["ray"]
STORED = {"out": None, "progress": None, "on_bad_rows": "raise", "on_bad_files": "raise"}


def pattern(model: Model, X: Any) -> Pattern:
    """The branch every gate picks at every row of X, bit-packed.

    model: a Network, or anything `read` takes; X: (rows, inputs), an array or a table.
    """
    network, x = inputs(model, X, fed=True)
    require_piecewise_affine(network, "a pattern")
    return observe.pattern(network, x)


def affine(model: Model, X: Any) -> AffineMap:
    """f(x) = W x + b around every row of X: `.matrix()` is (rows, outputs, inputs).

    Exact on the whole region of each row, up to `.bound(x)`, which is rigorous.
    """
    network, x = inputs(model, X, fed=True)
    require_piecewise_affine(network, "an affine map")
    return AffineMap(network, observe.pattern(network, x))


@overload
def census(
    model: Model,
    X: str | Path,
    *,
    batch_size: int | None = None,
    out: str | Path | None = None,
    on_bad_rows: OnBadRows = "raise",
    on_bad_files: OnBadFiles = "raise",
    progress: Rate | None = None,
    engine: Engine | None = None,
    address: str | None = None,
) -> StreamedCensus: ...


@overload
def census(model: Model, X: Any, *, batch_size: int | None = None) -> Census: ...


def census(
    model: Model,
    X: Any,
    *,
    batch_size: int | None = None,
    out: str | Path | None = None,
    on_bad_rows: OnBadRows = "raise",
    on_bad_files: OnBadFiles = "raise",
    progress: Rate | None = None,
    engine: Engine | None = None,
    address: str | None = None,
) -> Census | StreamedCensus:
    """The distinct patterns of X: cluster ids, counts, first rows, doubts, maps.

    X: a table, or the path of a file or folder of Parquet, Arrow or CSV, or a pyarrow dataset:
    these are streamed, in memory that does not grow with the rows, and only for them are there
    `out` (a folder; a census that was killed goes on there), `on_bad_rows`, `on_bad_files`
    ("raise" or "skip"), `progress` and `engine`: "ray" shares the work out, on the cluster at
    `address` ("host:port", "auto") or, without one, at RAY_ADDRESS or on this machine.
    """
    how: dict[str, Any] = {"out": out, "progress": progress}
    how |= {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
    if is_stored(X) or how != STORED or (engine, address) != (None, None):
        return _streaming(engine, address)(as_network(model), X, batch_size=batch_size, **how)
    network, x = inputs(model, X, fed=True)
    found = _census(network, x, batch_size=batch_size)
    require_finite(np.arange(len(x)), found.output)
    return found


def _streaming(engine: Engine | None, address: str | None) -> Callable[..., StreamedCensus]:
    """What counts the rows of files: this process, or an engine."""
    if engine == "ray":
        from gatewise.patterns.engine import on_ray

        return partial(on_ray, address=address)
    if engine is not None:
        raise DataError(f"engine must be 'ray', or None for this process, got {engine!r}")
    if address is not None:
        raise DataError(f"an address ('{address}') is that of an engine: name it, engine='ray'")
    from gatewise.patterns.streaming.census import streamed

    return streamed


def region(model: Model, X: Any) -> Region:
    """The polyhedron around every row of X on which its affine map holds: rows a.x + b >= 0."""
    network, x = inputs(model, X)
    require_piecewise_affine(network, "a region")
    flat = x.reshape(len(x), -1)
    return _region(network, x, (flat.amin(0), flat.amax(0)))


def trace(
    model: Model | Explanation, x: Any, direction: Any, start: float = 0.0, stop: float = 1.0
) -> Trace:
    """f along x + t direction, start <= t <= stop, with its true knots: one line a row of x.

    x: a table as the model takes it, or numbers as the network does, which an Explanation's data
    are. direction: one for all or one a row, of the network's inputs, in order or by name.
    """
    from gatewise.explain.integrated import directions_of, rows_of
    from gatewise.regions.lines import trace as along

    network = network_of(model)
    matrix = rows_of(network, x)
    held = isinstance(model, Explanation)
    names = model.feature_names if held else names_of(network, matrix)
    way = directions_of(network, names, direction)
    return along(network, torch.from_numpy(matrix.values), torch.from_numpy(way), start, stop)
