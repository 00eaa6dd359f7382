"""The path kernel as a short program: one step for each weight layer, planned before any data.

Planning walks the network once with labels (`views`); running it on two sets of rows is
`recursion`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gatewise.dual.gating import CONSTANT, Gated, Site
from gatewise.dual.kernels.constants import beginning, spread_index
from gatewise.dual.kernels.views import (
    BARE,
    Labels,
    Move,
    Term,
    diagonal,
    joined,
    masked,
    moved,
    picked_by,
    whole,
)
from gatewise.errors import NotGated
from gatewise.ir.kinds import Affine, Taps
from gatewise.ir.network import INPUT, Node, fold

OUTPUT = "the output"


@dataclass(frozen=True, eq=False)
class Reading:
    """What a weight layer reads of some terms that are masked and placed alike.

    sources: their kernels, to be added; counts (units,) or, at one position, (units, rows): how
    many taps read each; classes (C, Q): the row that a class of taps reads at position q, -1 none.
    """

    sources: tuple[str, ...]
    term: Term
    counts: Tensor
    classes: Tensor


@dataclass(frozen=True, eq=False)
class Contract:
    """K(q, q') = s^2 sum over taps of the kernels of what the taps read, + s_b^2 with a bias.

    data: the name of a value whose entries are numbers themselves (the input, maybe masked);
    mean: divided by this (the outputs, whose kernels are averaged).
    """

    name: str
    readings: tuple[Reading, ...]
    data: str | None
    taps: Taps | None
    fan_in: int
    positions: int
    bias: bool
    mean: int = 1


@dataclass(frozen=True, eq=False)
class Extend:
    """K = s^2 K of the source: one more weight on every path, unit by unit (a norm's scale)."""

    name: str
    source: str
    node: str
    positions: int


@dataclass(frozen=True, eq=False)
class Pooled:
    """K = A K Aᵀ: a fixed average of positions that no mask stands before."""

    name: str
    source: str
    pool: Tensor
    positions: int


@dataclass(frozen=True, eq=False)
class Start:
    """K(q, q') = s^2 where positions share their weight: paths from a bias or a constant input.

    kind (positions,): which weight of a unit a position has.
    """

    name: str
    node: str
    bias: bool
    positions: int
    kind: Tensor


Step = Contract | Extend | Pooled | Start


@dataclass(frozen=True, eq=False)
class State:
    """A value as terms, and the part of it whose entries are numbers: `data` names that part.

    pure: it is the input after fixed maps alone.
    """

    terms: tuple[Term, ...] = ()
    data: str | None = None
    pure: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in order; numbers: nodes whose numbers are needed, in order; pure: those of
    them that are the input after fixed maps alone; full: kernels needed at all pairs of positions
    (the others at equal positions only); positions: of each kernel."""

    gated: Gated
    steps: tuple[Step, ...]
    numbers: tuple[str, ...]
    pure: frozenset[str]
    full: frozenset[str]
    positions: dict[str, int]

    @property
    def sees_inputs(self) -> bool:
        """Do some paths start at the input, not at a constant or a bias alone?"""
        whole = self.gated
        masked = {s.at: (s.value,) for s in whole.sites}
        return any(
            INPUT in masked.get(name, whole.network.node(name).inputs) for name in whole.values
        )

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the nodes that hold weights or biases, in order."""
        names = [getattr(s, "node", s.name) for s in self.steps if not isinstance(s, Pooled)]
        return tuple(dict.fromkeys(n for n in names if n != OUTPUT))


def plan(whole_: Gated) -> Program:
    """The program of a gated network; NotGated, naming the node, where labels cannot follow."""
    network = whole_.network.to(torch.float64)
    planner = Planner(replace(whole_, network=network))
    state = fold(network, State(data=INPUT, pure=True), planner.step)[network.output]
    planner.output(state)
    positions = {s.name: s.positions for s in planner.steps}
    steps, full = tuple(planner.steps), _full(planner.steps)
    numbers, pure = tuple(planner.numbers), frozenset(planner.pure)
    return Program(planner.gated, steps, numbers, pure, full, positions)


def _full(steps: list[Step]) -> frozenset[str]:
    """Kernels of which more than equal positions is asked: known from the end backwards."""
    full: set[str] = set()
    for step in reversed(steps):
        asked = step.name in full
        if isinstance(step, Contract):
            for reading in step.readings:
                if asked or reading.term.pool is not None:
                    full.update(reading.sources)
        elif isinstance(step, Pooled) or (isinstance(step, Extend) and asked):
            full.add(step.source)
    return frozenset(full)


class Planner:
    """Collects steps while labels go through the network (a builder, not a value)."""

    def __init__(self, gated: Gated) -> None:
        self.gated, self.network = gated, gated.network
        self.sites = {s.at: s for s in gated.sites}
        self.values = set(gated.values)
        self.steps: list[Step] = []
        self.numbers: list[str] = []
        self.pure: set[str] = {INPUT}
        self.labels = Labels()

    def step(self, node: Node, inputs: list[State]) -> State:
        """The state of one node's value; an empty one off the value side."""
        if node.name not in self.values:
            return State()
        site = self.sites.get(node.name)
        if site is not None:
            return self._site(node, site, dict(zip(node.inputs, inputs, strict=True)))
        kind = node.kind
        if not isinstance(kind, Affine):
            raise NotGated(f"node '{node.name}' ({node.layer}) is no weight and no gate")
        if kind.taps is not None:
            return self._weight(node, kind, kind.taps, inputs[0])
        if all(s.pure for s in inputs):
            self.numbers.append(node.name)
            self.pure.add(node.name)
            return State(data=node.name, pure=True)
        return self._scale(node, kind, inputs[0]) if diagonal(node) else self._move(node, inputs)

    def output(self, state: State) -> None:
        """The mean over outputs of their kernels."""
        entries = torch.arange(self.network.outputs)[:, None]
        readings = _readings(self.network.nodes[-1], state.terms, entries, self.labels)
        taps, m = Entries(), self.network.outputs
        self.steps.append(Contract(OUTPUT, readings, state.data, taps, m, 1, False, m))

    # -- one kind of node each --

    def _site(self, node: Node, site: Site, inputs: dict[str, State]) -> State:
        if site.value == CONSTANT:
            return self._constant(node)
        state = inputs[site.value]
        terms = []
        for term in state.terms:
            if term.pool is not None and term.bare:
                term = self._settled(term, node)
            terms.append(masked(term, site.at, self.labels, node))
        if state.data is not None:
            self.numbers.append(node.name)
        return State(tuple(terms), node.name if state.data is not None else None)

    def _constant(self, node: Node) -> State:
        """Masked weights of a constant input, or the mask itself as numbers."""
        kind = node.kind
        if not isinstance(kind, Affine):
            self.numbers.append(node.name)
            return State(data=node.name)
        term = self._start(node, kind.weights[0], bias=False)
        kept = (masked(term, node.name, self.labels, node),)
        return State((*kept, *self._bias(node, kind)))

    def _weight(self, node: Node, kind: Affine, taps: Taps, state: State) -> State:
        shape = self.network.shape(node.inputs[0])
        entry = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(1, *shape)
        table = taps(entry)[0].round().long() - 1
        readings = _readings(node, state.terms, table, self.labels)
        fan_in, positions = table.shape
        has_bias = kind.bias is not None
        self.steps.append(
            Contract(node.name, readings, state.data, taps, fan_in, positions, has_bias)
        )
        out = taps.units(torch.arange(math.prod(node.shape)).reshape(1, *node.shape))[0]
        unit, place = torch.empty(out.numel()).long(), torch.empty(out.numel()).long()
        unit[out] = torch.arange(len(out))[:, None].expand_as(out)
        place[out] = torch.arange(out.shape[1]).expand_as(out)
        return State((whole(node.name, unit, place, self.labels),))

    def _scale(self, node: Node, kind: Affine, state: State) -> State:
        """A weight for each unit, kept on its own path: BatchNorm after something gated."""
        if state.data is not None:
            raise NotGated(
                f"node '{node.name}' ({node.layer}) scales a skip that comes from the input "
                f"itself: its path kernel is not computed; put a Linear or Conv before the skip"
            )
        self._require_per_unit(node, kind, state.terms)
        terms = tuple(self._extended(t, node) for t in state.terms)
        return State((*terms, *self._bias(node, kind)))

    def _require_per_unit(self, node: Node, kind: Affine, terms: tuple[Term, ...]) -> None:
        """Positions of a unit share their factor, or are one place: else paths would differ."""
        index = spread_index(kind.weights[0], node)
        for term in terms:
            here = term.unit >= 0
            first = torch.full((term.grid[0],), -1)
            first[term.unit[here]] = index[here]
            if bool((first[term.unit[here]] != index[here]).any()):
                raise NotGated(
                    f"node '{node.name}' ({node.layer}) has a factor for each position of a "
                    f"unit: its path kernel is not computed"
                )

    def _extended(self, term: Term, node: Node) -> Term:
        name = f"{term.source} > {node.name}"
        if all(s.name != name for s in self.steps):
            size = next(s.positions for s in self.steps if s.name == term.source)
            self.steps.append(Extend(name, term.source, node.name, size))
        return replace(term, origin=f"{term.origin} > {node.name}", source=name)

    def _settled(self, term: Term, node: Node) -> Term:
        """A pool that no mask stands before goes into the kernel itself."""
        assert term.pool is not None
        name = f"{term.source} pooled before {node.name}"
        rows = len(term.pool)
        self.steps.append(Pooled(name, term.source, term.pool, rows))
        return replace(term, source=name, grid=(term.grid[0], rows), pool=None)

    def _move(self, node: Node, inputs: list[State]) -> State:
        kind = node.kind
        assert isinstance(kind, Affine)
        shapes = tuple(self.network.shape(name) for name in node.inputs)
        moves = [Move(node, kind, shapes, k) for k in range(len(shapes))]
        terms: list[Term] = []
        for state, move in zip(inputs, moves, strict=True):
            picked = picked_by(move) if state.terms else None
            terms += [moved(t, move, picked, self.labels) for t in state.terms]
        data = any(s.data is not None for s in inputs)
        if data:
            self.numbers.append(node.name)
        every = (*joined(terms, moves[0]), *self._bias(node, kind))
        return State(every, node.name if data else None)

    def _bias(self, node: Node, kind: Affine) -> tuple[Term, ...]:
        return () if kind.bias is None else (self._start(node, kind.bias, bias=True),)

    def _start(self, node: Node, weight: Tensor, bias: bool) -> Term:
        """Paths that start here, one a number of the weight, at all the places it is used."""
        start = beginning(self.gated, node, weight)
        name = f"{node.name}: {'bias' if bias else 'constant'}"
        term = whole(name, start.unit, start.place, self.labels)
        self.steps.append(Start(name, node.name, bias, term.grid[1], start.kind))
        return term


class Entries:
    """Every entry is a tap of its own, at one position: how the output is read off."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, 1)

    def units(self, y: Tensor) -> Tensor:
        """(rows, entries, 1)."""
        return self(y)


def _readings(
    node: Node, terms: tuple[Term, ...], table: Tensor, labels: Labels
) -> tuple[Reading, ...]:
    """Terms that are masked and placed alike are read together: their kernels add."""
    groups: dict[tuple[object, ...], list[Term]] = {}
    for term in terms:
        groups.setdefault(_key(term), []).append(term)
    found = []
    for alike in groups.values():
        counts, classes = _counted(node, alike[0], table)
        sources = tuple(t.source for t in alike)
        if not len(classes):  # all of it was cut away
            continue
        found.append(Reading(sources, alike[0], labels(counts), classes))
    return tuple(found)


def _key(term: Term) -> tuple[object, ...]:
    masks = tuple(tuple((name, id(table)) for name, table in p) for p in term.products)
    pool = None if term.pool is None else term.pool.numpy().tobytes()
    return (masks if term.products != BARE else None, id(term.unit), id(term.place), pool)


def _counted(node: Node, term: Term, table: Tensor) -> tuple[Tensor, Tensor]:
    """Counts and classes of the taps (T, Q) that read a term."""
    reads = table >= 0
    unit = torch.where(reads, term.unit[table.clamp(min=0)], -1)
    row = torch.where(unit >= 0, term.place[table.clamp(min=0)], -1)
    kept = (unit >= 0).any(1)
    unit, row = unit[kept], row[kept]
    if table.shape[1] == 1:
        counts = torch.zeros(term.grid[0], term.rows, dtype=torch.float64)
        counts.index_put_((unit[:, 0], row[:, 0]), torch.tensor(1.0).double(), accumulate=True)
        return counts, torch.unique(row).reshape(-1, 1)
    return _counted_at_positions(node, term, unit, row)


def _counted_at_positions(
    node: Node, term: Term, unit: Tensor, row: Tensor
) -> tuple[Tensor, Tensor]:
    one = unit.amax(1)
    if not bool(((unit == one[:, None]) | (unit < 0)).all()):
        raise _crossed(node)
    classes, which = torch.unique(row, dim=0, return_inverse=True)
    counts = torch.zeros(len(classes), term.grid[0], dtype=torch.float64)
    counts.index_put_((which, one), torch.tensor(1.0).double(), accumulate=True)
    if len(counts) and not bool((counts == counts[0]).all()):
        raise _crossed(node)
    return counts[0] if len(counts) else torch.zeros(term.grid[0]).double(), classes


def _crossed(node: Node) -> NotGated:
    return NotGated(
        f"node '{node.name}' ({node.layer}) reads one unit's value as another's at some "
        f"positions (a reshape that mixes them): its path kernel is not computed"
    )
