"""Third-order tensors written out entry by entry with numpy, biases by appending 1."""

from __future__ import annotations

import numpy as np


def full_tensor(layer) -> np.ndarray:
    """Symmetric B (o, d + 1, d + 1) with y = [x, 1] B [x, 1], from the layer's own arrays."""
    arrays = {
        name: None if getattr(layer, name) is None else getattr(layer, name).numpy()
        for name in ("W", "V", "P", "w_bias", "v_bias", "skip", "bias")
    }
    W, V, P = arrays["W"], arrays["V"], arrays["P"]
    h, d = W.shape
    zero = np.zeros(h)
    W1 = np.c_[W, zero if arrays["w_bias"] is None else arrays["w_bias"]]
    V1 = np.c_[V, zero if arrays["v_bias"] is None else arrays["v_bias"]]
    B = np.einsum("oh,hi,hj->oij", P, W1, V1)
    if arrays["skip"] is not None:
        B[:, :d, d] += arrays["skip"]
    if arrays["bias"] is not None:
        B[:, d, d] += arrays["bias"]
    return (B + B.transpose(0, 2, 1)) / 2


def quadratic(B: np.ndarray, X: np.ndarray) -> np.ndarray:
    """x B x for every row: (rows, o)."""
    return np.einsum("ri,oij,rj->ro", X, B, X)


def largest(Q: np.ndarray, k: int) -> np.ndarray:
    """The k eigenvalues of largest size of each matrix, |.| falling: (m, k)."""
    values = np.linalg.eigvalsh(Q)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, 1)
