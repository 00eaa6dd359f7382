"""What the page of a bilinear layer is made of: ranks, interactions, directions, curve, one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.bilinear.bases.hosvd import output_unfolding
from gatewise.bilinear.bases.similarity import effective_rank
from gatewise.bilinear.layer import BilinearLayer
from gatewise.bilinear.quadratic import Forms, forms
from gatewise.bilinear.spectral.spectrum import Spectrum, spectrum
from gatewise.bilinear.spectral.truncation import partial_sums, truncation
from gatewise.bilinear.uses.contributions import contributions
from gatewise.explain.truth import Reading, Target

Floats = NDArray[np.float64]
FULL = 2048  # coordinates up to which a form is built and decomposed whole
DIRECTIONS = 3  # of the outputs, from the HOSVD
CHUNK = 1 << 22  # numbers alive at once
DUST = 1e-12  # of the largest: below it is rounding


@dataclass(frozen=True, eq=False)
class Interactions:
    """Products of two inputs with the largest effect, output by output, largest first.

    outputs, first, second (p,): positions; second is n where it is the constant 1, so the input
    alone. coefficient: of x_first x_second in the output, 2 Q_ij, or Q_ii of a square. effect:
    |coefficient| times the root mean square of both inputs over the rows (1 without rows).
    """

    outputs: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    coefficient: Floats
    effect: Floats


@dataclass(frozen=True, eq=False)
class Directions:
    """Output directions of the HOSVD: singular (r,), share (r,) of the squared norm, outputs
    (r, o) orthonormal rows; found: the spectrum of the first few."""

    singular: Floats
    share: Floats
    outputs: Floats
    found: Spectrum


@dataclass(frozen=True, eq=False)
class Curve:
    """With 0 .. k pairs an output: error as a share of the outputs' size, predicted and measured;
    agreement: rows with the answer of all pairs; score: accuracy or R² (`what`), whole: of all."""

    predicted: Floats
    measured: Floats
    agreement: Floats | None
    what: str = ""
    score: Floats | None = None
    whole: float = float("nan")


@dataclass(frozen=True, eq=False)
class Row:
    """One row's output as a sum: terms λ_i (v_i·x)², largest first, with λ (values), v (readers)
    and v·x >= 0 (activations). complete: all pairs are there; rest: what the terms leave.

    own: what the network itself gives; error: |terms + rest - own|. Of every shown output: what
    it gives (given), the sums of its kept terms that raise and lower it, and what they leave.
    """

    row: int
    output: int
    x: Floats
    own: float
    terms: Floats
    values: Floats
    readers: Floats
    activations: Floats
    rest: float
    error: float
    complete: bool
    given: Floats
    raised: Floats
    lowered: Floats
    left: Floats


def effective_ranks(whole: Forms) -> Floats | None:
    """(Σ|λ|)² / Σλ² over all eigenvalues of each form: (m,); None where the forms are large."""
    if whole.size > FULL:
        return None
    each = [torch.linalg.eigvalsh(whole[u : u + 1].dense()[0]) for u in range(len(whole))]
    return numbers(effective_rank(torch.stack(each)))


def interactions(whole: Forms, constant: bool, scale: Tensor, k: int) -> Interactions | None:
    """The k largest products and the k largest inputs alone of each form, weighed by scale (n,)
    of the coordinates; None where the forms are large."""
    if whole.size > FULL:
        return None
    parts = [_strongest(whole[u : u + 1].dense()[0], constant, scale, k) for u in range(len(whole))]
    outputs = np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts])
    first, second, coefficient, effect = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Interactions(outputs, first, second, coefficient, effect)


def _strongest(Q: Tensor, constant: bool, scale: Tensor, k: int) -> tuple[Any, Any, Any, Any]:
    """first <= second, coefficient and effect of one form; the constant's square is no product."""
    weight = torch.triu(Q) + torch.triu(Q, 1)  # both orders of a pair are one product
    effect = weight.abs() * scale * scale.unsqueeze(1)
    n, picked = len(Q) - constant, []
    for part in (effect[:n, :n], effect[:n, n:]):
        top = part.flatten().topk(min(k, part.numel()))
        at = top.indices[top.values > DUST * effect.amax()]
        picked.append(torch.stack([at // max(1, part.shape[1]), at % max(1, part.shape[1])]))
    picked[1][1] += n
    i, j = torch.cat(picked, 1)
    order = effect[i, j].argsort(descending=True, stable=True)
    i, j = i[order], j[order]
    return i.numpy(), j.numpy(), weight[i, j].numpy(), effect[i, j].numpy()


def directions(view: BilinearLayer, k: int) -> Directions | None:
    """The output directions that hold most of the tensor; None for a single output, or none."""
    if view.outputs < 2 or view.outputs > FULL:
        return None
    values, U = output_unfolding(forms(view))
    total = float(values.square().sum())
    if total <= 0:
        return None
    rows = U.mT
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    rows = rows * torch.where(largest < 0, -1.0, 1.0)
    shown = rows[: min(DIRECTIONS, len(rows))]
    found = spectrum(view, min(k, forms(view).size), directions=shown)
    share = numbers(values.square() / total)
    return Directions(numbers(values), share, numbers(rows), found)


def curve(found: Spectrum, x: Tensor, target: Target | None, read: Reading | None) -> Curve:
    """What is lost by keeping few pairs, on rows x of what the layer reads."""
    cut = truncation(found, x)
    size = cut.size.norm().clamp(min=1e-300)
    predicted, measured = (numbers(t.norm(dim=0) / size) for t in (cut.predicted, cut.measured))
    agreement = numbers(cut.agreement) if len(found.values) > 1 else None
    if target is None or not (target.measured or read is not None):
        return Curve(predicted, measured, agreement)
    score = _r_squared(found, x, target) if target.measured else _accuracy(found, x, target, read)
    what = "R²" if target.measured else "Accuracy"
    return Curve(predicted, measured, agreement, what, score[:-1], float(score[-1]))


def _cuts(found: Spectrum, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Outputs with 0 .. k pairs and with all, some rows at a time: (rows, m, k + 2)."""
    step = max(1, CHUNK // found.values.numel())
    for i in range(0, len(x), step):
        part = found.coordinates(x[i : i + step])
        whole = found.forms.at(part).unsqueeze(2)
        yield slice(i, i + len(part)), torch.cat([partial_sums(found, part), whole], 2)


def _accuracy(found: Spectrum, x: Tensor, target: Target, read: Reading | None) -> Floats:
    """Share of the rows with a label whose answer it is: (k + 2,)."""
    assert read is not None
    right = np.zeros(found.k + 2)
    for rows, cut in _cuts(found, x):
        answer = (cut[:, 0] > 0).long() if cut.shape[1] == 1 else cut.argmax(1)
        right += (read.codes[answer.numpy()] == target.codes[rows, None]).sum(0)
    return np.asarray(right / max(1, int(target.known.sum())))


def _r_squared(found: Spectrum, x: Tensor, target: Target) -> Floats:
    """1 - squared error / variance, on the rows with a value: (k + 2,)."""
    error = np.zeros(found.k + 2)
    for rows, cut in _cuts(found, x):
        off = cut[:, 0].numpy() - target.values[rows, None]
        error += np.nansum(off**2, 0)
    known = target.values[target.known]
    return np.asarray(1 - error / max(float(((known - known.mean()) ** 2).sum()), 1e-300))


def of_row(
    view: BilinearLayer, found: Spectrum, shown: list[int], row: int, x: Tensor, own: Tensor
) -> Row:
    """The terms of the largest shown output at x (n,); own (shown,): the network's own values."""
    u = int(own.argmax())
    size = found.forms.size
    complete = size <= FULL
    part = found if not complete else spectrum(view, size, directions=_unit(view, shown[u]))
    said = contributions(part, x.unsqueeze(0))
    at = 0 if complete else u
    terms, seen = said.terms[0, at], said.activations[0, at]
    order = terms.abs().argsort(descending=True, stable=True)
    sign = torch.where(seen < 0, -1.0, 1.0)[order]
    rest = 0.0 if complete else float(said.rest[0, at])
    total = float(terms.sum()) + rest
    few = contributions(found, x.unsqueeze(0))
    kept = few.terms[0]
    return Row(
        row,
        u,
        numbers(x),
        float(own[u]),
        numbers(terms[order]),
        numbers(part.values[at][order]),
        numbers(part.readers[at][order] * sign.unsqueeze(1)),
        numbers(seen[order] * sign),
        rest,
        abs(total - float(own[u])),
        complete,
        numbers(own),
        numbers(kept.clamp(min=0).sum(1)),
        numbers(kept.clamp(max=0).sum(1)),
        np.zeros(len(shown)) if found.k == size else numbers(few.rest[0]),
    )


def _unit(view: BilinearLayer, output: int) -> Tensor:
    return torch.eye(view.outputs, dtype=view.P.dtype)[output]


def beyond_dust(values: Floats) -> NDArray[np.bool_]:
    """Which are more than rounding beside the largest."""
    size = np.abs(values)
    return np.asarray(size > DUST * size.max(initial=0.0))


def numbers(t: Tensor) -> Floats:
    """A tensor as float64."""
    return np.asarray(t.detach().double().cpu().numpy())
