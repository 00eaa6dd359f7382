"""Spectra and HOSVD of bilinear layers against what one would write (einsum, eigh, svd).

float32. A = 784 inputs, 512 products, 10 outputs; B = 512, 2048, 512. "random": Gaussian weights,
the slowest spectrum; "decaying": inputs scaled by i^-0.75. B's peers take minutes and 5 GB: but for
the full size they do a part of the outputs, and the time is scaled by what the work grows by
(eigh: outputs; svd of the unfolding: outputs squared, building left out). The floor of a spectrum
is what checks it: each vector multiplied by its form once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from benchmarks.measure import Curve, Job, Setup, Way, gemm
from gatewise.bilinear import BilinearLayer, forms, hosvd, similarity, spectrum
from gatewise.bilinear.bases.hosvd import output_unfolding

SIZES = {"A": (784, 512, 10), "B": (512, 2048, 512), "small": (784, 64, 10)}


def layer(name: str, decaying: bool) -> BilinearLayer:
    """A random layer in float32."""
    return weighted(*SIZES[name], decaying)


def weighted(d: int, h: int, o: int, decaying: bool) -> BilinearLayer:
    """d inputs, h products, o outputs."""
    rng = torch.Generator().manual_seed(0)
    scale = torch.arange(1, d + 1, dtype=torch.float64) ** (-0.75 if decaying else 0.0)
    W, V = (torch.randn(h, d, generator=rng, dtype=torch.float64) * scale for _ in range(2))
    P = torch.randn(o, h, generator=rng, dtype=torch.float64)
    return BilinearLayer.from_weights(W / d**0.5, V / d**0.5, P / h**0.5, dtype="float32")


def dense(one: BilinearLayer, outputs: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """What a researcher writes: the tensor, symmetrised, and eigh of every output."""

    def run() -> tuple[Tensor, Tensor]:
        B = torch.einsum("oh,hi,hj->oij", one.P[:outputs], one.W, one.V)
        found: tuple[Tensor, Tensor] = torch.linalg.eigh((B + B.mT) / 2)
        return found

    return run


def arpack(one: BilinearLayer, k: int) -> Callable[[], list[np.ndarray]]:
    """scipy's eigsh of each output as a LinearOperator, one after another."""
    W, V, P = (t.numpy() for t in (one.W, one.V, one.P))
    d = one.inputs

    def run() -> list[np.ndarray]:
        return [
            eigsh(LinearOperator((d, d), _product(W, V, c), dtype=np.float32), k, which="LM")[0]
            for c in P
        ]

    return run


def _product(W: np.ndarray, V: np.ndarray, c: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: (W.T @ (c * (V @ x)) + V.T @ (c * (W @ x))) / 2


def worst(found: Tensor, true: Tensor) -> float:
    """The largest difference of the top |eigenvalues|, over the largest of each output."""
    k = min(found.shape[1], 10)
    mine, best = (v.abs().sort(dim=1, descending=True).values[:, :k] for v in (found, true))
    return float(((mine[: len(best)] - best).abs() / best[:, :1]).max())


def exact(one: BilinearLayer) -> Tensor:
    """The eigenvalues of the first outputs, dense and in float64."""
    W, V, P = (t.double() for t in (one.W, one.V, one.P[:16]))
    B = torch.stack([W.mT @ (p[:, None] * V) for p in P])
    return torch.linalg.eigvalsh((B + B.mT) / 2)


def top(name: str, decaying: bool, outputs: int) -> Setup:
    """The top 10 of all outputs, both signs; eigh does so many outputs."""
    one = layer(name, decaying)
    d, h, o = SIZES[name]
    peers = [Way("einsum, eigh", dense(one, outputs), o / outputs)]
    if name != "B":
        peers.append(Way("ARPACK, one by one", arpack(one, 10)))

    def right(found) -> str:
        off = worst(found.values, exact(one))
        assert off < 1e-4, off
        return f"{found.method}, off by {off:.0e}"

    floor = gemm(8 * h * d * 10 * o, d, torch.float32, rows=h)
    return Setup(Way("gatewise", lambda: spectrum(one, 10)), [floor], peers, right)


def unfolded(outputs: int, both: bool) -> Setup:
    """Singular values of B as (outputs, n²), and with the inputs' unfolding."""
    one = layer("B", True)
    B = torch.einsum("oh,hi,hj->oij", one.P[:outputs], one.W, one.V)
    B = ((B + B.mT) / 2).reshape(outputs, -1)
    scale = (one.outputs / outputs) ** 2
    ours = (lambda: hosvd(one)) if both else (lambda: output_unfolding(forms(one)))
    svd = Way("svd of the unfolding", lambda: torch.linalg.svd(B, full_matrices=False), scale)
    return Setup(Way("gatewise", ours), peers=[svd])


def cosine() -> Setup:
    """The tensors' cosine of two A layers, against the dense tensors."""
    a, b = layer("A", True), layer("A", False)

    def written_out() -> float:
        tensors = [torch.einsum("oh,hi,hj->oij", x.P, x.W, x.V) for x in (a, b)]
        p, q = ((B + B.mT).reshape(-1) for B in tensors)
        return float(p @ q / p.norm() / q.norm())

    def right(found: float) -> str:
        off = abs(found - written_out())
        assert off < 1e-4, off
        return f"off by {off:.0e}"

    return Setup(
        Way("gatewise", lambda: similarity(a, b).cosine),
        peers=[Way("the dense tensors", written_out)],
        check=right,
    )


def jobs(size: str) -> list[Job]:
    small = [
        Job("10 eigenpairs an output, A, decaying", partial(top, "A", True, 10)),
        Job("10 eigenpairs an output, 784-64-10", partial(top, "small", False, 10)),
        Job("cosine of two tensors, A", cosine),
    ]
    if size == "quick":
        return small
    rows = 512 if size == "full" else 48
    found = [
        Job("10 eigenpairs an output, A, random", partial(top, "A", False, 10)),
        *small,
        Job("HOSVD of B, outputs", partial(unfolded, rows, False)),
    ]
    if size == "default":
        return found
    return [
        *found,
        Job("10 eigenpairs an output, B, decaying", partial(top, "B", True, 512)),
        Job("HOSVD of B, outputs and inputs", partial(unfolded, rows, True)),
    ]


def growth(size: str) -> list[Curve]:
    """Half as many products as inputs: outputs and products stay as many."""
    many = [512, 1024, 2048] if size == "quick" else [512, 1024, 2048, 3072, 4096, 6144]

    def run(d: int) -> Callable[[], object]:
        one = weighted(d, 512, 10, True)
        return lambda: spectrum(one, 10)

    why = "products × inputs a step"
    return [Curve("spectra of a layer, inputs", "inputs d", many, run, 1.0, why)]
