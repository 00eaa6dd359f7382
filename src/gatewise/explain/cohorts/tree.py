"""A tree of conditions whose leaves hold affine rules, grown where it pays most.

On some rows with moments G = sum z zᵀ, c = sum z y, q = sum y², the best rule in closed form is
    beta = (G + R)⁻¹ c,    at the cost  q - c . beta    (R: a small ridge, none on the constant)
so a split is judged from prefix sums of moments, with no pass over the rows, and so is a merge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.cohorts.sample import Floats, Ids, Sample

LOOK = 1e8  # multiplications one search may spend on moments: it looks at a part of many rows
COARSE = 20  # thresholds judged a feature and node; all CUTS are, once the tree is refined
LEAF_ROWS = 4  # rows of the data in a leaf


@dataclass(frozen=True, eq=False)
class Moments:
    """G (..., p, p), c (..., p), q (...): sums over rows, so they add and subtract."""

    G: Floats
    c: Floats
    q: Floats

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.G + other.G, self.c + other.c, self.q + other.q)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.G - other.G, self.c - other.c, self.q - other.q)

    def pooled(self, labels: Ids, count: int) -> Moments:
        """Sums over the entries with each label."""
        pick = (labels == np.arange(count)[:, None]).astype(np.float64)
        G = np.tensordot(pick, self.G, 1)
        return Moments(np.asarray(G), pick @ self.c, np.asarray(pick @ self.q))


def moments(z: Floats, y: Floats) -> Moments:
    """The moments of some rows."""
    return Moments(z.T @ z, z.T @ y, np.asarray(y @ y))


def moments_by(z: Floats, y: Floats, labels: Ids, count: int) -> Moments:
    """(count, ...) the moments of the rows with each label."""
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(1, count))
    z, y = z[order], y[order]
    parts = [moments(*part) for part in zip(np.split(z, ends), np.split(y, ends), strict=True)]
    return Moments(*(np.stack([getattr(m, k) for m in parts]) for k in ("G", "c", "q")))


def ridge_of(features: int, rows: float, real: int) -> Floats:
    """(1 + features,): worth 1 row of the data for every 100 numbers of a rule."""
    weight = (1 + features) / 100 * rows / real
    return np.asarray(np.r_[1e-6, np.full(features, weight)])


def solve(m: Moments, ridge: Floats) -> tuple[Floats, Floats]:
    """The best rule (..., p) and what it costs (...)."""
    beta = np.linalg.solve(m.G + np.diag(ridge), m.c[..., None])[..., 0]
    return np.asarray(beta), np.asarray(m.q - (m.c * beta).sum(-1))


@dataclass(frozen=True, eq=False)
class Tree:
    """Nodes: row goes left where codes[feature] <= cut; feature -1 in a leaf. Node 0 is the root,
    and children come after their parents.
    """

    feature: Ids
    cut: Ids
    left: Ids
    right: Ids

    @property
    def leaves(self) -> Ids:
        """The leaf nodes."""
        return np.flatnonzero(self.feature < 0)

    def route(self, codes: NDArray[np.uint8], node: Ids | int = 0) -> Ids:
        """(rows,) the leaf of every row, from the root or from the nodes given."""
        at = np.broadcast_to(np.asarray(node, np.int64), len(codes)).copy()
        inner = np.flatnonzero(self.feature[at] >= 0)
        while len(inner):
            n = at[inner]
            below = codes[inner, self.feature[n]] <= self.cut[n]
            at[inner] = np.where(below, self.left[n], self.right[n])
            inner = inner[self.feature[at[inner]] >= 0]
        return at

    def path(self, leaf: int) -> list[tuple[int, int, bool]]:
        """(feature, cut, is it <=) from the root to a leaf."""
        found = []
        while leaf:
            up = int(np.flatnonzero((self.left == leaf) | (self.right == leaf))[0])
            found.append((int(self.feature[up]), int(self.cut[up]), bool(self.left[up] == leaf)))
            leaf = up
        return found[::-1]

    def first(self, leaves: int) -> Tree:
        """The tree as it was when it had that many leaves: nodes are added two at a time."""
        size = 2 * leaves - 1
        f, c, a, b = (t[:size].copy() for t in (self.feature, self.cut, self.left, self.right))
        f[(a >= size) | (b >= size)] = -1
        return Tree(f, c, a, b)


@dataclass(frozen=True)
class Split:
    """What a split of a node gains, and where it is."""

    gain: float
    feature: int = -1
    cut: int = 0


def grow(sample: Sample, leaves: int, ridge: Floats, rng: np.random.Generator) -> Tree:
    """The tree of at most that many leaves, the most useful split first."""
    rows = {0: np.arange(len(sample))}
    split = {0: best_split(sample, rows[0], ridge, rng)}
    nodes = [[-1, 0, 0, 0]]
    while len(split) < leaves:
        n = max(split, key=lambda k: split[k].gain)
        if split[n].feature < 0:
            break
        chosen, mine = split.pop(n), rows.pop(n)
        below = sample.codes[mine, chosen.feature] <= chosen.cut
        nodes[n] = [chosen.feature, chosen.cut, len(nodes), len(nodes) + 1]
        for part in (mine[below], mine[~below]):
            k = len(nodes)
            nodes.append([-1, 0, 0, 0])
            rows[k], split[k] = part, best_split(sample, part, ridge, rng)
    return Tree(*np.array(nodes, np.int64).T)


def best_split(sample: Sample, rows: Ids, ridge: Floats, rng: np.random.Generator) -> Split:
    """The split of some rows that saves most, among COARSE thresholds a feature."""
    width = sample.z.shape[1]
    most = max(2000, int(LOOK / width**2 / (8 + sum(len(c) > 1 for c in sample.cuts))))
    part = rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
    share = len(rows) / len(part)
    z, y, real = sample.z[part], sample.y[part], sample.real[part]
    whole = moments(z, y)
    _, cost = solve(whole, ridge / share)
    best = Split(1e-9 * float(whole.q))
    for feature in range(width - 1):
        codes = sample.codes[part, feature]
        at = thresholds(codes, real, LEAF_ROWS / share)
        if len(at):
            below = _prefix(z, y, np.searchsorted(at, codes, "left"), len(at), whole)
            gains = cost - solve(below, ridge / share)[1] - solve(whole - below, ridge / share)[1]
            k = int(gains.argmax())
            if gains[k] > best.gain:
                best = Split(float(gains[k]), feature, int(at[k]))
    return Split(best.gain * share, best.feature, best.cut)


def thresholds(codes: NDArray[np.uint8], real: NDArray[np.bool_], least: float) -> Ids:
    """At most COARSE codes to split at, that leave `least` rows of the data on each side."""
    counts = np.cumsum(np.bincount(codes[real], minlength=int(codes.max()) + 1))
    at = np.flatnonzero(np.diff(np.r_[0, counts]) > 0)[:-1]
    at = at[(counts[at] >= least) & (counts[-1] - counts[at] >= least)]
    if len(at) > COARSE:
        wanted = np.linspace(counts[at[0]], counts[at[-1]], COARSE)
        at = np.unique(at[np.searchsorted(counts[at], wanted, "left")])
    return at


def _prefix(z: Floats, y: Floats, groups: Ids, count: int, whole: Moments) -> Moments:
    """(count, ...) moments of the rows in groups 0..k; of two groups, the smaller is summed."""
    if count == 1:
        few = int(2 * np.count_nonzero(groups) < len(groups))
        part = moments(z[groups == few], y[groups == few])
        part = whole - part if few else part
        return Moments(part.G[None], part.c[None], part.q[None])
    found = moments_by(z, y, groups, count + 1)
    return Moments(*(np.cumsum(t[:-1], 0) for t in (found.G, found.c, found.q)))
