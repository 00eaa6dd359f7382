"""What every scikit-learn estimator over a network shares: rows, scales, rows held out, answers.

z = (x - mean) / scale is what a network learns from; the estimator's `torch_module_` takes raw
columns and is what predicts and what `gatewise.read` reads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.errors import DataError, ModelError, missing
from gatewise.models.checks import coded, given, is_flag, require_labels, spreads
from gatewise.models.fitting import Epoch, History

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


class Estimator(BaseEstimator):  # type: ignore[misc]
    """What a classifier and a regressor share. A family of networks adds `_trained` and `_head`."""

    standardise: bool
    early_stopping: bool
    validation_fraction: float
    patience: int
    random_state: Any
    progress: Callable[[Epoch], Any] | None

    def _trained(
        self, sizes: tuple[int, int], data: Any, seed: int, settings: dict[str, Any]
    ) -> tuple[nn.Module, list[History]]:
        """The network that predicts, of (inputs, outputs), trained with `fit`'s `settings`."""
        raise NotImplementedError

    def _head(self, inner: Any) -> nn.Linear:
        """The layer of a network that gives its outputs."""
        raise NotImplementedError

    def _compared(self, X: Floats) -> None:
        """What else is told of the fitted network, from the rows it was fitted to."""

    def _learn(self, X: Floats, y: NDArray[Any], outputs: int) -> None:
        """Everything but the scales of y: the network that predicts, and what happened."""
        for name in ("standardise", "early_stopping"):
            if not is_flag(getattr(self, name)):
                raise ModelError(f"`{name}` is True or False, and it is {getattr(self, name)!r}")
        self.mean_, self.scale_ = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.standardise:
            self.mean_, self.scale_ = X.mean(0), spreads(X)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data, held = self._parts((X - self.mean_) / self.scale_, y, seed)
        patience = self.patience if self.early_stopping else None
        settings = {"validation": held, "patience": patience, "progress": self.progress}
        final, histories = self._trained((X.shape[1], outputs), data, seed, settings)
        self.loss_curve_ = [loss for history in histories for loss in history.losses]
        self.n_iter_ = len(self.loss_curve_)
        self.histories_ = tuple(histories)
        self.torch_module_ = self._scaled(final)
        self._compared(X)

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

    def _scaled(self, inner: Any) -> Scaled:
        """The network of raw columns, a copy of `inner` inside it."""
        return Scaled(copy.deepcopy(inner), self.mean_, self.scale_)

    def _outputs(self, X: Any) -> Floats:
        """What the network gives for validated rows, (rows, outputs)."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return run(self.torch_module_, x)


@torch.no_grad()
def run(module: nn.Module, x: Floats) -> Floats:
    """A network's answers in float64, (rows, outputs)."""
    out: Floats = module(torch.tensor(x, dtype=torch.float64)).numpy()
    return out


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """Labels by the largest logit; two classes share one."""

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
        count = len(self.classes_)
        self._learn(X, codes, 1 if count == 2 else count)
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


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """Numbers, learnt in standard deviations from their mean, answered in their own units."""

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the numbers y, (rows,) or (rows, outputs), of X (rows, columns)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        flat = y.ndim == 1 or y.shape[1] == 1
        if flat and y.ndim == 2:
            y = column_or_1d(y, warn=True)
        self._flat = flat
        y = np.asarray(y, np.float64).reshape(len(X), -1)
        self._centre, self._spread = y.mean(0), spreads(y)
        self._learn(X, (y - self._centre) / self._spread, y.shape[1])
        return self

    def predict(self, X: Any) -> Floats:
        """f(X), in the shape of the y it was fitted to."""
        out = self._outputs(X)
        return out[:, 0] if self._flat else out

    def _scaled(self, inner: Any) -> Scaled:
        """Its head, W h + b, gives y in its own units."""
        whole = super()._scaled(inner)
        head = self._head(whole.inner)
        spread, centre = torch.tensor(self._spread), torch.tensor(self._centre)
        bias = centre if head.bias is None else head.bias.detach() * spread + centre
        head.weight = nn.Parameter(head.weight.detach() * spread[:, None])
        head.bias = nn.Parameter(bias)
        return whole

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
