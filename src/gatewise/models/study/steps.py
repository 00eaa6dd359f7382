"""theta <- theta - step(gradient): plain, with momentum, or Adam's; as torch.optim does them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gatewise.errors import ModelError
from gatewise.models.checks import is_number

StepName = Literal["gd", "momentum", "adam"]
Step = Callable[[Tensor, Tensor], None]  # (values, gradient), values in place


@dataclass(frozen=True)
class Rule:
    """Which step; momentum is that of "momentum", betas and eps are Adam's."""

    name: StepName = "gd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.name not in get_args(StepName):
            names = ", ".join(f"'{name}'" for name in get_args(StepName))
            raise ModelError(f"there is no optimizer {self.name!r}: choose one of {names}")
        pair = isinstance(self.betas, tuple | list) and len(self.betas) == 2
        for value in (self.momentum, *(self.betas if pair else [self.betas])):
            if not (is_number(value) and value < 1):
                raise ModelError(
                    f"momentum and the two betas are numbers from 0 below 1, got {value!r}"
                )

    def stepper(self, values: Tensor, rate: Tensor) -> Step:
        """A fresh state for these values; `rate` multiplies them case by case."""
        if self.name == "adam":
            return _adam(values, rate, self.betas, self.eps)
        if self.name == "momentum":
            return _momentum(values, rate, self.momentum)
        return lambda theta, grad: _plain(theta, grad, rate)


def _plain(theta: Tensor, grad: Tensor, rate: Tensor) -> None:
    theta.addcmul_(grad, rate, value=-1)


def _momentum(values: Tensor, rate: Tensor, momentum: float) -> Step:
    speed = torch.zeros_like(values)

    def step(theta: Tensor, grad: Tensor) -> None:
        speed.mul_(momentum).add_(grad)
        theta.addcmul_(speed, rate, value=-1)

    return step


def _adam(values: Tensor, rate: Tensor, betas: tuple[float, float], eps: float) -> Step:
    mean, square, taken = torch.zeros_like(values), torch.zeros_like(values), [0]

    def step(theta: Tensor, grad: Tensor) -> None:
        taken[0] += 1
        first, second = (1 - beta ** taken[0] for beta in betas)
        mean.lerp_(grad, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
        size = (square.sqrt() / math.sqrt(second)).add_(eps)
        theta.addcmul_(mean / size, rate, value=-1 / first)

    return step
