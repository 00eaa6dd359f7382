"""SDI, SDII, SDIII: points of the unit sphere labelled by an oblique decision tree.

The tree is complete, its splits w.x > 0 with unit w drawn independently (not orthogonal, as the
authors' text has it and their generator does not), and its leaves alternate 0, 1, 0, 1, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, eq=False)
class Tree:
    """Unit normals w (2^depth - 1, d) in heap order: the children of i are 2i + 1 and 2i + 2."""

    normals: np.ndarray
    depth: int

    def leaf(self, x: np.ndarray) -> np.ndarray:
        """(rows,) heap index of the leaf: from node i on to 2i + 1 + (w_i . x > 0)."""
        right = x @ self.normals.T > 0
        at, rows = np.zeros(len(x), dtype=np.int64), np.arange(len(x))
        for _ in range(self.depth):
            at = 2 * at + 1 + right[rows, at]
        return at

    def label(self, x: np.ndarray) -> np.ndarray:
        """(rows,) 0 or 1: the leaf's index modulo 2, so that siblings differ."""
        return self.leaf(x) % 2


@dataclass(frozen=True, eq=False)
class Part:
    """Rows x (rows, d) float32 and labels y (rows,)."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Sample:
    """The tree and three parts: a half to train, a quarter to choose the epoch, one to test."""

    tree: Tree
    train: Part
    validation: Part
    test: Part


def generate(rows: int, dim: int, depth: int, seed: int) -> Sample:
    """Normals first, then points, from one legacy generator: the published data, row for row."""
    draw = np.random.RandomState(seed)
    normals = _unit(draw.standard_normal((2**depth - 1, dim)))
    x = _unit(draw.standard_normal((rows, dim)))
    tree = Tree(normals, depth)
    y = tree.label(x)
    x = x.astype(np.float32)
    cuts = [0, rows // 2, rows // 2 + rows // 4, rows]
    parts = [Part(x[a:b], y[a:b]) for a, b in pairwise(cuts)]
    return Sample(tree, *parts)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)
