"""DLGNs as scikit-learn estimators: soft gates while they learn, hard gates where they predict.

z = (x - mean) / scale;  gates g_l = gate(U_l .. U_1 z) train as sigmoid(beta q); then the gates are
hardened to 1{q > 0}, the values go on learning under them, and that network is what predicts, what
`gatewise.read` reads and what the rules are of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from gatewise.errors import ModelError
from gatewise.models.dlgn import DLGN, DLGNShallow
from gatewise.models.estimators.base import Classifier, Estimator, Floats, Regressor, run
from gatewise.models.fitting import Epoch, History, fit
from gatewise.models.gates import GateName
from gatewise.models.towers import ValueInput


class _DLGN(Estimator):
    """What a DLGN classifier and regressor share."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128, 128, 128),
        *,
        shallow: bool = False,
        gate: GateName = "sigmoid",
        beta: float = 4.0,
        value_input: ValueInput = "x",
        bias: bool = True,
        harden: bool = True,
        epochs: int = 100,
        hard_epochs: int | None = None,
        batch: int = 64,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        standardise: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        progress: Callable[[Epoch], Any] | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.shallow = shallow
        self.gate = gate
        self.beta = beta
        self.value_input = value_input
        self.bias = bias
        self.harden = harden
        self.epochs = epochs
        self.hard_epochs = hard_epochs
        self.batch = batch
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.standardise = standardise
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.progress = progress

    def _trained(
        self, sizes: tuple[int, int], data: Any, seed: int, settings: dict[str, Any]
    ) -> tuple[nn.Module, list[History]]:
        """The soft network is kept in `soft_module_`."""
        made = DLGNShallow if self.shallow else DLGN
        widths = (sizes[0], *self._widths(), sizes[1])
        chosen = {"value_input": self.value_input, "bias": self.bias, "seed": seed}
        soft = made(widths, self.gate, self.beta, **chosen)  # type: ignore[arg-type]
        histories = [self._fit(soft, data, self.epochs, seed, settings)]
        final = soft
        if self.harden and not soft.gate.hard:
            final = soft.hardened()
            more = self.epochs // 5 if self.hard_epochs is None else self.hard_epochs
            histories += [self._fit(final, data, more, seed + 1, settings)] if more else []
        self.soft_module_ = soft
        return final.hardened() if self.harden else final, histories

    def _fit(
        self, module: nn.Module, data: Any, epochs: int, seed: int, settings: dict[str, Any]
    ) -> History:
        return fit(
            module,
            *data,
            epochs=epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,  # type: ignore[arg-type]
            seed=seed,
            **settings,
        )

    def _widths(self) -> tuple[int, ...]:
        widths = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if widths.dtype.kind not in "iu" or widths.ndim != 1 or not len(widths):
            raise ModelError(
                "`hidden_layer_sizes` is the width of each gated layer, such as (128, 128), and "
                f"it is {self.hidden_layer_sizes!r}"
            )
        return tuple(int(n) for n in widths)

    def _head(self, inner: Any) -> nn.Linear:
        head: nn.Linear = inner.values[-1]
        return head

    def _compared(self, X: Floats) -> None:
        """agreement_: of the network that predicts with the soft one."""
        pair = run(self._scaled(self.soft_module_), X), run(self.torch_module_, X)
        self.agreement_ = self._agreement(*pair)

    def _agreement(self, soft: Floats, final: Floats) -> float:
        raise NotImplementedError


class DLGNClassifier(Classifier, _DLGN):
    """A classifier whose gates are half-spaces of the input (arXiv:2110.03403).

    Parameters: hidden_layer_sizes, the width of each gated layer; shallow, every gate reads the
    input (DLGN-SF); gate "sigmoid", "scaled_sigmoid" or "hard" (random gates, values learnt) and
    beta, its steepness; value_input "ones" for values that see no input; bias in both towers.
    harden: after `epochs` of soft gates they are made 1{q > 0} and the values learn on under them
    for `hard_epochs` (None: a fifth of epochs), so the network is piecewise affine; False: soft
    gates predict. batch, lr, weight_decay, schedule ("cosine", "constant", "one-cycle"): of Adam.
    standardise the columns first. early_stopping: hold out validation_fraction, keep the best
    epoch, stop after `patience` without a better one. progress(epoch) is called after each epoch.

    Attributes: torch_module_ (raw columns -> logits, what predicts and is read), soft_module_ (the
    network before hardening), agreement_ (the share of training rows whose label hardening left
    as it was), loss_curve_, n_iter_, histories_, mean_, scale_, classes_ (the labels),
    n_features_in_, feature_names_in_ (names of a table's columns).

    Raises ValueError (DataError, ModelError) for rows and settings that cannot be used.
    """

    def _agreement(self, soft: Floats, final: Floats) -> float:
        return float((self._labels(soft) == self._labels(final)).mean())


class DLGNRegressor(Regressor, _DLGN):
    """A regressor whose gates are half-spaces of the input (arXiv:2110.03403).

    Parameters and attributes are those of DLGNClassifier, classes_ aside; y may have several
    outputs, and is learnt in standard deviations from its mean. agreement_ is the R2 of the
    predictions against those of the soft network on the training rows; feature_names_in_ the
    names of a table's columns.
    """

    def _agreement(self, soft: Floats, final: Floats) -> float:
        total = ((soft - soft.mean(0)) ** 2).sum()
        return float(1 - ((final - soft) ** 2).sum() / total) if total else 1.0
