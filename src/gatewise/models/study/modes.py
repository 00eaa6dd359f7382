"""The modes of a linear problem: M* F = U S V' with F F' = cov(x), and which of them are learnt.

Where the loss of a deep linear chain is stationary and not least, its map is the optimum with some
modes left out: M F = sum of s_i u_i v_i' over the learnt ones (Baldi & Hornik 1989). So a chain
that is stuck is stuck near the saddle that lacks the modes it has not learnt.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.models.study.moments import Bowl

SMALL = 1e-3  # of var(y): modes that explain less are not counted


@dataclass(frozen=True, eq=False)
class Modes:
    """left (B, o, k), strength (B, k) and right (B, d, k) = F V: u' M right / s is a mode's share.

    counted (B, k): those that explain more than a thousandth of y's variance.
    """

    left: Tensor
    strength: Tensor
    right: Tensor
    counted: Tensor

    @classmethod
    def of(cls, bowl: Bowl, width: int) -> Modes:
        """Of the optimum; the strongest `width`, for a chain has no more."""
        values, vectors = torch.linalg.eigh(bowl.xx)
        factor = vectors * values.clamp(min=0).sqrt()[:, None]
        u, s, v = torch.linalg.svd(bowl.slope @ factor, full_matrices=False)
        k = min(width, s.shape[1])
        explained = s[:, :k].square() / bowl.outputs
        counted = explained > SMALL * bowl.size[:, None]
        return cls(u[:, :, :k], s[:, :k], factor @ v[:, :k].mT, counted)

    def __getitem__(self, cases: slice) -> Modes:
        return Modes(self.left[cases], self.strength[cases], self.right[cases], self.counted[cases])

    @property
    def count(self) -> Tensor:
        """(B,) how many there are to learn."""
        return self.counted.sum(1)

    def shares(self, M: Tensor) -> Tensor:
        """(B, k) how much of each mode is in M x: 1 at the optimum, 0 where it is missing."""
        inside = (self.left * (M @ self.right)).sum(1)
        return inside / torch.where(self.counted, self.strength, torch.ones_like(self.strength))

    def learnt(self, M: Tensor) -> Tensor:
        """(B, k) bool: more than half of a counted mode is there."""
        return (self.shares(M) > 0.5) & self.counted

    def target(self, bowl: Bowl) -> Bowl:
        """The best map that a chain of this width has in place of the least-squares one.

        The same where no layer is narrower than inputs and outputs; else the optimum's strongest
        modes (reduced-rank regression), with the intercept that goes with them.
        """
        slope = self.left @ (self.left.mT @ bowl.slope)
        lost = bowl.slope - slope
        if self.strength.shape[1] == min(bowl.slope.shape[1:]):
            return bowl
        intercept = bowl.intercept + (lost @ bowl.mean[:, :, None])[..., 0]
        least = bowl.least + bowl.excess(slope, intercept)
        return dataclasses.replace(bowl, slope=slope, intercept=intercept, least=least)

    def saddle(self, bowl: Bowl, learnt: Tensor) -> tuple[Tensor, Tensor]:
        """M and C of the stationary map that has these modes and lacks the counted others."""
        left = self.left * (learnt | ~self.counted)[:, None]
        slope = left @ (self.left.mT @ bowl.slope)
        shift = ((bowl.slope - slope) @ bowl.mean[:, :, None])[..., 0]
        return slope, bowl.intercept + shift
