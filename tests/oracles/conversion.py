"""The best quadratics, by explicit sums: every monomial by least squares; ReLU from Φ and φ."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def every_monomial(X: np.ndarray) -> np.ndarray:
    """1, x_i, x_i x_j: (rows, 1 + d + d (d + 1) / 2)."""
    n, d = X.shape
    pairs = [X[:, i] * X[:, j] for i in range(d) for j in range(i, d)]
    return np.column_stack([np.ones(n), X, *pairs])


def best_on_rows(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The least squares fit of values (rows, outputs), on those rows."""
    return features @ np.linalg.lstsq(features, values, rcond=None)[0]


def left_over(values: np.ndarray, fitted: np.ndarray) -> float:
    """|values - fitted|² over |values - mean|²."""
    return float(((values - fitted) ** 2).sum() / ((values - values.mean(0)) ** 2).sum())


def relu_moments(m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """E[max(0, m + s t) He_k(t)], k = 0..3, with a = m / s: Stein's lemma k times."""
    a = m / s
    return np.stack(
        [m * norm.cdf(a) + s * norm.pdf(a), s * norm.cdf(a), s * norm.pdf(a), -s * a * norm.pdf(a)]
    )
