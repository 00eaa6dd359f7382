"""What an Explanation is computed from: means, deviations, margins, and the certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError
from gatewise.ir.network import Network
from gatewise.linear.everywhere import everywhere
from gatewise.patterns.census import Census
from gatewise.regions.halfspaces import Margin, Region
from gatewise.tables import Matrix, counted, listed

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Tell = Callable[[str, int, int], None]
CHUNK_ROWS = 65_536
CHUNK_NUMBERS = 400_000  # of the maps of some rows, that a cache holds


def quiet(job: str, done: int, total: int) -> None:
    """The progress of a job nobody watches."""


# -- columns of numbers --


def exponents(values: Floats) -> NDArray[np.int32]:
    """(columns,) e with |v| <= 2**e in each column, so that v / 2**e can be squared and summed."""
    top = np.max(np.abs(values), axis=0, initial=0, where=np.isfinite(values))
    return np.asarray(np.frexp(top)[1])


def mean(values: Floats) -> Floats:
    """(features,) the mean; no sum overflows, and scaling by a power of two rounds nothing."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = values.mean(0)
    if np.isfinite(found).all():
        return np.asarray(found)
    top = exponents(values)
    return np.asarray(np.ldexp(np.ldexp(values, -top).mean(0), top))


def deviation(values: Floats) -> Floats:
    """(features,) the standard deviation, and exactly 0 for a column of one value.

    numpy's gives 1e-17 for a column of 0.1, because the mean of it is rounded. Where a square may
    have overflowed or vanished (1e300, 1e-300), the column is first scaled by a power of two.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.asarray(values.std(0))
        odd = ~((spread > 1e-140) & (spread < 1e140))
        far = np.ascontiguousarray(values[:, odd])
        top = exponents(far)
        spread[odd] = np.ldexp(np.ldexp(far, -top).std(0), top)
        flat = spread <= 1e-9 * np.abs(values[0])
    spread[flat] *= (values[:, flat] != values[0, flat]).any(0)
    return spread


# -- what must be finite --


def require_finite(index: Ids, *columns: Any) -> None:
    """Raise BadRows, naming the rows of `index`, where a per-row result is not finite."""
    good = np.ones(len(index), bool)
    for column in columns:
        good &= _finite_rows(column, len(index))
    if not good.all():
        bad = tuple(index[~good].tolist())
        raise BadRows(
            f"the network overflows on {counted(len(bad), 'row')} of {len(good)}: rows "
            f"{listed(bad)} (counted from 0). Their numbers are too large to compute with: "
            "repair or leave them out",
            bad,
        )


def _finite_rows(column: Any, rows: int) -> NDArray[np.bool_]:
    """(rows,) bool; a tensor is looked at where it is."""
    if isinstance(column, torch.Tensor):
        return np.asarray(column.isfinite().reshape(rows, -1).all(1).cpu().numpy())
    return np.asarray(np.isfinite(np.asarray(column)).reshape(rows, -1).all(1))


def require_range(weight: Floats, offset: Floats, ids: Ids, matrix: Matrix, base: Floats) -> None:
    """Raise, naming the rows or the reference, where a contribution or their sum could overflow."""
    values = matrix.values
    if np.isfinite(_sums(_top(weight), _top(offset), _top(values), base)):
        return
    steep, high = np.abs(weight).max((1, 2))[ids], np.abs(offset).max(1)[ids]
    far = np.abs(values).max(1)
    require_finite(matrix.index, _sums(steep, high, far, base * 0))
    if not np.isfinite(_sums(steep, high, far, base)).all():
        raise DataError(
            f"the network overflows on the reference, whose largest number is "
            f"{np.abs(base).max():.3g}: give a reference near the data"
        )


def _sums(steep: Any, high: Any, far: Any, base: Floats) -> Any:
    """At least every |contribution| and |base value|, and their sum: finite if they are.

    steep, high, far: largest |coefficient|, |intercept| and |input|, of each row or of all.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return high + steep * (far + np.abs(base).max()) * len(base) * 2


def _top(values: Floats) -> np.float64:
    """The largest absolute value."""
    return np.float64(max(values.max(), -values.min()))


# -- row by row, a chunk at a time --


def certificate(
    found: Census,
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    chosen: list[int],
    tell: Tell = quiet,
    reach: torch.Tensor | None = None,
) -> tuple[Floats, Floats]:
    """Measured |W x + b - f(x)| and its bound, row by row: (rows, outputs) each.

    The bound is that of all patterns at once where gates are few, else that of the row's own.
    reach (inputs,): the largest |x| of these rows and any others, by default of these.
    """
    errors, bounds = [], []
    flat = x.reshape(len(x), -1)
    if reach is None:
        reach = torch.maximum(flat.amax(0), -flat.amin(0))
    every = everywhere(found.network, chosen, reach)
    step = max(1, CHUNK_NUMBERS // weight[0].numel())
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        ids, rows = torch.from_numpy(found.ids[part]).to(x.device), flat[part]
        y = torch.einsum("nof,nf->no", weight.index_select(0, ids), rows).add_(offset[ids])
        errors.append(y.sub_(found.output[part][:, chosen]).abs_())
        bound = None if every is None else every(rows)
        if bound is None or not bool(bound.isfinite().all()):
            bound = found.maps[found.ids[part]].bound(rows)[:, chosen]
        bounds.append(bound)
        tell("certificate", part.stop, len(x))
    return torch.cat(errors).cpu().numpy(), torch.cat(bounds).cpu().numpy()


def margins(
    network: Network, x: torch.Tensor, found: Census, scale: Floats, index: Ids, tell: Tell = quiet
) -> Margin:
    """Distance of each row to the nearest wall of its region.

    In units of the scale; where no input varies (one row, say) there is none, and every step
    counts as itself.
    """
    home = Region(network, x, found.pattern[found.ids])
    step = torch.from_numpy(scale if scale.any() else np.ones_like(scale))
    whole = home.margin(step, lambda done: tell("margins", done, len(x)))
    # A distance may be infinite: a region need not have a wall.
    kept = (torch.where(t.isinf(), 0.0, t).cpu() for t in (whole.l2, whole.scaled))
    require_finite(index, *kept)
    return whole
