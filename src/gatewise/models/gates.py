"""g(q), a mask from a pre-activation: 1{q > 0}, sigmoid(beta q), (1 + eps) sigmoid(beta q)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gatewise.errors import ModelError

GateName = Literal["hard", "sigmoid", "scaled_sigmoid"]


@dataclass(frozen=True)
class Gate:
    """The rule of every gate of a network: its kind, its steepness `beta`, its overshoot `epsilon`.

    `beta` and `epsilon` are those of the soft kinds; a hard gate has no use for them, and passes
    no gradient to what decides it. Raises ModelError for settings that are no gate.
    """

    kind: GateName = "hard"
    beta: float = 4.0
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in get_args(GateName):
            kinds = ", ".join(f"'{kind}'" for kind in get_args(GateName))
            raise ModelError(f"there is no gate '{self.kind}': choose one of {kinds}")
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ModelError(
                f"a soft gate sigmoid(beta q) opens as q grows only for beta > 0, and beta is "
                f"{self.beta:g}: 4 is usual, and gate='hard' is its limit"
            )
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ModelError(
                f"a scaled gate is (1 + epsilon) sigmoid(beta q) with epsilon >= 0, and epsilon "
                f"is {self.epsilon:g}: 0.1 is usual"
            )

    @property
    def hard(self) -> bool:
        """Is the mask made of zeros and ones?"""
        return self.kind == "hard"

    def __call__(self, q: Tensor) -> Tensor:
        """The mask of pre-activations `q`, in their shape and dtype. A hard gate at 0 is off."""
        if self.hard:
            return (q > 0).to(q.dtype)
        soft = torch.sigmoid(self.beta * q)
        return soft if self.kind == "sigmoid" else (1 + self.epsilon) * soft

    def hardened(self) -> Gate:
        """1{q > 0}; of a scaled gate too, whose limit for large beta is (1 + epsilon) 1{q > 0}."""
        return Gate("hard", self.beta, self.epsilon)
