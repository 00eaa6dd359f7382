"""theta <- theta - step(grad of the mean loss): one training loop for every torch module.

Labels (whole numbers) are learnt by cross-entropy, of a module with one output in its two-class
form; numbers by the squared error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gatewise.errors import DataError, Diverged, ModelError
from gatewise.models.batches import Data, checked_outputs, held_out, prepared
from gatewise.models.checks import is_number, whole
from gatewise.models.training import (
    OptimizerName,
    ScheduleName,
    flushed_denormals,
    mean_loss,
    modes_on_error,
    optimiser,
    own_randomness,
    rate,
    summed_score,
)

Augment = Callable[[Tensor, torch.Generator], Tensor]
Along = Callable[[float], Any]
BIG_BATCH = 1024  # rows at a time where nothing is learnt


@dataclass(frozen=True)
class Epoch:
    """One pass, counted from 1: mean training loss; score and loss on rows held out, or NaN."""

    number: int
    loss: float
    validation_score: float
    validation_loss: float

    def better_than(self, other: Epoch | None) -> bool:
        """A higher score on the rows held out, or as high at a lower loss."""
        mine = (self.validation_score, -self.validation_loss)
        return other is None or mine > (other.validation_score, -other.validation_loss)


@dataclass(frozen=True)
class History:
    """What happened: the epochs, the one whose weights were kept, why it ended, CPU seconds.

    Scores: accuracy of labels, minus the mean squared error of numbers. without_gradient: the
    parameters that could have been trained and that no loss depended on, such as the features
    of a hard-gated network.
    """

    epochs: tuple[Epoch, ...]
    kept: int
    stopped_by: Literal["epochs", "patience"]
    seconds: float
    without_gradient: tuple[str, ...]

    @property
    def losses(self) -> list[float]:
        """The mean training loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    def __str__(self) -> str:
        text = f"{len(self.epochs)} epochs, {self.seconds:.1f} CPU s, loss {self.losses[-1]:.4g}"
        kept = self.epochs[self.kept - 1]
        if not math.isnan(kept.validation_score):
            text += f"; kept epoch {self.kept}, validation score {kept.validation_score:.4g}"
        if self.without_gradient:
            text += f"; never trained: {', '.join(self.without_gradient)}"
        return text


@dataclass(frozen=True)
class Recipe:
    """The settings of a run, as `fit` says."""

    epochs: int
    batch: int
    lr: float
    optimizer: OptimizerName
    momentum: float
    weight_decay: float
    schedule: ScheduleName
    patience: int | None
    seed: int
    augment: Augment | None
    progress: Callable[[Epoch], Any] | None
    drop_last: bool
    along: Along | None
    keep_after: float

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience"):
            value = getattr(self, name)
            if not (whole(value, 1) or (name == "patience" and value is None)):
                raise ModelError(f"`{name}` is a whole number from 1, and it is {value!r}")
        if not whole(self.seed, 0):
            raise ModelError(f"`seed` is a whole number from 0, and it is {self.seed!r}")
        for name in ("momentum", "weight_decay"):
            if not is_number(getattr(self, name)):
                raise ModelError(f"`{name}` is a number from 0, and it is {getattr(self, name)!r}")
        if not (is_number(self.keep_after) and self.keep_after <= 1):
            raise ModelError(f"`keep_after` is a share from 0 to 1, and it is {self.keep_after!r}")
        for name in ("augment", "progress", "along"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise ModelError(f"`{name}` is a function, and it is {getattr(self, name)!r}")


def fit(
    module: nn.Module,
    X: Any,
    y: Any,
    *,
    epochs: int = 50,
    batch: int = 64,
    lr: float = 1e-3,
    optimizer: OptimizerName = "adam",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: ScheduleName = "constant",
    validation: float | tuple[Any, Any] | None = None,
    patience: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    augment: Augment | None = None,
    progress: Callable[[Epoch], Any] | None = None,
    drop_last: bool = False,
    along: Along | None = None,
    keep_after: float = 0.0,
) -> History:
    """Train `module` in place on X (rows, *input) and y: (rows,) labels, or (rows[, outputs]).

    schedule: of the rate, batch by batch: "constant", "cosine" to 0, "one-cycle" up to `lr` and
    down; "epoch-cosine" stands still within an epoch. drop_last: leave out an epoch's last batch
    if it is smaller. along(t): called before each step and each epoch's end with the share t of the
    run that is done, to change the module; epochs that end before `keep_after` of it are never the
    ones kept. validation: the share of the rows held out, or (X, y); the weights of the epoch that
    scores best on them are kept, and `patience` epochs without a better one end the run.
    seed: of the order of rows, the split, dropout and `augment(rows, generator)`, which changes
    the rows of a batch; torch's global state is the same afterwards. progress: called with each
    Epoch. The module is left on `device` (None: where it is), in evaluation mode.
    Raises DataError for rows and labels, ModelError for settings, Diverged where a loss is not
    finite: then modes are as before. The result names what no gradient reached (hard gates').
    """
    recipe = Recipe(
        epochs, batch, lr, optimizer, momentum, weight_decay, schedule, patience, seed, augment,
        progress, drop_last, along, keep_after,
    )  # fmt: skip
    if patience is not None and validation is None:
        raise ModelError("`patience` waits for a better validation score: give `validation` too")
    return _run(module, X, y, recipe, validation, device)


def _run(
    module: nn.Module, X: Any, y: Any, recipe: Recipe, validation: Any, device: Any
) -> History:
    """`fit`, its settings checked."""
    rng = torch.Generator().manual_seed(int(recipe.seed))
    if device is not None:
        module.to(_there(device))
    data, held = _split(module, X, y, validation, rng)
    randomness = own_randomness(int(recipe.seed), data.X.device)
    with randomness, flushed_denormals(), modes_on_error(module):
        return _trained(module, recipe, data, held, rng)


def _there(device: Any) -> Any:
    """The device, if torch can put a number on it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        said = str(error).strip().split("\n")[0]
        raise ModelError(f"torch cannot work on `device` {device!r}: {said}") from error
    return device


def _split(
    module: nn.Module,
    X: Any,
    y: Any,
    validation: Any,
    rng: torch.Generator,
) -> tuple[Data, Data | None]:
    """(to learn from, held out), both checked against the module."""
    data = prepared(X, y, module)
    checked_outputs(module, data)
    if validation is None:
        return data, None
    if not isinstance(validation, tuple):
        return held_out(data, validation, rng)
    if len(validation) != 2:
        raise DataError(
            f"`validation` is a share between 0 and 1, or (X, y), and it is a tuple of "
            f"{len(validation)}"
        )
    held = prepared(*validation, module, "the validation X")
    checked_outputs(module, held)
    if held.task != data.task:
        raise DataError(f"y holds {data.task} and the validation y {held.task}: give the same")
    return data, held


def _trained(
    module: nn.Module, recipe: Recipe, data: Data, held: Data | None, rng: torch.Generator
) -> History:
    """The loop over epochs. Leaves the weights of the best one where rows are held out."""
    start = time.process_time()
    stepper = _Stepper(module, recipe, len(data))
    epochs: list[Epoch] = []
    best, weights = None, None
    for number in range(1, recipe.epochs + 1):
        epochs.append(Epoch(number, _pass(stepper, data, rng, number), *_scores(module, held)))
        counts = held is not None and number / recipe.epochs >= recipe.keep_after
        if counts and epochs[-1].better_than(best):
            best, weights = epochs[-1], _copied(module)
        if recipe.progress is not None:
            recipe.progress(epochs[-1])
        if best is not None and number - best.number >= (recipe.patience or math.inf):
            break
    if weights is not None:
        module.load_state_dict(weights)
    untrained = stepper.finish()
    done = len(epochs) == recipe.epochs
    return History(
        tuple(epochs),
        len(epochs) if best is None else best.number,
        "epochs" if done else "patience",
        time.process_time() - start,
        untrained,
    )


class _Stepper:
    """The optimiser, its rate along the run, and the steps so far."""

    def __init__(self, module: nn.Module, recipe: Recipe, rows: int) -> None:
        self.module, self.recipe, self.taken = module, recipe, 0
        self.by_epoch = rows // recipe.batch if recipe.drop_last else -(-rows // recipe.batch)
        if not self.by_epoch:
            raise ModelError(
                f"`drop_last` leaves out all {rows} rows, less than one `batch` of {recipe.batch}: "
                f"give a smaller batch, or drop_last=False"
            )
        self.share = rate(recipe.schedule)
        self.optimiser = optimiser(
            module, recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay
        )

    def at(self, steps: int) -> float:
        """The share of the run that is done after so many steps."""
        return steps / (self.by_epoch * self.recipe.epochs)

    def moved_along(self) -> None:
        """Tell `along` how far the run is."""
        if self.recipe.along is not None:
            self.recipe.along(self.at(self.taken))

    def step(self, part: Data) -> Tensor:
        """One step down the mean loss of these rows, and that loss."""
        still = self.taken % self.by_epoch if self.recipe.schedule == "epoch-cosine" else 0
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr * self.share(self.at(self.taken - still))
        self.moved_along()
        self.taken += 1
        self.optimiser.zero_grad()
        loss = mean_loss(self.module(part.X), part.y)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def finish(self) -> tuple[str, ...]:
        """Evaluation mode, no gradients kept; the parameters that never had one."""
        self.module.eval()
        named = self.module.named_parameters()
        never = tuple(name for name, p in named if p.requires_grad and p.grad is None)
        self.optimiser.zero_grad()
        return never


def _pass(stepper: _Stepper, data: Data, rng: torch.Generator, number: int) -> float:
    """The mean loss of one epoch; Diverged if it is not finite."""
    recipe = stepper.recipe
    stepper.module.train()
    total, rows = data.X.new_zeros(()), 0
    for part in data.batches(recipe.batch, rng):
        if recipe.drop_last and len(part) < recipe.batch:
            continue
        if recipe.augment is not None:
            part = Data(recipe.augment(part.X, rng), part.y)
        total += stepper.step(part) * len(part)
        rows += len(part)
    stepper.moved_along()
    loss = float(total) / rows
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss of epoch {number} is {loss:g}: the weights grew without bound. "
            f"Lower `lr` (it is {recipe.lr:g}) or scale the columns of X, and start anew"
        )
    return loss


@torch.no_grad()
def _scores(module: nn.Module, held: Data | None) -> tuple[float, float]:
    """(mean score, mean loss) on the rows held out; NaN without any."""
    if held is None:
        return math.nan, math.nan
    module.eval()
    score, loss = 0.0, 0.0
    for part in held.batches(BIG_BATCH, None):
        out = module(part.X)
        score += float(summed_score(out, part.y))
        loss += float(mean_loss(out, part.y)) * len(part)
    return score / len(held), loss / len(held)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
