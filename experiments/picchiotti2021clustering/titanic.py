"""Titanic: the clusters of a small ReLU network, what each says, and what width does to them."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from common import HERE, ROOT, Section, markdown
from drawing import clusters_of_width, rule_picture, slope_picture
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gatewise as gw

NUMBERS = ["pclass", "age", "sibsp", "parch", "fare"]
CATEGORIES = ["sex", "embarked"]


def load() -> tuple[pd.DataFrame, np.ndarray]:
    """Inputs and `survived` of the 891 passengers of the well-known file, or else of OpenML's."""
    folder = Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")
    file = folder / "tabular" / "titanic" / "titanic_kaggle.csv"
    if file.exists():
        table = pd.read_csv(file).rename(columns=str.lower)
    else:
        from sklearn.datasets import fetch_openml

        print(f"{file} is missing: OpenML's table (1,309 passengers) instead, other numbers follow")
        table = fetch_openml("titanic", version=1, as_frame=True).frame
    for name in [*NUMBERS, "survived"]:
        table[name] = table[name].astype(float)
    for name in CATEGORIES:
        table[name] = table[name].astype(object)
    return table[NUMBERS + CATEGORIES], table["survived"].to_numpy(int)


def pipeline(model: object) -> object:
    """Median age, most frequent port, scaled numbers, one-hot sex (one column) and port."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(drop="if_binary"))
    parts = [("numbers", numbers, NUMBERS), ("texts", texts, CATEGORIES)]
    return make_pipeline(ColumnTransformer(parts), model)


def trained(c: dict, hidden: list[int], seed: int, X: pd.DataFrame, y: np.ndarray) -> object:
    """The Pipeline with one ReLU network, fitted."""
    net = MLPClassifier(tuple(hidden), alpha=c["alpha"], max_iter=c["max_iter"], random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline(net).fit(X, y)


# -- importance of the raw columns: one-hot members together --


def columns(e: gw.Explanation) -> dict[str, list[int]]:
    """Raw column -> positions of its inputs; `embarked` has one for each port."""
    folded = e.folded()
    return {n: list(m) for n, m in zip(folded.feature_names, folded.members, strict=True)}


def spreads(e: gw.Explanation, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(clusters, raw columns) the deviation of each column's part W_g . x_g over some rows."""
    parts = [e.data[rows][:, g] @ weights[:, g].T for g in columns(e).values()]
    return np.stack([p.std(0) for p in parts], 1)


def shares(values: np.ndarray) -> np.ndarray:
    """Rows scaled to sum to 1 (a row of zeros stays)."""
    total = values.sum(1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def importances(e: gw.Explanation) -> tuple[np.ndarray, np.ndarray]:
    """(clusters, raw columns) shares: over the deviation of all rows, and of the cluster's own."""
    w = e.coefficients[:, 0]
    everywhere = shares(spreads(e, w, np.arange(len(e))))
    within = [spreads(e, w[[c]], np.flatnonzero(e.ids == c))[0] for c in range(e.clusters)]
    return everywhere, shares(np.stack(within))


# -- the experiment --


def run(c: dict) -> Section:
    """Everything about Titanic."""
    X, y = load()
    parts = train_test_split(X, y, test_size=c["held_out"], random_state=c["seed"], stratify=y)
    X_train, X_test, y_train, y_test = parts
    model = trained(c, c["hidden"], c["seed"], X_train, y_train)
    linear = pipeline(LogisticRegression()).fit(X_train, y_train)
    e = gw.explain(model, X, target=y)
    everywhere, within = importances(e)
    accuracy = {"network": model.score(X_test, y_test), "linear": linear.score(X_test, y_test)}
    found = by_width(c, *parts)
    few = gw.cohorts(e, max_rules=c["rules"], conjunctions=c["conjunctions"])
    numbers = {
        **main_numbers(c, e, everywhere, within, accuracy),
        "equal decisions of the cohorts": few.overall.decisions,
        "mean error of the cohorts": few.overall.mean,
        **{f"clusters, {row['hidden']}": row["clusters"] for row in found},
    }
    pictures = {
        "picchiotti_titanic_rules": rule_picture(*heat(c, e)),
        "picchiotti_titanic_slopes": slope_picture(*dots(e)),
        "picchiotti_titanic_width": clusters_of_width(found),
    }
    words = text(c, e, everywhere, within, accuracy, found, few)
    return Section("titanic", numbers, words, pictures)


def by_width(c: dict, X_train, X_test, y_train, y_test) -> list[dict]:
    """For each width: clusters among all rows, the largest, held-out accuracy; over the seeds."""
    X = pd.concat([X_train, X_test])
    found = []
    for hidden in c["widths"]:
        runs = []
        for seed in c["seeds"]:
            model = trained(c, hidden, seed, X_train, y_train)
            e = gw.explain(model, X)
            margin = float(np.median(e.margin.scaled))
            runs.append((e.clusters, e.share[0], model.score(X_test, y_test), margin))
        each = np.array(runs)
        found.append(
            {
                "hidden": "-".join(map(str, hidden)),
                "units": sum(hidden),
                "clusters": float(np.median(each[:, 0])),
                "low": each[:, 0].min(),
                "high": each[:, 0].max(),
                "largest": float(np.median(each[:, 1])),
                "accuracy": float(each[:, 2].mean()),
                "margin": float(np.median(each[:, 3])),
            }
        )
    return found


def main_numbers(c, e, everywhere, within, accuracy) -> dict[str, float]:
    """The named numbers of the network that is shown."""
    names = list(columns(e))
    total = e.share @ everywhere
    top = [names[j] for j in everywhere.argmax(1)]
    large = e.census.counts >= c["large"]
    numbers = {
        "rows": len(e),
        "held-out accuracy": accuracy["network"],
        "held-out accuracy, logistic": accuracy["linear"],
        "clusters": e.clusters,
        "share of the largest cluster": e.share[0],
        "rows in the clusters shown": int(e.census.counts[: c["shown"]].sum()),
        "median margin": float(np.median(e.margin.scaled)),
        "largest error": e.max_error,
        "rows ruled by sex or pclass": sum(
            s for s, name in zip(e.share, top, strict=True) if name in ("sex", "pclass")
        ),
    }
    numbers |= {f"importance of {n}": v for n, v in zip(names, total, strict=True)}
    numbers |= {
        f"importance of {n} within": v for n, v in zip(names, e.share @ within, strict=True)
    }
    for name in ("age", "fare"):
        slope = e.coefficients[large, 0, e.feature_names.index(name)]
        numbers |= {f"lowest slope of {name}": slope.min(), f"highest slope of {name}": slope.max()}
    return {k: float(v) for k, v in numbers.items()}


# -- what is shown --


def probability(e: gw.Explanation) -> np.ndarray:
    """(rows,) of survival."""
    return 1 / (1 + np.exp(-e.output[:, 0]))


def heat(c, e):
    """Log-odds a deviation, of the clusters shown, beside size and survival."""
    w = e.coefficients[: c["shown"], 0] * e.scale
    survival = e.cluster_mean(e.target)[: c["shown"], 0]
    labels = [
        f"{k}: {n} rows, {s:.0%} survived"
        for k, (n, s) in enumerate(zip(e.census.counts[: c["shown"]], survival, strict=True))
    ]
    return w, labels, e.feature_names


def dots(e):
    """Every cluster's slope (log-odds a deviation), its size, and the mean over rows."""
    w = e.coefficients[:, 0] * e.scale
    return w, e.census.counts, e.share @ w, e.feature_names


def text(c, e, everywhere, within, accuracy, found, few) -> str:
    """The section of the page: titanic.md with its fields filled in."""
    names = list(columns(e))
    order = np.argsort(-(e.share @ everywhere))
    return (
        (HERE / "titanic.md")
        .read_text()
        .format(
            c=c,
            e=e,
            n={
                k.replace(" ", "_"): v
                for k, v in main_numbers(c, e, everywhere, within, accuracy).items()
            },
            hidden="-".join(map(str, c["hidden"])),
            trained=1 - c["held_out"],
            held_out=math.ceil(len(e) * c["held_out"]),  # as train_test_split counts
            fewest=len(e) / max(r["clusters"] for r in found),
            rows=len(e),
            largest=", ".join(f"{names[j]} {e.share @ everywhere[:, j]:.0%}" for j in order),
            mine=", ".join(f"{names[j]} {e.share @ within[:, j]:.0%}" for j in order),
            few=few,
            cohorts=markdown(cohort_rows(e, few)),
            needed=few.conditions_per_row.mean(),
            clusters=markdown(cluster_rows(c, e, everywhere, within)),
            widths=markdown([width_row(r) for r in found]),
            seeds=len(c["seeds"]),
        )
    )


def cohort_rows(e: gw.Explanation, few) -> list[dict]:
    """The table of cohorts."""
    return [
        {
            "cohort": k,
            "condition": few.condition(k),
            "rows": int(few.sizes[k]),
            "survived": f"{np.mean(e.target[few.ids == k]):.2f}",
            "rule (log-odds of survival)": few.rule(k, 4).split(" = ", 1)[1],
            "equal decisions": f"{few.fidelity[k].decisions:.0%}",
        }
        for k in range(len(few))
    ]


def width_row(r: dict) -> dict:
    """A line of the table of widths."""
    return {
        "hidden": r["hidden"],
        "clusters (lowest to highest)": f"{r['clusters']:.0f} ({r['low']:.0f} to {r['high']:.0f})",
        "largest": f"{r['largest']:.0%}",
        "median margin": f"{r['margin']:.3f}",
        "held-out accuracy": f"{r['accuracy']:.3f}",
    }


def cluster_rows(c, e, everywhere, within) -> list[dict]:
    """The table of clusters."""
    chance, survival = e.cluster_mean(probability(e))[:, 0], e.cluster_mean(e.target)[:, 0]
    active = list(e.active.values())
    return [
        {
            "cluster": k,
            "rows": f"{e.census.counts[k]} ({e.share[k]:.0%})",
            "says": f"{chance[k]:.2f}",
            "survived": f"{survival[k]:.2f}",
            "active": " + ".join(str(int(a[k])) for a in active),
            "top features and slopes": said(e, k, everywhere[k]),
            "within": ", ".join(top_names(e, within[k])),
        }
        for k in range(min(c["shown"], e.clusters))
    ]


def top_names(e, importance, count: int = 3) -> list[str]:
    """The largest raw columns."""
    names = list(columns(e))
    return [names[j] for j in np.argsort(-importance, kind="stable")[:count] if importance[j] > 0]


def said(e, k, importance) -> str:
    """The largest raw columns with the slopes of their inputs."""
    members = columns(e)
    return ", ".join(
        f"{e.feature_names[j]} {e.coefficients[k, 0, j]:+.2g}"
        for name in top_names(e, importance)
        for j in members[name]
    )
