"""DLGNs as scikit-learn estimators: soft gates while they learn, hard gates where they predict.

z = (x - mean) / scale;  gates g_l = gate(U_l .. U_1 z) train as sigmoid(beta q); then the gates are
hardened to 1{q > 0}, the values go on learning under them, and that network is what predicts, what
`gatewise.read` reads and what the rules are of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.errors import DataError, ModelError, missing
from gatewise.models.checks import coded, given, require_labels, spreads
from gatewise.models.dlgn import DLGN, DLGNShallow
from gatewise.models.fitting import Epoch, fit
from gatewise.models.gates import GateName
from gatewise.models.towers import ValueInput

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError:
    raise missing("scikit-learn", "sklearn", "an estimator of scikit-learn") from None

Floats = NDArray[np.float64]


class Scaled(nn.Module):
    """f(x) = inner((x - mean) / scale), in float64: raw columns in."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inner: nn.Module, mean: Floats, scale: Floats) -> None:
        super().__init__()
        self.inner = inner.to(torch.float64)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.moves = bool(mean.any() or (scale != 1).any())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """f(x): (rows, inputs) -> (rows, outputs)."""
        out: Tensor = self.inner((x - self.mean) / self.scale if self.moves else x)
        return out


class _Estimator(BaseEstimator):  # type: ignore[misc]
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

    def _learn(self, X: Floats, y: NDArray[Any], outputs: int) -> None:
        """Everything but the scales: the soft network, then the one that predicts."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data, held = self._parts((X - self.mean_) / self.scale_, y, seed)
        made = DLGNShallow if self.shallow else DLGN
        sizes = (X.shape[1], *self._widths(), outputs)
        settings = {"value_input": self.value_input, "bias": self.bias, "seed": seed}
        soft = made(sizes, self.gate, self.beta, **settings)  # type: ignore[arg-type]
        histories = [self._fit(soft, data, held, self.epochs, seed)]
        final = soft
        if self.harden and not soft.gate.hard:
            final = soft.hardened()
            more = self.epochs // 5 if self.hard_epochs is None else self.hard_epochs
            histories += [self._fit(final, data, held, more, seed + 1)] if more else []
        self.soft_module_ = soft
        self.loss_curve_ = [loss for history in histories for loss in history.losses]
        self.n_iter_ = len(self.loss_curve_)
        self.histories_ = tuple(histories)
        self.torch_module_ = self._scaled(final.hardened() if self.harden else final)

    def _fit(self, module: nn.Module, data: Any, held: Any, epochs: int, seed: int) -> Any:
        return fit(
            module,
            *data,
            epochs=epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,  # type: ignore[arg-type]
            validation=held,
            patience=self.patience if self.early_stopping else None,
            seed=seed,
            progress=self.progress,
        )

    def _parts(self, z: Floats, y: NDArray[Any], seed: int) -> tuple[Any, Any]:
        """((X, y) to learn from, (X, y) held out or None)."""
        if not self.early_stopping:
            return (z, y), None
        labels = y if y.dtype == np.int64 else None
        try:
            parts = train_test_split(
                *(z, y), test_size=self.validation_fraction, random_state=seed, stratify=labels
            )
        except ValueError as error:
            raise DataError(
                f"early stopping holds out {self.validation_fraction!r} of {len(z)} rows, of each "
                f"class some: {error} Give more rows, or early_stopping=False"
            ) from error
        return (parts[0], parts[2]), (parts[1], parts[3])

    def _widths(self) -> tuple[int, ...]:
        widths = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if widths.dtype.kind not in "iu" or widths.ndim != 1 or not len(widths):
            raise ModelError(
                "`hidden_layer_sizes` is the width of each gated layer, such as (128, 128), and "
                f"it is {self.hidden_layer_sizes!r}"
            )
        return tuple(int(n) for n in widths)

    def _standardised(self, X: Floats) -> None:
        self.mean_, self.scale_ = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.standardise:
            self.mean_, self.scale_ = X.mean(0), spreads(X)

    def _scaled(self, inner: Any) -> Scaled:
        """The network of raw columns, a copy of `inner` inside it."""
        return Scaled(copy.deepcopy(inner), self.mean_, self.scale_)

    def _outputs(self, X: Any) -> Floats:
        """What the network gives for validated rows, (rows, outputs)."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return _run(self.torch_module_, x)


@torch.no_grad()
def _run(module: nn.Module, x: Floats) -> Floats:
    out: Floats = module(torch.tensor(x, dtype=torch.float64)).numpy()
    return out


class DLGNClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
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

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the labels y (rows,) of X (rows, columns)."""
        labels = given(y)
        if labels.ndim == 1:
            require_labels(labels)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = coded(y)
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class, {self.classes_.tolist()[0]!r}: a classifier needs rows of at "
                "least two classes"
            )
        self._standardised(X)
        count = len(self.classes_)
        self._learn(X, codes, 1 if count == 2 else count)
        soft = self._labels(_run(self._scaled(self.soft_module_), X))
        self.agreement_ = float((soft == self._labels(_run(self.torch_module_, X))).mean())
        return self

    def decision_function(self, X: Any) -> Floats:
        """Logits: (rows, classes), or (rows,) of the second of two classes."""
        out = self._outputs(X)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict_proba(self, X: Any) -> Floats:
        """softmax of the logits, (rows, classes)."""
        out = self._outputs(X)
        if out.shape[1] == 1:
            out = np.concatenate([np.zeros_like(out), out], 1)
        powers = np.exp(out - out.max(1, keepdims=True))
        found: Floats = powers / powers.sum(1, keepdims=True)
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of every row."""
        return self._labels(self._outputs(X))

    def _labels(self, out: Floats) -> NDArray[Any]:
        chosen = (out[:, 0] > 0).astype(np.int64) if out.shape[1] == 1 else out.argmax(1)
        found: NDArray[Any] = self.classes_[chosen]
        return found


class DLGNRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor whose gates are half-spaces of the input (arXiv:2110.03403).

    Parameters and attributes are those of DLGNClassifier, classes_ aside; y may have several
    outputs, and is learnt in standard deviations from its mean. agreement_ is the R2 of the
    predictions against those of the soft network on the training rows; feature_names_in_ the
    names of a table's columns.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the numbers y, (rows,) or (rows, outputs), of X (rows, columns)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        flat = y.ndim == 1 or y.shape[1] == 1
        if flat and y.ndim == 2:
            y = column_or_1d(y, warn=True)
        self._flat = flat
        y = np.asarray(y, np.float64).reshape(len(X), -1)
        self._centre, self._spread = y.mean(0), spreads(y)
        self._standardised(X)
        self._learn(X, (y - self._centre) / self._spread, y.shape[1])
        soft = _run(self._scaled(self.soft_module_), X)
        off = ((_run(self.torch_module_, X) - soft) ** 2).sum()
        total = ((soft - soft.mean(0)) ** 2).sum()
        self.agreement_ = float(1 - off / total) if total else 1.0
        return self

    def predict(self, X: Any) -> Floats:
        """f(X), in the shape of the y it was fitted to."""
        out = self._outputs(X)
        return out[:, 0] if self._flat else out

    def _scaled(self, inner: Any) -> Scaled:
        """Its head, W h + b, gives y in its own units."""
        whole = super()._scaled(inner)
        head: Any = whole.inner.values[-1]  # type: ignore[index]
        spread, centre = torch.tensor(self._spread), torch.tensor(self._centre)
        bias = centre if head.bias is None else head.bias.detach() * spread + centre
        head.weight = nn.Parameter(head.weight.detach() * spread[:, None])
        head.bias = nn.Parameter(bias)
        return whole

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
