"""Rows of results, the numbers that are compared, the tables of the page."""

from __future__ import annotations

import numpy as np
from mnist import Outcome
from reporting import Row, Spread, markdown

PUBLISHED = {
    "mnist": {
        "FRNPF-II": (96.02, 0.13),
        "FRNPF-DI": (96.09, 0.12),
        "FLNPF": (97.82, 0.02),
        "ReLU": (98.14, 0.07),
        "DNPFL": (98.22, 0.05),
    },
    "GCONV": {
        "FRNPF-II": (67.09, 0.58),
        "FRNPF-DI": (67.08, 0.27),
        "DNPFL": (77.12, 0.19),
        "FLNPF": (79.68, 0.32),
        "ReLU": (80.32, 0.35),
    },
    "VCONV": {
        "FRNPF-II": (64.86, 1.18),
        "FRNPF-DI": (64.68, 0.84),
        "DNPFL": (69.45, 0.76),
        "FLNPF": (71.40, 0.47),
        "ReLU": (72.43, 0.54),
    },
}
WORDS = {
    "FRNPF-II": "gates of an independent random network, frozen (FRNPF-II)",
    "FRNPF-DI": "gates of its own random start, frozen (FRNPF-DI)",
    "FLNPF": "gates of the trained ReLU network, frozen; weights anew (FLNPF)",
    "ReLU": "the ReLU network",
    "DNPFL": "gates and weights in two networks, both trained (DNPFL)",
}
ORDER = (("FRNPF-II", "FLNPF"), ("FLNPF", "ReLU"), ("ReLU", "DNPFL"))


def mnist_rows(found: Outcome) -> list[Row]:
    """A row a network that has run: percentages at its best, last and held-out-chosen pass."""
    rows = []
    for (regime, seed), curve in found.curves.items():
        known = 100 * curve[~np.isnan(curve)]
        if not len(known):
            continue
        chosen = found.held.get(seed) if regime == "ReLU held" else None
        rows.append(
            {
                "regime": regime,
                "seed": seed,
                "passes": len(known),
                "best": float(known.max()),
                "best pass": int(known.argmax()) + 1,
                "last": float(known[-1]),
                "chosen": "" if chosen is None else float(known[chosen]),
                "chosen pass": "" if chosen is None else chosen + 1,
            }
        )
    return rows


def curve_rows(found: Outcome) -> list[Row]:
    """A row a pass: the test accuracy of every network, in per cent."""
    curves = {f"{regime}/{seed}": 100 * c for (regime, seed), c in found.curves.items()}
    passes = max(int((~np.isnan(c)).sum()) for c in curves.values())
    return [
        {"pass": k + 1, **{name: float(c[k]) for name, c in curves.items()}} for k in range(passes)
    ]


def spread(rows: list[Row], regime: str, column: str = "best") -> Spread | None:
    """Over the seeds; None without any."""
    values = [float(r[column]) for r in rows if r["regime"] == regime]
    return Spread.of(values) if values else None


def mnist_numbers(rows: list[Row]) -> dict[str, float]:
    """Mean of the best pass a regime, and by how much each is above the one below it."""
    means = {name: s.mean for name in WORDS if (s := spread(rows, name))}
    above = {f"{b} above {a}": means[b] - means[a] for a, b in ORDER if a in means and b in means}
    return {**means, **above}


def mnist_table(rows: list[Row]) -> str:
    """Published and found, as published (the best pass on the test set) and honestly."""
    lines = []
    for name, (value, deviation) in PUBLISHED["mnist"].items():
        best, last = spread(rows, name), spread(rows, name, "last")
        if best is None or last is None:
            continue
        lines.append(
            {
                "test accuracy, %": WORDS[name],
                "published (5)": f"{value:.2f} ± {deviation:.2f}",
                "here, best pass": best.text(),
                "difference": f"{best.mean - value:+.2f}",
                "here, last pass": last.text(),
            }
        )
    return markdown(lines)


def honest(rows: list[Row]) -> dict[str, str]:
    """The versions that never look at the test set, as texts."""
    relu, gates = spread(rows, "ReLU held", "chosen"), spread(rows, "FLNPF held", "last")
    return {
        "held_relu": relu.text() if relu else "-",
        "held_gates": gates.text() if gates else "-",
    }


def conv_table(rows: list[Row], net: str) -> str:
    """Found beside published, which only a full run is to be compared with."""
    lines = []
    for name, (value, deviation) in PUBLISHED[net].items():
        mine = [r for r in rows if r["net"] == net and r["regime"] == name]
        if not mine:
            continue
        lines.append(
            {
                "test accuracy, %": WORDS[name],
                "published (5)": f"{value:.2f} ± {deviation:.2f}",
                "here, best pass": Spread.of([float(r["best"]) for r in mine]).text(1),
                "here, last pass": Spread.of([float(r["last"]) for r in mine]).text(1),
            }
        )
    return markdown(lines)


def nu_means(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Passes, and nu's mean and range over the runs: (passes,), (passes,), (passes, 2)."""
    passes = sorted({int(r["pass"]) for r in rows})
    table = np.array([[float(r["nu"]) for r in rows if r["pass"] == k] for k in passes])
    return np.array(passes), table.mean(1), np.stack([table.min(1), table.max(1)], 1)
