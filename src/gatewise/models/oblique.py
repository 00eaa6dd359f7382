"""Trees whose splits are hyperplanes in any direction: normal . x > offset goes right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, WrongShape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows with normal . x > offset go right.

    gates: how many of the DLGN's `of` gates its normal is the mean of, none of them more than
    `spread` radians from it; 0: it is the direction of a logistic regression.
    """

    normal: Floats
    offset: float
    gates: int = 0
    of: int = 0
    spread: float = float("nan")

    @property
    def how(self) -> str:
        """Where it came from."""
        return "gates" if self.gates else "logistic regression"


@dataclass(frozen=True, eq=False)
class ObliqueTree:
    """Node i sends x right where normals[i] . x > offsets[i]; node 0 is the root.

    normals (nodes, inputs), of unit length; zeros at leaves. children (nodes, 2): left and right,
    -1 at leaves. counts (nodes, classes): training rows that reach a node; a leaf answers with its
    most frequent class. found: the Split of each inner node, None at leaves.
    """

    normals: Floats
    offsets: Floats
    children: Ints
    counts: Ints
    classes: NDArray[Any]
    found: tuple[Split | None, ...]

    @property
    def leaves(self) -> Ints:
        """Numbers of the leaves."""
        return np.flatnonzero(self.children[:, 0] < 0)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits, the root's first."""
        return tuple(s for s in self.found if s is not None)

    @property
    def depth(self) -> int:
        """The most splits between the root and a leaf."""
        depth = np.zeros(len(self.children), np.int64)
        for node in range(len(self.children)):  # children come after their parent
            depth[self.children[node][self.children[node] > 0]] = depth[node] + 1
        return int(depth.max())

    def apply(self, X: Any) -> Ints:
        """The leaf of every row."""
        x = matrix(X, self.normals.shape[1])
        node = np.zeros(len(x), np.int64)
        for _ in range(self.depth):
            right = np.einsum("ij,ij->i", x, self.normals[node]) > self.offsets[node]
            below = self.children[node, right.astype(np.int64)]
            node = np.where(below < 0, node, below)
        return node

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of every row."""
        found: NDArray[Any] = self.classes[self.counts[self.apply(X)].argmax(1)]
        return found

    def accuracy(self, X: Any, y: Any) -> float:
        """The share of rows whose label is right."""
        found, labels = self.predict(X), np.asarray(y)
        if labels.shape != found.shape:
            raise WrongShape(f"X has {len(found)} rows and y's shape is {labels.shape}")
        return float((found == labels).mean())

    def to_text(self, feature_names: Sequence[str] = (), digits: int = 3) -> str:
        """The tree as indented rules."""
        names = tuple(feature_names) or tuple(f"x{j}" for j in range(self.normals.shape[1]))
        return "\n".join(self._lines(0, "", names, digits))

    def __str__(self) -> str:
        return self.to_text()

    def _lines(self, node: int, indent: str, names: Sequence[str], digits: int) -> Iterator[str]:
        split, counts = self.found[node], self.counts[node]
        if split is None:
            share = counts.max() / max(1, counts.sum())
            label = self.classes[counts.argmax()]
            yield f"{indent}{label}  ({counts.sum()} rows, {share:.1%} of them)"
            return
        rule = _formula(self.normals[node], names, digits)
        source = f"{split.gates} of {split.of} gates" if split.gates else split.how
        for side, sign in ((1, ">"), (0, "<=")):
            note = f"   [{source}]" if side else ""
            yield f"{indent}if {rule} {sign} {self.offsets[node]:.{digits}f}:{note}"
            yield from self._lines(int(self.children[node, side]), indent + "    ", names, digits)


def _formula(normal: Floats, names: Sequence[str], digits: int) -> str:
    terms = [
        f"{'-' if w < 0 else '+'} {abs(w):.{digits}f} {name}"
        for w, name in zip(normal, names, strict=True)
        if round(abs(w), digits)
    ]
    text = " ".join(terms).removeprefix("+ ") if terms else "0"
    return f"-{text[2:]}" if text.startswith("- ") else text


def matrix(X: Any, width: int | None = None) -> Floats:
    """X as (rows, width) float64, all finite; else WrongShape, BadRows or DataError."""
    try:
        x = np.asarray(X, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the tree takes rows of numbers, and X is not: {error}") from error
    if x.ndim != 2 or (width is not None and x.shape[1] != width):
        wanted = "inputs" if width is None else str(width)
        raise WrongShape(f"the tree takes rows of shape (rows, {wanted}), got {x.shape}")
    bad = tuple(np.flatnonzero(~np.isfinite(x).all(1)).tolist())
    if bad:
        shown = ", ".join(map(str, bad[:10])) + (f" and {len(bad) - 10} more" * (len(bad) > 10))
        raise BadRows(
            f"X holds NaN or infinity in rows {shown}: repair or leave out these rows", bad
        )
    return x
