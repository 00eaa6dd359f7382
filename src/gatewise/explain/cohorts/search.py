"""From a function and some rows to few rules: for each number of rules, the best tree found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gatewise.explain.cohorts.merge import Rules, fitted, refined
from gatewise.explain.cohorts.sample import (
    Floats,
    Ids,
    Sample,
    Scaling,
    coded,
    cuts_of,
    mixtures,
    scaling,
)
from gatewise.explain.cohorts.tree import Moments, Tree, grow, moments, ridge_of, solve

MADE = (16_000, 24_000)  # fewest and most made rows; as many as the data between
JUDGES = 4000  # made rows that say how many leaves are worth their conditions
SHARES = (1, 2, 4)  # leaves a rule
MOST_LEAVES = 64
ENOUGH = 10  # rows of the data for each number of the rules make made rows needless
WORTH = 0.995  # more leaves must lower the error to this part of what it was


@dataclass(frozen=True, eq=False)
class Fit:
    """Rules on the coded, scaled inputs, and what turns inputs into those."""

    rules: Rules
    scaling: Scaling
    cuts: tuple[Floats, ...]

    def codes(self, x: Floats) -> Ids:
        """(rows, features): see `coded`."""
        return coded(x, self.cuts)  # type: ignore[return-value]

    def assign(self, x: Floats) -> Ids:
        """(rows,) the rule of each row."""
        return self.rules.assign(coded(x, self.cuts))


@dataclass(frozen=True, eq=False)
class Search:
    """A grown tree, the sample it grew on, and other made rows to choose by."""

    sample: Sample
    judges: Sample
    ridge: Floats
    base: Floats
    tree: Tree
    scaling: Scaling

    def fit(self, count: int, shares: Sequence[int] = SHARES) -> Fit:
        """The best found with at most that many rules."""
        sample, ridge = self._weighed(count)
        rules = refined(sample, self._chosen(sample, ridge, count, shares), ridge)
        rules = Rules(rules.tree, rules.label, rules.beta + self.base)
        return Fit(rules, self.scaling, self.sample.cuts)

    def _weighed(self, count: int) -> tuple[Sample, Floats]:
        """The sample, made rows counting less where the data are enough for so many rules.

        A row of weight w is one whose z and y are multiplied by sqrt(w).
        """
        s = self.sample
        real, width = int(s.real.sum()), s.z.shape[1]
        weight = np.where(s.real, 1.0, min(1.0, ENOUGH * count * width / real))
        root = np.sqrt(weight)
        ridge = ridge_of(width - 1, float(weight.sum()), real)
        return replace(s, z=s.z * root[:, None], y=s.y * root), ridge

    def _chosen(self, sample: Sample, ridge: Floats, count: int, shares: Sequence[int]) -> Rules:
        """More leaves than rules only where other rows say that it pays."""
        most = len(self.tree.leaves)
        sizes = sorted({min(count * s, max(count, MOST_LEAVES), most) for s in shares})
        best, least = None, np.inf
        for size in sizes if count > 1 else [1]:
            rules = fitted(sample, self.tree.first(size), count, ridge)
            gap = np.abs(rules.predict(self.judges.z, self.judges.codes) - self.judges.y).mean()
            if best is None or gap < WORTH * least:
                best, least = rules, float(gap)
        assert best is not None
        return best


def search(
    ask: Callable[[Floats], Floats],
    x: Floats,
    parts: Sequence[Sequence[int]],
    most: int,
    rng: np.random.Generator,
) -> Search:
    """Grow a tree for up to `most` rules of `ask` around the rows x (see `mixtures` for parts)."""
    scale, cuts = scaling(x), cuts_of(x)
    made = int(np.clip(len(x), *MADE))
    rows = np.vstack([x, mixtures(x, parts, made, rng)])
    ridge = ridge_of(x.shape[1], len(rows), len(x))
    z, y = scale(rows), ask(rows)
    whole = moments(z, y)
    base = solve(Moments(whole.G, whole.c, whole.q), ridge * 1e-3)[0]
    sample = Sample(z, y - z @ base, coded(rows, cuts), cuts, np.arange(len(rows)) < len(x))
    other = mixtures(x, parts, JUDGES, rng)
    z = scale(other)
    judges = Sample(z, ask(other) - z @ base, coded(other, cuts), cuts, np.zeros(len(z), bool))
    tree = grow(sample, max(most, min(MOST_LEAVES, 4 * most)) if most > 1 else 1, ridge, rng)
    return Search(sample, judges, ridge, base, tree, scale)
