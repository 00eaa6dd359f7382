"""Bilinear networks as scikit-learn estimators: an answer is a quadratic form of the columns.

z = (x - mean) / scale;  y = H ((W z + b) * (V z + c)) for one layer, of degree 2^L for L layers: no
activation, so `gatewise.bilinear` reads every output's eigenvectors off the fitted weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from gatewise.models.bilinear.annealing import SHARE, annealed
from gatewise.models.bilinear.fitting import fit_bilinear
from gatewise.models.bilinear.layers import BilinearMLP, GLUGate
from gatewise.models.estimators.base import Classifier, Estimator, Regressor
from gatewise.models.fitting import Epoch, History


class _Bilinear(Estimator):
    """What a bilinear classifier and regressor share."""

    def __init__(
        self,
        hidden: int = 64,
        *,
        embed: int | None = None,
        layers: int = 1,
        bias: bool = True,
        residual: bool = False,
        project: bool = False,
        gate: GLUGate = "bilinear",
        anneal: float = SHARE,
        noise: float = 0.1,
        epochs: int = 100,
        batch: int = 64,
        lr: float = 5e-3,
        weight_decay: float = 0.1,
        standardise: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        progress: Callable[[Epoch], Any] | None = None,
    ) -> None:
        self.hidden = hidden
        self.embed = embed
        self.layers = layers
        self.bias = bias
        self.residual = residual
        self.project = project
        self.gate = gate
        self.anneal = anneal
        self.noise = noise
        self.epochs = epochs
        self.batch = batch
        self.lr = lr
        self.weight_decay = weight_decay
        self.standardise = standardise
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.progress = progress

    def _trained(
        self, sizes: tuple[int, int], data: Any, seed: int, settings: dict[str, Any]
    ) -> tuple[nn.Module, list[History]]:
        """One run; a swish gate ends as a bilinear one."""
        module = BilinearMLP(
            sizes[0],
            self.hidden,
            sizes[1],
            embed=self.embed,
            layers=self.layers,
            bias=self.bias,
            residual=self.residual,
            project=self.project,
            gate=self.gate,
            seed=seed,
        )
        history = fit_bilinear(
            module,
            *data,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            noise=self.noise,
            anneal=self.anneal,
            drop_last=False,
            seed=seed,
            **settings,
        )
        return annealed(module), [history]

    def _head(self, inner: Any) -> nn.Linear:
        head: nn.Linear = inner.head
        return head


class BilinearClassifier(Classifier, _Bilinear):
    """A classifier whose logits are quadratic forms of the columns (arXiv:2410.08417).

    Parameters: hidden, the products of each of `layers` layers (L layers: degree 2^L); embed, the
    width of a Linear before them, None for none; bias in W and V, without which only even powers
    of the standardised columns can be learnt; residual and project as in `BilinearMLP`.
    gate "swish": trains as a SwiGLU at first and is bilinear from the share `anneal` of the epochs
    on. noise: the deviation of the Gaussian noise on the columns the network sees, anew each step.
    epochs, batch, lr (a cosine to 0), weight_decay: of AdamW. standardise the columns first.
    early_stopping: hold out validation_fraction, keep the best epoch, stop after `patience`
    without a better one. progress(epoch) is called after each epoch.

    Attributes: torch_module_ (raw columns -> logits, what predicts and is read), loss_curve_,
    n_iter_, histories_, mean_, scale_, classes_ (the labels), n_features_in_, feature_names_in_
    (names of a table's columns).

    Raises ValueError (DataError, ModelError) for rows and settings that cannot be used.
    """


class BilinearRegressor(Regressor, _Bilinear):
    """A regressor whose outputs are quadratic forms of the columns (arXiv:2410.08417).

    Parameters and attributes are those of BilinearClassifier, classes_ aside; y may have several
    outputs, and is learnt in standard deviations from its mean.
    """
