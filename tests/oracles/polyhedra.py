"""Slow and obvious: one linear program a row; and polygons in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import linprog


def distinct(a, b) -> list[int]:
    """The first row of each half-space, zero rows left out: by direct comparison."""
    kept = []
    for i, (row, c) in enumerate(zip(a, b, strict=True)):
        size = np.abs(row).max(initial=0)
        if size < 1e-12:
            continue
        mine = np.append(row, c) / size
        if all(
            np.abs(mine - np.append(a[j], b[j]) / np.abs(a[j]).max()).max() > 1e-11 for j in kept
        ):
            kept.append(i)
    return kept


def facet_rows(a, b) -> list[int]:
    """The rows of a.x + b >= 0 that do not follow from the others: one program a row."""
    a, b = np.asarray(a), np.asarray(b)
    kept = distinct(a, b)
    found = []
    for i in kept:
        others = [j for j in kept if j != i]
        size = np.abs(a[i]).max()
        rows, right = np.append(a[others], [a[i]], 0), np.append(b[others], b[i] + size)
        done = linprog(a[i] / size, -rows, right, bounds=(None, None), method="highs")
        assert done.status == 0, done.message
        if done.fun + b[i] / size < -1e-9:
            found.append(i)
    return found


def exact_rows(layers, x) -> list[tuple[list[Fraction], Fraction]]:
    """The rows (a, b) of the region of x, of a ReLU MLP [(W, b), ...], unit by unit."""
    d = len(x)
    forms = [[Fraction(int(i == j)) for j in range(d)] + [Fraction(0)] for i in range(d)]
    point, rows = [Fraction(float(v)) for v in x], []
    for w, b in layers[:-1]:
        new = []
        for weights, c in zip(w, b, strict=True):
            form = [Fraction(0)] * (d + 1)
            for p, f in zip(weights, forms, strict=True):
                form = [u + Fraction(float(p)) * v for u, v in zip(form, f, strict=True)]
            form[d] += Fraction(float(c))
            on = sum((u * v for u, v in zip(form, point, strict=False)), form[d]) > 0
            rows.append((form[:d], form[d]) if on else ([-v for v in form[:d]], -form[d]))
            new.append(form if on else [Fraction(0)] * (d + 1))
        forms = new
    return rows


def edges(rows) -> tuple[list[list[int]], list[int]]:
    """Of half-planes (a, b): the rows of each edge of the polygon, and the rows that are zero."""
    zero = [i for i, (a, _) in enumerate(rows) if not any(a)]
    found, used = [], set(zero)
    for i, (a, b) in enumerate(rows):
        if i in used:
            continue
        same = [j for j, row in enumerate(rows) if j not in zero and _parallel((a, b), row)]
        used |= set(same)
        if _length(a, b, [row for j, row in enumerate(rows) if j not in same]):
            found.append(same)
    return found, zero


def _parallel(one, other) -> bool:
    (a, b), (c, e) = one, other
    k = next(k for k, v in enumerate(a) if v)
    ratio = c[k] / a[k]
    return ratio > 0 and all(v * ratio == w for v, w in zip([*a, b], [*c, e], strict=True))


def _length(a, b, others) -> bool:
    """Does the line a.x + b = 0 keep more than a point inside the others?"""
    norm = a[0] ** 2 + a[1] ** 2
    start, way = [-b * a[0] / norm, -b * a[1] / norm], [-a[1], a[0]]
    low, high = None, None
    for c, e in others:
        rate = c[0] * way[0] + c[1] * way[1]
        value = c[0] * start[0] + c[1] * start[1] + e
        if rate == 0:
            if value < 0:
                return False
            continue
        t = -value / rate
        if rate > 0:
            low = t if low is None else max(low, t)
        else:
            high = t if high is None else min(high, t)
    return low is None or high is None or low < high


def float_rows(halfspaces) -> tuple[np.ndarray, np.ndarray]:
    """a and b as arrays."""
    return halfspaces.a.numpy(), halfspaces.b.numpy()


def layers_of(network) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(W, b) of every Affine of a chain."""
    kinds = [n.kind for n in network.nodes if hasattr(n.kind, "bias")]
    return [
        (k.weights[0], torch.zeros(len(k.weights[0])) if k.bias is None else k.bias) for k in kinds
    ]


def assert_proofs(found, region_, box=None):
    """Points and multipliers say what the statuses say, computed again from the rows."""
    h = region_.halfspaces()
    a, b = h.a, h.b
    if box is not None:
        eye = torch.eye(a.shape[1], dtype=torch.float64)
        low, high = (torch.as_tensor(v, dtype=torch.float64).expand(a.shape[1]) for v in box)
        a, b = torch.cat([a, eye, -eye]), torch.cat([b, -low, high])
    assert len(a) == len(found.status)
    assert len(found) + len(found.redundant) + len(found.undecided) <= len(a)
    zero = (a.abs() <= 1e-13).all(1)
    assert bool(((a @ found.inner + b)[~zero] > 0).all())
    for k, x in enumerate(found.point):
        if x.isnan().any():
            assert bool(found.exact[found.row[k]])
            continue
        value, noise = a @ x + b, 1e-14 * (a.abs() @ x.abs() + b.abs())
        mine = found.member == k
        assert not bool((mine & (value > noise)).any())
        assert not bool((~mine & ~zero & (value < -noise)).any())
    for row in found.redundant.tolist():
        m = found.multipliers(row)
        assert all(v >= 0 for v in m.values())
        by, v = list(m), torch.tensor(list(m.values()), dtype=torch.float64)
        size = 1 + a[row].abs().max() + (v[:, None] * a[by].abs()).amax() if by else 1
        assert (a[row] - v @ a[by]).abs().max() <= 1e-9 * size
        assert b[row] - v @ b[by] >= -1e-9 * (1 + (v * b[by].abs()).sum())
