"""The k largest |eigenvalues| of many forms, by the way that costs least, none missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.quadratic import Forms
from gatewise.bilinear.spectral.cost import plan
from gatewise.bilinear.spectral.krylov import Apply, Basis, Ritz, lockstep
from gatewise.errors import DataError

GROUP = 64 << 20  # bytes of Krylov bases at once
LONG = 100  # vectors a basis may well have
METHODS = ("auto", "dense", "implicit", "small")


@dataclass(frozen=True, eq=False)
class Pairs:
    """values (m, k), |.| falling; vectors (m, k, n) orthonormal; residuals (m, k) of Q v = λ v;
    errors (m, k): bounds on the values' distance from an eigenvalue; seen (m,): the largest
    |eigenvalue| that a second start found outside of them (0: all are there); method; steps."""

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    errors: Tensor
    seen: Tensor
    method: str
    steps: int = 0


def top_pairs(
    forms: Forms, k: int, method: str = "auto", tol: float = 3e-7, seed: int = 0
) -> Pairs:
    """The k largest |eigenvalues| of every form; refuses k above n, and unknown methods."""
    if method not in METHODS:
        raise DataError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not 1 <= k <= forms.size:
        raise DataError(
            f"a form over {forms.size} coordinates has {forms.size} eigenpairs, got k={k}"
        )
    chosen = plan(len(forms), len(forms.W), forms.size, k).method if method == "auto" else method
    if chosen == "small":
        return small(forms, k, tol, seed)
    if chosen == "dense":
        return dense(forms, k)
    return implicit(forms, k, tol, seed)


def dense(forms: Forms, k: int) -> Pairs:
    """Every form built and decomposed, one at a time."""
    parts = [_dense_one(forms[u : u + 1], k) for u in range(len(forms))]
    values, vectors, residuals, errors = (torch.cat(p) for p in zip(*parts, strict=True))
    seen = values.new_zeros(len(forms))
    return Pairs(values, vectors, residuals, errors, seen, "dense")


def _dense_one(form: Forms, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    Q = form.dense()
    values, vectors = torch.linalg.eigh(Q[0])
    order = values.abs().argsort(dim=0, descending=True, stable=True)[:k]
    top, v = values[order], vectors[:, order]
    residual = (Q[0] @ v - v * top).norm(dim=0)
    return top[None], v.mT[None].contiguous(), residual[None], residual[None]


def small(forms: Forms, k: int, tol: float, seed: int) -> Pairs:
    """All of Q lies in the rows of W and V: QR of them leaves a problem of size 2h (or less).

    The eigenvalues outside are 0: where k asks for them, so do the vectors, from the complement.
    """
    rows = torch.cat([forms.W, forms.V])
    basis, _ = torch.linalg.qr(rows.mT)  # (n, r)
    inner = top_pairs(forms.into(basis), min(k, basis.shape[1]), _inner(forms, basis, k), tol, seed)
    vectors = inner.vectors @ basis.mT
    found = Pairs(
        inner.values, vectors, inner.residuals, inner.errors, inner.seen, f"small, {inner.method}"
    )
    return found if k <= basis.shape[1] else _with_zeros(found, basis, k)


def _inner(forms: Forms, basis: Tensor, k: int) -> str:
    """How the reduced problem is solved."""
    r = basis.shape[1]
    return plan(len(forms), len(forms.W), r, min(k, r)).method.replace("small", "dense")


def _with_zeros(found: Pairs, basis: Tensor, k: int) -> Pairs:
    """Eigenvalues 0 with vectors from outside the basis, up to k."""
    more = k - found.values.shape[1]
    outside = torch.linalg.qr(basis, mode="complete")[0][:, basis.shape[1] :][:, :more].mT
    m = len(found.values)
    none = found.values.new_zeros(m, more)
    return Pairs(
        torch.cat([found.values, none], 1),
        torch.cat([found.vectors, outside.expand(m, -1, -1)], 1),
        torch.cat([found.residuals, none], 1),
        torch.cat([found.errors, none], 1),
        found.seen,
        found.method,
        found.steps,
    )


# -- implicit --


def implicit(forms: Forms, k: int, tol: float, seed: int) -> Pairs:
    """Lockstep Lanczos, then a second start in the complement that looks for what was missed.

    A single start sees each eigenvalue once. Where the second finds one that belongs to the k
    largest, that form is done again with blocks of four, then eight .. start vectors, and densely
    where a block would fill the space.
    """
    parts = [_implicit(part, k, tol, seed) for part in _groups(forms)]
    return parts[0] if len(parts) == 1 else _together(parts)


def _groups(forms: Forms) -> list[Forms]:
    """As many forms at a time as keep their bases within GROUP bytes."""
    count = max(16, GROUP // (LONG * forms.size * forms.W.element_size()))
    return [forms[i : i + count] for i in range(0, len(forms), count)]


def _implicit(forms: Forms, k: int, tol: float, seed: int) -> Pairs:
    rng = torch.Generator().manual_seed(seed)
    most = min(forms.size, max(400, 4 * k + 8))
    found = lockstep(_operator(forms), random_start(forms, 1, rng), k, tol, most, rng)
    seen = second_look(forms, found, rng)
    again = ~found.done | missed(found, seen)
    rows = again.nonzero().squeeze(1).tolist()
    more = f", {len(rows)} of {len(forms)} again in blocks" if rows else ""
    pairs = _pairs(found, seen, f"implicit{more}")
    for u in rows:
        _replace(pairs, u, in_blocks(forms[u : u + 1], k, tol, rng))
    return pairs


def _pairs(found: Ritz, seen: Tensor, method: str) -> Pairs:
    held = found.values, found.vectors, found.residuals, found.errors
    return Pairs(*held, seen, method, found.steps)


def _operator(forms: Forms) -> Callable[[Tensor | None], Apply]:
    return lambda rows: (forms if rows is None else forms[rows]).apply


def random_start(forms: Forms, b: int, rng: torch.Generator) -> Tensor:
    """Start vectors (m, b, n): the same numbers on every device."""
    drawn = torch.randn(len(forms), b, forms.size, generator=rng, dtype=forms.W.dtype)
    return drawn.to(forms.W.device)


def second_look(forms: Forms, found: Ritz, rng: torch.Generator) -> Tensor:
    """The largest |Ritz value| outside of the pairs found, from a new start: (m,).

    A third of the steps of the first run; up to as many as it took for the forms where that
    leaves open whether the value, with its residual, stays below the k-th.
    """
    k, n = found.vectors.shape[1:]
    seen = found.values.new_zeros(len(forms))
    if k >= n:
        return seen
    left, smallest = torch.arange(len(forms), device=seen.device), found.values.abs()[:, -1]
    outside, start = _outside(forms, found.vectors), random_start(forms, 1, rng)
    start -= start @ found.vectors.mT @ found.vectors
    basis = Basis(outside, start, n, rng)
    until, most = (min(max(8, c), n - k) for c in (found.steps // 3, found.steps))
    while True:
        while basis.multiplied < until:
            basis.step()
        seen[left], residual = _largest(basis)
        least = smallest[left]
        open_ = (seen[left] <= least * (1 + 1e-6)) & (seen[left] + residual > least)
        if until >= most or not bool(open_.any()):
            return seen
        left = left[open_]
        basis.keep(open_, _outside(forms[left], found.vectors[left]))
        until = min(most, until + max(4, until // 4))


def _outside(forms: Forms, V: Tensor) -> Apply:
    """x -> (1 - V'V) Q x."""

    def apply(x: Tensor) -> Tensor:
        y = forms.apply(x).unsqueeze(1)
        return torch.baddbmm(y, y @ V.mT, V, alpha=-1).squeeze(1)

    return apply


def _largest(basis: Basis) -> tuple[Tensor, Tensor]:
    """|value| and residual of the largest Ritz pair of each operator: (m,), (m,)."""
    j = basis.multiplied
    values, S = torch.linalg.eigh(torch.tril(basis.H[:, :j, :j]))
    size, which = values.abs().max(dim=1)
    end = S[:, -1].gather(1, which.unsqueeze(1)).squeeze(1)
    return size, (basis.last[:, 0, 0] * end).abs()


def missed(found: Ritz, seen: Tensor) -> Tensor:
    """Does what was seen outside belong among the k largest? (m,), beyond rounding."""
    size = found.values.abs()
    noise = 64 * torch.finfo(seen.dtype).eps * size[:, 0]
    return seen > size[:, -1] * (1 + 1e-6) + found.residuals[:, -1] + noise


def in_blocks(form: Forms, k: int, tol: float, rng: torch.Generator) -> Pairs:
    """One form with b = 4, 8 .. start vectors until a second look finds no more, else dense."""
    b = 4
    while 8 * b + 4 * k < form.size:
        start = random_start(form, b, rng)
        found = lockstep(_operator(form), start, k, tol, form.size // 2, rng)
        seen = second_look(form, found, rng)
        if bool(found.done.all()) and not bool(missed(found, seen).any()):
            return _pairs(found, seen, f"blocks of {b}")
        b *= 2
    return dense(form, k)


def _replace(pairs: Pairs, u: int, better: Pairs) -> None:
    """Form u's pairs, written over."""
    for name in ("values", "vectors", "residuals", "errors", "seen"):
        getattr(pairs, name)[u] = getattr(better, name)[0]


def _together(parts: list[Pairs]) -> Pairs:
    return Pairs(
        torch.cat([p.values for p in parts]),
        torch.cat([p.vectors for p in parts]),
        torch.cat([p.residuals for p in parts]),
        torch.cat([p.errors for p in parts]),
        torch.cat([p.seen for p in parts]),
        max((p.method for p in parts), key=len),
        max(p.steps for p in parts),
    )
