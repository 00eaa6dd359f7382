"""A simulation: y switches between two linear laws; are they found in the network, and by what?"""

from __future__ import annotations

import warnings

import numpy as np
from common import HERE, Section, markdown
from drawing import counts_picture, switch_picture
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, r2_score
from sklearn.neural_network import MLPRegressor

import gatewise as gw

STEEP = 4.0  # twice the largest coefficient of the laws


def sample(
    c: dict, rng: np.random.Generator, oblique: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x normal; y = law . x + noise, the first law where x0 > 0, else the second; the regime.

    oblique: the first law where x0 + x1 > 0 instead.
    """
    x = rng.standard_normal((c["rows"], c["features"]))
    first = x[:, 0] + oblique * x[:, 1] > 0
    y = np.where(first, x @ c["first"], x @ c["second"])
    return x, y + c["noise"] * rng.standard_normal(len(x)), first


def trained(c: dict, hidden: list[int], alpha: float, seed: int, x, y) -> MLPRegressor:
    """A ReLU network fitted by L-BFGS."""
    net = MLPRegressor(
        hidden_layer_sizes=tuple(hidden),
        alpha=alpha,
        solver="lbfgs",
        max_iter=c["max_iter"],
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return net.fit(x, y)


def recovered(slopes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(2, features): the median of the rows' slopes in each regime."""
    return np.stack([np.median(slopes[part], 0) for part in (first, ~first)])


def merged(e: gw.Explanation, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and slopes of two groups of clusters: k-means of their maps (as Aletheia merges)."""
    maps = np.hstack([e.coefficients[:, 0], e.intercepts[:, :1]])
    found = KMeans(2, n_init=5, random_state=seed).fit(maps, sample_weight=e.census.counts)
    return found.labels_[e.ids], found.cluster_centers_[:, :-1]


def error(maps: np.ndarray, laws: np.ndarray) -> float:
    """The largest coefficient error, rules and laws paired the better way."""
    return float(min(np.abs(maps - laws).max(), np.abs(maps[::-1] - laws).max()))


def examined(c: dict, hidden: list[int], alpha: float, seed: int, train, test) -> dict:
    """One network: how well it fits, its clusters, and what becomes of the two laws."""
    x, y, first = test
    net = trained(c, hidden, alpha, seed, *train[:2])
    e = gw.explain(net, x, margin=False)
    laws = laws_of(c)
    ids, maps = merged(e, seed)
    rules = gw.cohorts(e, max_rules=2)
    same = np.asarray(rules.ids)
    return {
        "r2": r2_score(y, net.predict(x)),
        "clusters": e.clusters,
        "largest": e.share[0],
        "max error": e.max_error,
        "median error": float(np.abs(recovered(e.slopes[:, :, 0], first) - laws).max()),
        "ari": adjusted_rand_score(first, e.ids),
        "k-means ari": adjusted_rand_score(first, ids),
        "k-means error": error(maps, laws),
        "rules": len(rules),
        "rules ari": adjusted_rand_score(first, same),
        "rules error": error(np.asarray(rules.coefficients), laws) if len(rules) == 2 else np.nan,
    }


def grid(c: dict, hidden: list[int], alpha: float, train, test) -> dict:
    """The medians over seeds, and the range of the number of clusters."""
    runs = [examined(c, hidden, alpha, seed, train, test) for seed in c["seeds"]]
    middle = {key: float(np.nanmedian([run[key] for run in runs])) for key in runs[0]}
    counts = [run["clusters"] for run in runs]
    return {
        "hidden": "-".join(map(str, hidden)),
        "units": sum(hidden),
        "alpha": alpha,
        "low": min(counts),
        "high": max(counts),
        **middle,
    }


def run(c: dict) -> Section:
    """Everything about the simulation."""
    rng = np.random.default_rng(c["seed"])
    train, test = sample(c, rng), sample(c, rng)
    laws = laws_of(c)
    by_width = [grid(c, hidden, c["alpha"], train, test) for hidden in c["widths"]]
    by_alpha = [grid(c, c["hidden"], alpha, train, test) for alpha in c["alphas"]]
    net = trained(c, c["hidden"], c["alpha"], c["seed"], *train[:2])
    e = gw.explain(net, test[0], margin=False)
    slopes = e.slopes[:, :, 0]
    one = {
        "linear": r2_score(test[1], LinearRegression().fit(*train[:2]).predict(test[0])),
        "found": recovered(slopes, test[2]),
        "rules": np.asarray(gw.cohorts(e, max_rules=2).coefficients),
        **strip(test[0][:, 0], slopes[:, 0]),
    }
    one["worst"] = float(np.abs(one["found"] - laws).max())
    pictures = {
        "picchiotti_simulation_slopes": switch_picture(test[0][:, 0], slopes, laws, c["shown"]),
        "picchiotti_simulation_clusters": counts_picture(by_width, by_alpha),
    }
    aslant = oblique(c)
    words = text(c, by_width, by_alpha, one, aslant)
    return Section("simulation", named(by_width, by_alpha, one, aslant), words, pictures)


def oblique(c: dict) -> list[dict]:
    """The switch along x0 + x1: cohorts, whose conditions are on one feature each."""
    rng = np.random.default_rng(c["seed"])
    train, test = (sample(c, rng, oblique=True) for _ in range(2))
    net = trained(c, c["hidden"], c["alpha"], c["seed"], *train[:2])
    e = gw.explain(net, test[0], margin=False)
    found = []
    for count in c["oblique_rules"]:
        few = gw.cohorts(e, max_rules=count)
        found.append(
            {
                "rules": count,
                "rows": few.sizes[:2].sum() / len(e),
                "ari": adjusted_rand_score(test[2], few.ids),
                "error": error(few.coefficients[:2], laws_of(c)),
                "needed": float(few.conditions_per_row.mean()),
                "gap": few.overall.mean,
            }
        )
    return found


def strip(x0: np.ndarray, slope: np.ndarray) -> dict[str, float]:
    """The rows where the network climbs (|slope in x0| > STEEP): their share, how far apart."""
    steep = np.abs(slope) > STEEP
    width = float(np.ptp(x0[steep])) if steep.any() else 0.0
    return {"steep": float(steep.mean()), "strip": width, "steepest": float(np.abs(slope).max())}


def named(
    by_width: list[dict], by_alpha: list[dict], one: dict, aslant: list[dict]
) -> dict[str, float]:
    """The numbers that are compared with the expected ones."""
    numbers = {"R², linear": one["linear"], "largest coefficient error": one["worst"]}
    numbers["rows in the strip"] = one["steep"]
    for rows, key in ((by_width, "hidden"), (by_alpha, "alpha")):
        for row in rows:
            for name in ("clusters", "r2", "median error", "ari", "rules ari", "rules error"):
                numbers[f"{name}, {key} {row[key]}"] = row[name]
    for row in aslant:
        for name in ("ari", "error"):
            numbers[f"oblique {name}, {row['rules']} rules"] = row[name]
    return {k: float(v) for k, v in numbers.items()}


def text(c: dict, by_width: list[dict], by_alpha: list[dict], one: dict, aslant: list[dict]) -> str:
    """The section of the page: simulation.md with its fields filled in."""
    near = [one["rules"][np.abs(one["rules"] - law).max(1).argmin()] for law in laws_of(c)]
    rows = []
    for k, what in enumerate(("first", "second")):
        rows.append(line(f"{what} law", c[what]))
        rows.append(line("median slope of its rows", one["found"][k]))
        rows.append(line("nearest of two cohorts", near[k]))
    return (
        (HERE / "simulation.md")
        .read_text()
        .format(
            c=c,
            **one,
            hidden="-".join(map(str, c["hidden"])),
            coefficients=markdown(rows),
            widths=markdown([grid_row(r, "hidden") for r in by_width]),
            alphas=markdown([grid_row(r, "alpha") for r in by_alpha]),
            aslant=markdown([oblique_row(r) for r in aslant]),
            seeds=len(c["seeds"]),
        )
    )


def laws_of(c: dict) -> np.ndarray:
    """(2, features)."""
    return np.array([c["first"], c["second"]])


def line(what: str, values: np.ndarray) -> dict:
    """A line of the table of coefficients."""
    return {"": what, **{f"x{j}": f"{v:+.3f}" for j, v in enumerate(values)}}


def oblique_row(r: dict) -> dict:
    """A line of the table of the oblique switch."""
    return {
        "rules": r["rules"],
        "rows in the two largest": f"{r['rows']:.0%}",
        "error of these two": f"{r['error']:.2f}",
        "ARI": plain(r["ari"]),
        "mean gap to the network": f"{r['gap']:.2f}",
        "conditions a row": f"{r['needed']:.1f}",
    }


def plain(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def grid_row(r: dict, first: str) -> dict:
    """A line of the tables of widths and of weight decay."""
    return {
        first: r["hidden"] if first == "hidden" else f"{r['alpha']:g}",
        "R²": f"{r['r2']:.3f}",
        "clusters (range)": f"{r['clusters']:.0f} ({r['low']}-{r['high']})",
        "slope error": f"{r['median error']:.3f}",
        "ARI: clusters": plain(r["ari"]),
        "k-means": plain(r["k-means ari"]),
        "two rules": plain(r["rules ari"]),
        "error: k-means / two rules": f"{r['k-means error']:.2f} / {r['rules error']:.2f}",
    }
