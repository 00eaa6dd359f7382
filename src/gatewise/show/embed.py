"""Numbers and names inside a page: columns without loss and in few bytes, JSON that stays data."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.show.dense import Layer

Floats = NDArray[np.float64]
ROWS = 10_000
BYTES = 2_600_000  # of their columns, as text: what is left of 6 MB beside charts and the rest
SMALL = (np.int8, np.int16, np.int32)


def as_json(data: Any) -> str:
    """JSON for inside a <script type="application/json">: `<` and the like cannot end it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed(values: NDArray[Any]) -> dict[str, Any]:
    """{"type": i1|i2|i4|f4|f8, "b64"} little-endian, with "of" (the distinct values) if shorter.

    Nothing is rounded: a narrower type is taken only where every value comes back the same.
    """
    flat = np.ascontiguousarray(values).ravel()
    plain = _narrow(flat)
    distinct, codes = np.unique(flat, return_inverse=True)
    if len(distinct) <= 65_536 and flat.dtype.kind == "f" and not _has_negative_zero(flat):
        start = next(s for s in (0, 1 << 7, 1 << 15) if len(distinct) <= s + (s or 1 << 7))
        index, table = _narrow(codes - start), _narrow(distinct)
        if index.nbytes + table.nbytes < plain.nbytes:
            return {**_text(index), "of": _text(table), "from": start}
    return _text(plain)


def _narrow(flat: NDArray[Any]) -> NDArray[Any]:
    """The same values in the smallest type that holds them all."""
    if flat.dtype.kind == "f" and not np.array_equal(flat, np.round(flat)):
        with np.errstate(over="ignore", under="ignore"):
            short = flat.astype(np.float32)
        return short if np.array_equal(short.astype(np.float64), flat) else flat
    if flat.dtype.kind == "f" and _has_negative_zero(flat):
        return flat
    for kind in SMALL:
        info = np.iinfo(kind)
        if flat.size and info.min <= flat.min() and flat.max() <= info.max:
            return flat.astype(kind)
    return flat.astype(np.float64)


def _has_negative_zero(flat: NDArray[Any]) -> bool:
    return bool((np.signbit(flat) & (flat == 0)).any())


def _text(flat: NDArray[Any]) -> dict[str, Any]:
    kind = flat.dtype.newbyteorder("<")
    data = base64.b64encode(flat.astype(kind).tobytes()).decode()
    return {"type": f"{flat.dtype.kind}{flat.dtype.itemsize}", "b64": data}


def rounded(values: NDArray[Any]) -> NDArray[np.float64]:
    """To float32's seven digits: for what is only shown."""
    return np.asarray(values, np.float32).astype(np.float64)


def network(layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    """The layers for the page's script."""
    return [_layer(layer) for layer in layers]


def _layer(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "weights": [[s, _text(w.ravel())] for s, w in layer.weights.items()],
        "bias": _text(layer.bias),
    }
    if layer.gate is not None:
        gate = layer.gate
        found |= {"name": gate.name, "closed": list(gate.closed)}
        tables = ("knots", "slopes", "offsets")
        found |= {name: [row.tolist() for row in getattr(gate, name)] for name in tables}
    return found


def rows(e: Explanation, limit: int = ROWS, budget: int = BYTES) -> NDArray[np.int64]:
    """Which rows go into the page: all, or evenly spaced ones in order of the first output.

    The first rows of the largest clusters are always among them.
    """
    size = 4 / 3 * np.mean([len(packed(c)["b64"]) for c in e.data[: 1 << 12].T]) * 3 / 4
    each = size * e.data.shape[1] / min(len(e), 1 << 12)
    fit = max(1, min(limit, int(budget / max(each, 1e-9))))
    if len(e) <= fit:
        return np.arange(len(e))
    first = e.census.first[: min(100, fit // 2)]
    order = np.argsort(e.output[:, 0], kind="stable")
    spaced = order[np.linspace(0, len(e) - 1, fit - len(first)).round().astype(np.int64)]
    return np.unique(np.concatenate([first, spaced]))
