"""The published training of bilinear image models: AdamW, a cosine by epochs, Gaussian noise.

arXiv:2410.08417, Table 1, and its code: lr 1e-3, weight decay 1, batches of 2,048 with the last
left out, 20 to 100 epochs. "Input noise, norm 0.5" is a standard deviation of 0.15 in the code of
Figure 7 (norm 1 is 0.3 there); that of Figure 5 has the deviation 0.4, the default here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gatewise.models.bilinear.annealing import SHARE, anneal_beta, gaussian_noise, has_swish
from gatewise.models.fitting import Epoch, History, fit


def fit_bilinear(
    module: nn.Module,
    X: Any,
    y: Any,
    *,
    epochs: int = 100,
    batch: int = 2048,
    lr: float = 1e-3,
    weight_decay: float = 1.0,
    noise: float = 0.4,
    anneal: float = SHARE,
    validation: float | tuple[Any, Any] | None = None,
    patience: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    drop_last: bool = True,
    progress: Callable[[Epoch], Any] | None = None,
) -> History:
    """`fit` with the published settings; X in the units of the noise (pixels in [0, 1]).

    noise: its standard deviation on every entry of a batch, anew each step. anneal: the share of
    the run in which beta falls from 1 to 0 where `module` has swish gates; no epoch before its end
    is kept. All else, and what is raised, as `fit` says.
    """
    swish = has_swish(module)
    return fit(
        module,
        X,
        y,
        epochs=epochs,
        batch=batch,
        lr=lr,
        optimizer="adamw",
        weight_decay=weight_decay,
        schedule="epoch-cosine",
        validation=validation,
        patience=patience,
        seed=seed,
        device=device,
        augment=gaussian_noise(noise),
        progress=progress,
        drop_last=drop_last,
        along=anneal_beta(module, anneal) if swish else None,
        keep_after=anneal if swish else 0.0,
    )
