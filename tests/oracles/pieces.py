"""Is a traced line right? By plain numpy, of the network's own arrays: nothing is traced here.

On the piece between two knots take the units that are on at its middle. With those kept, every
pre-activation is linear along the piece, so the whole piece is in that one region exactly where no
unit has the wrong sign at either end: then no knot was missed. Where two pieces that follow each
other have different patterns at their middles, the knot between them was not invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oracles.grid import ROUND


@dataclass(frozen=True)
class Checked:
    """What the pieces of some lines came to. `missed` and `invented` must be 0."""

    pieces: int
    missed: int  # pieces with a unit of the wrong sign at an end, by more than rounding explains
    invented: int  # knots with one decided pattern on both sides
    undecided: int  # pieces so short that rounding hides the sign of a unit at the middle
    gap: float  # the largest |value at a knot - value by the map of the piece on either side|
    patterns: frozenset[bytes]  # of the decided middles

    def __add__(self, other: Checked) -> Checked:
        return Checked(
            self.pieces + other.pieces,
            self.missed + other.missed,
            self.invented + other.invented,
            self.undecided + other.undecided,
            max(self.gap, other.gap),
            self.patterns | other.patterns,
        )


def onnx_layers(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(W, b) in float64 of a file that is Sub, Flatten, then MatMul, Add and Relu by turns."""
    import onnx

    graph = onnx.load(path).graph
    held = {t.name: onnx.numpy_helper.to_array(t).astype(float) for t in graph.initializer}
    given = {n.op_type: [held[i] for i in n.input if i in held] for n in graph.node}
    if not set(given) <= {"Sub", "Flatten", "MatMul", "Add", "Relu"} or given["Sub"][0].any():
        raise ValueError(f"not a network of that form: {sorted(given)}")
    weights = [held[i] for n in graph.node if n.op_type == "MatMul" for i in n.input if i in held]
    biases = [held[i] for n in graph.node if n.op_type == "Add" for i in n.input if i in held]
    return [(w.T.copy(), b.reshape(-1)) for w, b in zip(weights, biases, strict=True)]


def forward(layers: Sequence, x: np.ndarray) -> np.ndarray:
    """(rows, outputs)."""
    for w, b in layers[:-1]:
        x = np.maximum(x @ w.T + b, 0)
    return x @ layers[-1][0].T + layers[-1][1]


def check(
    layers: Sequence, x: np.ndarray, way: np.ndarray, line: np.ndarray, t: np.ndarray, values
) -> Checked:
    """The pieces of lines x[i] + t way[i]; knot k is on line[k] at t[k], rising, with values[k].

    Memory: a few arrays of pieces x the widest layer.
    """
    left = np.flatnonzero(line[1:] == line[:-1])
    of, a, b = line[left], t[left], t[left + 1]
    half = (b - a) / 2
    run = _Run(
        x[of] + (a + half)[:, None] * way[of], way[of], half, np.abs(x).max() + np.abs(t).max()
    )
    for w, c in layers[:-1]:
        run.layer(w, c)
    w, c = layers[-1]
    middle, slope = run.h @ w.T + c, run.rate @ w.T
    ends = [
        np.abs(middle + s * half[:, None] * slope - values[left + k]) for s, k in ((-1, 0), (1, 1))
    ]
    bits, decided = np.packbits(np.concatenate(run.bits, 1), axis=1), run.decided
    follows = (of[1:] == of[:-1]) & decided[1:] & decided[:-1]
    same = follows & (bits[1:] == bits[:-1]).all(1)
    return Checked(
        len(left),
        int((run.wrong & decided).sum()),
        int(same.sum()),
        int((~decided).sum()),
        max(float(e.max(initial=0)) for e in ends),
        frozenset(map(bytes, bits[decided])),
    )


class _Run:
    """Values, rates and bounds of their rounding at the middles of pieces, layer after layer."""

    def __init__(self, x: np.ndarray, way: np.ndarray, half: np.ndarray, size: float) -> None:
        self.h, self.rate, self.half = x, way, half[:, None]
        self.off = np.full(x.shape, 4 * ROUND * size)  # of h, at most, anywhere on the piece
        self.bits: list[np.ndarray] = []
        self.decided = np.ones(len(x), bool)
        self.wrong = np.zeros(len(x), bool)

    def layer(self, w: np.ndarray, b: np.ndarray) -> None:
        """z(s) = z + s rate for |s| <= half: one sign a unit, or the piece is wrong."""
        z, rate = self.h @ w.T + b, self.rate @ w.T
        rounding = 4 * (w.shape[1] + 3) * ROUND
        reach = np.abs(self.h) + self.half * np.abs(self.rate)
        error = (rounding * reach + 2 * self.off) @ np.abs(w).T + rounding * np.abs(b)
        on = z > 0
        self.decided &= (np.abs(z) > error)[:, w.any(1)].all(1)
        self.wrong |= (np.abs(rate) * self.half > np.abs(z) + 2 * error).any(1)
        self.h, self.rate, self.off = z * on, rate * on, error * on
        self.bits.append(on)
