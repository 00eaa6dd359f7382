"""A trained network's gates as half-spaces of the input, in closed form: no gradient step.

Each gate z > 0, z(x) its pre-activation, becomes u.x + b > 0 with (u, b) the least squares fit of z
over the rows (exact, and taken as it is, in the first layer). All gates share one decomposition of
the inputs' second moments; values are streamed a batch of rows at a time. Weights stay as they
are, or are refitted one layer after another, by least squares to what each layer gave before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.distilling.least_squares import (
    Inputs,
    decided,
    planes_of,
    refitted,
    replaced,
    streamed,
)
from gatewise.dual.gating import Gated, Site, on_host
from gatewise.errors import DataError, NotGated
from gatewise.given.labels import CONSTANT, Task, Truth, network_score, truth_of
from gatewise.given.rows import rows_of
from gatewise.ir.kinds import Pieces
from gatewise.ir.network import Network
from gatewise.numeric import whole_number

BATCH = 2048  # rows at once
RIDGE = 1e-2  # of 0 .. 0.1, the best on held-out MNIST rows for two of two trained nets


@dataclass(frozen=True)
class GateLayer:
    """How one layer's half-spaces agree with the gates they stand for.

    agreement: share of (row, unit) pairs decided alike on the fitted rows; majority: the same for
    each unit's more frequent state; held, held_majority: on held-out rows (None without them).
    """

    name: str
    units: int
    agreement: float
    majority: float
    held: float | None
    held_majority: float | None


@dataclass(frozen=True, eq=False)
class Distilled:
    """network: its gates are steps of affine functions of the input, times the values.

    layers: how each layer's gates agree; score: (trained, distilled) share of right labels, or R2
    of a regression, on the fitted rows with labels, held_score on the held-out ones; change,
    held_change: root mean square of the outputs' change over that of the trained outputs about
    their mean (NaN where those are constant); rank: of the inputs; refitted: nodes with new
    weights; notes.
    """

    network: Network
    layers: tuple[GateLayer, ...]
    score: tuple[float, float] | None
    held_score: tuple[float, float] | None
    change: float
    held_change: float | None
    rank: int
    rows: int
    refitted: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"Gates as half-spaces of the input, least squares over {self.rows} rows",
            f"{'layer':18}{'units':>6}{'agree':>9}{'majority':>10}{'held out':>10}{'majority':>10}",
            *(_line(layer) for layer in self.layers),
        ]
        for name, change, score in (
            ("fitted rows", self.change, self.score),
            ("held-out rows", self.held_change, self.held_score),
        ):
            if change is not None:
                lines.append(f"{name}: {_change(change)}{_score(score)}")
        return "\n".join([*lines, *self.notes])


def _line(layer: GateLayer) -> str:
    held = (layer.held, layer.held_majority)
    cells = ["-" if v is None else f"{v:.2%}" for v in held]
    return (
        f"{layer.name[:17]:18}{layer.units:6d}{layer.agreement:9.2%}{layer.majority:10.2%}"
        f"{cells[0]:>10}{cells[1]:>10}"
    )


def _change(change: float) -> str:
    if math.isnan(change):
        return "the trained outputs are constant"
    return f"outputs change by {change:.3g} of their spread"


def _score(score: tuple[float, float] | None) -> str:
    return "" if score is None else f"; score {score[0]:.4f} before, {score[1]:.4f} after"


def distill(
    net: Network | Gated,
    X: Any,
    y: Any = None,
    *,
    refit: bool = False,
    layers: Sequence[int] | None = None,
    X_test: Any = None,
    y_test: Any = None,
    ridge: float = RIDGE,
    batch: int = BATCH,
    task: Task | None = None,
) -> Distilled:
    """The network with its gates as half-spaces of the input, fitted to the rows X.

    refit: then the weights behind the first of them too, layer by layer. layers: positions of the
    gate layers to replace, from 0 (default: all). y, y_test: labels, or targets of a regression, as
    `gates_know` takes them, for the scores before and after; task: where neither the network nor y
    tells. ridge: of the least squares, in units of the mean second moment
    of the inputs, each by its range. Fully connected, skips included; a gate layer with positions
    (a convolution) is refused by name. What is lost is to be looked at, in `held_score`: a network
    whose gates are rarely on can lose much at an agreement of 95 %.
    """
    if not 0 <= ridge < math.inf:
        raise DataError(f"ridge must be 0 or more, got {ridge!r}")
    whole_number(batch, "batch")
    whole = on_host(net)
    network = whole.network.to(torch.float64)
    sites = _chosen(whole, layers)
    fitted = _Rows.of(network, X, y, ("X", "y"), task)
    held = _held(network, X_test, y_test, fitted, task)
    inputs = Inputs.of(fitted.x, ridge, batch)
    made = replaced(network, sites, planes_of(network, sites, inputs, batch))
    changed: tuple[str, ...] = ()
    if refit:
        made, changed = refitted(network, made, sites, fitted.x, batch)
    parts = (network, made, sites, batch)
    return _looked_at(parts, fitted, held, (inputs.rank, len(fitted.x), changed, inputs.notes()))


def _looked_at(
    parts: tuple[Network, Network, tuple[Site, ...], int],
    fitted: _Rows,
    held: _Rows | None,
    rest: tuple[int, int, tuple[str, ...], tuple[str, ...]],
) -> Distilled:
    """Both networks on the fitted and the held-out rows."""
    network, made, sites, batch = parts
    gaps = [_compare(network, made, sites, rows.x, batch) for rows in (fitted, held) if rows]
    return Distilled(
        made,
        _table(sites, gaps),
        fitted.scores(network, made),
        held.scores(network, made) if held else None,
        gaps[0].change,
        gaps[1].change if held else None,
        *rest,
    )


def _chosen(whole: Gated, layers: Sequence[int] | None) -> tuple[Site, ...]:
    """The sites to replace."""
    count = len(whole.sites)
    if not count:
        raise NotGated("the network has no gates, so there is nothing to distill")
    wanted = range(count) if layers is None else layers
    wrong = [i for i in wanted if not -count <= i < count]
    if wrong or not len(wanted):
        raise DataError(f"layers must be positions of the {count} gate layers, got {list(wanted)}")
    sites = tuple(whole.sites[i] for i in sorted({i % count for i in wanted}))
    for site in sites:
        if sum(n > 1 for n in site.shape) > 1:
            raise NotGated(
                f"gate layer '{site.at}' has shape {site.shape}, with positions: distilling takes "
                f"fully connected gates; pass layers= with the positions of those"
            )
    return sites


# -- how well it went --


@dataclass(frozen=True, eq=False)
class _Gaps:
    """Shares (sites,) of gates alike, of each unit's majority, and the outputs' change."""

    agreement: NDArray[np.float64]
    majority: NDArray[np.float64]
    change: float


def _compare(
    network: Network, made: Network, sites: Sequence[Site], x: Tensor, batch: int
) -> _Gaps:
    """Both networks over the rows, gate by gate."""
    names = [decided(network, s) for s in sites]
    planes = [f"{s.gate}.plane" for s in sites]
    kinds = [network.node(s.gate).kind for s in sites]
    alike, on = np.zeros(len(sites)), [torch.zeros(s.units) for s in sites]
    first = network(x[:1])  # spread and total are of the distance to it: constant is 0
    moved = spread = total = x.new_zeros(network.outputs)
    old = streamed(network, [*names, network.output], x, batch)
    new = streamed(made, [*planes, made.output], x, batch)
    for (_, before), (_, after) in zip(old, new, strict=True):
        for i, kind in enumerate(kinds):
            assert isinstance(kind, Pieces)
            a, b = kind.choose(before[i]).flatten(1), kind.choose(after[i]).flatten(1)
            alike[i] += float((a == b).sum())
            on[i] += (a > 0).sum(0)
        f, g = before[-1].flatten(1), after[-1].flatten(1)
        away = f - first
        moved = moved + (f - g).square().sum(0)
        spread, total = spread + away.square().sum(0), total + away.sum(0)
    variance = float((spread - total.square() / len(x)).sum())
    majority = [float(torch.maximum(c, len(x) - c).mean()) / len(x) for c in on]
    still = variance <= len(x) * (CONSTANT * float(first.abs().max())) ** 2
    change = math.nan if still else math.sqrt(float(moved.sum()) / variance)
    units = np.array([s.units for s in sites])
    return _Gaps(alike / (units * len(x)), np.array(majority), change)


def _table(sites: Sequence[Site], gaps: list[_Gaps]) -> tuple[GateLayer, ...]:
    fitted, held = gaps[0], gaps[1] if len(gaps) > 1 else None
    return tuple(
        GateLayer(
            s.at,
            s.units,
            float(fitted.agreement[i]),
            float(fitted.majority[i]),
            None if held is None else float(held.agreement[i]),
            None if held is None else float(held.majority[i]),
        )
        for i, s in enumerate(sites)
    )


# -- the rows it is looked at on --


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows, what they are held against (None: no scores), and how both networks do on them."""

    x: Tensor
    truth: Truth | None

    @classmethod
    def of(cls, network: Network, X: Any, y: Any, names: tuple[str, str], task: Any) -> _Rows:
        """From the table and the labels that were given, by their names in messages."""
        x = rows_of(network, X, names[0], least=2)
        return cls(x, None if y is None else truth_of(network, y, len(x), names[1], task))

    def scores(self, network: Network, made: Network) -> tuple[float, float] | None:
        """Before and after."""
        if self.truth is None:
            return None
        return network_score(network, self.x, self.truth), network_score(made, self.x, self.truth)


def _held(network: Network, X: Any, y: Any, fitted: _Rows, task: Any) -> _Rows | None:
    """The held-out rows, if any; their labels are read as those of the fitted rows."""
    if X is None and y is not None:
        raise DataError("y_test was given without its rows; give X_test too")
    if X is None:
        return None
    same = task if fitted.truth is None else fitted.truth.task
    return _Rows.of(network, X, y, ("X_test", "y_test"), same)
