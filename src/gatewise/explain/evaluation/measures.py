"""The measures of an explanation, one function each: (trial, method, answer) -> a number.

All are of one output f, on rows x with deviations sd and reference r. Where a method cannot be
asked (it claims no sum, it cannot be rebuilt) the number is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.explain.evaluation.methods import Attribution, Method
from gatewise.explain.evaluation.samples import halves, in_ball, in_region, redrawn
from gatewise.explain.evaluation.target import ranks
from gatewise.ir.network import Network
from gatewise.patterns.observe import default_batch
from gatewise.regions.halfspaces import Region, region

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Points:
    """Samples around rows: x (rows, k, features), f (rows, k), kept (rows, k): which count."""

    x: Floats
    f: Floats
    kept: Mask


@dataclass(frozen=True, eq=False)
class Trial:
    """What every method is asked about: the same rows, samples and networks.

    unit: the deviation of f over the rows; again: rows of the measures that ask a method again;
    inside: verified points of each row's region; moved: points of the ball, for the first `again`
    rows in `near`; halved: rows with features taken away (`away`) to the reference.
    """

    network: Network
    output: int
    x: Floats
    f: Floats
    reference: Floats
    scale: Floats
    unit: float
    again: int
    inside: Points
    moved: Points
    halved: Points
    away: Mask
    near: Floats
    drawn: tuple[Network, ...]
    retrained: tuple[Network, ...]

    @property
    def reach(self) -> float:
        """Median distance of a verified point of a region from its row, in deviations."""
        sd = np.where(self.scale > 0, self.scale, 1)
        away = np.linalg.norm((self.inside.x - self.x[:, None]) / sd, axis=-1)[self.inside.kept]
        return float(np.median(away)) if len(away) else 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method said of the trial's rows, completed: see `Method`.

    swing (again,): max over the ball of |v(y) - v(x)| / |v(x)|, v the vector that it shows.
    """

    said: Attribution
    parts: Floats
    slopes: Floats
    vector: Floats
    swing: Floats


@dataclass(frozen=True)
class Sizes:
    """How many samples a row, rows asked again, and networks drawn."""

    inside: int = 8
    moved: int = 16
    near: int = 8
    again: int = 40
    drawn: int = 3
    radius: float = 0.1


def trial(
    network: Network,
    output: int,
    x: Floats,
    reference: Floats,
    scale: Floats,
    box: tuple[Floats, Floats],
    retrained: tuple[Network, ...],
    sizes: Sizes,
    seed: int,
) -> Trial:
    """Draw every sample, each kind from a stream of its own: more of one changes no other."""
    streams = [np.random.default_rng([seed, k]) for k in range(5)]
    f = evaluated(network, output, x)
    corners = (torch.from_numpy(box[0]), torch.from_numpy(box[1]))
    home = region(network, network.rows(x), corners)
    again = min(sizes.again, len(x))
    away = halves(len(x), x.shape[1], sizes.moved, streams[2])
    moved = in_ball(x, sizes.radius * scale, sizes.moved, streams[1])
    return Trial(
        network=network,
        output=output,
        x=x,
        f=f,
        reference=reference,
        scale=scale,
        unit=float(f.std()) or 1.0,
        again=again,
        inside=_verified(network, output, home, scale, sizes.inside, streams[0]),
        moved=_points(network, output, moved),
        halved=_points(network, output, np.where(away, reference, x[:, None])),
        away=away,
        near=in_ball(x[:again], sizes.radius * scale, sizes.near, streams[3]),
        drawn=tuple(redrawn(network, streams[4]) for _ in range(sizes.drawn)),
        retrained=retrained,
    )


def evaluated(network: Network, output: int, x: Floats) -> Floats:
    """f at x (..., features), one output."""
    flat, step = x.reshape(-1, x.shape[-1]), default_batch(network)
    with torch.no_grad():
        parts = [network(flat[i : i + step])[:, output] for i in range(0, len(flat), step)]
    return np.asarray(torch.cat(parts).double().cpu().numpy().reshape(x.shape[:-1]))


def _points(network: Network, output: int, x: Floats) -> Points:
    return Points(x, evaluated(network, output, x), np.ones(x.shape[:2], bool))


def _verified(
    network: Network, output: int, home: Region, scale: Floats, count: int, rng: np.random.Generator
) -> Points:
    x = in_region(home, scale, count, rng)
    kept = home.contains(x).cpu().numpy()
    return Points(x, evaluated(network, output, x), kept)


def answer(t: Trial, m: Method) -> Answer:
    """Ask a method about the trial's rows, and about the balls around the first of them."""
    said = m(t.x)
    vector = m.vector(said)
    flat = t.near.reshape(-1, t.x.shape[1])
    there, here = m.vector(m(flat)).reshape(t.near.shape), vector[: t.again, None]
    swing = _relative(there - here, here).max(1)
    return Answer(said, m.parts(said, t.x), m.slopes(said, t.x), vector, swing)


# -- descriptive accuracy: does the explanation say what the network does? --


def additivity(t: Trial, m: Method, a: Answer) -> float | None:
    """max over rows of |base + sum_j values_j - f(x)|, in the output's units."""
    if a.said.values is None or a.said.base is None:
        return None
    return float(np.abs(a.said.base + a.said.values.sum(1) - t.f).max())


def region_error(t: Trial, m: Method, a: Answer) -> Floats:
    """(kept points,) |f(x) + s . (x' - x) - f(x')| in deviations of f, x' in the region of x."""
    said = t.f[:, None] + np.einsum("nf,nkf->nk", a.slopes, t.inside.x - t.x[:, None])
    return np.asarray((np.abs(said - t.inside.f) / t.unit)[t.inside.kept])


def region_median(t: Trial, m: Method, a: Answer) -> float | None:
    """The median of `region_error`."""
    error = region_error(t, m, a)
    return float(np.median(error)) if len(error) else None


def region_largest(t: Trial, m: Method, a: Answer) -> float | None:
    """The largest of `region_error`."""
    error = region_error(t, m, a)
    return float(error.max()) if len(error) else None


def consistency(t: Trial, m: Method, a: Answer) -> float | None:
    """max |s(x') - s(x)| / |s(x)|, slopes times sd, x' a verified point of the region of x."""
    rows = np.flatnonzero(t.inside.kept[: t.again].any(1))
    if not len(rows):
        return None
    x = t.inside.x[rows, t.inside.kept[rows].argmax(1)]
    there, here = m.slopes(m(x), x) * t.scale, a.slopes[rows] * t.scale
    return float(_relative(there - here, here).max())


def infidelity_moved(t: Trial, m: Method, a: Answer) -> float | None:
    """E (I . s - (f(x) - f(x - I)))² / E (f(x) - f(x - I))², I uniform in the ball."""
    step = t.x[:, None] - t.moved.x
    said = np.einsum("nkf,nf->nk", step, a.slopes)
    return _unexplained(said, t.f[:, None] - t.moved.f)


def infidelity_removed(t: Trial, m: Method, a: Answer) -> float | None:
    """The same with I = x - r on a random half S of the features, I . s = sum_S values."""
    said = np.einsum("nkf,nf->nk", t.away, a.parts)
    return _unexplained(said, t.f[:, None] - t.halved.f)


def sensitivity_median(t: Trial, m: Method, a: Answer) -> float | None:
    """The median row's `swing`."""
    return float(np.median(a.swing))


def sensitivity_largest(t: Trial, m: Method, a: Answer) -> float | None:
    """The worst row's `swing`."""
    return float(a.swing.max())


def randomisation(t: Trial, m: Method, a: Answer) -> float | None:
    """Mean |rank correlation| of a row's values with those on weights drawn anew."""
    return _agreement(t, m, a, t.drawn, signed=False)


def stability(t: Trial, m: Method, a: Answer) -> float | None:
    """Mean rank correlation of a row's values with those on networks trained again."""
    return _agreement(t, m, a, t.retrained, signed=True)


def _agreement(
    t: Trial, m: Method, a: Answer, networks: tuple[Network, ...], signed: bool
) -> float | None:
    others = [m.on(network) for network in networks]
    x = t.x[: t.again]
    found = [o.vector(o(x)) for o in others if o is not None]
    if not found or len(found) < len(others):
        return None
    each = [rank_correlation(a.vector[: t.again], v) for v in found]
    return float(np.mean(each if signed else np.abs(each)))


# -- relevancy: can it be taken in? --


def effective_features(t: Trial, m: Method, a: Answer) -> float | None:
    """Mean over rows of exp(entropy): how many equal parts are as spread out as these."""
    return float(np.exp(_entropy(a.vector)).mean())


def entropy(t: Trial, m: Method, a: Answer) -> float | None:
    """Mean over rows of -sum p log p, p_j = |values_j| / sum |values|, in nats."""
    return float(_entropy(a.vector).mean())


Score = Callable[[Trial, Method, Answer], float | None]


# -- arithmetic --


def _entropy(vector: Floats) -> Floats:
    size = np.abs(vector)
    total = size.sum(1, keepdims=True)
    p = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(1))


def _unexplained(said: Floats, true: Floats) -> float | None:
    spread = float((true**2).mean())
    return float(((said - true) ** 2).mean()) / spread if spread > 0 else None


def _relative(change: Floats, from_: Floats) -> Floats:
    """|change| / |from| along the last axis; a change from nothing counts as 1, none as 0."""
    size, base = np.linalg.norm(change, axis=-1), np.linalg.norm(from_, axis=-1)
    base = np.broadcast_to(base, size.shape)
    alone = np.where(size > 0, 1.0, 0.0)
    return np.asarray(np.divide(size, base, out=alone, where=base > 0))


def rank_correlation(a: Floats, b: Floats) -> Floats:
    """(rows,) Spearman's, row by row; 0 where one side is constant."""
    ra, rb = (np.apply_along_axis(ranks, 1, v) for v in (a, b))
    ra, rb = ra - ra.mean(1, keepdims=True), rb - rb.mean(1, keepdims=True)
    size = np.sqrt((ra**2).sum(1) * (rb**2).sum(1))
    return np.asarray(np.divide((ra * rb).sum(1), size, out=np.zeros(len(a)), where=size > 0))
