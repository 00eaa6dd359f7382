"""LinearModel: scores = intercepts + coefficients x, what they were fitted to, and how exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.linear.fits.data import Floats
from gatewise.tables import as_matrix, counted

Kind = Literal["least squares", "ridge", "logistic", "multinomial"]
SHOWN = 6


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A fitted linear model: scores (rows, outputs) = X coefficientsᵀ + intercepts, in raw units.

    classes: of a classification, in order; one output (logistic) is the log odds of the second.
    alpha: the penalty, as the fit says; errors, intercept_errors: standard errors, shaped like the
    coefficients, or None where there are none to give (a penalty, more than two classes);
    condition: of the centred columns over their norms; residual: the largest entry of the gradient
    at the solution, relative (0 at the exact one); steps: of Newton's method (or of
    L-BFGS, where there are more than `newton.EXACT` unknowns), 0 in closed form.
    """

    kind: Kind
    coefficients: Floats
    intercepts: Floats
    feature_names: tuple[str, ...]
    rows: int
    alpha: float
    condition: float
    residual: float
    steps: int = 0
    classes: tuple[Any, ...] = ()
    errors: Floats | None = None
    intercept_errors: Floats | None = None
    notes: tuple[str, ...] = ()

    def scores(self, X: Any) -> Floats:
        """(rows, outputs) what the rule says: numbers, log odds, or one logit a class."""
        named = not all(name == f"x{j}" for j, name in enumerate(self.feature_names))
        x = as_matrix(X, self.feature_names if named else (), self.coefficients.shape[1]).values
        return np.asarray(x @ self.coefficients.T + self.intercepts)

    def probabilities(self, X: Any) -> Floats:
        """(rows, classes) of a classification."""
        self._require_classes()
        return probabilities(self.scores(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """(rows,) the likeliest class, or (rows, outputs) numbers; (rows,) for one output."""
        found = self.scores(X)
        if not self.classes:
            return found[:, 0] if found.shape[1] == 1 else found
        one = found.shape[1] == 1
        place = (found[:, 0] > 0).astype(np.int64) if one else found.argmax(1)
        return np.asarray(np.array(self.classes)[place])

    def rule(self, output: int = 0, top: int = SHOWN) -> str:
        """The rule in words, the largest coefficients first."""
        w = self.coefficients[output]
        order = [j for j in np.argsort(-np.abs(w), kind="stable") if w[j]][:top]
        text = f"{self.intercepts[output]:.4g}"
        for j in order:
            text += f" {'-' if w[j] < 0 else '+'} {abs(w[j]):.4g} {self.feature_names[j]}"
        left = int(np.count_nonzero(w)) - len(order)
        return text + (f" and {counted(left, 'more term')}" if left else "")

    def _require_classes(self) -> None:
        if not self.classes:
            raise DataError(f"a fit by {self.kind} has no classes, so no probabilities: use scores")

    def __repr__(self) -> str:
        penalty = f", alpha {self.alpha:.4g}" if self.alpha else ""
        head = (
            f"LinearModel by {self.kind}: {counted(self.rows, 'row')}, "
            f"{counted(len(self.feature_names), 'feature')}{penalty}; gradient "
            f"{self.residual:.1g}, condition number {self.condition:.3g}"
        )
        shown = range(min(len(self.intercepts), 4))
        lines = [f"  {self._name(k)}{self.rule(k)}" for k in shown]
        return "\n".join([head, *lines, *(f"  note: {note}" for note in self.notes)])

    def _name(self, output: int) -> str:
        if not self.classes:
            return "y = " if len(self.intercepts) == 1 else f"y{output} = "
        many = len(self.intercepts) > 1
        return f"{'logit' if many else 'log odds'} of {self.classes[output if many else 1]!r} = "


def probabilities(scores: Floats) -> Floats:
    """(rows, classes) the softmax of logits; of one column of log odds: (1 - p, p)."""
    z = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
    z = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(z / z.sum(1, keepdims=True))
