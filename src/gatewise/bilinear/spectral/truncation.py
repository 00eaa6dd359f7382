"""What is lost by keeping k eigenpairs an output: predicted from moments, and measured on rows.

With R the rest of a form and x Gaussian of mean μ and second moment M,
E (xᵀ R x)² = 2 tr(R M R M) + (tr R M)² - 2 (μᵀ R μ)², from inner products alone: R is not formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.quadratic import Forms
from gatewise.bilinear.spectral.spectrum import Spectrum, whitening
from gatewise.errors import WrongShape
from gatewise.numeric import as_tensor

CHUNK = 1 << 22  # numbers alive at once


@dataclass(frozen=True, eq=False)
class Truncation:
    """Root mean square error with 0 .. k eigenpairs: predicted and measured, (m, k + 1).

    size (m,): root mean square of the form itself; agreement (k + 1,): share of rows whose
    largest output is that of the whole layer; accuracy (k + 1,): against labels, where given;
    whole: accuracy of the whole layer.
    """

    predicted: Tensor
    measured: Tensor
    size: Tensor
    agreement: Tensor
    accuracy: Tensor | None
    whole: float | None

    def __str__(self) -> str:
        named = " accuracy" if self.accuracy is not None else ""
        lines = [f"pairs  error predicted  measured (of the form's size)  agreement{named}"]
        scale = self.size.norm().clamp(min=1e-300)
        for i in range(self.predicted.shape[1]):
            said, seen = (float(t[:, i].norm() / scale) for t in (self.predicted, self.measured))
            end = "" if self.accuracy is None else f"  {float(self.accuracy[i]):.4f}"
            lines.append(f"{i:5d}  {said:15.4f}  {seen:8.4f}  {float(self.agreement[i]):9.4f}{end}")
        return "\n".join(lines)


def truncation(found: Spectrum, X: Any, labels: Any = None) -> Truncation:
    """The curve on rows X (see `Spectrum.coordinates`), with labels (rows,) of the outputs."""
    x = found.coordinates(X)
    truth = None if labels is None else as_tensor(labels, torch.int64, x.device).reshape(-1)
    if truth is not None and len(truth) != len(x):
        raise WrongShape(f"expected one label for each of the {len(x)} rows, got {len(truth)}")
    error, size, same, right, whole = _measure(found, x, truth)
    n = len(x)
    return Truncation(
        predicted=predicted_errors(found.forms, found.values, found.readers, x),
        measured=(error / n).sqrt(),
        size=(size / n).sqrt(),
        agreement=same / n,
        accuracy=None if truth is None else right / n,
        whole=None if truth is None else whole / n,
    )


def _measure(
    found: Spectrum, x: Tensor, truth: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Sums over rows: squared errors, squared sizes, agreements, right answers (cut and whole)."""
    m, k = found.values.shape
    error, size = x.new_zeros(m, k + 1), x.new_zeros(m)
    same, right, whole = x.new_zeros(k + 1), x.new_zeros(k + 1), 0.0
    for i, part in _parts(x, m * (k + 1)):
        full = found.forms.at(part)
        cut = partial_sums(found, part)
        error += (cut - full.unsqueeze(2)).square().sum(0)
        size += full.square().sum(0)
        best, said = full.argmax(1), cut.argmax(1)
        same += (said == best.unsqueeze(1)).sum(0)
        if truth is not None:
            here = truth[i : i + len(part)]
            right += (said == here.unsqueeze(1)).sum(0)
            whole += float((best == here).sum())
    return error, size, same, right, whole


def _parts(x: Tensor, numbers: int) -> list[tuple[int, Tensor]]:
    step = max(1, CHUNK // numbers)
    return [(i, x[i : i + step]) for i in range(0, len(x), step)]


def partial_sums(found: Spectrum, x: Tensor) -> Tensor:
    """Σ_{i < j} λ_i (t_i · x)² for j = 0 .. k: (rows, m, k + 1)."""
    m, k, n = found.readers.shape
    seen = (x @ found.readers.reshape(m * k, n).mT).reshape(len(x), m, k)
    sums = (found.values * seen.square()).cumsum(2)
    return torch.cat([sums.new_zeros(len(x), m, 1), sums], 2)


def predicted_errors(forms: Forms, values: Tensor, readers: Tensor, x: Tensor) -> Tensor:
    """Root mean square of the rest with 0 .. k pairs, as if x were Gaussian: (m, k + 1)."""
    G, _ = whitening(x)
    inner, g = forms.into(G), readers @ G  # (m, k, r)
    mean = x.mean(0)
    at_mean = forms.at(mean.unsqueeze(0))[0]
    with_form = torch.stack([(g[u] * f.apply(g[u : u + 1])[0]).sum(1) for u, f in _each(inner)])
    cross = (g @ g.mT).square() * values.unsqueeze(1) * values.unsqueeze(2)
    both = torch.stack([cross[:, :j, :j].sum((1, 2)) for j in range(values.shape[1] + 1)], 1)
    square = inner.norms().square().unsqueeze(1) - 2 * _before(values * with_form) + both
    trace = inner.traces().unsqueeze(1) - _before(values * g.square().sum(2))
    centre = at_mean.unsqueeze(1) - _before(values * (readers @ mean).square())
    return (2 * square + trace.square() - 2 * centre.square()).clamp(min=0).sqrt()


def _each(forms: Forms) -> list[tuple[int, Forms]]:
    return [(u, forms[u : u + 1]) for u in range(len(forms))]


def _before(x: Tensor) -> Tensor:
    """Sums of the first 0 .. k entries of the last axis."""
    return torch.cat([torch.zeros_like(x[:, :1]), x.cumsum(1)], 1)
