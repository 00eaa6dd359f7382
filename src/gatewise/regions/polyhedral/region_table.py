"""The regions of a complex as an Arrow table, and as a Parquet file that is whole or not there.

A row a region, in coordinates s of the slice: region, pattern (packed bits, see `layout` in the
metadata), active:<gate> (units off their first branch), interior, volume, vertex_count and vertices
(flat), facets, inside (no wall of the box), slope:<o> and intercept:<o>, neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import missing
from gatewise.ir.kinds import Affine, push
from gatewise.ir.network import Node, fingerprint, fold
from gatewise.regions.polyhedral.adjacency import shared
from gatewise.regions.polyhedral.volumes import volumes
from gatewise.tables.writing import whole_file

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

SCHEMA_VERSION = 1
GROUP = 1 << 16  # rows written together


def to_parquet(complex: Complex, path: str | Path) -> Path:
    """Every region of the complex, a row each; the schema's metadata says of what."""
    with region_file(path) as add:
        add(complex, True)
    return Path(path)


@contextmanager
def region_file(path: str | Path) -> Iterator[Callable[[Complex, bool], None]]:
    """add(part, neighbours): writes one part of the regions after the other, numbered on.

    The file appears when the block ends, with what the parts say of `complete` and `undecided`
    (complete if the last one is; the undecided ones of all).
    """
    _, parquet = _arrow()
    writer: Any = None
    rows = undecided = 0
    last: Complex | None = None
    with whole_file(Path(path)) as draft:

        def add(part: Complex, neighbours: bool = False) -> None:
            nonlocal writer, rows, undecided, last
            table = region_table(part, rows, neighbours=neighbours)
            if writer is None:
                writer = parquet.ParquetWriter(draft, table.schema.remove_metadata())
            writer.write_table(table.replace_schema_metadata(None), row_group_size=GROUP)
            rows, undecided, last = rows + len(part), undecided + part.undecided, part

        try:
            yield add
            if writer is not None and last is not None:
                said = {**describe(last), "regions": rows, "undecided": undecided}
                writer.add_key_value_metadata({"gatewise": _json(said)})
        finally:
            if writer is not None:
                writer.close()


def region_table(complex: Complex, first: int = 0, *, neighbours: bool = True) -> Any:
    """A pyarrow table of the regions, numbered from `first`; metadata as `describe` says.

    neighbours: False for a part of a complex, whose regions do not know those of the other parts.
    """
    pa, _ = _arrow()
    cells, k, n = complex.cells, complex.dimension, len(complex)
    upto = np.concatenate([[0], np.cumsum(complex.who < 0)])
    touched = np.diff(upto[cells.facet_ptr])
    flat = complex.vertices[cells.vertex].reshape(-1)
    columns: dict[str, Any] = {
        "region": np.arange(first, first + n),
        "pattern": pa.array(list(map(bytes, complex.pattern.bits)), pa.binary()),
        **{f"active:{name}": count for name, count in complex.pattern.active().items()},
        "interior": _fixed(pa, complex.interior, k),
        "volume": volumes(complex),
        "vertex_count": np.diff(cells.ptr),
        "vertices": _ragged(pa, cells.ptr * k, flat),
        "facets": np.diff(cells.facet_ptr),
        "inside": touched == 0,
    }
    slope, intercept = affine_on_slice(complex)
    for o, name in enumerate(_outputs(complex)):
        columns[f"slope:{name}"] = _fixed(pa, slope[:, o], k)
        columns[f"intercept:{name}"] = intercept[:, o]
    if neighbours:
        met = shared(complex).matrix
        columns["neighbours"] = _ragged(pa, met.indptr, met.indices.astype(np.int64) + first)
    return pa.table(columns).replace_schema_metadata({"gatewise": _json(describe(complex))})


def affine_on_slice(complex: Complex) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f(s) = slope s + intercept on each region: (R, outputs, k) and (R, outputs)."""
    where, k = complex.slice, complex.dimension
    rows = torch.from_numpy(np.concatenate([where.directions, where.origin[None]]))
    start = rows.reshape(1, k + 1, *complex.network.input_shape)
    found = np.empty((len(complex), complex.network.outputs, k + 1))
    with torch.no_grad():
        for part, frozen in complex.map.frozen(k + 1):
            end = fold(frozen, start, _columns)[frozen.output]
            found[part] = end.reshape(len(end), k + 1, -1).transpose(1, 2).numpy()
    return found[..., :k], found[..., k]


def describe(complex: Complex) -> dict[str, Any]:
    """What the table is of: network, box, slice, gates, and whether it is all."""
    where = complex.slice
    return {
        "schema_version": SCHEMA_VERSION,
        "gatewise": metadata.version("gatewise"),
        "network": fingerprint(complex.network),
        "regions": len(complex),
        "complete": complex.complete,
        "undecided": complex.undecided,
        "low": where.low.tolist(),
        "high": where.high.tolist(),
        "origin": where.origin.tolist(),
        "directions": where.directions.tolist(),
        "counts": dict(complex.counts),
        "layout": [
            {"gate": f.name, "shape": list(f.shape), "byte": f.start, "bits_a_unit": f.width}
            for f in complex.pattern.fields
        ],
        "outputs": _outputs(complex),
    }


def _columns(node: Node, xs: list[Tensor]) -> Tensor:
    """The images of the directions and the origin; the bias belongs to the last alone."""
    kind = node.kind
    assert isinstance(kind, Affine)
    y = push(kind, xs, with_bias=False)
    if kind.bias is None:
        return y
    moved = y[:, -1:] + kind.bias
    return torch.cat([y[:, :-1].expand(len(moved), *y[:, :-1].shape[1:]), moved], 1)


def _outputs(complex: Complex) -> list[str]:
    network = complex.network
    names = list(network.output_names) or [str(o) for o in range(network.outputs)]
    return names if len(set(names)) == network.outputs else [str(o) for o in range(network.outputs)]


def _fixed(pa: Any, values: NDArray[np.float64], size: int) -> Any:
    """Rows of one length."""
    if not size:  # a point has no coordinates, and Arrow no fixed rows of none
        return pa.array([[] for _ in values], pa.list_(pa.float64()))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size)


def _ragged(pa: Any, ptr: Any, values: Any) -> Any:
    """Rows of any length."""
    return pa.LargeListArray.from_arrays(pa.array(ptr, pa.int64()), pa.array(values))


def _json(said: dict[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False, allow_nan=False)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise missing("pyarrow", "report", "writing regions as Parquet") from None
    return pa, parquet
