"""How much of what a network learned is in its gates?

Its gates say where each layer is linear; a kernel machine on the neural path kernel (NPK) learns
the weights anew under those gates. So it is the network's accuracy beside that of ridge machines on
kernels made of its gates, of the gates of the same network with random weights, of one layer's
gates alone, and of the inputs without gates. (arXiv:2006.10529, 2110.03403)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gates.alignment import cosine, redrawn
from gatewise.dual.gating import Gated, gated, masks, on_host
from gatewise.dual.kernels.path_kernel import npk, npk_of_gates
from gatewise.dual.machines.solvers import KernelMachine, centred_targets, ridge_machine
from gatewise.errors import DataError, NotGated
from gatewise.given.labels import (
    Floats,
    Task,
    Truth,
    network_score,
    require_two,
    spread_of,
    truth_of,
)
from gatewise.given.rows import rows_of
from gatewise.ir.kinds import Affine, scale
from gatewise.ir.network import Network, Node
from gatewise.numeric import whole_number

WHOLE = ("inputs and gates", "gates alone")
SAW_LABELS = (
    "the gates saw the labels of the rows that the network was trained on, so a machine on them "
    "has seen those labels too: judge it on test rows that the network never saw"
)


@dataclass(frozen=True)
class Known:
    """What a ridge machine gets out of one kernel.

    kernel: "inputs and gates" is the NPK, "gates alone" the NPK with 1 for <x, x'>, a gate layer's
    name the number of its gates that two rows share; all as cosines. own: on test rows with the
    network's gates; random: the same with its weights drawn anew, one figure a draw. alignment,
    random_alignment: the cosine between the centred kernel and the labels' own, on fitting rows.
    """

    kernel: str
    units: int
    own: float
    random: tuple[float, ...]
    alignment: float
    random_alignment: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class GatesKnow:
    """The table of `gates_know`: accuracies on test rows (R2 of a regression), between 0 and 1.

    network: of the network itself; linear: of ridge on the standardised inputs; kernels: the
    whole NPK with inputs and without, then each gate layer alone. standard_error: of the network's
    accuracy, from the number of test rows (NaN for R2). residual: the largest of a ridge solve.
    """

    task: Task
    network: float
    linear: float
    kernels: tuple[Known, ...]
    rows: int
    test_rows: int
    ridge: float
    standard_error: float
    residual: float
    notes: tuple[str, ...]

    def __getitem__(self, kernel: str) -> Known:
        """The figures of one kernel by its name."""
        found = {k.kernel: k for k in self.kernels}
        if kernel not in found:
            raise KeyError(f"no kernel {kernel!r}; there are {', '.join(found)}")
        return found[kernel]

    def __str__(self) -> str:
        what = "accuracy" if self.task == "classification" else "R2"
        head = (
            f"Test {what} of the network, and of ridge machines on kernels of its gates "
            f"(fitted on {self.rows} rows, tested on {self.test_rows}, ridge {self.ridge:g})"
        )
        wide = max(len(_label(k)) for k in self.kernels) + 2
        columns = f"{'':{wide}}{'own gates':>10}{'random gates':>16}{'alignment':>12}{'random':>16}"
        lines = [head, columns, f"{'the network':{wide}}{self._figure(self.network):>10}"]
        lines += [self._line(k, wide) for k in self.kernels]
        lines += [f"{'linear model':{wide}}{self._figure(self.linear):>10}"]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])

    def _line(self, k: Known, wide: int) -> str:
        random = _spread([self._value(v) for v in k.random], self._digits)
        aligned = _spread(k.random_alignment, 3)
        own = self._figure(k.own)
        return f"{_label(k):{wide}}{own:>10}{random:>16}{k.alignment:12.3f}{aligned:>16}"

    @property
    def _digits(self) -> int:
        return 2 if self.task == "classification" else 3

    def _value(self, figure: float) -> float:
        return 100 * figure if self.task == "classification" else figure

    def _figure(self, figure: float) -> str:
        return f"{self._value(figure):.{self._digits}f}"


def _label(k: Known) -> str:
    return f"NPK, {k.kernel}" if k.kernel in WHOLE else f"{k.units} gates of {k.kernel} alone"


def _spread(values: Any, digits: int) -> str:
    """mean ± standard deviation over draws."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def gates_know(
    net: Network | Gated,
    X: Any,
    y: Any,
    *,
    X_test: Any = None,
    y_test: Any = None,
    rows: int = 5000,
    ridge: float = 1e-2,
    draws: int = 1,
    task: Task | None = None,
    seed: int = 0,
) -> GatesKnow:
    """Test accuracy of the network and of ridge machines on its gates, random gates, each layer.

    X (rows, inputs), y: labels (as the network's classes say them; 0 .. outputs - 1 where it says
    none), or numbers of a regression. X_test, y_test: rows the network never saw; without them a
    quarter of X is held out of the machines' sight (a note says so). rows: at most so many to fit
    on and to test on. ridge: in units of the kernel's mean diagonal; draws: of random weights (He
    normal, biases 0, norms that neither scale nor shift). task: where neither the network nor y
    tells. NotGated where gates are not on/off, DataError for labels of one class.
    Memory: four matrices of rows x rows float64 at a time (0.8 GB for 5000).
    """
    whole = on_host(net)
    if not whole.sites:
        raise NotGated(
            "the network has no gates, so they know nothing: it is one linear map for all rows"
        )
    whole_number(draws, "draws")
    whole_number(rows, "rows", 4)
    rng = np.random.default_rng(seed)
    split = _split(whole.network, (X, y, X_test, y_test), rows, task, rng)
    solver = _Solver(split, ridge)
    kernels = _kernels(whole, solver, draws, torch.Generator().manual_seed(seed))
    network = network_score(whole.network, split.test.x, split.test.truth)
    error = _standard_error(network, len(split.test)) if split.labels else math.nan
    sizes = (len(split.fit), len(split.test))
    figures = (split.task, network, solver.linear(), kernels, *sizes, ridge)
    return GatesKnow(*figures, error, solver.residual, _notes(split, error))


def _kernels(
    whole: Gated, solver: _Solver, draws: int, generator: torch.Generator
) -> tuple[Known, ...]:
    """The figures of every kernel, with the network's gates and with those of drawn weights."""
    others = [gated(fresh(whole.network, generator)) for _ in range(draws)]
    own, *random = [list(solver.scores(g)) for g in (whole, *others)]
    names = (*((w, sum(s.units for s in whole.sites)) for w in WHOLE), *_layers(whole))
    return tuple(
        Known(name, units, own[i][0], _each(random, i, 0), own[i][1], _each(random, i, 1))
        for i, (name, units) in enumerate(names)
    )


def _layers(whole: Gated) -> list[tuple[str, int]]:
    return [(site.at, site.units) for site in whole.sites]


def _each(random: list[list[tuple[float, float]]], i: int, part: int) -> tuple[float, ...]:
    return tuple(draw[i][part] for draw in random)


def _standard_error(accuracy: float, rows: int) -> float:
    """Of a share of `rows` draws, with two right and two wrong ones added (Agresti and Coull)."""
    p = (accuracy * rows + 2) / (rows + 4)
    return math.sqrt(p * (1 - p) / (rows + 4))


def _notes(split: Split, error: float) -> tuple[str, ...]:
    notes = [SAW_LABELS]
    if split.held_out:
        notes.append(
            "no test rows were given: a quarter of X was held out of the machines' sight, and if "
            "the network was trained on it, every figure of its own gates is too high"
        )
    if split.labels:
        notes.append(f"standard error of the network's accuracy: {100 * error:.2f} points")
    return tuple(notes)


# -- rows --


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows and what they are held against."""

    x: Tensor
    truth: Truth

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, network: Network, X: Any, y: Any, names: tuple[str, str], task: Any) -> _Part:
        """From the table and the labels that were given, by their names in messages."""
        x = rows_of(network, X, names[0])
        return cls(x, truth_of(network, y, len(x), names[1], task))

    def take(self, rows: NDArray[np.int64]) -> _Part:
        return _Part(self.x[torch.from_numpy(rows)], self.truth.take(rows))


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to fit on and to test on; held_out: the second were taken from the first."""

    fit: _Part
    test: _Part
    held_out: bool

    @property
    def task(self) -> Task:
        return self.fit.truth.task

    @property
    def labels(self) -> bool:
        """Is it a classification?"""
        return self.fit.truth.labels


def _split(
    network: Network,
    tables: tuple[Any, Any, Any, Any],
    rows: int,
    task: Task | None,
    rng: np.random.Generator,
) -> Split:
    X, y, X_test, y_test = tables
    if (X_test is None) != (y_test is None):
        raise DataError("X_test and y_test go together: give both or neither")
    first = _Part.of(network, X, y, ("X", "y"), task)
    order = rng.permutation(len(first))
    if X_test is None:
        cut = max(1, len(order) // 4)
        fit, test = first.take(order[cut:][:rows]), first.take(order[:cut][:rows])
    else:
        other = _Part.of(network, X_test, y_test, ("X_test", "y_test"), first.truth.task)
        fit, test = first.take(order[:rows]), other.take(rng.permutation(len(other))[:rows])
    if not len(fit):
        raise DataError("X has 1 row, and none is left to fit on: give more, or X_test")
    if fit.truth.labels:
        places = np.unique(fit.truth.values).tolist()
        require_two([fit.truth.names[k] for k in places], len(fit))
    return Split(fit, test, X_test is None)


# -- random weights --


def fresh(network: Network, generator: torch.Generator) -> Network:
    """The network `redrawn`, and norms behind a weight layer neither scale nor shift."""
    drawn = redrawn(network, generator)
    behind: set[str] = set()
    nodes = []
    for node in drawn.nodes:
        weight = isinstance(node.kind, Affine) and node.kind.taps is not None
        if weight or not behind.isdisjoint(node.inputs):
            behind.add(node.name)
        nodes.append(_plain(node) if not weight and node.name in behind else node)
    return dataclasses.replace(drawn, nodes=tuple(nodes))


def _plain(node: Node) -> Node:
    """A norm (a factor and an offset a channel) that does nothing; any other node as it is."""
    kind = node.kind
    if not isinstance(kind, Affine) or kind.rule is not scale or kind.bias is None:
        return node
    one = (torch.ones_like(kind.weights[0]),)
    kind = dataclasses.replace(kind, weights=one, bias=torch.zeros_like(kind.bias))
    return dataclasses.replace(node, kind=kind)


# -- the machines --


class _Solver:
    """Kernel machines on the split; keeps the largest residual of a solve (a builder)."""

    def __init__(self, split: Split, ridge: float) -> None:
        self.split, self.ridge, self.residual = split, ridge, 0.0
        self.targets = centred_targets(split.fit.truth.values, len(split.fit), split.task)[0]

    def scores(self, whole: Gated) -> Iterator[tuple[float, float]]:
        """(test score, alignment) of each kernel in turn: with inputs, without, each layer."""
        fit, test = self.split.fit.x, self.split.test.x
        for inputs in (True, False):
            options: dict[str, Any] = {"scale": "cosine", "inputs": inputs}
            gram = npk(whole, fit, **options).values
            yield self.score(gram, npk(whole, test, fit, **options).values)
        both = zip(masks(whole, fit), masks(whole, test), strict=True)
        for here, there in both:
            a, b = here.flatten(1).numpy(), there.flatten(1).numpy()
            gram = npk_of_gates([a], scale="cosine").values
            yield self.score(gram, npk_of_gates([b], [a], scale="cosine").values)

    def score(self, gram: Floats, cross: Floats) -> tuple[float, float]:
        """Of one kernel: on the test rows, and its alignment with the targets."""
        if not gram.diagonal().any():  # no gate of the layer is on at any row
            return math.nan, math.nan
        machine = self.machine(gram)
        score = machine.score(cross, self.split.test.truth.values)
        return score, cosine(torch.from_numpy(gram), torch.from_numpy(self.targets))

    def machine(self, gram: Floats) -> KernelMachine:
        """Ridge on a Gram matrix of the fitting rows."""
        y = self.split.fit.truth.values
        machine = ridge_machine(gram, y, ridge=self.ridge, task=self.split.task)
        self.residual = max(self.residual, machine.residual)
        return machine

    def linear(self) -> float:
        """Ridge on the inputs, standardised on the fitting rows, and a constant."""
        fit, test = (part.x.flatten(1).numpy() for part in (self.split.fit, self.split.test))
        mean, spread = fit.mean(0), spread_of(fit)
        a, b = (np.c_[(x - mean) / spread, np.ones(len(x))] for x in (fit, test))
        return self.machine(a @ a.T).score(b @ a.T, self.split.test.truth.values)
