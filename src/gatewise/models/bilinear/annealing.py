"""beta(t) = max(0, 1 - t / share): a SwiGLU becomes a bilinear layer while it trains.

swish_beta(z) = z sigmoid(beta z) is z / 2 at beta = 0, for every z: the limit of a layer
(W, V, P) is exactly the bilinear layer (W, V / 2, P). The published scale is kept, so that weights
of a SwiGLU can be loaded as they are; twice the swish would have the limit z, and twice a SwiGLU's
answer at beta = 1. (arXiv:2410.08417, App. J)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.bilinear.layers import GLU
from gatewise.models.checks import is_number

Module = TypeVar("Module", bound=nn.Module)
SHARE = 0.3  # of the training, as published


def anneal_beta(
    module: nn.Module, share: float = SHARE, start: float = 1.0
) -> Callable[[float], None]:
    """t in [0, 1] -> sets beta = start * max(0, 1 - t / share) in every swish GLU inside `module`.

    For `fit(.., along=anneal_beta(module), keep_after=share)`. ModelError where there is none.
    """
    if not (is_number(share) and 0 < share <= 1):
        raise ModelError(f"`share` is a share of the training in (0, 1], and it is {share!r}")
    if not is_number(start):
        raise ModelError(f"`start` is the first beta, a number from 0, and it is {start!r}")
    gates = [part for part in _glus(module) if part.gate == "swish"]
    if not gates:
        raise ModelError("the module has no layer with gate='swish': there is nothing to anneal")

    def along(t: float) -> None:
        for part in gates:
            part.beta = start * max(0.0, 1 - t / share)

    return along


def annealed(module: Module) -> Module:
    """The same function with gate "bilinear" and V / 2: halving is exact, nothing is rounded.

    A copy; ModelError while a beta is not 0.
    """
    other = copy.deepcopy(module)
    for part in _glus(other):
        if part.gate == "bilinear":
            continue
        if part.beta != 0:
            raise ModelError(
                f"a gate is swish with beta = {part.beta:g}, which no bilinear layer is: "
                f"anneal beta to 0 first"
            )
        part.gate, part.V = "bilinear", copy.deepcopy(part.V)  # others may share V, or W be V
        with torch.no_grad():
            for parameter in part.V.parameters():
                parameter.div_(2)
    return other


def has_swish(module: nn.Module) -> bool:
    """Is there a GLU with gate="swish" inside?"""
    return any(part.gate == "swish" for part in _glus(module))


def gaussian_noise(std: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """x -> x + std * n, n normal and drawn anew for every entry of every batch, not clipped.

    For `fit(.., augment=gaussian_noise(0.4))`: rows held out are left as they are.
    """
    if not is_number(std):
        raise ModelError(f"the noise's standard deviation is a number from 0, and it is {std!r}")

    def noisy(x: Tensor, rng: torch.Generator) -> Tensor:
        drawn = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
        return x + std * drawn

    return noisy


def _glus(module: nn.Module) -> list[GLU]:
    return [part for part in module.modules() if isinstance(part, GLU)]
