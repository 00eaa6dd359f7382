"""The numbers that are compared, by name, and the tables of the page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from reporting import Row, read_rows

Tables = dict[str, list[Row]]
MASKS = {  # strength: dense accuracy and share called the digit, the same of outer masks
    0.025: (0.9950, 0.0007, 0.9910, 0.0018),
    0.05: (0.9926, 0.0015, 0.966, 0.009),
    0.075: (0.9878, 0.0035, 0.910, 0.028),
    0.1: (0.9790, 0.0078, 0.827, 0.060),
    0.125: (0.9638, 0.0167, 0.737, 0.097),
    0.15: (0.9392, 0.0324, 0.649, 0.135),
    0.175: (0.9037, 0.0564, 0.571, 0.172),
    0.2: (0.8570, 0.0902, 0.509, 0.213),
    0.225: (0.8016, 0.1325, 0.452, 0.246),
    0.25: (0.7421, 0.1796, 0.406, 0.285),
    0.275: (0.6828, 0.2279, 0.363, 0.312),
    0.3: (0.6250, 0.276, 0.329, 0.336),
}
CHECKPOINT = {"accuracy": 0.6276, "as digit": 0.2645}  # what its authors print at .3
RANDOM = {"dense": (0.975, 0.0), "outer": (0.71, 0.05)}  # accuracy, as digit, at .3
HOSVD = {"singular 1": 0.63, "top 1": 0.34, "singular 2": 0.55, "top 2": 0.39}


def read(results: Path) -> Tables:
    """Every CSV of a folder, by name."""
    return {p.stem.replace("_", " "): read_rows(p) for p in sorted(results.glob("*.csv"))}


def where(rows: list[Row], **values) -> list[Row]:
    """The rows with those values; underscores in names are spaces."""
    want = {k.replace("_", " "): v for k, v in values.items()}
    return [r for r in rows if all(r[k] == v for k, v in want.items())]


def column(rows: list[Row], name: str) -> np.ndarray:
    """Numbers of one column."""
    return np.array([float(r[name]) for r in rows])


# ---------------------------------------------------------------- numbers by name


def orders(tables: Tables) -> dict[str, float]:
    """What published.csv asks of the tables at hand."""
    found: dict[str, float] = {}
    for name, numbers in NUMBERS.items():
        if name in tables:
            found |= numbers(tables[name])
    return found


def cut_numbers(rows: list[Row]) -> dict[str, float]:
    """Test accuracy, and points of it lost with k eigenpairs an output: means over seeds.

    `keeps at k` is minus what is lost, for floors.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        name = f"{row['data']} {row['hidden']}"
        lost = 100 * (float(row["whole"]) - float(row["accuracy"]))
        found.setdefault(f"{name} test", []).append(float(row["whole"]))
        found.setdefault(f"{name} {row['space']} drop at {row['kept']}", []).append(lost)
        found.setdefault(f"{name} {row['space']} keeps at {row['kept']}", []).append(-lost)
    return {k: float(np.mean(v)) for k, v in found.items()}


def spectrum_numbers(rows: list[Row]) -> dict[str, float]:
    """Eigenvalues of one sign above a tenth of the output's largest, mean over outputs."""
    counts = {}
    for r in where(rows, rank=1):
        mine = where(rows, data=r["data"], output=r["output"], sign=r["sign"])
        values = np.abs(column(mine, "value"))
        counts.setdefault(r["data"], []).append((values > 0.1 * values.max()).sum())
    return {f"{data} eigenvalues above a tenth": float(np.mean(c)) for data, c in counts.items()}


def hosvd_numbers(rows: list[Row]) -> dict[str, float]:
    """σ and the largest λ of the first two directions; do 1, 4, 7 stand against 5 in the first?"""
    mnist = where(rows, data="mnist")
    found = {}
    for k in (1, 2):
        row = where(mnist, direction=k)[0]
        found[f"hosvd singular {k}"], found[f"hosvd top {k}"] = (
            float(row[n]) for n in ("singular", "top")
        )
    first = where(mnist, direction=1)[0]
    side = -math.copysign(1, float(first["output 5"]))
    found["hosvd 1, 4, 7 against 5"] = min(side * float(first[f"output {u}"]) for u in (1, 4, 7))
    return found


def agreement_numbers(rows: list[Row]) -> dict[str, float]:
    """First eigenvectors between seeds, by size, order and way of counting."""
    found = {}
    for r in where(rows, rank=1):
        found[f"similarity {r['hidden']} {r['order']} {r['pairs']}"] = float(r["cosine"])
    sizes = sorted({int(r["hidden"]) for r in rows})
    ends = [found[f"similarity {d} positive distinct"] for d in (sizes[-1], sizes[0])]
    found["similarity of the first"] = ends[0]
    return {**found, "similarity grows with size": ends[0] - ends[1]}


def mask_numbers(rows: list[Row]) -> dict[str, float]:
    """Accuracy, and share called the digit, at every strength; of permuted masks too."""
    found = {}
    for r in rows:
        for what in ("accuracy", "as digit", "random accuracy"):
            found[f"{r['masks']} {r['strength']:g} {what}"] = float(r[what])
    for kind in ("dense", "outer"):
        a, b = (found[f"{kind} 0.3 {n}accuracy"] for n in ("random ", ""))
        found[f"{kind} below its permuted"] = a - b
    return found


def sparsity_numbers(rows: list[Row]) -> dict[str, float]:
    """What noise does (mean over decays), and what weight decay does (mean over noises)."""
    noises, decays = (sorted({float(r[n]) for r in rows}) for n in ("noise", "decay"))
    found = {}
    for what in ("rank", "pixels first", "pixels negative", "edge"):
        means = {}
        for name, ends in (("noise", noises), ("decay", decays)):
            means[name] = [column(where(rows, **{name: e}), what).mean() for e in ends]
            found[f"{name} raises {what}"] = float(means[name][-1] - means[name][0])
            found[f"{name} lowers {what}"] = -found[f"{name} raises {what}"]
    return found


def augment_numbers(rows: list[Row]) -> dict[str, float]:
    """Squares on outer pixels: geometric transforms without noise, against noise alone."""
    noises = sorted({float(r["noise"]) for r in rows})
    moved = [r for r in rows if r["kind"] in ("rotation", "translation") and r["noise"] == 0]
    alone = where(rows, kind="none", noise=noises[-1])
    return {"edges that transforms leave": float(column(moved, "edge").mean()
            - column(alone, "edge").mean())}  # fmt: skip


def gate_numbers(rows: list[Row]) -> dict[str, float]:
    """Mean cosine between learnt forms and those by hand."""
    return {
        f"{gate} {hidden} cosine": float(
            column(where(rows, gate=gate, hidden=hidden), "cosine").mean()
        )
        for gate, hidden in dict.fromkeys((r["gate"], r["hidden"]) for r in rows)
    }


NUMBERS = {
    "cuts": cut_numbers,
    "truncation": cut_numbers,
    "spectra": spectrum_numbers,
    "hosvd": hosvd_numbers,
    "agreement": agreement_numbers,
    "masks": mask_numbers,
    "challenge": lambda rows: {f"challenge {r['name']}": float(r["value"]) for r in rows},
    "sparsity": sparsity_numbers,
    "augment": augment_numbers,
    "gates": gate_numbers,
}
