"""How near to collinear the columns are: condition number, rank, and the columns to blame, named.

Columns are centred and scaled to norm 1 first (Belsley, Kuh and Welsch 1980), so that neither their
units nor their distance from 0 count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.linear.fits.data import Floats
from gatewise.linear.fits.moments import Moments
from gatewise.tables import counted, listed

EPS = float(np.finfo(np.float64).eps)
ILL = 1e8  # condition number from which half of the digits may be lost
NAMED = 0.1  # of the largest part in a near dependence: columns below it are not named
SHORT = 4  # columns of a dependence that is written out
CHOICE = "predictions on such rows are unique, the coefficients are a choice"
PENALTY = "only the penalty says how their effect is divided among them"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Centred columns over their norms as u s vᵀ: what every least-squares fit is computed from.

    scale (features,) norms, 0 for a constant column; kept: the columns that vary; u, s, vt of the
    root of these; rank: singular values above rounding.
    """

    moments: Moments
    scale: Floats
    kept: NDArray[np.intp]
    u: Floats
    s: Floats
    vt: Floats

    @property
    def tolerance(self) -> float:
        """Singular values below it are rounding."""
        top = float(self.s[0]) if len(self.s) else 0.0
        return top * EPS * max(self.moments.rows, len(self.s), 100)

    @property
    def rank(self) -> int:
        return int((self.s > self.tolerance).sum())

    @property
    def condition(self) -> float:
        """Largest over smallest singular value; infinite where columns are collinear."""
        if self.rank < len(self.s) or not len(self.s):
            return float("inf") if len(self.s) else 1.0
        return float(self.s[0] / self.s[-1])

    @property
    def constant(self) -> tuple[str, ...]:
        """Names of the columns of one value."""
        return tuple(n for n, s in zip(self.moments.names, self.scale, strict=True) if s == 0)

    @property
    def near(self) -> tuple[str, ...]:
        """The columns in the weakest direction: those that are nearly collinear."""
        part = np.abs(self.vt[-1])
        order = np.argsort(-part, kind="stable")
        found = [int(self.kept[j]) for j in order if part[j] > NAMED * part.max()]
        return tuple(self.moments.names[j] for j in found)


def spectrum(m: Moments) -> Spectrum:
    """The Spectrum of the features of some moments."""
    scale = m.scale
    kept = np.flatnonzero(scale > 0)
    u, s, vt = np.linalg.svd(m.root[:, kept] / scale[kept], full_matrices=False)
    return Spectrum(m, scale, kept, u, s, vt)


def dependences(found: Spectrum) -> list[str]:
    """Each column that others determine, as an equation: `c = 2 a - b`."""
    m, kept = found.moments, found.kept
    root = m.root[:, kept] / found.scale[kept]
    free: list[int] = []
    said: list[str] = []
    for j in range(len(kept)):
        # In exact arithmetic the diagonal is the distance from the columns before.
        if abs(root[j, j]) > 1e-6 or not free:
            free.append(j)
            continue
        parts = np.asarray(np.linalg.lstsq(root[:, free], root[:, j], rcond=None)[0], np.float64)
        if np.linalg.norm(root[:, j] - root[:, free] @ parts) > 100 * found.tolerance:
            free.append(j)
            continue
        said.append(_equation(found, j, free, parts))
    return said


def _equation(found: Spectrum, j: int, free: list[int], parts: Floats) -> str:
    m, kept, scale = found.moments, found.kept, found.scale[found.kept]
    slopes = parts * scale[j] / scale[free]
    big = [i for i in range(len(free)) if abs(parts[i]) > 1e-9]
    names = [m.names[int(kept[free[i]])] for i in big]
    if len(big) > SHORT:
        return f"'{m.names[int(kept[j])]}' follows from {_quoted(names)}"
    mean = m.mean[kept]
    start = float(mean[j] - sum(slopes[i] * mean[free[i]] for i in big))
    size = abs(mean[j]) + sum(abs(slopes[i] * mean[free[i]]) for i in big)
    terms = [] if abs(start) <= 1e-9 * size else [f"{start:.6g}"]
    for i, name in zip(big, names, strict=True):
        sign = "-" if slopes[i] < 0 else "+" if terms else ""
        factor = "" if abs(abs(slopes[i]) - 1) < 1e-9 else f"{abs(slopes[i]):.6g} "
        space = " " if terms else ""
        terms.append(f"{sign}{space}{factor}'{name}'")
    return f"'{m.names[int(kept[j])]}' = {' '.join(terms) or '0'}"


def require_full_rank(found: Spectrum) -> None:
    """Refuses columns that are collinear, naming them."""
    if found.constant:
        raise DataError(
            f"{_columns(found.constant)} one value in all rows, which the intercept holds already: "
            "leave out, or use a penalty (ridge, or alpha= of logistic and multinomial)"
        )
    if found.rank < len(found.s):
        said = dependences(found) or [f"among {_quoted(found.near)}"]
        also = f"; and {len(said) - 3} more" if said[3:] else ""
        raise DataError(
            f"the columns are perfectly collinear ({'; '.join(said[:3])}"
            f"{also}), so no one fit is best: leave "
            "one of them out, or use a penalty (ridge, or alpha= of logistic and multinomial)"
        )


def notes(found: Spectrum, penalised: bool = False) -> tuple[str, ...]:
    """What must be known of the columns to read the coefficients."""
    m = found.moments
    said = []
    if found.constant:
        said.append(f"{_columns(found.constant)} one value in all rows: the coefficient is 0")
    if m.rows <= m.features:
        said.append(
            f"{counted(m.features, 'feature')} and only {counted(m.rows, 'row')}: "
            f"{PENALTY if penalised else CHOICE}"
        )
    elif found.rank < len(found.s):
        which = "; ".join(dependences(found)[:3]) or _quoted(found.near)
        said.append(
            f"columns are perfectly collinear ({which}): {PENALTY if penalised else CHOICE}"
        )
    elif found.condition > ILL:
        digits = max(0.0, 15.5 - np.log10(found.condition))
        said.append(
            f"condition number {found.condition:.1e}: {_quoted(found.near)} are nearly collinear, "
            f"and their coefficients keep about {digits:.0f} digits"
        )
    return tuple(said)


def _columns(names: Sequence[str]) -> str:
    many = len(names) > 1
    return f"column{'s' if many else ''} {_quoted(names)} {'have' if many else 'has'}"


def _quoted(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names])
