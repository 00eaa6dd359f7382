"""Leaves that share a rule: merged by closed-form cost, then tree and rules improved in turn.

Merging as Ward's method does, with the cost of one rule for two leaves; then the alternation of
Carreira-Perpinan & Tavallali, "Alternating optimization of decision trees" (2018): each node takes
the split that sends its rows to the better rules, then each rule is fitted to its rows again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.cohorts.sample import Floats, Ids, Sample
from gatewise.explain.cohorts.tree import LEAF_ROWS, Moments, Tree, moments_by, solve

PASSES = 4


@dataclass(frozen=True, eq=False)
class Rules:
    """A tree, the rule of each of its nodes (nodes,) (-1 inside), and the rules (rules, p)."""

    tree: Tree
    label: Ids
    beta: Floats

    def assign(self, codes: NDArray[np.uint8]) -> Ids:
        """(rows,) the rule of every row."""
        return np.asarray(self.label[self.tree.route(codes)])

    def predict(self, z: Floats, codes: NDArray[np.uint8]) -> Floats:
        """(rows,) what the rules say."""
        return np.asarray((z * self.beta[self.assign(codes)]).sum(1))


def fitted(sample: Sample, tree: Tree, count: int, ridge: Floats) -> Rules:
    """At most `count` rules for the leaves of a tree."""
    leaves = tree.leaves
    place = np.full(len(tree.feature), -1)
    place[leaves] = np.arange(len(leaves))
    found = moments_by(sample.z, sample.y, place[tree.route(sample.codes)], len(leaves))
    labels = reassigned(found, agglomerate(found, count, ridge), ridge)
    label = np.full(len(tree.feature), -1)
    label[leaves] = labels
    beta, _ = solve(found.pooled(labels, labels.max() + 1), ridge)
    return Rules(tree, label, beta)


def agglomerate(leaf: Moments, count: int, ridge: Floats) -> Ids:
    """(leaves,) labels 0..count-1: the two groups whose one rule costs least are joined in turn."""
    n = len(leaf.q)
    labels = np.arange(n)
    if n <= count:
        return labels
    G, c, q = leaf.G.copy(), leaf.c.copy(), leaf.q.copy()
    now = Moments(G, c, q)
    cost = solve(now, ridge)[1]
    extra = np.full((n, n), np.inf)
    for i in range(n - 1):
        extra[i, i + 1 :] = _extra(now, cost, i, np.arange(i + 1, n), ridge)
    for _ in range(n - count):
        i, j = divmod(int(extra.argmin()), n)
        cost[i] += cost[j] + extra[i, j]
        G[i], c[i], q[i] = G[i] + G[j], c[i] + c[j], q[i] + q[j]
        labels[labels == j] = i
        extra[j], extra[:, j] = np.inf, np.inf
        others = np.setdiff1d(np.unique(labels), [i])
        new = _extra(now, cost, i, others, ridge)
        extra[np.minimum(i, others), np.maximum(i, others)] = new
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _extra(m: Moments, cost: Floats, i: int, others: Ids, ridge: Floats) -> Floats:
    """(others,) what joining i with each costs."""
    joined = Moments(m.G[i] + m.G[others], m.c[i] + m.c[others], m.q[i] + m.q[others])
    return np.asarray(solve(joined, ridge)[1] - cost[i] - cost[others])


def reassigned(leaf: Moments, labels: Ids, ridge: Floats, rounds: int = 20) -> Ids:
    """Labels after each leaf went to the rule that fits it best, until none moves."""
    count = int(labels.max()) + 1
    if count == len(labels):
        return labels
    for _ in range(rounds):
        beta, _ = solve(leaf.pooled(labels, count), ridge)
        quad = np.einsum("kp,lpr,kr->lk", beta, leaf.G, beta, optimize=True)
        best = (quad - 2 * leaf.c @ beta.T).argmin(1)
        if len(np.unique(best)) < count or (best == labels).all():
            break
        labels = best
    return labels


def refined(sample: Sample, rules: Rules, ridge: Floats, passes: int = PASSES) -> Rules:
    """Rules after alternating splits and fits while that lowers the cost."""
    best, least = rules, _cost(sample, rules)
    for _ in range(passes):
        rules = _refit(sample, _resplit(sample, rules), rules.label, ridge)
        cost = _cost(sample, rules)
        if cost >= least * (1 - 1e-4):
            return rules if cost < least else best
        best, least = rules, cost
    return best


def _cost(sample: Sample, rules: Rules) -> float:
    return float(((sample.y - rules.predict(sample.z, sample.codes)) ** 2).sum())


def _refit(sample: Sample, tree: Tree, label: Ids, ridge: Floats) -> Rules:
    found = moments_by(sample.z, sample.y, label[tree.route(sample.codes)], int(label.max()) + 1)
    return Rules(tree, label, solve(found, ridge)[0])


def _resplit(sample: Sample, rules: Rules) -> Tree:
    """The tree with every split, from the deepest up, the best for the rules below it."""
    tree = rules.tree
    error = (sample.y[:, None] - sample.z @ rules.beta.T) ** 2
    f, c = tree.feature.copy(), tree.cut.copy()
    new = Tree(f, c, tree.left, tree.right)
    mine: dict[int, Ids] = {0: np.arange(len(sample))}
    splits = np.flatnonzero(f >= 0).tolist()  # parents come first
    for n in splits:
        below = sample.codes[mine[n], f[n]] <= c[n]
        mine[int(tree.left[n])], mine[int(tree.right[n])] = mine[n][below], mine[n][~below]
    for n in reversed(splits):
        rows = mine[n]
        codes = sample.codes[rows]
        sides = (rules.label[new.route(codes, s)] for s in (tree.left[n], tree.right[n]))
        left, right = (error[rows, k] for k in sides)
        f[n], c[n] = _best_cut(codes, left - right, sample.real[rows], (f[n], c[n]))
    return new


def _best_cut(
    codes: NDArray[np.uint8], loss: Floats, real: NDArray[np.bool_], now: tuple[int, int]
) -> tuple[int, int]:
    """(feature, cut) with the least sum of loss (of going left, over right) below the cut."""
    features, bins = codes.shape[1], int(codes.max(initial=0)) + 1
    if bins < 2:
        return now
    flat = (codes + np.arange(features) * bins).ravel()
    gain = np.bincount(flat, np.repeat(loss, features), features * bins)
    count = np.bincount(flat, np.repeat(real.astype(float), features), features * bins)
    total = np.cumsum(gain.reshape(features, bins), 1)[:, :-1]
    below = np.cumsum(count.reshape(features, bins), 1)[:, :-1]
    fits = (below >= LEAF_ROWS) & (real.sum() - below >= LEAF_ROWS)
    total = np.where(fits, total, np.inf)
    best = divmod(int(total.argmin()), bins - 1)
    here = total[now] if now[1] < bins - 1 else np.inf
    if not np.isfinite(total[best]) or total[best] >= here - 1e-9 * min(abs(here), 1e300):
        return now
    return best
