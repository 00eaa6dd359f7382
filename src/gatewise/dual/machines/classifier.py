"""NPKClassifier: a kernel machine on the neural path kernel of given gates, for scikit-learn.

H(x, x') = <x, x'> times the product over layers of the gates that are on at both. The gates are a
random network's, random half-spaces', or those of a network that was trained on these labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gatewise.dual.kernels.path_kernel import npk, npk_of_gates
from gatewise.dual.machines.solvers import ridge_machine, svm_machine
from gatewise.errors import DataError, missing
from gatewise.given.labels import Floats, spread_of, winners
from gatewise.ir.network import Network

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise missing("scikit-learn", "sklearn", "an estimator of scikit-learn") from None

Masks = list[NDArray[np.bool_]]
CHOICES = {
    "gates": ("relu", "half-spaces"),
    "method": ("ridge", "svm"),
    "scale": ("cosine", "normalised", "raw"),
}


class NPKClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge or an SVM on the neural path kernel (arXiv:2006.10529).

    Parameters: gates_from, a Network (what gatewise.read gives) whose gates are taken and whose
    inputs the columns are, None for random gates: gates "relu", those of a random ReLU network
    (He normal), or "half-spaces", each gate a random half-space of the input, on standardised
    columns and a constant; hidden_layer_sizes, the width of each layer of random gates; inputs
    False for 1 in place of <x, x'>; method "ridge" or "svm"; ridge, in units of the kernel's mean
    diagonal, or several, of which the one with the least leave-one-out error is taken; C of the
    SVM; scale of the kernel, "cosine", "normalised" or "raw"; random_state.

    Attributes: machine_ (the KernelMachine), classes_, n_features_in_, feature_names_in_ (names of
    a table's columns). fit keeps the training rows: a prediction is their kernel with new rows.

    Raises ValueError (DataError) for rows and settings that cannot be used, NotGated for a network
    whose gates are not on or off.
    """

    def __init__(
        self,
        gates_from: Network | None = None,
        *,
        gates: Literal["relu", "half-spaces"] = "relu",
        hidden_layer_sizes: Sequence[int] = (256, 256, 256),
        inputs: bool = True,
        method: Literal["ridge", "svm"] = "ridge",
        ridge: float | Sequence[float] = 1e-2,
        C: float = 1.0,
        scale: Literal["cosine", "normalised", "raw"] = "cosine",
        random_state: Any = None,
    ) -> None:
        self.gates_from = gates_from
        self.gates = gates
        self.hidden_layer_sizes = hidden_layer_sizes
        self.inputs = inputs
        self.method = method
        self.ridge = ridge
        self.C = C
        self.scale = scale
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the labels y (rows,) of X (rows, columns)."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise DataError(
                    f"`{name}` is one of {', '.join(map(repr, known))}, and it is "
                    f"{getattr(self, name)!r}"
                )
        self.mean_, self.scale_ = X.mean(0), spread_of(X)
        if self.gates_from is None:
            self._draw(X.shape[1])
        self.X_fit_ = X
        gram = self._kernel(X)
        if self.method == "svm":
            self.machine_ = svm_machine(gram, y, C=self.C)
        else:
            self.machine_ = ridge_machine(gram, y, ridge=self.ridge)
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: Any) -> Floats:
        """Scores: (rows, classes), or (rows,) of the second of two classes."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of every row."""
        scores = self._scores(X)
        found: NDArray[Any] = self.classes_[winners(scores)]
        return found

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return self.machine_.scores(self._kernel(x, self.X_fit_))

    def _kernel(self, X: Floats, X2: Floats | None = None) -> Floats:
        """The kernel of rows of raw columns."""
        if self.gates_from is not None:
            return npk(self.gates_from, X, X2, scale=self.scale, inputs=self.inputs).values
        z = [self._augmented(part) for part in (X, X2) if part is not None]
        masks = [self._masks(part) for part in z]
        seen = [part if self.inputs else None for part in z]
        if X2 is None:
            return npk_of_gates(masks[0], inputs=seen[0], scale=self.scale).values
        return npk_of_gates(*masks, *seen, scale=self.scale).values

    def _augmented(self, X: Floats) -> Floats:
        """Standardised columns and a constant 1: (rows, columns + 1)."""
        whole: Floats = np.c_[(X - self.mean_) / self.scale_, np.ones(len(X))]
        return whole

    def _draw(self, columns: int) -> None:
        """Weights of the random gates, normal of variance 2 / fan_in."""
        widths = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if widths.dtype.kind not in "iu" or not len(widths) or widths.min() < 1:
            raise DataError(
                "`hidden_layer_sizes` is the width of each layer of gates, such as (256, 256), and "
                f"it is {self.hidden_layer_sizes!r}"
            )
        rng = check_random_state(self.random_state)
        deep = self.gates == "relu"
        taken = [columns + 1, *(widths[:-1] if deep else [columns + 1] * (len(widths) - 1))]
        pairs = zip(widths, taken, strict=True)
        self.gate_weights_ = [rng.standard_normal((w, n)) * np.sqrt(2 / n) for w, n in pairs]

    def _masks(self, z: Floats) -> Masks:
        """1{W_l h_{l-1} > 0} layer by layer: h the ReLU network's values, or z for all."""
        found, h = [], z
        for weight in self.gate_weights_:
            q = h @ weight.T
            found.append(q > 0)
            h = np.maximum(q, 0) if self.gates == "relu" else z
        return found
