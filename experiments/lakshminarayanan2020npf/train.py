"""Trains a job: networks side by side, a line a pass, a checkpoint that a cut run resumes.

The order of the rows and every start are drawn from (seed, regime, pass) alone, so that a run that
was cut and went on ends bit for bit where an uninterrupted one does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from batched import Decoupled, Frozen, Nets, Own, glorot, hard_gates
from torch import Tensor

KINDS = {"own": Own, "frozen": Frozen, "decoupled": Decoupled}


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test rows in [0, 1] (rows, in), labels as one-hot rows (rows, classes)."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True, eq=False)
class Net:
    """One network of a job: its regime, its seed, its training rows, its held-out rows.

    feature: the frozen feature network's (weights, biases), for the kind `frozen`.
    """

    regime: str
    seed: int
    rows: np.ndarray
    held: np.ndarray
    feature: tuple[list[Tensor], list[Tensor]] | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """Networks of one kind and one shape, trained in one loop."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    nets: list[Net]
    epochs: int
    batch: int
    lr: float
    every: int = 5  # passes between checkpoints
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, eq=False)
class State:
    """What a checkpoint holds; accuracies are (nets, epochs), nan where not yet known."""

    epoch: int
    params: np.ndarray
    first: np.ndarray  # Adam's two averages
    second: np.ndarray
    test: np.ndarray
    held: np.ndarray
    best_test: np.ndarray  # parameters of each network where its test accuracy was highest
    best_held: np.ndarray
    cpu: float = 0.0

    def save(self, path: Path) -> None:
        """Written aside and renamed: the file is always whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, **self.__dict__)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> State:
        with np.load(path, allow_pickle=False) as kept:
            values = {name: kept[name] for name in kept.files}
        values["epoch"], values["cpu"] = int(values["epoch"]), float(values["cpu"])
        return cls(**values)


def word(name: str) -> int:
    """A number for a regime's name, the same on every machine."""
    return int.from_bytes(name.encode()[:6].ljust(6), "little")


def start_of(sizes: tuple[int, ...], regime: str, seed: int, tower: int = 0) -> list[Tensor]:
    """A network's first weights."""
    drawn = np.random.default_rng([seed, word(regime), tower]).integers(2**31)
    return glorot(sizes, int(drawn))


def order(net: Net, epoch: int, steps: int, batch: int) -> np.ndarray:
    """(steps, batch) rows of a pass: a permutation; begun again where the rows are too few."""
    draw = np.random.default_rng([net.seed, word(net.regime), 7, epoch])
    need = steps * batch
    turns = -(-need // len(net.rows))
    rows = np.concatenate([draw.permutation(net.rows) for _ in range(turns)])
    return rows[:need].reshape(steps, batch)


class Trainer:
    """A job at work on data: its networks, optimiser, buffers and look-up tables."""

    def __init__(self, job: Job, data: Data) -> None:
        self.job, self.data = job, data
        self.nets: Nets = KINDS[job.kind](job.sizes, len(job.nets), job.batch, job.dtype)
        for k, net in enumerate(job.nets):
            for tower, sizes in enumerate(self.nets.towers()):
                self.nets.start(k, start_of(sizes, net.regime, net.seed, tower), tower)
        self.params = self.nets.params.data
        self.params.grad = self.nets.grads.data
        self.adam = torch.optim.Adam([self.params], lr=job.lr, eps=1e-7, fused=True)
        count = len(job.nets)
        self.x = torch.zeros(count * job.batch, job.sizes[0], dtype=job.dtype)
        self.y = torch.zeros(count * job.batch, job.sizes[-1], dtype=job.dtype)
        self.tables, self.test_tables = self.look_up(data.x), self.look_up(data.test_x)
        self.bits = torch.zeros(count, job.batch, sum(job.sizes[1:-1]), dtype=torch.uint8)

    def look_up(self, x: Tensor) -> list[Tensor]:
        """The frozen gates of every row, a table a network."""
        if self.job.kind != "frozen":
            return []
        return [hard_gates(*net.feature, x) for net in self.job.nets]

    def epoch(self, epoch: int) -> None:
        """One pass."""
        job, count = self.job, len(self.job.nets)
        steps = len(self.data.x) // job.batch
        rows = np.stack([order(net, epoch, steps, job.batch) for net in job.nets], 1)
        indices = torch.from_numpy(rows)  # (steps, nets, batch)
        x, y = self.x.view(count, job.batch, -1), self.y.view(count, job.batch, -1)
        for index in indices:
            flat = index.reshape(-1)
            torch.index_select(self.data.x, 0, flat, out=self.x)
            torch.index_select(self.data.y, 0, flat, out=self.y)
            for k, table in enumerate(self.tables):
                torch.index_select(table, 0, index[k], out=self.bits[k])
            if self.tables:
                self.nets.look_up(self.bits)
            self.nets.forward(x)
            self.nets.backward(x, y)
            self.adam.step()

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor, tables: list[Tensor], rows: int = 1000) -> np.ndarray:
        """(nets,) shares of rows classified rightly; the last few rows in a batch of their own."""
        right = np.zeros(len(self.job.nets))
        nets = KINDS[self.job.kind](self.job.sizes, len(self.job.nets), rows, self.job.dtype)
        nets.params = self.nets.params
        for at in range(0, len(x), rows):
            part = x[at : at + rows]
            if len(part) != nets.rows:
                nets.allocate(len(part))
            if tables:
                nets.look_up(torch.stack([table[at : at + rows] for table in tables]))
            logits = nets.forward(part.expand(len(right), *part.shape))
            right += (logits.argmax(-1) == y[at : at + rows].argmax(-1)).sum(1).numpy()
        return right / len(x)

    def held(self) -> np.ndarray:
        """(nets,) accuracy of each network on its own held-out rows; nan where it has none."""
        found = np.full(len(self.job.nets), np.nan)
        for k, net in enumerate(self.job.nets):
            if len(net.held):
                found[k] = self.accuracy(self.data.x[net.held], self.data.y[net.held], [])[k]
        return found

    def state(self, blank: int) -> State:
        """The state before the first pass, with room for that many."""
        nan = np.full((len(self.job.nets), blank), np.nan)
        p = self.params.numpy()
        return State(0, p, 0 * p, 0 * p, nan, nan.copy(), p.copy(), p.copy())

    def resume(self, state: State) -> None:
        """Parameters and averages as they were."""
        self.params.copy_(torch.from_numpy(state.params))
        if state.epoch:
            steps = state.epoch * (len(self.data.x) // self.job.batch)
            self.adam.state[self.params] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": torch.from_numpy(state.first.copy()),
                "exp_avg_sq": torch.from_numpy(state.second.copy()),
            }

    def now(self, state: State, epoch: int, cpu: float) -> State:
        """The state after a pass: accuracies, and the best parameters where they rose."""
        kept = self.adam.state[self.params]
        test, held = state.test.copy(), state.held.copy()
        test[:, epoch] = self.accuracy(self.data.test_x, self.data.test_y, self.test_tables)
        held[:, epoch] = self.held()
        best_test, best_held = state.best_test.copy(), state.best_held.copy()
        for best, rates in ((best_test, test), (best_held, held)):
            before = np.fmax.reduce(rates[:, :epoch], axis=1, initial=-1.0)
            self.copy_into(best, rates[:, epoch] > before)
        return replace(
            state,
            epoch=epoch + 1,
            params=self.params.numpy(),
            first=kept["exp_avg"].numpy(),
            second=kept["exp_avg_sq"].numpy(),
            test=test,
            held=held,
            best_test=best_test,
            best_held=best_held,
            cpu=state.cpu + cpu,
        )

    def copy_into(self, best: np.ndarray, chosen: np.ndarray) -> None:
        """Copy the chosen networks' parameters."""
        for (old, _), (new, _) in zip(
            self.blocks(torch.from_numpy(best)), self.blocks(self.params), strict=True
        ):
            for k in np.flatnonzero(chosen):
                old[k].copy_(new[k])

    def blocks(self, data: Tensor) -> list[tuple[Tensor, int]]:
        """Views of a flat tensor that is laid out as the parameters."""
        return views(data, self.nets.towers(), len(self.job.nets))


def views(data: Tensor, towers: list[tuple[int, ...]], nets: int) -> list[tuple[Tensor, int]]:
    """The blocks (nets, in, out), (nets, 1, out), ... of a flat tensor, each with its tower."""
    found, at = [], 0
    for tower, sizes in enumerate(towers):
        for a, b in pairwise(sizes):
            for rows in (a, 1):
                found.append((data[at : at + nets * rows * b].view(nets, rows, b), tower))
                at += nets * rows * b
    return found


def network_of(job: Job, flat: np.ndarray, net: int) -> tuple[list[Tensor], list[Tensor]]:
    """(weights, biases) of one network's value tower, head included."""
    towers = [job.sizes] if job.kind != "decoupled" else [job.sizes, job.sizes[:-1]]
    blocks = [
        v[net] for v, tower in views(torch.from_numpy(flat), towers, len(job.nets)) if not tower
    ]
    return blocks[0::2], [b.reshape(-1) for b in blocks[1::2]]


def run(job: Job, data: Data, folder: Path, stop: int | None = None) -> State:
    """Train a job to its end (or to pass `stop`), from its checkpoint if the folder has one."""
    trainer, path = Trainer(job, data), folder / f"{job.name}.npz"
    state = blank = trainer.state(job.epochs)
    if path.exists():
        state = State.load(path)
        if state.test.shape != blank.test.shape or state.params.shape != blank.params.shape:
            raise ValueError(
                f"{path} is of other settings than {job.name}: delete it to start anew"
            )
    trainer.resume(state)
    names = " ".join(f"{net.regime}/{net.seed}" for net in job.nets)
    last = job.epochs if stop is None else min(stop, job.epochs)
    for epoch in range(state.epoch, last):
        begun = time.process_time()
        trainer.epoch(epoch)
        state = trainer.now(state, epoch, time.process_time() - begun)
        rates = " ".join(f"{100 * a:.2f}" for a in state.test[:, epoch])
        print(f"{job.name} pass {epoch + 1} [{names}] test {rates}, {state.cpu:.0f} s", flush=True)
        if state.epoch % job.every == 0 or state.epoch == last:
            state.save(path)
    return state
