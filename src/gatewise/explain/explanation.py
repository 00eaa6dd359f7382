"""Explanation: every row's affine rule, what it says, how far it reaches, how exact it is.

Picchiotti & Gori, "Clustering-Based Interpretation of Deep ReLU Network" (2110.06593): rows that
share an activation pattern are a cluster, and on it the network is f(x) = W x + b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain import export
from gatewise.explain.compute import (
    CHUNK_ROWS,
    Floats,
    Ids,
    certificate,
    deviation,
    exponents,
    margins,
    mean,
    quiet,
    require_finite,
    require_range,
)
from gatewise.explain.contrast import contrast
from gatewise.explain.folded import Folded
from gatewise.explain.groups import Group, groups_of, settled
from gatewise.explain.importance import By, Importance, Kind, importance
from gatewise.explain.names import feature_names, pick_outputs
from gatewise.explain.references import MEAN, reference_row
from gatewise.explain.say import overview_html
from gatewise.explain.slices import Block, SlicedExplanation, take
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern
from gatewise.patterns.census import Census, census
from gatewise.regions.halfspaces import Margin, Region
from gatewise.tables import Matrix, counted, listed

__all__ = [
    "CHUNK_ROWS",
    "Explanation",
    "deviation",
    "explain",
    "feature_names",
    "mean",
    "pick_outputs",
    "require_finite",
]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The exact rules of a network on some data.

    For row i in cluster c = ids[i], for each explained output o:
        f_o(x_i) = intercepts[c, o] + coefficients[c, o] . x_i      on the whole region of c
                 = base_values[i, o] + sum_j values[i, j, o]         (against the reference row)
    error (rows, outputs) is the measured |W x + b - f(x)|; bound is what rounding allows for it.
    margin: distance of each row to the wall of its region, or None if it was not asked for.
    groups: inputs that belong together, as the columns of one category do: see `folded`.
    Arrays are (rows, features, outputs). Parts: `exp[i]`, `exp[:, "age"]`, `exp[..., "default"]`.
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
    reference_name: str = MEAN
    groups: tuple[Group, ...] = ()

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
        raw = np.abs(self.coefficients) * np.ldexp(self.scale, -exponents(self.scale).max())
        total = raw.sum(-1, keepdims=True)
        return np.asarray(np.divide(raw, total, out=np.zeros_like(raw), where=total > 0))

    @property
    def global_importance(self) -> Floats:
        """(outputs, features) importance averaged over rows."""
        return np.asarray(np.einsum("c,cof->of", self.share, self.importance))

    def cluster_mean(self, column: NDArray[Any]) -> Floats:
        """(clusters, ...) the mean of a per-row column over each cluster."""
        column = np.asarray(column, np.float64).reshape(len(self), -1)
        top = exponents(column)
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
    def margin_unit(self) -> str:
        """What `margin.scaled` counts: input units where no input varies, as in a row alone."""
        return "standard deviations" if self.scale.any() else "input units"

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

    # -- where it holds --

    @property
    def units(self) -> tuple[str, ...]:
        """(features,) "original", or the step of the Pipeline in whose units the input is."""
        own = getattr(self.network.prepare, "units", ())
        return tuple(own) or ("original",) * len(self.feature_names)

    @property
    def pattern(self) -> Pattern:
        """The pattern of every row."""
        return self.census.pattern[self.ids]

    @property
    def region(self) -> Region:
        """The region of every row."""
        box = (self.data.min(0), self.data.max(0))
        home = self.network.rows(self.data)
        corners = (torch.from_numpy(box[0]), torch.from_numpy(box[1]))
        return Region(self.network, home, self.census.pattern[self.ids], corners)

    # -- parts, and other views --

    def __getitem__(self, item: Any) -> SlicedExplanation:
        return take(self, item)

    def __iter__(self) -> Iterator[SlicedExplanation]:
        return (self[i] for i in range(len(self)))

    def block(self, rows: Ids, features: Ids, outputs: Ids) -> Block:
        """The arrays of some rows, features and outputs."""
        ids, n = self.ids[rows], np.ix_(rows, outputs)
        w, offset = (a[np.ix_(ids, outputs)] for a in (self.coefficients, self.intercepts))
        slopes = w[:, :, features].transpose(0, 2, 1)
        data = self.data[np.ix_(rows, features)]
        margin = self.margin
        return Block(
            rows,
            slopes * (data - self.reference[features])[:, :, None],
            offset + w @ self.reference,
            data,
            None,
            tuple(self.feature_names[j] for j in features),
            tuple(self.output_names[k] for k in outputs),
            self.output[n],
            slopes,
            offset,
            self.error[n],
            None if margin is None else margin.scaled.cpu().numpy()[rows],
            self.reference_name,
            self.margin_unit,
        )

    def against(self, reference: Any) -> Explanation:
        """The same rules with contributions from another reference: see `reference_row`."""
        base, name = reference_row(self.matrix, self.feature_names, reference)
        require_range(self.coefficients, self.intercepts, self.ids, self.matrix, base)
        return replace(self, reference=base, reference_name=name)

    def contrast(self, one: int | str, other: int | str) -> Explanation:
        """The explanation of output `one` minus output `other`: for logits, exact log odds."""
        return contrast(self, one, other)

    def folded(self) -> Folded:
        """Contributions with one column a group: the sum over its members."""
        return Folded(self)

    def importances(self, by: By = "global", kind: Kind = "scaled", **options: Any) -> Importance:
        """Signed importance a row, cluster, cohort or over all, with its spread: `importance`."""
        return importance(self, by, kind, **options)

    def to_frame(self, **options: Any) -> Any:
        """A row an input, in the kind of table that came in: see `export.to_frame`."""
        return export.to_frame(self, **options)

    def to_parquet(self, path: str | Path, **options: Any) -> Path:
        """The same as a Parquet file, whole or not at all."""
        return export.to_parquet(self, path, **options)

    def to_json(self, path: str | Path | None = None) -> str:
        """The rules and the rows as JSON text, also written to `path`: see `export.to_json`."""
        return export.to_json(self, path)

    def to_shap(self) -> Any:
        """A `shap.Explanation` of all rows, features and outputs."""
        return self[...].to_shap()

    def _repr_html_(self) -> str:
        return overview_html(self)

    def __repr__(self) -> str:
        margin = (
            ""
            if self.margin is None
            else f"; median margin {float(self.margin.scaled.median()):.3g} {self.margin_unit}"
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
    reference: Any = None,
    reference_name: str = "the given reference",
    scale: Floats | None = None,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    margin: bool = True,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Explanation:
    """The Explanation of a network on a Matrix of inputs (see `Explanation` for what it holds).

    reference: a row of numbers, the mean of the data where None; scale: a deviation for each
    feature, that of the data where None.
    """
    tell = progress or quiet
    network = network.to(torch.float64)
    chosen, names = pick_outputs(network, outputs)
    features = feature_names(network, matrix)
    together = settled(groups_of(network, features, groups), matrix.values)
    x = network.rows(matrix.values)
    found = census(
        network, x, batch_size=batch_size, progress=lambda n: tell("patterns", n, len(x))
    )
    require_finite(matrix.index, found.output)
    weight, offset = found.maps.rows(chosen)
    error, bound = certificate(found, x, weight, offset, chosen, tell)
    w, b = weight.cpu().numpy(), offset.cpu().numpy()
    base = mean(matrix.values) if reference is None else np.asarray(reference, np.float64)
    require_finite(matrix.index, error, bound)
    require_range(w, b, found.ids, matrix, base)
    spread = deviation(matrix.values) if scale is None else np.asarray(scale, np.float64)
    return Explanation(
        network,
        matrix,
        found,
        tuple(chosen),
        features,
        names,
        w,
        b,
        base,
        spread,
        error,
        bound,
        margins(network, x, found, spread, matrix.index, tell) if margin else None,
        target,
        target_name,
        MEAN if reference is None else reference_name,
        together,
    )


def require_explanation(exp: Any, asker: str, some: str = "") -> None:
    """Refuses what is not a whole Explanation; some: how else to ask for a part of its rows."""
    if not isinstance(exp, Explanation):
        raise DataError(
            f"{asker} takes the Explanation that gatewise.explain returns, got a "
            f"{type(exp).__name__}: give the whole of it{some}"
        )
