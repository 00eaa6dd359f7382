"""Kernel machines on a Gram matrix that is given: ridge and SVM.

K (n, n) between the n training rows, m the mean of its diagonal, Y (n, outputs) the targets less
their mean c. Ridge:  (K + ridge m I) A = Y,  f(x) = k(x) A + c,  with k(x) the kernel between x
and the training rows. `ridge` is in units of m, so it means the same for K and for 1000 K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gatewise.errors import DataError, WrongShape, missing
from gatewise.given.labels import (
    Floats,
    Task,
    quality,
    require_task,
    signs_of,
    targets_of,
    told_apart,
    winners,
)


@dataclass(frozen=True, eq=False)
class KernelMachine:
    """f(x) = k(x) weights + intercept, and what is known of how well it was solved.

    weights (rows, outputs), intercept (outputs,). classes: the labels of a classifier: one output
    each, the largest wins; two labels share one output, the second where it is above 0. None for a
    regression. ridge: in units of the mean of the diagonal (None for an SVM); left_out: for each
    ridge that was tried, the mean squared error at each row of the machine without that row, its
    intercept kept (several ridges only). residual: max |(K + ridge m I) A - Y| over max |Y|.
    """

    kind: Literal["ridge", "svm"]
    weights: Floats
    intercept: Floats
    classes: NDArray[Any] | None = None
    ridge: float | None = None
    left_out: tuple[tuple[float, float], ...] = ()
    residual: float = 0.0

    def scores(self, kernel: ArrayLike) -> Floats:
        """f of some rows, (rows, outputs), from their kernel with the training rows."""
        k = np.asarray(kernel, np.float64)
        if k.ndim != 2 or k.shape[1] != len(self.weights):
            raise WrongShape(
                f"the machine was fitted on {len(self.weights)} rows, so it takes a kernel of "
                f"shape (rows, {len(self.weights)}); got {k.shape}: give npk(net, X, X_train)"
            )
        found: Floats = k @ self.weights + self.intercept
        return found

    def predict(self, kernel: ArrayLike) -> NDArray[Any]:
        """Labels of a classifier; of a regression the scores, (rows,) where there is one output."""
        scores = self.scores(kernel)
        if self.classes is None:
            return scores[:, 0] if scores.shape[1] == 1 else scores
        found: NDArray[Any] = self.classes[winners(scores)]
        return found

    def score(self, kernel: ArrayLike, y: ArrayLike) -> float:
        """The share of labels that are right; R2 of a regression."""
        return quality(self.predict(kernel), y, self.classes is not None)

    def __str__(self) -> str:
        rows, outputs = self.weights.shape
        setting = "" if self.ridge is None else f", ridge {self.ridge:g} of the mean diagonal"
        return f"KernelMachine({self.kind}: {rows} rows, {outputs} outputs{setting})"


def ridge_machine(
    gram: ArrayLike,
    y: ArrayLike,
    *,
    ridge: float | Sequence[float] = 1e-2,
    task: Task = "classification",
) -> KernelMachine:
    """Kernel ridge on the (n, n) Gram matrix of the training rows.

    y: labels, or numbers (n,) or (n, outputs) of a regression. One ridge costs one Cholesky;
    several cost one spectrum together, and the one with the least leave-one-out error is taken.
    """
    k = _square(gram)
    unit = float(k.diagonal().mean())
    centred, intercept, classes = centred_targets(y, len(k), task)
    targets = torch.from_numpy(centred)
    ridges = _ridges(ridge)
    solve = _by_cholesky if len(ridges) == 1 else _by_spectrum
    weights, chosen, left_out = solve(k, targets, ridges, unit)
    off = k @ weights + chosen * unit * weights - targets
    return KernelMachine(
        "ridge",
        weights.numpy(),
        intercept,
        classes,
        chosen,
        left_out,
        float(off.abs().max() / targets.abs().max().clamp(min=1e-300)),
    )


def svm_machine(gram: ArrayLike, y: ArrayLike, *, C: float = 1.0) -> KernelMachine:
    """Support vectors on the Gram matrix over its mean diagonal, each class against the rest."""
    try:
        from sklearn.svm import SVC
    except ImportError:
        raise missing("scikit-learn", "sklearn", "an SVM on a kernel") from None
    if np.asarray(C).dtype.kind not in "iuf" or np.ndim(C) or not 0 < C < np.inf:
        raise DataError(f"C must be a finite number above 0, got {C!r}")
    k = _square(gram).numpy()
    targets, _, classes = centred_targets(y, len(k), "classification")
    unit = float(k.diagonal().mean())
    weights, intercept = np.zeros(targets.shape), np.zeros(targets.shape[1])
    for j, signs in enumerate(targets.T > 0):
        fitted = SVC(C=C, kernel="precomputed").fit(k / unit, signs)
        weights[fitted.support_, j] = fitted.dual_coef_[0] / unit
        intercept[j] = fitted.intercept_[0]
    return KernelMachine("svm", weights, intercept, classes)


# -- the targets --


def centred_targets(
    y: ArrayLike, rows: int, task: Task
) -> tuple[Floats, Floats, NDArray[Any] | None]:
    """(n, outputs) less their mean, the mean, the labels: +1 and -1 for a class and the others."""
    classes = None
    if require_task(task) == "classification":
        classes, codes = told_apart(y, rows)
        values = signs_of(codes, len(classes))
    else:
        values = targets_of(y, rows)
    mean = values.mean(0)
    return values - mean, mean, classes


def _square(gram: ArrayLike) -> Tensor:
    values = np.asarray(gram, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise WrongShape(
            f"a machine needs the Gram matrix of the rows, shape (rows, rows); got {values.shape}"
        )
    usable = values.flags.writeable and min(values.strides) > 0
    k = torch.from_numpy(values if usable else values.copy())
    if not bool(torch.isfinite(k).all()):
        raise DataError(
            "the Gram matrix holds NaN or infinity (a raw kernel of a deep wide net overflows): "
            "take the normalised or the cosine one"
        )
    if float(k.diagonal().mean()) <= 0:
        raise DataError("the Gram matrix has no positive diagonal: no gate is on at any row")
    return k


def _ridges(ridge: float | Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(r) for r in np.atleast_1d(np.asarray(ridge, np.float64)))
    if not found or not all(np.isfinite(r) and r > 0 for r in found):
        raise DataError(f"ridge must be above 0 (1e-2 is a fair start), got {ridge!r}")
    return found


# -- the two solvers --

Solved = tuple[Tensor, float, tuple[tuple[float, float], ...]]


def _by_cholesky(k: Tensor, targets: Tensor, ridges: tuple[float, ...], unit: float) -> Solved:
    shifted = k.clone()
    shifted.diagonal().add_(ridges[0] * unit)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        raise DataError(
            f"the Gram matrix plus a ridge of {ridges[0]:g} of its mean diagonal is not positive "
            "definite: it is no kernel, or rounding hides it. Take a larger ridge"
        )
    return torch.cholesky_solve(targets, factor), ridges[0], ()


def _by_spectrum(k: Tensor, targets: Tensor, ridges: tuple[float, ...], unit: float) -> Solved:
    """Leave-one-out: the residual of row i without it is A_i / ((K + ridge m I)^-1)_ii."""
    values, vectors = torch.linalg.eigh(k)
    turned, squares = vectors.T @ targets, vectors**2
    errors = []
    for ridge in ridges:
        inverse = 1 / (values.clamp(min=0) + ridge * unit)
        weights = vectors @ (inverse[:, None] * turned)
        errors.append(float(((weights / (squares @ inverse)[:, None]) ** 2).mean()))
    best = ridges[int(np.argmin(errors))]
    inverse = 1 / (values.clamp(min=0) + best * unit)
    return vectors @ (inverse[:, None] * turned), best, tuple(zip(ridges, errors, strict=True))
