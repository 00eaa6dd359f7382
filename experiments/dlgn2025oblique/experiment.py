"""Every data set and model: accuracies, curves, and where the gates' hyperplanes came to lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from data import Part, Sample, generate
from learning import MODELS, Learnt, accuracy, learnt, tensors
from reporting import Row, Spread, markdown

PUBLISHED = {
    ("SDI", "DLGN"): 0.9605,
    ("SDI", "DLGN-SF"): 0.9743,
    ("SDII", "DLGN"): 0.94247,
    ("SDII", "DLGN-SF"): 0.90293,
    ("SDIII", "DLGN"): 0.65036,
    ("SDIII", "DLGN-SF"): 0.63832,
}
NEAR = 15.0  # degrees: a true hyperplane with a gate as near as that counts as found


@dataclass(frozen=True)
class Found:
    """Rows of the three tables."""

    runs: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    angles: list[Row] = field(default_factory=list)


def linear(sample: Sample) -> float:
    """Test accuracy of least squares on the labels +-1."""

    def columns(part: Part) -> np.ndarray:
        return np.hstack([part.x.astype(float), np.ones((len(part.x), 1))])

    w, *_ = np.linalg.lstsq(columns(sample.train), 2.0 * sample.train.y - 1, rcond=None)
    return float(((columns(sample.test) @ w > 0) == (sample.test.y > 0)).mean())


def angles(gates: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(gates, normals) angles in degrees between hyperplanes, 0 to 90: the signs do not matter."""
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (gates, normals))
    return np.degrees(np.arccos(np.clip(np.abs(a @ b.T), 0, 1)))


def gates_of(one: Learnt) -> list[np.ndarray]:
    """The normals of every gate in input space, (w_l, d) a layer."""
    return [a.numpy() for a, _ in one.module.effective_halfspaces()]


def by_chance(sample: Sample, count: int = 4000) -> np.ndarray:
    """(count,) smallest angle of a random hyperplane to the tree's."""
    drawn = np.random.default_rng(0).standard_normal((count, sample.tree.normals.shape[1]))
    return angles(drawn, sample.tree.normals).min(1)


def run(c: dict, data: list[str], epochs: int, seeds: list[int], work) -> Found:
    """Everything about some data sets; what `work` holds is not learnt again."""
    found = Found()
    for name in data:
        setting = c["data"][name]
        sample = generate(setting["rows"], setting["dim"], c["run"]["depth"], c["run"]["data_seed"])
        base = linear(sample)
        print(f"{name}: {len(sample.train.y)} rows to train, a linear model {base:.4f}", flush=True)
        for seed in seeds:
            for model in MODELS:
                its = {**setting[model], "init": c["run"]["init"]}
                one = learnt(model, name, sample, its, seed, epochs, work)
                key: Row = {"data": name, "model": model, "seed": seed}
                add(found, key, one, sample, base)
    return found


def add(found: Found, key: Row, one: Learnt, sample: Sample, base: float) -> None:
    """The rows of one learnt network."""
    layers = [angles(a, sample.tree.normals) for a in gates_of(one)]
    every = np.vstack(layers)
    hard = accuracy(one.module.hardened(), *tensors(sample.test))
    found.runs.append(
        {
            **key,
            "test": one.test,
            "best pass": one.best,
            "passes": len(one.validation),
            "hardened": hard,
            "linear": base,
            "median angle": float(np.median(every.min(1))),
            "chance angle": float(np.median(by_chance(sample))),
            "planes found": int((every.min(0) < NEAR).sum()),
            "cpu": one.cpu,
        }
    )
    step = max(1, len(one.validation) // 150)
    for k in range(step - 1, len(one.validation), step):
        curve = {"validation": float(one.validation[k]), "train": float(one.train[k])}
        found.curves.append({**key, "pass": k + 1, **curve})
    for layer, table in enumerate(layers, 1):
        for unit, row in enumerate(table):
            found.angles.append({**key, "layer": layer, "unit": unit, "angle": float(row.min())})


def numbers(runs: list[Row]) -> dict[str, float]:
    """Mean and best test accuracy of each data set and model, and what the mean is above linear."""
    means = {}
    for data, model in PUBLISHED:
        mine = [r for r in runs if (r["data"], r["model"]) == (data, model)]
        if mine:
            test = float(np.mean([float(r["test"]) for r in mine]))
            means[f"{data} {model}"] = test
            means[f"{data} {model}, best start"] = max(float(r["test"]) for r in mine)
            means[f"{data} {model} above linear"] = test - float(mine[0]["linear"])
    return means


def table(runs: list[Row]) -> str:
    """Published and found, in per cent."""
    lines = []
    for (data, model), value in PUBLISHED.items():
        mine = [r for r in runs if (r["data"], r["model"]) == (data, model)]
        if not mine:
            continue
        test, hard, base = (
            Spread.of([100 * float(r[k]) for r in mine]) for k in ("test", "hardened", "linear")
        )
        lines.append(
            {
                "test accuracy, %": f"{data}, {model}",
                "published": f"{100 * value:.2f}",
                "here": test.text(),
                "difference": f"{test.mean - 100 * value:+.2f}",
                "best start": f"{max(100 * float(r['test']) for r in mine):.2f}",
                "gates hardened": hard.text(),
                "linear": f"{base.mean:.2f}",
            }
        )
    return markdown(lines)


def plane_table(runs: list[Row]) -> str:
    """How near the gates came to the tree's hyperplanes."""
    lines = []
    for data, model in PUBLISHED:
        mine = [r for r in runs if (r["data"], r["model"]) == (data, model)]
        if mine:
            middle, chance = (
                np.mean([float(r[k]) for r in mine]) for k in ("median angle", "chance angle")
            )
            found = ", ".join(str(r["planes found"]) for r in mine)
            lines.append(
                {
                    "": f"{data}, {model}",
                    "median angle, gate to nearest split": f"{middle:.0f}°",
                    "of a random plane": f"{chance:.0f}°",
                    f"splits with a gate within {NEAR:.0f}° (of 15), a seed each": found,
                }
            )
    return markdown(lines)


def quiet() -> None:
    """One thread and no denormals: the nets are small, and soft gates make many."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
