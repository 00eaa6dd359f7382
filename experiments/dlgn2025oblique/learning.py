"""A DLGN's training as published: Adam, ten batches a pass in the rows' order, the best pass kept.

The library's `fit` shuffles the rows, the authors do not: hence a loop of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Part, Sample
from torch import Tensor, nn

from gatewise.models import DLGN, DLGNShallow

MODELS = {"DLGN": DLGN, "DLGN-SF": DLGNShallow}
BATCHES = 10


@dataclass(frozen=True, eq=False)
class Learnt:
    """The network of the best validation pass, its test accuracy, and accuracies by pass."""

    module: nn.Module
    test: float
    best: int  # the pass kept, from 1
    validation: np.ndarray  # (epochs,)
    train: np.ndarray  # (epochs,) of the batches as they were learnt
    cpu: float

    def save(self, path: Path) -> None:
        """Written aside and renamed: the file is always whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {f"weight {k}": v.numpy() for k, v in self.module.state_dict().items()}
        figures = {k: getattr(self, k) for k in ("test", "best", "validation", "train", "cpu")}
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, **weights, **figures)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path, module: nn.Module) -> Learnt:
        """Into a module of the same settings."""
        with np.load(path, allow_pickle=False) as kept:
            values = {name: kept[name] for name in kept.files}
        weights = {k.removeprefix("weight "): v for k, v in values.items() if k[:7] == "weight "}
        module.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        curves = values["validation"], values["train"]
        test, best, cpu = (values[k].item() for k in ("test", "best", "cpu"))
        return cls(module, test, best, *curves, cpu)


def build(name: str, dim: int, setting: dict, seed: int) -> nn.Module:
    """Piecewise constant: ones go into the value network; one output f; no biases."""
    return MODELS[name](
        (dim, *setting["hidden"], 1),
        gate="sigmoid",
        beta=setting["beta"],
        value_input="ones",
        bias=False,
        init=setting["init"],
        seed=seed,
    )


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """x (rows, d) and labels as 0.0 or 1.0."""
    return torch.from_numpy(part.x), torch.from_numpy(part.y.astype(np.float32))


@torch.no_grad()
def accuracy(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of rows where f > 0 is the label."""
    return float(((module(x)[:, 0] > 0) == (y > 0)).float().mean())


def learnt(
    name: str, data: str, sample: Sample, setting: dict, seed: int, epochs: int, work: Path
) -> Learnt:
    """From the folder `work` where it is there, else learnt and put there."""
    path = work / f"{data} {name} {seed} {epochs}.npz"
    if path.exists():
        return Learnt.load(path, build(name, sample.train.x.shape[1], setting, seed))
    found = learn(name, sample, setting, seed, epochs)
    found.save(path)
    print(f"{data} {name} seed {seed}: test {found.test:.4f} at pass {found.best} of {epochs}, "
          f"{found.cpu:.0f} CPU s", flush=True)  # fmt: skip
    return found


def learn(name: str, sample: Sample, setting: dict, seed: int, epochs: int) -> Learnt:
    """Minimise the cross-entropy of the logits (-f, f), that is log(1 + exp(-+2 f))."""
    begun = time.process_time()
    module = build(name, sample.train.x.shape[1], setting, seed)
    x, y = tensors(sample.train)
    held_x, held_y = tensors(sample.validation)
    batches = list(zip(x.chunk(BATCHES), y.chunk(BATCHES), strict=True))
    adam = torch.optim.Adam(module.parameters(), lr=setting["lr"], fused=True)
    train, validation = np.zeros(epochs), np.zeros(epochs)
    kept, best = {}, -1
    for epoch in range(epochs):
        train[epoch] = sum(step(module, adam, *batch) for batch in batches) / len(x)
        validation[epoch] = accuracy(module, held_x, held_y)
        if best < 0 or validation[epoch] > validation[best]:
            best = epoch
            kept = {key: value.clone() for key, value in module.state_dict().items()}
    module.load_state_dict(kept)
    test = accuracy(module, *tensors(sample.test))
    return Learnt(module, test, best + 1, validation, train, time.process_time() - begun)


def step(module: nn.Module, adam: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """One step; how many of the batch's rows were right before it."""
    adam.zero_grad(set_to_none=True)
    f = module(x)[:, 0]
    F.binary_cross_entropy_with_logits(2 * f, y).backward()
    adam.step()
    return float(((f.detach() > 0) == (y > 0)).sum())
