"""An oblique decision tree from trained DLGNs: each split is the hyperplane most gates agree on.

A DLGN's gates are half-spaces of the input. Where the labels jump across a hyperplane, training
draws many of them to it; so at each node a DLGN is trained on the node's rows, and the centre of
the largest cluster of its gates' normals is the split. (Deep Networks Learn Features From Local
Discontinuities, ICLR 2025.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, ModelError, WrongShape, missing
from gatewise.models.checks import all_whole, coded, is_number, spreads, whole
from gatewise.models.dlgn import DLGN, DLGNShallow
from gatewise.models.fitting import fit
from gatewise.models.oblique import Floats, Ints, ObliqueTree, Split, matrix

Centre = Literal["mode", "mean"]


@dataclass(frozen=True)
class _Recipe:
    """How a node's DLGN is trained and its gates are clustered; see `dlgn_to_tree`."""

    hidden_layer_sizes: Sequence[int]
    shallow: bool
    beta: float
    lr: float
    epochs: int
    batch: int | None
    bias: bool
    eps: tuple[float, float]
    min_samples: int
    centre: Centre
    max_depth: int
    min_share: float
    seed: int

    def __post_init__(self) -> None:
        if self.centre not in get_args(Centre):
            raise ModelError(f"`centre` is 'mode' or 'mean', and it is {self.centre!r}")
        if not all_whole(self.hidden_layer_sizes, 1):
            raise ModelError(
                f"`hidden_layer_sizes` is the width of each gated layer, whole numbers from 1, and "
                f"it is {self.hidden_layer_sizes!r}"
            )
        radii = self.eps if isinstance(self.eps, tuple | list) else ()
        if len(radii) != 2 or not all(is_number(r) and r > 0 for r in radii):
            raise ModelError(
                f"`eps` is two radii above 0, at the root and below, and it is {self.eps!r}"
            )
        for name, least in (("min_samples", 1), ("max_depth", 0), ("seed", 0)):
            value = getattr(self, name)
            if not whole(value, least):
                raise ModelError(f"`{name}` is a whole number from {least}, and it is {value!r}")
        if not (is_number(self.min_share) and self.min_share <= 1):
            raise ModelError(
                f"`min_share` is a share of the rows, from 0 to 1, and it is {self.min_share!r}"
            )


def dlgn_to_tree(
    X: Any,
    y: Any,
    *,
    root: Any = None,
    hidden_layer_sizes: Sequence[int] = (500, 500, 500),
    shallow: bool = False,
    beta: float = 3.0,
    lr: float = 1e-3,
    epochs: int = 256,
    batch: int | None = None,
    bias: bool = False,
    standardise: bool = False,
    eps: tuple[float, float] = (0.2, 0.3),
    min_samples: int = 6,
    centre: Centre = "mode",
    max_depth: int = 4,
    min_share: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int, Split | None], Any] | None = None,
) -> ObliqueTree:
    """The tree of rows X (rows, inputs) and labels y, a DLGN trained at each node.

    root: a DLGN (module or fitted estimator) trained on these rows, used at the root. batch: None
    is a tenth of the node's rows. bias: hyperplanes need not go through the origin.
    standardise: work in standard deviations from the mean; the splits come back in X's own units.
    eps: the radius of DBSCAN on unit normals, at the root and below, min_samples its density: with
    few inputs random normals are dense, so take a smaller eps. centre: of the largest cluster, the
    mean of its densest ball of radius eps (longer normals count more), or the paper's "mean" of
    all, which drifts where clusters chain. A node is split while it is above max_depth, holds
    min_share of all rows and the split lowers the Gini impurity; where no gates cluster, along a
    logistic regression. progress(depth, rows, split or None for a leaf). Raises DataError for
    labels, ModelError for settings; the defaults are the paper's.
    """
    frame = _Frame.of(X, root, standardise)
    classes, codes = _labels(y, len(frame.values))
    learning = (hidden_layer_sizes, shallow, beta, lr, epochs, batch, bias)
    recipe = _Recipe(*learning, eps, min_samples, centre, max_depth, min_share, seed)
    grower = _Grower(frame.values, codes, len(classes), recipe, progress)
    grower.grow(None if root is None else _root_gates(root, frame.values.shape[1]))
    return grower.tree(frame, classes)


# -- units --


@dataclass(frozen=True, eq=False)
class _Frame:
    """values = (X - mean) / scale: the units in which gates are compared."""

    values: Floats
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, X: Any, root: Any, standardise: bool) -> _Frame:
        x = matrix(X)
        mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if getattr(root, "scale_", None) is not None:
            mean, scale = np.asarray(root.mean_), np.asarray(root.scale_)
        elif standardise:
            mean, scale = x.mean(0), spreads(x)
        if len(mean) != x.shape[1]:
            raise WrongShape(f"the root takes {len(mean)} inputs, and X has {x.shape[1]}")
        return cls((x - mean) / scale, mean, scale)

    def back(self, split: Split) -> Split:
        """The split in X's own units, its normal of unit length."""
        normal = split.normal / self.scale
        size = float(np.linalg.norm(normal)) or 1.0
        offset = (split.offset + float(normal @ self.mean)) / size
        return replace(split, normal=normal / size, offset=offset)


def _labels(y: Any, rows: int) -> tuple[NDArray[Any], Ints]:
    classes, codes = coded(y)
    if rows != len(codes):
        raise WrongShape(f"X has {rows} rows and y {len(codes)} labels: give one label a row")
    if len(classes) < 2:
        raise DataError(
            f"all {len(codes)} labels are one class, so there is nothing to split: give rows of at "
            "least two classes"
        )
    return classes, codes


# -- growing --


class _Grower:
    """Splits nodes until none is left to split (a builder, not a value)."""

    def __init__(
        self,
        x: Floats,
        y: Ints,
        classes: int,
        recipe: _Recipe,
        progress: Callable[[int, int, Split | None], Any] | None,
    ) -> None:
        self.x, self.y, self.classes, self.recipe = x, y, classes, recipe
        self.fewest = recipe.min_share * len(x)
        self.progress = progress
        self.found: list[Split | None] = []
        self.children: list[list[int]] = []
        self.counts: list[Ints] = []

    def grow(self, gates: Floats | None) -> None:
        """All nodes; gates: those of a DLGN that is trained already, for the root."""
        todo = [(np.arange(len(self.x)), 0, -1, 0)]
        while todo:
            rows, depth, parent, side = todo.pop(0)
            node = len(self.found)
            if parent >= 0:
                self.children[parent][side] = node
            counts = np.bincount(self.y[rows], minlength=self.classes)
            split = self.split(rows, depth, counts, gates if node == 0 else None)
            self.found.append(split)
            self.children.append([-1, -1])
            self.counts.append(counts)
            if self.progress is not None:
                self.progress(depth, len(rows), split)
            if split is not None:
                right = self.x[rows] @ split.normal > split.offset
                todo += [(rows[~right], depth + 1, node, 0), (rows[right], depth + 1, node, 1)]

    def split(self, rows: Ints, depth: int, counts: Ints, gates: Floats | None) -> Split | None:
        """The split of a node, None where it is to be a leaf."""
        if depth >= self.recipe.max_depth or len(rows) < self.fewest or counts.max() == len(rows):
            return None
        x, y = self.x[rows], self.y[rows]
        if gates is None:
            gates = _gates(self.trained(x, y, len(self.found)))
        split = _cluster(gates, self.recipe.eps[min(depth, 1)], self.recipe)
        split = _logistic(x, y, self.recipe.bias) if split is None else split
        return split if gini_gain(x @ split.normal > split.offset, y, self.classes) > 0 else None

    def trained(self, x: Floats, y: Ints, node: int) -> DLGN | DLGNShallow:
        """A DLGN fitted to the rows of a node; its value tower is fed with ones."""
        r = self.recipe
        labels, codes = np.unique(y, return_inverse=True)
        sizes = (x.shape[1], *r.hidden_layer_sizes, max(2, len(labels)))
        made = DLGNShallow if r.shallow else DLGN
        seed = r.seed + node
        module = made(sizes, "sigmoid", r.beta, value_input="ones", bias=r.bias, seed=seed)
        batch = min(len(x), max(1, len(x) // 10) if r.batch is None else r.batch)
        fit(module, x, codes, epochs=r.epochs, batch=batch, lr=r.lr, seed=seed)
        return module

    def tree(self, frame: _Frame, classes: NDArray[Any]) -> ObliqueTree:
        """What was grown, in the units of the data that were given."""
        found = tuple(None if s is None else frame.back(s) for s in self.found)
        none = np.zeros(self.x.shape[1])
        return ObliqueTree(
            np.stack([none if s is None else s.normal for s in found]),
            np.array([0.0 if s is None else s.offset for s in found]),
            np.array(self.children),
            np.stack(self.counts),
            classes,
            found,
        )


def gini_gain(right: NDArray[np.bool_], y: Ints, classes: int) -> float:
    """Impurity 1 - sum p^2 of the node, less that of its sides, weighted by their rows."""
    sides = [np.bincount(y[mask], minlength=classes) for mask in (right, ~right)]
    rows = len(y)

    def purity(counts: Ints) -> float:
        return float((counts.astype(np.float64) ** 2).sum() / max(1, counts.sum()))

    return (purity(sides[0]) + purity(sides[1]) - purity(sides[0] + sides[1])) / rows


# -- one split --


def _module(root: Any) -> Any:
    """The module of an estimator, or the module itself."""
    module = getattr(root, "soft_module_", root)
    if not hasattr(module, "effective_halfspaces"):
        raise ModelError(
            f"a {type(root).__name__} has no gates that are half-spaces of the input: give a DLGN, "
            "a DLGNShallow or a fitted DLGNClassifier"
        )
    return module


def _root_gates(root: Any, inputs: int) -> Floats:
    """`_gates` of what was trained for the root; WrongShape where it takes another width."""
    gates = _gates(_module(root))
    if gates.shape[1] != inputs + 1:
        raise WrongShape(f"the root takes {gates.shape[1] - 1} inputs, and X has {inputs}")
    return gates


def _gates(module: Any) -> Floats:
    """(gates, inputs + 1): A[i] and c[i] of every gate A[i] . x + c[i] > 0, all layers."""
    parts = [torch.cat([a, c[:, None]], 1) for a, c in module.effective_halfspaces()]
    found: Floats = torch.cat(parts).cpu().numpy().astype(np.float64)
    return found


def _cluster(gates: Floats, eps: float, recipe: _Recipe) -> Split | None:
    """The centre of the largest cluster of unit vectors, u and -u being one hyperplane.

    The paper flips signs to make the first coordinate >= 0, which tears apart a cluster near 0
    there; distances |u -+ v|, whichever is less, do not.
    """
    size = np.linalg.norm(gates, axis=1)
    size, units = size[size > 0], gates[size > 0] / size[size > 0, None]
    if not len(units):
        return None
    apart = np.sqrt(np.clip(2 - 2 * np.abs(units @ units.T), 0, None))
    labels = _dbscan(eps, recipe.min_samples).fit(apart).labels_
    if labels.max() < 0:
        return None
    inside = np.flatnonzero(labels == np.bincount(labels[labels >= 0]).argmax())
    if recipe.centre == "mode":
        near = (apart[np.ix_(inside, inside)] <= eps) @ size[inside]
        inside, mean = _climbed(units, units[inside[near.argmax()]], eps)
    else:
        mean = _sign_free_mean(units[inside])
    spread = float(np.arccos(np.clip(np.abs(units[inside] @ mean), 0, 1)).max())
    return _unit_split(mean[:-1], -mean[-1], len(inside), len(gates), spread)


def _climbed(units: Floats, mean: Floats, eps: float) -> tuple[Ints, Floats]:
    """Mean shift from a start: the vectors within eps of their own mean, and that mean."""
    inside = np.zeros(0, np.int64)
    for _ in range(50):
        found = np.flatnonzero(2 - 2 * np.abs(units @ mean) <= eps**2)
        if np.array_equal(found, inside) or not len(found):
            break
        inside, mean = found, _sign_free_mean(units[found])
    return inside, mean


def _dbscan(eps: float, min_samples: int) -> Any:
    try:
        from sklearn.cluster import DBSCAN
    except ImportError:
        raise missing("scikit-learn", "sklearn", "clustering the gates of a DLGN") from None
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")


def _sign_free_mean(members: Floats) -> Floats:
    """The unit vector u with the largest sum of (u . v)^2."""
    _, turned = np.linalg.eigh(members.T @ members)
    u: Floats = turned[:, -1]
    return u if u[np.abs(u).argmax()] >= 0 else -u


def _unit_split(normal: Floats, offset: float, *more: Any) -> Split | None:
    size = float(np.linalg.norm(normal))
    return Split(normal / size, offset / size, *more) if size > 0 else None


def _logistic(x: Floats, y: Ints, bias: bool) -> Split:
    """The weight of a logistic regression of the most frequent class against the others."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(fit_intercept=bias, max_iter=1000)
    model.fit(x, y == np.bincount(y).argmax())
    split = _unit_split(model.coef_[0], -float(np.ravel(model.intercept_)[0]))
    return Split(np.eye(x.shape[1])[0], 0.0) if split is None else split
