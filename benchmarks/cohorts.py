"""At an equal number of rules: cohorts, k-means of local maps, and a linear model tree.

    python -m benchmarks.cohorts [--sets titanic heloc] [--hidden 32x32] [--seeds 3] [--rows 6000]

Every contender sees the same three quarters of the rows and is measured on the rest: mean and 99th
percentile of |rule - network| in deviations of the network's output, and the share of rows with the
network's decision. Contenders, each with the best of several settings on a fifth of its rows:

  k-means own   k-means of the rows' exact slopes (times the deviation of each input), an OLS rule a
                cluster; a new row goes to the centre nearest its own exact slopes. No conditions.
  k-means near  the same clusters; a new row goes where its nearest row went.
  model tree    greedy, best first: the axis-parallel split (31 quantiles a column) with the least
                squared error of two OLS rules, in closed form.
  cohorts 1     `gw.cohorts(conjunctions=1)`: one conjunction of conditions a rule.
  cohorts       `gw.cohorts()`: up to four conjunctions may share a rule.
  cohorts own   the rules of `gw.cohorts()`, a new row under the one nearest its own exact map, as
                functions around the row. No conditions: to be compared with k-means own.

The command above prints the errors; `jobs` times the contenders.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

import gatewise as gw
from benchmarks.measure import ROOT, Job, Setup, Way, data_folder, gemm

sys.path.insert(0, str(ROOT / "tests"))
import tabular

KS = (1, 2, 4, 8, 16, 32)
SETS = ("titanic", "german_credit", "heloc", "california_housing", "adult")
NETS = ("32x32", "64x64x64")
RIDGES = (1e-3, 1.0, 10.0)
LEAST = 10
FEW = 5000  # with more rows than this the ridge makes no difference, and is not tuned


# ---------------------------------------------------------------- contenders


def ols(z, y, ridge):
    """Ridge regression, none on the constant."""
    penalty = np.full(z.shape[1], ridge)
    penalty[0] = 1e-8
    return np.linalg.solve(z.T @ z + np.diag(penalty), z.T @ y)


def cost(G, c, q, penalty):
    """Squared error of the ridge rule, from moments."""
    beta = np.linalg.solve(G + penalty, c[..., None])[..., 0]
    return q - 2 * (beta * c).sum(-1) + np.einsum("...i,...ij,...j->...", beta, G, beta)


class ModelTree:
    """A linear model tree; `predict(x, z, k)` is of the tree as it was with k leaves."""

    def __init__(self, x, z, y, most, ridge):
        self.x, self.z, self.y, self.ridge = x, z, y, ridge
        self.penalty = np.diag(np.r_[1e-8, np.full(x.shape[1], ridge)])
        self.cuts = [self._cuts(column) for column in x.T]
        self.codes = np.stack(
            [np.searchsorted(c, x[:, j], "left") for j, c in enumerate(self.cuts)], 1
        )
        self.splits, self.rules = [], {0: ols(z, y, ridge)}
        rows = {0: np.arange(len(x))}
        best = {0: self._best(rows[0])}
        while len(best) < most:
            n = max(best, key=lambda k: best[k][0])
            gain, j, cut = best.pop(n)
            if gain <= 0:
                break
            mine = rows.pop(n)
            below = self.codes[mine, j] <= cut
            left, right = 2 * len(self.splits) + 1, 2 * len(self.splits) + 2
            self.splits.append((n, j, self.cuts[j][cut], left, right))
            for k, part in ((left, mine[below]), (right, mine[~below])):
                rows[k], best[k] = part, self._best(part)
                self.rules[k] = ols(z[part], y[part], ridge)

    @staticmethod
    def _cuts(column):
        values = np.unique(column)
        if len(values) > 32:
            values = np.unique(np.quantile(column, np.arange(33) / 32, method="lower"))
        return (values[1:] + values[:-1]) / 2

    def _best(self, rows):
        z, y, best = self.z[rows], self.y[rows], (0.0, 0, 0)
        G, c, q = z.T @ z, z.T @ y, y @ y
        now = cost(G, c, q, self.penalty)
        for j, cuts in enumerate(self.cuts):
            codes = self.codes[rows, j]
            below = np.cumsum(np.bincount(codes, minlength=len(cuts) + 1))[:-1]
            fits = (below >= LEAST) & (len(rows) - below >= LEAST)
            if not fits.any():
                continue
            order = np.argsort(codes, kind="stable")
            ends = np.unique(np.r_[0, below[fits]])
            Gs, cs, qs = 0, 0, 0
            sums = []
            for a, b in pairwise(ends):
                part = order[a:b]
                Gs, cs, qs = (
                    Gs + z[part].T @ z[part],
                    cs + z[part].T @ y[part],
                    qs + y[part] @ y[part],
                )
                sums.append((Gs, cs, qs))
            Gl, cl, ql = (np.array(t) for t in zip(*sums, strict=True))
            gain = now - cost(Gl, cl, ql, self.penalty) - cost(G - Gl, c - cl, q - ql, self.penalty)
            k = int(gain.argmax())
            if gain[k] > best[0]:
                best = (float(gain[k]), j, int(np.flatnonzero(below == ends[k + 1])[0]))
        return best

    def predict(self, x, z, k):
        node = np.zeros(len(x), int)
        for n, j, t, left, right in self.splits[: k - 1]:
            node = np.where(node == n, np.where(x[:, j] <= t, left, right), node)
        return (z * np.stack([self.rules[n] for n in node])).sum(1)


class KMeansRules:
    """k-means of exact local slopes, then OLS in each cluster."""

    def __init__(self, x, z, y, maps, k, ridge, nearest, seed):
        from sklearn.cluster import KMeans
        from sklearn.neighbors import KNeighborsClassifier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = KMeans(k, n_init=4, random_state=seed).fit(maps)
        self.nearest, ids = nearest, found.labels_
        self.pick = KNeighborsClassifier(1).fit(z, ids) if nearest else found
        self.rules = np.stack([ols(z[ids == i], y[ids == i], ridge) for i in range(k)])

    def predict(self, z, maps):
        return (z * self.rules[self.pick.predict(z if self.nearest else maps)]).sum(1)


# ---------------------------------------------------------------- one split of one network


def score(rule, f, spread, decides):
    gap = np.abs(rule - f) / spread
    same = ((rule > 0) == (f > 0)).mean() if decides else np.nan
    return gap.mean(), np.quantile(gap, 0.99), same


def tuned(make, fit, judge, y, ridges):
    """For each k the ridge whose predictions on `judge` rows are nearest, fitted on `fit` rows."""
    if len(ridges) == 1:
        return dict.fromkeys(KS, ridges[0])
    errors = {r: {k: np.abs(p - y[judge]).mean() for k, p in make(fit, judge, r)} for r in ridges}
    return {k: min(ridges, key=lambda r: errors[r][k]) for k in KS}


def compare(exp, seed, decides):
    """{(contender, k): scores} on one random quarter."""
    x, f = exp.data, exp.output[:, 0]
    ours = {n: gw.cohorts(exp, max_rules=max(KS), conjunctions=n, seed=seed) for n in (1, 4)}
    first = ours[1]
    test, train = np.flatnonzero(first.held), np.flatnonzero(~first.held)
    low, high = x[train].min(0), x[train].max(0)
    two = ((x[train] == low) | (x[train] == high)).all(0)
    spread = np.where(two, high - low, x[train].std(0))
    z = np.column_stack([np.ones(len(x)), (x - x[train].mean(0)) / np.where(spread, spread, 1)])
    maps = exp.coefficients[exp.ids, 0] * x[train].std(0)
    order = np.random.default_rng(seed).permutation(train)
    judge, fit = np.split(order, [len(order) // 5])
    ridges = RIDGES if len(train) < FEW else (1.0,)

    def trees(rows, at, ridge):
        tree = ModelTree(x[rows], z[rows], f[rows], max(KS), ridge)
        return [(k, tree.predict(x[at], z[at], k)) for k in KS]

    def kmeans(nearest):
        def make(rows, at, ridge):
            for k in KS:
                found = KMeansRules(x[rows], z[rows], f[rows], maps[rows], k, ridge, nearest, seed)
                yield k, found.predict(z[at], maps[at])

        return make

    result = {}
    contenders = {
        "k-means own": kmeans(False),
        "k-means near": kmeans(True),
        "model tree": trees,
    }
    for name, make in contenders.items():
        best = tuned(make, fit, judge, f, ridges)
        for ridge in set(best.values()):
            for k, p in make(train, test, ridge):
                if best[k] == ridge:
                    result[name, k] = score(p, f[test], f.std(), decides)
    assert (ours[1].held == ours[4].held).all()
    for name, most, end in (
        ("cohorts 1", 1, ""),
        ("cohorts", 4, ""),
        ("cohorts own", 4, "_followed"),
    ):
        curve = ours[most].curve
        for k in KS:
            i = np.flatnonzero(curve["rules"] <= k)[-1]
            gaps = (curve["mean" + end][i] / f.std(), curve["p99" + end][i] / f.std())
            result[name, k] = (*gaps, curve["decisions" + end][i] if decides else np.nan)
    return result


def explained(name, hidden, rows):
    sizes = tuple(map(int, hidden.split("x")))
    few = name in ("titanic", "german_credit")
    model, a, b, _, _ = tabular.pipeline(name, sizes, max_iter=80 if few else 25)
    table = pd.concat([a, b])
    if len(table) > rows:
        table = table.sample(rows, random_state=0)
    return gw.explain(model, table, margin=False)


def table(name, hidden, seeds, rows):
    """Print the table of one network; the best of each column is starred."""
    exp = explained(name, hidden, rows)
    decides = name != "california_housing"
    found = [compare(exp, seed, decides) for seed in range(seeds)]
    print(f"\n{name}, net {hidden}: {len(exp)} rows x {exp.data.shape[1]} inputs, {seeds} seeds")
    print(f"{'rules':14s}" + "".join(f"{k:^22d}" for k in KS))
    names = list(dict.fromkeys(n for n, _ in found[0]))
    mean = {key: np.mean([f[key] for f in found], 0) for key in found[0]}
    for n in names:
        print(f"{n:14s}" + "".join(_cell(mean, n, k, names) for k in KS), flush=True)


def _cell(mean, name, k, names):
    sign = np.array([1, 1, -1])
    best = np.min([mean[n, k] * sign for n in names], 0) * sign
    said = [
        f"{v:.{d}f}{'*' if v == b else ' '}"
        for v, b, d in zip(mean[name, k], best, (3, 2, 3), strict=True)
    ]
    return f" {said[0]}{said[1]}{said[2]}".ljust(22)


# ---------------------------------------------------------------- time


def timing(rows: int, k: int) -> Setup:
    """gw.cohorts of HELOC's rows, drawn again and moved a little, beside the other contenders."""
    data_folder("tabular", "heloc", "heloc.csv")
    exp = explained("heloc", "64x64x64", 10**6)
    rng = np.random.default_rng(0)
    moved = rng.normal(size=(rows, exp.data.shape[1])) * 0.01 * exp.scale
    e = gw.explain(exp.network, exp.data[rng.integers(0, len(exp), rows)] + moved, margin=False)
    x, f = e.data, e.output[:, 0]
    z = np.column_stack([np.ones(rows), (x - x.mean(0)) / x.std(0)])
    maps = e.coefficients[e.ids, 0] * x.std(0)
    return Setup(
        Way("gatewise", lambda: gw.cohorts(e, max_rules=k)),
        [gemm(2 * z.size * z.shape[1], z.shape[1], torch.float64)],
        [
            Way("a model tree", lambda: ModelTree(x, z, f, k, 1.0)),
            Way("k-means of slopes", lambda: KMeansRules(x, z, f, maps, k, 1.0, False, 0)),
        ],
        lambda found: f"{len(found)} rules",
    )


def jobs(size: str) -> list[Job]:
    cases = {
        "quick": [(2_000, 4)],
        "default": [(5_000, 8)],
        "full": [(10_000, 8), (10_000, 32), (100_000, 8), (100_000, 32)],
    }
    return [
        Job(f"{n:,} rows × 21, {k} rules", partial(timing, n, k), repeat=3) for n, k in cases[size]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--hidden", nargs="*", default=NETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=25_000)
    args = parser.parse_args()
    print("each cell: mean, 99th percentile, equal decisions; * the best of its column")
    for name in args.sets:
        for hidden in args.hidden:
            table(name, hidden, args.seeds, args.rows)


if __name__ == "__main__":
    main()
