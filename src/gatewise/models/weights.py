"""Named initialisations, each from a generator of its own: torch's global state is left alone."""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.checks import whole

Init = Literal["glorot", "he", "rademacher", "torch"]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def generator(seed: int | None) -> torch.Generator | None:
    """A generator with this seed; None stands for torch's global one."""
    if seed is None:
        return None
    if not whole(seed, 0):
        raise ModelError(f"`seed` is a whole number from 0, or None, and it is {seed!r}")
    return torch.Generator().manual_seed(int(seed))


def fill(
    weight: Tensor, init: Init, rng: torch.Generator | None, sigma: float | None = None
) -> None:
    """Draw the entries of a weight (outputs, inputs, *kernel), in place, i.i.d. with mean 0.

    glorot: uniform, variance 2 / (fan_in + fan_out); he: normal, variance 2 / fan_in;
    rademacher: +-sigma with even chances, sigma = sqrt(2 / fan_in) if not given (the theorem of
    arXiv:2006.10529 wants one sigma for all layers); torch: uniform, variance 1 / (3 fan_in).
    """
    if init not in get_args(Init):
        names = ", ".join(f"'{name}'" for name in get_args(Init))
        raise ModelError(f"there is no initialisation '{init}': choose one of {names}")
    fan_in = weight[0].numel()
    if init == "glorot":
        nn.init.xavier_uniform_(weight, generator=rng)
    elif init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=rng)
    elif init == "rademacher":
        size = math.sqrt(2 / fan_in) if sigma is None else sigma
        with torch.no_grad():
            weight.bernoulli_(0.5, generator=rng).mul_(2).sub_(1).mul_(size)
    else:
        nn.init.kaiming_uniform_(weight, math.sqrt(5), generator=rng)


def initialise(
    module: nn.Module, init: Init, *, seed: int | None = None, sigma: float | None = None
) -> None:
    """Draw every Linear and Conv2d inside `module` anew, in order; biases become 0.

    Batch normalisation starts anew too.
    """
    rng = generator(seed)
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            fill(part.weight, init, rng, sigma)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def dense(
    inputs: int, outputs: int, bias: bool, init: Init, rng: torch.Generator | None
) -> nn.Linear:
    """A Linear layer with weights from `rng` and biases 0."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    return _started(layer, init, rng)


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    bias: bool,
    init: Init,
    rng: torch.Generator | None,
    stride: int = 1,
) -> nn.Conv2d:
    """A Conv2d that keeps rows and columns at stride 1 (zero padding), weights from `rng`."""
    layer: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias
    )
    return _started(layer, init, rng)


def _started(layer: Layer, init: Init, rng: torch.Generator | None) -> Layer:
    fill(layer.weight, init, rng)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
