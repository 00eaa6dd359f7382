"""The data of each trial, as published, and the conditions that are trained on them."""

from __future__ import annotations

import time

import numpy as np
import torch
from reporting import Row
from torch import Tensor

from gatewise.models import Chains, Descent, Moments, descend, diagnose


def rows(slope: Tensor, intercept: Tensor, count: int, noise: float, draw: torch.Generator):
    """x ~ N(0, 1), y = A x + B, then y += e noise mean(y), e ~ N(0, 1): (T, count, 1) each."""
    x = torch.randn(len(slope), count, 1, generator=draw, dtype=torch.float64)
    y = slope[:, None, None] * x + intercept[:, None, None]
    e = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    return x, y + e * noise * y.mean(1, keepdim=True)


def data(c: dict, noise: float, trials: int) -> tuple[Moments, Moments]:
    """(to train on, to validate on): the validation rows have noise of their own."""
    place = c["noises"].index(noise)
    draw = torch.Generator().manual_seed(1000 * c["seed"] + place)
    slope, intercept = torch.randn(2, trials, generator=draw, dtype=torch.float64)
    train, held = (
        Moments.of(*rows(slope, intercept, count, noise, draw))
        for count in (c["rows"], c["validation_rows"])
    )
    return train, held


def joined(parts: list[Moments]) -> Moments:
    """Trials of several noises end to end."""
    names = Moments.__dataclass_fields__
    return Moments(*(torch.cat([getattr(p, name) for p in parts]) for name in names))


def start(c: dict, trials: int, depth: int, **setting) -> Chains:
    """The same seed for every use of a depth."""
    return Chains.draw(trials, depth, seed=1000 * c["seed"] + 100 + depth, **setting)


def published(c: dict, noises: list[float], depths: list[int], trials: int):
    """Every noise and depth at the published rate: a row of figures each, and rows of curves."""
    parts = [data(c, noise, trials) for noise in noises]
    train, held = (joined([p[k] for p in parts]) for k in (0, 1))
    best = held.bowl().excess(train.bowl().slope, train.bowl().intercept) + held.bowl().least
    figures, curves = [], []
    for depth in depths:
        begun = time.process_time()
        begin = start(c, trials * len(noises), depth)
        run = descend(begin, train, lr=c["lr"], steps=c["steps"], test=held)
        cpu = time.process_time() - begun
        stuck = stuckness(run)
        for k, noise in enumerate(noises):
            own = slice(k * trials, (k + 1) * trials)
            key: Row = {"noise": noise, "depth": depth, "trials": trials}
            figures.append({**key, **summary(run, own), "least test": float(best[own].mean()),
                            **{n: share(v[own]) for n, v in stuck.items()},
                            "cpu": cpu / len(noises)})  # fmt: skip
            for step, D in zip(run.steps, run.deviation[:, 0, own].mean(1), strict=True):
                curves.append({**key, "step": int(step), "D": float(D)})
        print(f"depth {depth}: {run}; {cpu:.1f} CPU s", flush=True)
    return figures, curves


def share(values: np.ndarray) -> float:
    """The mean of what is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def stuckness(run: Descent) -> dict[str, np.ndarray]:
    """(T,) of what is on a plateau: by the sign it started with, and where; NaN elsewhere."""
    found = diagnose(run, hessian=True)
    plateau = run.verdicts[0] == "plateau"
    first = run.start.map()[0][:, 0, 0].numpy()
    right = np.sign(first) == np.sign(run.bowl.slope[:, 0, 0].numpy())
    return {
        "stuck, right sign": np.where(right, plateau, np.nan),
        "stuck, wrong sign": np.where(~right, plateau, np.nan),
        "strict": np.where(plateau, found.strict[0], np.nan),
        "bend": np.where(plateau, found.least[0] / found.greatest[0], np.nan),
    }


def summary(run: Descent, own: slice, rate: int = 0) -> Row:
    """Means with standard errors over the trials that did not diverge, and the share that did."""
    verdicts = run.verdicts[rate, own]
    fine = verdicts != "diverged"
    found: Row = {}
    for name, values in (("D", run.deviation), ("train", run.train), ("test", run.test)):
        if values is not None:
            kept = values[-1, rate, own][fine]
            found[name] = float(kept.mean())
            found[f"{name} se"] = float(kept.std(ddof=1) / len(kept) ** 0.5)
    if run.test is not None:
        found["least train"] = float(run.bowl.least[own].mean())
    for verdict in ("converged", "unfinished", "plateau", "diverged"):
        found[verdict] = float((verdicts == verdict).mean())
    return found


def rates(c: dict, trials: int):
    """Every depth at five rates, from the same starts and on the same data."""
    run_c, its = c["run"], c["rates"]
    train, _ = data(run_c, its["noise"], trials)
    figures, curves = [], []
    for depth in run_c["depths"]:
        begin = start(run_c, trials, depth)
        run = descend(begin, train, lr=its["lr"], steps=run_c["steps"])
        for k, rate in enumerate(its["lr"]):
            key: Row = {"rate": rate, "depth": depth}
            figures.append({**key, **summary(run, slice(None), k)})
            fine = run.verdicts[k] != "diverged"
            for step, D in zip(run.steps, run.deviation[:, k, fine].mean(1), strict=True):
                curves.append({**key, "step": int(step), "D": float(D)})
        print(f"depth {depth}:\n{run}", flush=True)
    return figures, curves


def beyond(c: dict, trials: int) -> list[Row]:
    """Other optimisers, starts and widths: D at the published rate and budget."""
    figures, its = [], c["beyond"]
    for name, setting in its["settings"].items():
        count = setting.get("trials", trials)
        train, _ = data(c["run"], its["noise"], count)
        shape = {k: setting[k] for k in ("init", "width") if k in setting}
        for depth in its["depths"]:
            begun = time.process_time()
            begin = start(c["run"], count, depth, **shape)
            run = descend(begin, train, lr=c["run"]["lr"], steps=c["run"]["steps"],
                          optimizer=setting.get("optimizer", "gd"))  # fmt: skip
            cpu = time.process_time() - begun
            key: Row = {"setting": name, "depth": depth, "trials": count}
            figures.append({**key, **summary(run, slice(None)), "cpu": cpu})
            print(f"{name}, depth {depth}: {run}; {cpu:.1f} CPU s", flush=True)
    return figures
