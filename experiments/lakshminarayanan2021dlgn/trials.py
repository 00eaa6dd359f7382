"""Trials: one network trained from one seed, and its accuracy on rows it has not seen."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import data
import networks
import torch
from torch import nn

from gatewise import models


@dataclass(frozen=True)
class Trial:
    """Accuracies in percent; CPU seconds of training (wall-clock seconds on a GPU mean little)."""

    model: str
    seed: int
    order: str
    test: float
    train: float
    seconds: float


def accuracy(net: nn.Module, X, y, device: str) -> float:
    """Percent of the rows whose largest output is their label's."""
    net.eval()
    X, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y)
    with torch.no_grad():
        right = [
            (net(a.to(device)).argmax(1).cpu() == b).sum().item()
            for a, b in zip(X.split(500), y.split(500), strict=True)
        ]
    return 100 * sum(right) / len(y)


def digits(c: dict, device: str, done: list[Trial]) -> Iterator[Trial]:
    """Every network and seed on the digits, but for those that are done."""
    for name, order in _each(c["orders"]):
        for seed in _missing(done, name, order, c["seeds"]):
            parts = data.digits(c["held_out"], seed)
            net = networks.dense(c, name, seed, order)
            settings = {k: c[k] for k in ("epochs", "batch", "lr", "schedule")}
            history = models.fit(net, *parts[:2], seed=seed, device=device, **settings)
            yield from _measured(net, name, seed, order, parts, device, history)


def images(c: dict, device: str, done: list[Trial]) -> Iterator[Trial]:
    """Every network and seed on CIFAR-10, but for those that are done."""
    parts = data.cifar(c["rows"], c["shrink"])
    change = data.changed(c["flips"], c["crops"])
    keys = ("epochs", "batch", "lr", "optimizer", "schedule", "weight_decay")
    settings = {k: c[k] for k in keys if k in c}
    for name, order in _each([c["order"]] if "order" in c else []):
        for seed in _missing(done, name, order, c["seeds"]):
            net = networks.convolutional(c, name, seed, order)
            history = models.fit(
                net, *parts[:2], seed=seed, device=device, augment=change, **settings
            )
            yield from _measured(net, name, seed, order, parts, device, history)


def _each(orders: list[list[int]]) -> Iterator[tuple[str, list[int] | None]]:
    """(name, order of its gates) of every network to train."""
    for name, (_, _, permuted) in networks.NAMES.items():
        if permuted:
            yield from ((name, order) for order in orders)
        else:
            yield name, None


def _missing(done: list[Trial], name: str, order: list[int] | None, seeds: list[int]) -> list[int]:
    """The seeds of this network that are not done."""
    found = {d.seed for d in done if (d.model, d.order) == (name, _text(order))}
    return [seed for seed in seeds if seed not in found]


def _text(order: list[int] | None) -> str:
    return "" if order is None else " ".join(map(str, order))


def _measured(net, name, seed, order, parts, device, history) -> Iterator[Trial]:
    X, y, T, t = parts
    scores = accuracy(net, T, t, device), accuracy(net, X, y, device)
    yield Trial(name, seed, _text(order), *scores, history.seconds)
    if name == "DLGN":
        hard = net.hardened()
        scores = accuracy(hard, T, t, device), accuracy(hard, X, y, device)
        yield Trial(networks.HARDENED, seed, "", *scores, 0.0)


def read(path: Path) -> list[Trial]:
    """The trials of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Trial(
                r["model"], int(r["seed"]), r["order"],
                float(r["test"]), float(r["train"]), float(r["seconds"]),
            )
            for r in csv.DictReader(file)
        ]  # fmt: skip


def write(path: Path, trials: list[Trial]) -> None:
    """All trials, a line each; the file is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([field.name for field in fields(Trial)])
        for trial in trials:
            model, seed, order, test, train, seconds = astuple(trial)
            out.writerow([model, seed, order, f"{test:.6g}", f"{train:.6g}", f"{seconds:.1f}"])
    new.replace(path)
