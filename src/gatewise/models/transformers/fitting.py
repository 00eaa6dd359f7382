"""Training on the next token: the mean of -log p(t_{i+1} | t_0 .. t_i) over every position.

`fit` learns one label a row; here each row of tokens has one for every position but the last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.errors import DataError, Diverged, EmptyData, ModelError, WrongShape
from gatewise.models.checks import is_number, whole
from gatewise.models.fitting import Along, Epoch, History
from gatewise.models.training import (
    OptimizerName,
    ScheduleName,
    flushed_denormals,
    modes_on_error,
    optimiser,
    own_randomness,
    rate,
)
from gatewise.models.transformers.network import BilinearTransformer

BIG_BATCH = 512  # rows at a time where nothing is learnt


def fit_next_token(
    net: BilinearTransformer,
    tokens: Any,
    *,
    epochs: int = 10,
    batch: int = 64,
    lr: float = 3e-3,
    optimizer: OptimizerName = "adam",
    weight_decay: float = 0.0,
    schedule: ScheduleName = "one-cycle",
    validation: Any = None,
    seed: int = 0,
    progress: Callable[[Epoch], Any] | None = None,
    along: Along | None = None,
) -> History:
    """Train `net` in place on rows of tokens (rows, n), n at least 2.

    validation: rows that are scored (share of tokens foreseen) after every epoch and choose
    nothing. seed: of the order of rows. Other settings as `fit`'s; along=anneal_beta(net) makes a
    GLU bilinear on the way.
    Raises DataError for tokens, ModelError for settings, Diverged where a loss is not finite.
    """
    if not isinstance(net, BilinearTransformer):
        raise ModelError(f"`net` is a BilinearTransformer, and it is a {type(net).__name__}")
    for name, value, least in (("epochs", epochs, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if not whole(value, least):
            raise ModelError(f"`{name}` is a whole number from {least}, and it is {value!r}")
    if not is_number(weight_decay):
        raise ModelError(f"`weight_decay` is a number from 0, and it is {weight_decay!r}")
    for name, given in (("along", along), ("progress", progress)):
        if not (given is None or callable(given)):
            raise ModelError(f"`{name}` is a function, and it is {given!r}")
    rows = _rows(net, tokens, "tokens")
    held = None if validation is None else _rows(net, validation, "the validation tokens")
    run = _Run(net, rows, epochs, batch, lr, schedule, along)
    run.optimiser = optimiser(net, optimizer, lr, 0.9, weight_decay)
    with own_randomness(seed, rows.device), flushed_denormals(), modes_on_error(net):
        return _trained(run, held, torch.Generator().manual_seed(seed), progress)


def _trained(
    run: _Run,
    held: Tensor | None,
    rng: torch.Generator,
    progress: Callable[[Epoch], Any] | None,
) -> History:
    start, made = time.process_time(), []
    for number in range(1, run.epochs + 1):
        epoch = Epoch(number, run.epoch(rng, number), *_scores(run.net, held))
        made.append(epoch)
        if progress is not None:
            progress(epoch)
    run.net.eval()
    named = run.net.named_parameters()
    never = tuple(name for name, p in named if p.requires_grad and p.grad is None)
    run.net.zero_grad()
    return History(tuple(made), len(made), "epochs", time.process_time() - start, never)


class _Run:
    """The optimiser, the steps so far, and what the rate and beta are at each of them."""

    optimiser: torch.optim.Optimizer

    def __init__(
        self,
        net: BilinearTransformer,
        rows: Tensor,
        epochs: int,
        batch: int,
        lr: float,
        schedule: ScheduleName,
        along: Along | None,
    ) -> None:
        self.net, self.rows, self.epochs, self.batch, self.lr = net, rows, epochs, batch, lr
        self.share, self.along = rate(schedule), along
        self.by_epoch = math.ceil(len(rows) / batch)
        self.still = schedule == "epoch-cosine"  # the rate, within an epoch
        self.taken, self.total = 0, epochs * self.by_epoch

    def epoch(self, rng: torch.Generator, number: int) -> float:
        """The mean loss of one pass; Diverged if it is not finite."""
        self.net.train()
        total = self.rows.new_zeros((), dtype=torch.float64)
        for part in torch.randperm(len(self.rows), generator=rng).split(self.batch):
            total += self.step(self.rows[part.to(self.rows.device)]) * len(part)
        if self.along is not None:
            self.along(self.taken / self.total)
        loss = float(total) / len(self.rows)
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss of epoch {number} is {loss:g}: the weights grew without bound. "
                f"Lower `lr` (it is {self.lr:g}), and start anew"
            )
        return loss

    def step(self, rows: Tensor) -> Tensor:
        """One step down the mean loss of these rows, and that loss."""
        since = self.taken - self.taken % self.by_epoch if self.still else self.taken
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * self.share(since / self.total)
        if self.along is not None:
            self.along(self.taken / self.total)
        self.taken += 1
        self.optimiser.zero_grad()
        loss = _loss(self.net(rows[:, :-1]), rows)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def _loss(logits: Tensor, rows: Tensor) -> Tensor:
    """The mean over rows and positions of -log p(next token)."""
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def _scores(net: BilinearTransformer, held: Tensor | None) -> tuple[float, float]:
    """(share of next tokens foreseen, mean loss); NaN without rows."""
    if held is None:
        return math.nan, math.nan
    net.eval()
    right, loss = 0.0, 0.0
    for part in held.split(BIG_BATCH):
        logits = net(part[:, :-1])
        right += float((logits.argmax(-1) == part[:, 1:]).double().mean(1).sum())
        loss += float(_loss(logits, part)) * len(part)
    return right / len(held), loss / len(held)


def _rows(net: BilinearTransformer, tokens: Any, what: str) -> Tensor:
    """Rows of at least two tokens of the vocabulary, on the module's device."""
    try:
        held = torch.as_tensor(tokens)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongShape(f"{what} are rows of whole numbers, all of one length: {error}") from None
    if held.dim() == 2 and not len(held):
        raise EmptyData(f"{what} have no rows: give at least one")
    if held.dim() != 2 or held.shape[1] < 2:
        raise WrongShape(
            f"{what} are (rows, n) with n at least 2, and their shape is {tuple(held.shape)}"
        )
    if held.is_floating_point() or held.is_complex() or held.dtype == torch.bool:
        raise DataError(f"{what} are whole numbers, and their dtype is {held.dtype}")
    held = held.to(net.embed.weight.device, torch.int64)
    with torch.no_grad():
        for part in held.split(BIG_BATCH * 64):
            net.check(part[:, :-1])
            net.check(part[:, 1:])
    return held
