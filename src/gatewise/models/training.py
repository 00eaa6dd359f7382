"""What a training loop moves weights with, and what it borrows from the process and gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gatewise.errors import ModelError
from gatewise.models.checks import is_number

OptimizerName = Literal["adam", "sgd", "adamw"]
ScheduleName = Literal["constant", "cosine", "one-cycle", "epoch-cosine"]
WARM = 0.3  # the share of a one-cycle run in which the rate rises
NOTHING = "the module has no parameter with requires_grad: there is nothing to train"
START, END = 1 / 25, 1e-4 / 25  # of the highest rate: where a cycle starts and ends


def optimiser(
    module: nn.Module, name: OptimizerName, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """Adam or AdamW (their own momenta), SGD with `momentum`, over what requires a gradient.

    AdamW takes lr * weight_decay off every weight a step; the others add the decay to the gradient.
    """
    if not (is_number(lr) and lr > 0):
        raise ModelError(f"the learning rate is positive, and `lr` is {lr!r}: 1e-3 is usual")
    moved = [p for p in module.parameters() if p.requires_grad]
    if not moved:
        raise ModelError(NOTHING)
    if name == "adam":
        return torch.optim.Adam(moved, lr=lr, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(moved, lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(moved, lr=lr, momentum=momentum, weight_decay=weight_decay)
    raise ModelError(f"there is no optimizer {name!r}: choose one of {_names(OptimizerName)}")


def rate(name: ScheduleName) -> Callable[[float], float]:
    """t in [0, 1] of the run -> the rate's share of its highest value."""
    if name == "constant":
        return lambda t: 1.0
    if name in ("cosine", "epoch-cosine"):
        return lambda t: _between(1.0, 0.0, t)
    if name == "one-cycle":
        return lambda t: (
            _between(START, 1.0, t / WARM)
            if t < WARM
            else _between(1.0, END, (t - WARM) / (1 - WARM))
        )
    raise ModelError(f"there is no schedule {name!r}: choose one of {_names(ScheduleName)}")


def _between(first: float, last: float, t: float) -> float:
    """Half a cosine wave from `first` at t = 0 to `last` at t = 1."""
    return last + (first - last) * (1 + math.cos(math.pi * t)) / 2


def _names(kind: object) -> str:
    return ", ".join(f"'{name}'" for name in get_args(kind))


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and the like draw from `seed` inside; torch's global generators are put back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def modes_on_error(module: nn.Module) -> Iterator[None]:
    """Every part in training or evaluation mode as it was, if an error ends what is inside."""
    back = modes(module)
    try:
        yield
    except BaseException:
        back()
        raise


def modes(module: nn.Module) -> Callable[[], None]:
    """What puts every part into the mode, training or evaluation, that it is in now."""
    before = [(part, part.training) for part in module.modules()]

    def back() -> None:
        for part, mode in before:
            part.training = mode

    return back


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers below 1e-38 are 0 inside, in this thread and those it starts; afterwards as before.

    Soft gates push gradients there, and a CPU takes a hundred times longer over each: 2.3 to 4.6
    times over a convolutional run (measured), for the same accuracies.
    """
    tiny = torch.tensor([1e-40], dtype=torch.float32)
    before = bool((tiny * 1.0 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def mean_loss(out: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of labels (of one output: the two-class form), squared error of numbers."""
    if y.is_floating_point():
        return nn.functional.mse_loss(out, y)
    if out.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(out[:, 0], y.to(out.dtype))
    return nn.functional.cross_entropy(out, y)


def summed_score(out: Tensor, y: Tensor) -> Tensor:
    """Over the rows: right labels, or minus the mean squared error a row; higher is better."""
    if y.is_floating_point():
        return -(out - y).square().mean(1).sum()
    chosen = (out[:, 0] > 0).to(y.dtype) if out.shape[1] == 1 else out.argmax(1)
    return (chosen == y).sum()
