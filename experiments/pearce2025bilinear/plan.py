"""Which networks each figure needs, from the settings in config.toml."""

from __future__ import annotations

from batched import Spec

FIGURES = ("eigenvectors", "masks", "challenge", "similarity", "sparsity", "augment")


def base(c: dict, figure: str) -> dict:
    """What all networks of a figure have in common."""
    names = ("hidden", "passes", "batch", "noise", "decay", "rows", "lr")
    held = {**c["all"], **c[figure]}
    return {n: held[n] for n in names if n in held}


def eigenvectors(c: dict) -> list[Spec]:
    """Figures 2B, 3, 15 to 18: one network a data set, which may have settings of its own."""
    its, held = c["eigenvectors"], base(c, "eigenvectors")
    return [Spec(data, seed=42, **(held | its.get(data, {}))) for data in its["data"]]


def masks(c: dict) -> list[Spec]:
    """Figure 7: with noise (dense masks), then without (masks on outer pixels)."""
    held = base(c, "masks")
    noises = held.pop("noise"), 0.0
    residual = c["masks"]["residual"]
    return [Spec("mnist", noise=n, seed=42, residual=residual, **held) for n in noises]


def challenge(c: dict) -> list[Spec]:
    """Figure 6: two outputs, biases."""
    return [Spec("mnist", seed=42, bias=True, task="challenge", **base(c, "challenge"))]


def similarity(c: dict) -> list[Spec]:
    """Figures 5A, 5B, 20: sizes by seeds."""
    its, held = c["similarity"], base(c, "similarity")
    return [Spec("mnist", d, seed=s, **held) for d in its["sizes"] for s in range(its["seeds"])]


def sparsity(c: dict) -> list[Spec]:
    """Figures 4 and 19: weight decay by noise."""
    its, held = c["sparsity"], base(c, "sparsity")
    for name in ("noise", "decay"):
        held.pop(name, None)
    return [Spec("mnist", noise=n, decay=w, **held) for w in its["decays"] for n in its["noises"]]


def augment(c: dict) -> list[Spec]:
    """Figures 13 and 14: each kind by its levels (0 among them) by noise."""
    its, held = c["augment"], base(c, "augment")
    levels = [("", 0.0)]
    levels += [(kind, v) for kind in ("rotation", "translation", "blur") for v in its[kind]]
    return [
        Spec("mnist", noise=n, kind=kind, level=level, **held)
        for kind, level in levels
        for n in its["noises"]
    ]


def specs(c: dict, figure: str) -> list[Spec]:
    """The networks of one figure, in the order of its settings."""
    return globals()[figure](c)
