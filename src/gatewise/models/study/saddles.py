"""Where a run ended: the saddle it is nearest to, how balanced its layers are, how the loss bends.

All stationary points of a deep linear chain with a full-rank cov(x) that are no minimum are
saddles (Kawaguchi 2016). With two layers each has a direction of negative curvature; from three
layers on the origin has none (its Hessian is 0): the loss is flat there, and escape is slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import ModelError
from gatewise.models.study.chains import Chains
from gatewise.models.study.descent import Descent
from gatewise.models.study.modes import Modes
from gatewise.models.study.moments import Bowl

Floats = NDArray[np.float64]
MOST = 64  # parameters of one chain for which Hessians are made
HESSIANS = 256  # at a time
BENT = 1e-6  # of the largest |curvature|: a direction that bends down by more is an escape


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Of T trials at K rates, at the end of a run.

    missing (K, T, k) bool: the modes not learnt, the strongest first; loss (K, T): that of the
    saddle without them; distance (K, T): root mean square of the chain's output minus the
    saddle's; imbalance_start, imbalance_end (K, T): see `Chains.imbalance`; least, greatest
    (K, T): of the Hessian's eigenvalues over all weights, NaN where it was not asked for or the
    run diverged.
    """

    missing: NDArray[np.bool_]
    loss: Floats
    distance: Floats
    imbalance_start: Floats
    imbalance_end: Floats
    least: Floats
    greatest: Floats

    @property
    def strict(self) -> NDArray[np.bool_]:
        """(K, T) does the loss bend down in some direction, by a millionth of what it bends up?"""
        largest = np.maximum(np.abs(self.least), np.abs(self.greatest))
        return np.asarray(self.least < -BENT * largest)


def diagnose(run: Descent, *, hessian: bool = False) -> Diagnosis:
    """The saddle nearest to each chain of `run`, by the modes it has not learnt.

    hessian: the extreme eigenvalues too, of chains with at most 64 parameters (else ModelError).
    """
    shape = run.verdicts.shape
    modes, (M, C) = Modes.of(run.bowl, min(run.end.sizes)), run.end.map()
    learnt = modes.learnt(M)
    saddle = modes.saddle(run.bowl, learnt)
    loss = run.bowl.least + run.bowl.excess(*saddle)
    bends = torch.full((2, len(M)), torch.nan, dtype=torch.float64)
    if hessian:
        fine = torch.from_numpy((run.verdicts != "diverged").reshape(-1))
        bends[:, fine] = _bends(run.end, run.bowl, fine) if bool(fine.any()) else torch.nan
    least, greatest = (t.reshape(shape).numpy() for t in bends)
    return Diagnosis(
        (modes.counted & ~learnt).reshape(*shape, -1).numpy(),
        loss.reshape(shape).numpy(),
        _apart(run.bowl, (M, C), saddle).reshape(shape).numpy(),
        run.start.imbalance().reshape(shape).numpy(),
        run.end.imbalance().reshape(shape).numpy(),
        least,
        greatest,
    )


def _apart(bowl: Bowl, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """(B,) sqrt(E|(M - M') x + C - C'|^2 / outputs)."""
    centred = Bowl(bowl.mean, bowl.xx, *other, bowl.least, bowl.size)
    return centred.excess(*one).sqrt()


def _bends(chains: Chains, bowl: Bowl, chosen: Tensor) -> Tensor:
    """(2, B) the least and the greatest eigenvalue of the Hessian over weights and biases."""
    held = chains.tensors()
    count = sum(t[0].numel() for t in held)
    if count > MOST:
        raise ModelError(
            f"the Hessian is made for chains of at most {MOST} parameters, and these have {count}"
        )
    flat = torch.cat([t.flatten(1) for t in held], 1)[chosen]
    shapes = [t.shape[1:] for t in held]

    def loss(values: Tensor, mean: Tensor, xx: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        split = values.split([s.numel() for s in shapes])
        one = chains.like([v.view(1, *s) for v, s in zip(split, shapes, strict=True)])
        none = values.new_zeros(1)
        around = Bowl(mean[None], xx[None], slope[None], intercept[None], none, none)
        return around.excess(*one.map())[0]

    bent = torch.func.vmap(torch.func.hessian(loss), chunk_size=HESSIANS)
    fields = (bowl.mean, bowl.xx, bowl.slope, bowl.intercept)
    values: Tensor = torch.linalg.eigvalsh(bent(flat, *(f[chosen] for f in fields)))
    return values[:, [0, -1]].T
