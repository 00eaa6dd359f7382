"""Spectra and HOSVD of bilinear layers against what one would write (einsum, eigh, svd), one run.

    python benchmarks/bilinear.py [--repeat 3] [--full] [--only NAME]

CPU seconds of one thread, float32. A = 784 inputs, 512 products, 10 outputs; B = 512, 2048, 512.
"random": Gaussian weights, the slowest spectrum; "decaying": inputs scaled by i^-0.75. B's peers
take minutes and 5 GB: without --full they do a part of the outputs, and the time is scaled by
what the work grows by (eigh: outputs; svd of the unfolding: outputs squared, building left out).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from gatewise.bilinear import BilinearLayer, forms, hosvd, similarity, spectrum
from gatewise.bilinear.bases.hosvd import output_unfolding

SIZES = {"A": (784, 512, 10), "B": (512, 2048, 512), "small": (784, 64, 10)}


def layer(name: str, decaying: bool) -> BilinearLayer:
    """A random layer in float32."""
    d, h, o = SIZES[name]
    rng = torch.Generator().manual_seed(0)
    scale = torch.arange(1, d + 1, dtype=torch.float64) ** (-0.75 if decaying else 0.0)
    W, V = (torch.randn(h, d, generator=rng, dtype=torch.float64) * scale for _ in range(2))
    P = torch.randn(o, h, generator=rng, dtype=torch.float64)
    return BilinearLayer.from_weights(W / d**0.5, V / d**0.5, P / h**0.5, dtype="float32")


def seconds(run: Callable[[], object], repeat: int) -> tuple[float, object]:
    """Median CPU seconds, and what the last run gave."""
    took, found = [], None
    for _ in range(repeat):
        start = time.process_time()
        found = run()
        took.append(time.process_time() - start)
    return statistics.median(took), found


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


def spectra(name: str, decaying: bool, repeat: int, full: bool) -> None:
    """One row of the table: top 10 of all outputs, both signs."""
    one = layer(name, decaying)
    outputs = one.outputs if full or one.outputs < 100 else 16
    ours, found = seconds(lambda: spectrum(one, 10), repeat)
    theirs, (values, _) = seconds(dense(one, outputs), 1 if outputs < one.outputs else repeat)
    theirs *= one.outputs / outputs
    note = "" if outputs == one.outputs else f" ({outputs} outputs, scaled)"
    other = ""
    if name != "B":
        took, _ = seconds(arpack(one, 10), 1)
        other = f"; ARPACK one by one {took:.3f} s, {took / ours:.1f} x"
    kind, true = "decaying" if decaying else "random", exact(one)
    off, eigh = worst(found.values, true), worst(values[: len(true)], true)
    print(
        f"| {name}, {kind} | {found.method} | {ours:.3f} | {theirs:.3f}{note} | "
        f"{theirs / ours:.1f} | off by {off:.1e}, eigh in float32 by {eigh:.1e}{other} |",
        flush=True,
    )


def unfolding(full: bool) -> None:
    """Singular values of B as (outputs, n²)."""
    one = layer("B", True)
    ours, _ = seconds(lambda: output_unfolding(forms(one)), 1)
    both, _ = seconds(lambda: hosvd(one), 1)
    outputs = one.outputs if full else 64
    B = torch.einsum("oh,hi,hj->oij", one.P[:outputs], one.W, one.V)
    B = ((B + B.mT) / 2).reshape(outputs, -1)
    theirs, _ = seconds(lambda: torch.linalg.svd(B, full_matrices=False), 1)
    theirs *= (one.outputs / outputs) ** 2
    note = "" if full else f" ({outputs} outputs, scaled)"
    print(
        f"| HOSVD, B | outputs | {ours:.3f} | {theirs:.1f}{note} | {theirs / ours:.0f} "
        f"| with the inputs' too {both:.3f} s, {theirs / both:.0f} x |"
    )


def cosine(repeat: int) -> None:
    """The tensors' cosine of two A layers, against the dense tensors."""
    a, b = layer("A", True), layer("A", False)

    def written_out() -> float:
        tensors = [torch.einsum("oh,hi,hj->oij", x.P, x.W, x.V) for x in (a, b)]
        p, q = ((B + B.mT).reshape(-1) for B in tensors)
        return float(p @ q / p.norm() / q.norm())

    ours, found = seconds(lambda: similarity(a, b).cosine, repeat)
    theirs, value = seconds(written_out, repeat)
    print(
        f"| cosine, A | h x h kernel | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} "
        f"| off by {abs(found - value):.0e} |"
    )


def memory() -> None:
    """MB that the spectrum of B takes beyond the layer itself (run in a process of its own)."""
    one = layer("B", True)
    spectrum(layer("small", True), 2)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (Linux)
    before = peak()
    spectrum(one, 10)
    print(peak() - before)


def peak() -> float:
    """The largest resident size so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(v for v in lines if v.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=["A", "B", "small", "hosvd", "memory"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only == "memory":
        memory()
        return
    wanted = [asked.only] if asked.only else ["A", "B", "small", "hosvd"]
    print("| layer | way | ours, CPU s | written out, CPU s | ratio | notes |")
    print("|---|---|---|---|---|---|")
    if "A" in wanted:
        spectra("A", False, asked.repeat, asked.full)
        spectra("A", True, asked.repeat, asked.full)
        cosine(asked.repeat)
    if "small" in wanted:
        spectra("small", False, asked.repeat, asked.full)
    if "B" in wanted:
        spectra("B", True, 1, asked.full)
        child = [sys.executable, __file__, "--only", "memory"]
        extra = float(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
        print(f"| B, peak extra memory | | {extra:.0f} MB | | | of dense: 512 MB a copy |")
    if "hosvd" in wanted:
        unfolding(asked.full)


if __name__ == "__main__":
    main()
