"""Explanation: every row's affine rule, what it says, how far it reaches, how exact it is.

Picchiotti & Gori, "Clustering-Based Interpretation of Deep ReLU Network" (2110.06593): rows that
share an activation pattern are a cluster, and on it the network is f(x) = W x + b.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError
from gatewise.ir.network import Network
from gatewise.patterns.census import Census, census
from gatewise.regions.halfspaces import Margin, Region
from gatewise.tables import Matrix, counted, listed

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
CHUNK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Explanation:
    """The exact rules of a network on some data.

    For row i in cluster c = ids[i], for each explained output o:
        f_o(x_i) = intercepts[c, o] + coefficients[c, o] . x_i      on the whole region of c
                 = base_values[i, o] + sum_j values[i, j, o]         (against the reference row)
    error (rows, outputs) is the measured |W x + b - f(x)|; bound is what rounding allows for it.
    margin: distance of each row to the wall of its region, or None if it was not asked for.
    """

    network: Network
    matrix: Matrix
    census: Census
    outputs: tuple[int, ...]
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    coefficients: Floats
    intercepts: Floats
    reference: Floats
    scale: Floats
    error: Floats
    bound: Floats
    margin: Margin | None
    target: NDArray[Any] | None = None
    target_name: str = ""
    reference_name: str = "the mean of the data"

    # -- per row, with the names SHAP's users know --

    @property
    def data(self) -> Floats:
        """(rows, features)."""
        return self.matrix.values

    @property
    def ids(self) -> Ids:
        """(rows,) the cluster of each row, 0 the largest."""
        return self.census.ids

    @property
    def output(self) -> Floats:
        """(rows, outputs) f(x), for the explained outputs."""
        return self.census.output[:, list(self.outputs)].double().cpu().numpy()

    @property
    def slopes(self) -> Floats:
        """(rows, features, outputs) the gradient, exact on the whole region."""
        return self.coefficients[self.ids].transpose(0, 2, 1)

    @property
    def intercept(self) -> Floats:
        """(rows, outputs)."""
        return self.intercepts[self.ids]

    @property
    def values(self) -> Floats:
        """(rows, features, outputs) contributions W_j (x_j - reference_j)."""
        return self.contributions(slice(None))

    @property
    def base_values(self) -> Floats:
        """(rows, outputs) W . reference + b: the row's own rule at the reference."""
        base = self.intercepts + self.coefficients @ self.reference
        return base[self.ids]

    def contributions(self, rows: slice | Ids) -> Floats:
        """`values` of some rows only."""
        w = self.coefficients[self.ids[rows]]
        return (w * (self.data[rows] - self.reference)[:, None]).transpose(0, 2, 1)

    # -- per cluster --

    def __len__(self) -> int:
        return len(self.matrix.values)

    @property
    def clusters(self) -> int:
        """How many distinct patterns the rows have."""
        return len(self.census)

    @property
    def share(self) -> Floats:
        """(clusters,) part of the rows in each."""
        return self.census.counts / len(self)

    @property
    def importance(self) -> Floats:
        """(clusters, outputs, features) |W_j| sd_j, scaled to sum to 1."""
        # Scaled by a power of two, which rounds nothing: products of huge numbers overflow.
        raw = np.abs(self.coefficients) * np.ldexp(self.scale, -_exponents(self.scale).max())
        total = raw.sum(-1, keepdims=True)
        return np.asarray(np.divide(raw, total, out=np.zeros_like(raw), where=total > 0))

    @property
    def global_importance(self) -> Floats:
        """(outputs, features) importance averaged over rows."""
        return np.asarray(np.einsum("c,cof->of", self.share, self.importance))

    def cluster_mean(self, column: NDArray[Any]) -> Floats:
        """(clusters, ...) the mean of a per-row column over each cluster."""
        column = np.asarray(column, np.float64).reshape(len(self), -1)
        top = _exponents(column)
        small = np.ldexp(column, -top)
        sums = np.stack([np.bincount(self.ids, c, self.clusters) for c in small.T], 1)
        return np.asarray(np.ldexp(sums / self.census.counts[:, None], top))

    @property
    def active(self) -> dict[str, Ids]:
        """For each gate (clusters,): units off their first branch (for ReLU: switched on)."""
        return dict(self.census.pattern.active())

    # -- the certificate --

    @property
    def max_error(self) -> float:
        """The largest measured |W x + b - f(x)| over rows and outputs."""
        return float(self.error.max())

    @property
    def max_bound(self) -> float:
        """The largest rounding bound for it."""
        return float(self.bound.max())

    @property
    def undecided(self) -> Ids:
        """Rows with a unit so near its knot that rounding decides it."""
        return np.flatnonzero(self.census.undecided)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader did to the network, and what is odd about the data."""
        still = [f for f, s in zip(self.feature_names, self.scale, strict=True) if s == 0]
        if not still or len(self) == 1:
            return self.network.notes
        return (
            *self.network.notes,
            f"{counted(len(still), 'input')} {'has' if len(still) == 1 else 'have'} one value in "
            f"all rows ({listed(still)}): the importance is 0, and margins in standard deviations "
            f"hold {'it' if len(still) == 1 else 'them'} fixed",
        )

    @property
    def region(self) -> Region:
        """The region of every row."""
        box = (self.data.min(0), self.data.max(0))
        home = self.network.rows(self.data)
        corners = (torch.from_numpy(box[0]), torch.from_numpy(box[1]))
        return Region(self.network, home, self.census.pattern[self.ids], corners)

    def __repr__(self) -> str:
        margin = (
            ""
            if self.margin is None
            else (f"; median margin {float(self.margin.scaled.median()):.3g} standard deviations")
        )
        return (
            f"Explanation: {counted(len(self), 'row')} in {counted(self.clusters, 'cluster')}, "
            f"{counted(len(self.feature_names), 'feature')}, "
            f"{counted(len(self.outputs), 'output')}\n"
            f"  largest cluster {self.share[0]:.1%} of the rows{margin}\n"
            f"  largest error |Wx + b - f(x)| {self.max_error:.2g} (bound {self.max_bound:.2g}), "
            f"{counted(len(self.undecided), 'row')} undecided"
        )


def explain(
    network: Network,
    matrix: Matrix,
    *,
    outputs: Sequence[int | str] | int | str | None = None,
    target: NDArray[Any] | None = None,
    target_name: str = "",
    reference: Floats | None = None,
    margin: bool = True,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Explanation:
    """The Explanation of a network on a Matrix of inputs (see `Explanation` for what it holds)."""
    tell = progress or (lambda job, done, total: None)
    network = network.to(torch.float64)
    chosen, names = pick_outputs(network, outputs)
    x = network.rows(matrix.values)
    found = census(
        network, x, batch_size=batch_size, progress=lambda n: tell("patterns", n, len(x))
    )
    require_finite(matrix.index, found.output)
    weight, offset = found.maps.rows(chosen)
    error, bound = _certificate(found, x, weight, offset, chosen, tell)
    base = mean(matrix.values) if reference is None else np.asarray(reference, np.float64)
    require_finite(
        matrix.index, error, bound, _largest(found, matrix.values, weight, offset, base * 0)
    )
    if not np.isfinite(_largest(found, matrix.values, weight, offset, base)).all():
        raise DataError(
            f"the network overflows on the reference, whose largest number is "
            f"{np.abs(base).max():.3g}: give a reference near the data"
        )
    scale = deviation(matrix.values)
    margins = _margins(network, x, found, scale, tell) if margin else None
    if margins is not None:
        # A distance may be infinite: a region need not have a wall.
        kept = (torch.where(t.isinf(), 0.0, t).cpu() for t in (margins.l2, margins.scaled))
        require_finite(matrix.index, *kept)
    return Explanation(
        network,
        matrix,
        found,
        tuple(chosen),
        feature_names(network, matrix),
        names,
        weight.cpu().numpy(),
        offset.cpu().numpy(),
        base,
        scale,
        error,
        bound,
        margins,
        target,
        target_name,
        "the mean of the data" if reference is None else "the given reference",
    )


def require_finite(index: Ids, *columns: Any) -> None:
    """Raise BadRows, naming the rows of `index`, where a per-row result is not finite."""
    good = np.ones(len(index), bool)
    for column in columns:
        good &= np.isfinite(np.asarray(column)).reshape(len(index), -1).all(1)
    if not good.all():
        bad = tuple(index[~good].tolist())
        raise BadRows(
            f"the network overflows on {counted(len(bad), 'row')} of {len(good)}: rows "
            f"{listed(bad)} (counted from 0). Their numbers are too large for float64 to compute "
            "with: repair or leave them out",
            bad,
        )


def _largest(
    found: Census, values: Floats, weight: torch.Tensor, offset: torch.Tensor, base: Floats
) -> Floats:
    """(rows,) at least every |contribution| and |base value|, and their sum: finite if they are."""
    steep = weight.abs().amax((1, 2)).cpu().numpy()[found.ids]
    high = offset.abs().amax(1).cpu().numpy()[found.ids]
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.abs(values).max(1) + np.abs(base).max()
        return np.asarray(high + steep * spread * values.shape[1] * 2)


def _exponents(values: Floats) -> NDArray[np.int32]:
    """(columns,) e with |v| <= 2**e in each column, so that v / 2**e can be squared and summed."""
    top = np.max(np.abs(values), axis=0, initial=0, where=np.isfinite(values))
    return np.asarray(np.frexp(top)[1])


def mean(values: Floats) -> Floats:
    """(features,) the mean; no sum overflows, and scaling by a power of two rounds nothing."""
    top = _exponents(values)
    return np.asarray(np.ldexp(np.ldexp(values, -top).mean(0), top))


def deviation(values: Floats) -> Floats:
    """(features,) the standard deviation, and exactly 0 for a column of one value.

    numpy's gives 1e-17 for a column of 0.1, because the mean of it is rounded. Scaled by a power
    of two before squaring, so that neither 1e300 overflows nor 1e-300 vanishes.
    """
    top = _exponents(values)
    spread = np.ldexp(np.ldexp(values, -top).std(axis=0), top)
    return np.where((values == values[:1]).all(0), 0.0, spread)


def pick_outputs(
    network: Network, outputs: Sequence[int | str] | int | str | None
) -> tuple[list[int], tuple[str, ...]]:
    """Indices and names of the outputs to explain; all of them when None."""
    names = network.output_names or tuple(f"y{i}" for i in range(network.outputs))
    if outputs is None:
        return list(range(network.outputs)), tuple(names)
    asked = list(outputs) if isinstance(outputs, list | tuple | np.ndarray) else [outputs]
    if not asked:
        raise DataError(
            f"output= is empty: name at least one of the network's {listed(names)}, "
            "or leave it out for all"
        )
    chosen = [_output_index(o, names) for o in asked]
    if len(set(chosen)) < len(chosen):
        twice = next(names[i] for i in chosen if chosen.count(i) > 1)
        raise DataError(f"output= names '{twice}' more than once: name each output once")
    return chosen, tuple(names[i] for i in chosen)


def _output_index(asked: Any, names: Sequence[str]) -> int:
    """A whole number is a position; a text is a name, or else a position written out."""
    if isinstance(asked, str) and asked in names:
        return list(names).index(asked)
    position = _whole(asked)
    if position is not None and -len(names) <= position < len(names):
        return position % len(names)
    raise DataError(
        f"no output {asked!r}: the network has {len(names)} ({listed(names)}), and each is picked "
        f"by its name or its position, counted from 0"
    )


def _whole(asked: Any) -> int | None:
    if isinstance(asked, str):
        return int(asked) if re.fullmatch(r"-?[0-9]{1,9}", asked) else None
    if isinstance(asked, bool | np.bool_):
        return None
    try:
        return operator.index(asked)
    except TypeError:
        return None


def feature_names(network: Network, matrix: Matrix) -> tuple[str, ...]:
    """The network's names, else the table's, else x0, x1, ..."""
    names = network.feature_names or matrix.columns
    return tuple(names) or tuple(f"x{j}" for j in range(network.inputs))


def _certificate(
    found: Census,
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    chosen: list[int],
    tell: Callable[[str, int, int], None],
) -> tuple[Floats, Floats]:
    """Measured |W x + b - f(x)| and its bound, row by row."""
    errors, bounds = [], []
    for start in range(0, len(x), CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, len(x)))
        ids, rows = found.ids[part], x[part].reshape(-1, weight.shape[-1])
        y = torch.einsum("nof,nf->no", weight[ids], rows) + offset[ids]
        errors.append((y - found.output[part][:, chosen]).abs())
        bounds.append(found.maps[ids].bound(rows)[:, chosen])
        tell("certificate", part.stop, len(x))
    return torch.cat(errors).cpu().numpy(), torch.cat(bounds).cpu().numpy()


def _margins(
    network: Network,
    x: torch.Tensor,
    found: Census,
    scale: Floats,
    tell: Callable[[str, int, int], None],
) -> Margin:
    parts = []
    for start in range(0, len(x), CHUNK_ROWS // 8):
        part = slice(start, min(start + CHUNK_ROWS // 8, len(x)))
        home = Region(network, x[part], found.pattern[found.ids[part]])
        parts.append(home.margin(torch.from_numpy(scale)))
        tell("margins", part.stop, len(x))
    return Margin(*(torch.cat([getattr(p, k) for p in parts]) for k in ("l2", "linf", "scaled")))
