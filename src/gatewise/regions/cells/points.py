"""Where d rows vanish, how sure that is, and on which side of another row it lies (compiled).

A vertex v of a cell is the point where d independent rows a_i.s + b_i vanish. Solved in floats it
comes out as v~, and |v~ - v| <= |X| r / (1 - |I - X A|) for any approximate inverse X of A, where
r_i bounds |a_i.v~ + b_i| plus the error of row i over the box (Rump, "Verification methods", 2010,
section 10). The sign of a row at v is then proven where its value at v~ exceeds what that radius,
the row's own error and the rounding of the inner product can explain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import inner, kernel

U = 2.0**-53
FAR = 1e300  # a radius that says nothing: larger than any value it is compared with
UNDECIDED = 2


@inner
def between(
    d: int, form: Any, c: int, error: float, where: Any, radius: Any, p: int, q: int, g: int
) -> float:
    """where[g], the point of the segment (p, q) where row form[c] vanishes; a bound on its error.

    The true point lies on the true segment, at t = p.row / (p.row - q.row); an error of the ends
    or of the row moves t by at most their sum over that difference.
    """
    a = b = form[c, d]
    size, slope, length, largest = abs(form[c, d]), 0.0, 0.0, 0.0
    for i in range(d):
        f, x, y = form[c, i], where[p, i], where[q, i]
        a += f * x
        b += f * y
        far = max(abs(x), abs(y))
        slope += abs(f)
        size += abs(f) * far
        length = max(length, abs(y - x))
        largest = max(largest, far)
    most = max(radius[p], radius[q])
    off = error + slope * most + (d + 3) * U * size
    gap = abs(a - b) - 2 * off
    bound = FAR
    if gap > 0.0:
        t = a / (a - b)
        for i in range(d):
            where[g, i] = where[p, i] + t * (where[q, i] - where[p, i])
        shift = 2 * off / gap + 8 * U
        bound = (most + shift * (length + 2 * most) + 8 * U * largest) * (1 + 16 * U)
    return bound


@kernel
def solve(d: int, rows: Any, errors: Any, chosen: Any, work: Any, out: Any) -> float:
    """The point `out` (d,) where rows[chosen] vanish; returns a bound on its max-norm error.

    work is (d, 2 d + 2): [A | I] is reduced to [I | X] (Gauss-Jordan, partial pivoting).
    """
    for i in range(d):
        for j in range(d):
            work[i, j] = rows[chosen[i], j]
            work[i, d + j] = 1.0 if i == j else 0.0
    for c in range(d):
        p = c
        for i in range(c + 1, d):
            if abs(work[i, c]) > abs(work[p, c]):
                p = i
        if work[p, c] == 0.0:
            return FAR
        for j in range(2 * d):
            work[c, j], work[p, j] = work[p, j], work[c, j]
        scale = 1.0 / work[c, c]
        for j in range(2 * d):
            work[c, j] *= scale
        for i in range(d):
            if i != c and work[i, c] != 0.0:
                factor = work[i, c]
                for j in range(2 * d):
                    work[i, j] -= factor * work[c, j]
    for i in range(d):
        out[i] = 0.0
        for j in range(d):
            out[i] -= work[i, d + j] * rows[chosen[j], d]
    return _radius(d, rows, errors, chosen, work, out)


@kernel
def _radius(d: int, rows: Any, errors: Any, chosen: Any, work: Any, point: Any) -> float:
    """|X| r / (1 - |I - X A|), in the max-norm; column 2 d of `work` takes r."""
    g = (d + 3) * U
    for i in range(d):
        value, size = rows[chosen[i], d], abs(rows[chosen[i], d])
        for j in range(d):
            term = rows[chosen[i], j] * point[j]
            value += term
            size += abs(term)
        work[i, 2 * d] = abs(value) + g * size + errors[chosen[i]]
    worst = defect = 0.0
    for i in range(d):
        reach = row = 0.0
        for j in range(d):
            reach += abs(work[i, d + j]) * work[j, 2 * d]
            entry, size = (1.0 if i == j else 0.0), 1.0
            for k in range(d):
                term = work[i, d + k] * rows[chosen[k], j]
                entry -= term
                size += abs(term)
            row += abs(entry) + g * size
        worst, defect = max(worst, reach), max(defect, row)
    if not defect < 0.5:
        return FAR
    return min(FAR, worst / (1.0 - defect) * (1.0 + 4 * g))


@inner
def side(d: int, form: Any, c: int, error: float, where: Any, g: int, radius: float) -> int:
    """The sign of row form[c] at where[g]: -1, 0 (exactly zero), 1, or UNDECIDED."""
    value, size, slope = form[c, d], abs(form[c, d]), 0.0
    for i in range(d):
        term = form[c, i] * where[g, i]
        value += term
        size += abs(term)
        slope += abs(form[c, i])
    bound = error + (d + 3) * U * size
    if slope > 0.0:
        bound += slope * radius
    bound *= 1 + 16 * U
    answer = UNDECIDED
    if value > bound:
        answer = 1
    elif value < -bound:
        answer = -1
    elif bound == 0.0:
        answer = 0
    return answer


@kernel
def independent(
    d: int, rows: Any, common: Any, count: int, want: int, chosen: Any, work: Any
) -> None:
    """`want` of the rows `common` that stand most upright on one another, into `chosen`."""
    for i in range(count):
        length = 0.0
        for j in range(d):
            work[i, j] = rows[common[i], j]
            length += work[i, j] ** 2
        length = np.sqrt(length) if length > 0.0 else 1.0
        for j in range(d):
            work[i, j] /= length
    for step in range(want):
        best, most = 0, -1.0
        for i in range(count):
            length = 0.0
            for j in range(d):
                length += work[i, j] ** 2
            if length > most:
                best, most = i, length
        chosen[step] = common[best]
        for j in range(d):
            work[count, j] = work[best, j]
        for i in range(count):
            inner = 0.0
            for j in range(d):
                inner += work[i, j] * work[count, j]
            for j in range(d):
                work[i, j] -= inner / most * work[count, j] if most > 0.0 else 0.0
        for j in range(d):
            work[best, j] = 0.0
