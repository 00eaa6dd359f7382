"""Running the path kernel's program on two sets of rows: exact, tile by tile.

A layer with i.i.d. weights of variance s^2 (and biases of variance s_b^2), independent of the
gates, has E[h_o(q) h'_o(q')] = s^2 sum over taps of what the taps read + s_b^2: the same sum over
paths as the path kernel, where every s is 1. Beside it goes its derivative along all s^2, which
gives the expected tangent kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.dual.gating import CONSTANT
from gatewise.dual.kernels.program import (
    OUTPUT,
    Contract,
    Extend,
    Pooled,
    Program,
    Reading,
    Start,
    Step,
)
from gatewise.dual.kernels.views import FIXED, Term
from gatewise.errors import NotGated
from gatewise.ir.kinds import Affine
from gatewise.ir.network import INPUT
from gatewise.numeric import gamma

TILE_BYTES = 1 << 28  # of the largest kernel of position pairs, with what is made on the way
COPIES = 4  # arrays of that size alive at once
EXACT_COUNT = 1 << 24  # integers up to here are exact in float32


@dataclass(frozen=True)
class Variance:
    """s^2 of one layer's weights and of its biases (of a norm: its scales and its offsets)."""

    weight: float = 1.0
    bias: float = 1.0


UNIT = Variance()
Fields = Mapping[str, Tensor]  # masks (rows, entries) at sites, numbers (rows, *shape) at nodes


@dataclass(frozen=True, eq=False)
class Kernel:
    """values 2^exponent: (D, N, P, N', P') where full, else (D, P, N, N') at equal positions.

    D = 2 where the derivative is carried beside the kernel.
    """

    values: Tensor
    exponent: int
    full: bool

    def equal_positions(self) -> Tensor:
        """(D, P, N, N')."""
        if not self.full:
            return self.values
        return self.values.diagonal(0, 2, 4).movedim(-1, 1)


@dataclass(frozen=True, eq=False)
class Run:
    """One tile: fields of the rows on the left and on the right, and the variances."""

    program: Program
    left: Fields
    right: Fields
    variances: Mapping[str, Variance]
    tangent: bool = False
    constant: bool = False

    @property
    def device(self) -> torch.device:
        """Where the fields are, and all is computed."""
        return next(iter(self.left.values())).device

    @property
    def order(self) -> int:
        """D: 1, or 2 with the derivative."""
        return 2 if self.tangent else 1

    def variance(self, node: str) -> Variance:
        """s^2 of a node, 1 where nothing is said."""
        return self.variances.get(node, UNIT)

    def shape(self, positions: int, full: bool) -> tuple[int, ...]:
        """(N, P, N', P') or (P, N, N')."""
        n, m = (len(next(iter(side.values()))) for side in (self.left, self.right))
        return (n, positions, m, positions) if full else (positions, n, m)


def run(task: Run) -> Kernel:
    """The kernel at the output: values (D, 1, N, N')."""
    kernels: dict[str, Kernel] = {}
    last = _last_uses(task.program)
    for step in task.program.steps:
        kernels[step.name] = _take(task, step, kernels)
        for name in [n for n in kernels if last.get(n) == step.name]:
            del kernels[name]
    return kernels[OUTPUT]


def _last_uses(program: Program) -> dict[str, str]:
    last: dict[str, str] = {}
    for step in program.steps:
        if isinstance(step, Contract):
            last |= {name: step.name for r in step.readings for name in r.sources}
        elif isinstance(step, Extend | Pooled):
            last[step.source] = step.name
    return last


def _take(task: Run, step: Step, kernels: Mapping[str, Kernel]) -> Kernel:
    if isinstance(step, Contract):
        return _contract(task, step, kernels)
    if isinstance(step, Start):
        s = task.variance(step.node)
        return _start(task, step, s.bias if step.bias else s.weight)
    if isinstance(step, Extend):
        return _extend(kernels[step.source], task.variance(step.node).weight)
    source = kernels[step.source]
    pooled = _pool(source.values, step.pool)
    whole = Kernel(pooled, source.exponent, True)
    if step.name in task.program.full:
        return whole
    return Kernel(whole.equal_positions(), source.exponent, False)


def _start(task: Run, step: Start, variance: float) -> Kernel:
    full = step.name in task.program.full
    shape = task.shape(step.positions, full)
    parts = [variance, 1.0][: task.order]
    values = torch.tensor(parts, dtype=torch.float64, device=task.device)
    values = values.reshape(-1, *[1] * len(shape))
    if full:
        same = step.kind[:, None] == step.kind
        values = values * same.double()[:, None, :].to(task.device)
    return Kernel(values.expand(-1, *shape), 0, full)


def _extend(source: Kernel, variance: float) -> Kernel:
    """s^2 K, and beside it K + s^2 dK."""
    values = variance * source.values
    if len(values) == 2:
        values = torch.stack([values[0], source.values[0] + values[1]])
    return Kernel(values, source.exponent, source.full)


# -- one weight layer --


def _contract(task: Run, step: Contract, kernels: Mapping[str, Kernel]) -> Kernel:
    full = step.name in task.program.full
    last = step.name == OUTPUT
    s = UNIT if last else task.variance(step.name)
    top = max((kernels[n].exponent for r in step.readings for n in r.sources), default=0)
    total = _numbers(task, step, full, top)
    for reading in step.readings:
        part = _read(task, reading, kernels, top, full)
        total = part if total is None else total + part
    if total is None:  # it reads nothing but constants
        shape = task.order, *task.shape(step.positions, full)
        total = torch.zeros(shape, dtype=torch.float64, device=task.device)
    # a power of two costs no rounding, and keeps deep products from overflowing
    shift = max(0, math.ceil(math.log2(max(step.fan_in * s.weight, 1))))
    exponent = top + shift
    kernel = _varied(total * 2.0**-shift, s, step.bias, 2.0**-exponent, not last)
    return Kernel(kernel / step.mean, exponent, full)


def _varied(total: Tensor, s: Variance, bias: bool, one: float, weights: bool) -> Tensor:
    """s^2 C + s_b^2, and beside it C + s^2 dC + 1: `one` is the number 1 at the exponent."""
    first = s.weight * total[:1] + (s.bias * one if bias else 0.0)
    if len(total) == 1:
        return first
    slope = s.weight * total[1:] + (total[:1] if weights else 0.0) + (one if bias else 0.0)
    return torch.cat([first, slope])


def _numbers(task: Run, step: Contract, full: bool, top: int) -> Tensor | None:
    """The part read from numbers: sum over taps of x x', or the constant 1 instead."""
    if step.data is None or step.taps is None:
        return None
    left, right = (step.taps(side[numbers_of(step.data)]) for side in (task.left, task.right))
    if full:
        n, t, q = left.shape
        flat = left.mT.reshape(n * q, t) @ right.mT.reshape(-1, t).T
        values = flat.reshape(n, q, len(right), q)
    else:
        values = left.permute(2, 0, 1) @ right.permute(2, 1, 0)
    if task.constant and step.name != OUTPUT:
        values = values / step.fan_in
    values = values * 2.0**-top
    nothing = [torch.zeros_like(values)] * (task.order - 1)
    return torch.stack([values, *nothing])


def _read(
    task: Run, reading: Reading, kernels: Mapping[str, Kernel], top: int, full: bool
) -> Tensor:
    """Sum over the taps of one group of terms."""
    term = reading.term
    wide = full or term.pool is not None
    parts = [
        (k.values if wide else k.equal_positions()) * 2.0 ** (k.exponent - top)
        for k in (kernels[name] for name in reading.sources)
    ]
    kernel = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    seen = kernel * _overlap(task, reading, wide)
    if term.pool is not None:
        seen = _pool(seen, term.pool)
        seen = seen if full else seen.diagonal(0, 2, 4).movedim(-1, 1)
    return _shifted(seen, reading.classes, full)


def _shifted(seen: Tensor, classes: Tensor, full: bool) -> Tensor:
    """K(q, q') = sum over classes of the rows they read at q and q'.

    Positions stand first meanwhile, so that whole lines are copied; the last line is 0, for none.
    """
    classes = classes.to(seen.device)
    if not full:
        lines, size = seen.movedim(1, 0), seen.shape[1]
        rows = torch.where(classes >= 0, classes, size)
        return _summed(lines, rows).movedim(0, 1)
    d, n, p, m, _ = seen.shape
    lines, none = seen.permute(2, 4, 0, 1, 3).reshape(p * p, d, n, m), classes < 0
    both = classes[:, :, None] * p + classes[:, None, :]
    rows = torch.where(none[:, :, None] | none[:, None, :], p * p, both).flatten(1)
    q = classes.shape[1]
    return _summed(lines, rows).reshape(q, q, d, n, m).permute(2, 3, 0, 4, 1)


def _summed(lines: Tensor, rows: Tensor) -> Tensor:
    """Sum over classes of lines[rows], for rows (classes, places); len(lines) is a line of 0."""
    padded = torch.cat([lines, torch.zeros_like(lines[:1])])
    total = padded.index_select(0, rows[0])
    for part in rows[1:]:
        total += padded.index_select(0, part)
    return total


def _pool(values: Tensor, pool: Tensor) -> Tensor:
    """A K Aᵀ over the position axes."""
    pool = pool.to(values.device)
    half = torch.einsum("rp,dnpmq->dnrmq", pool, values)
    return torch.einsum("sq,dnrmq->dnrms", pool, half)


# -- how many units are on in both --


def _overlap(task: Run, reading: Reading, full: bool) -> Tensor:
    """sum over units of c c' and the taps that read the unit: (N, P, N', P') or (P, N, N')."""
    term, counts = reading.term, reading.counts.to(task.device)
    if term.pool is not None and counts.ndim == 2:
        counts = _same_for_all_rows(counts)
    if term.bare:
        return counts.sum() if counts.ndim == 1 else counts.sum(0)[:, None, None]
    left, right = (_coefficients(term, side) for side in (task.left, task.right))
    weight = counts[:, None] if counts.ndim == 1 else counts
    left = left * weight.to(left.dtype) if not bool((weight == 1).all()) else left
    if full:
        n, u, p = left.shape
        flat = left.mT.reshape(n * p, u) @ right.mT.reshape(-1, u).T
        return flat.reshape(n, p, len(right), p).double()
    return (left.permute(2, 0, 1) @ right.permute(2, 1, 0)).double()


def _same_for_all_rows(counts: Tensor) -> Tensor:
    used = counts[:, counts.any(0)]
    if not bool((used == used[:, :1]).all()):
        raise NotGated("units are read at different places after an average pool")
    return used[:, 0]


def _coefficients(term: Term, fields: Fields) -> Tensor:
    """c (N, units, positions): the sum of products of masks and fixed numbers on the grid."""
    total: Tensor | None = None
    there = next(iter(fields.values())).device
    for product in term.products:
        part: Tensor | None = None
        for name, table in product:
            here = table.to(there)
            factor = here[None] if name == FIXED else _on_grid(fields[name], here)
            part = factor if part is None else part * factor
        if part is None:  # the constant 1
            part = torch.ones(1, *term.grid, dtype=torch.bool, device=there)
        part = part if len(term.products) == 1 else part.double()
        total = part if total is None else total + part
    assert total is not None
    exact32 = total.dtype == torch.bool and total.shape[1] < EXACT_COUNT
    return total.float() if exact32 else total.double()


def _on_grid(field: Tensor, table: Tensor) -> Tensor:
    """field (N, E) at table (U, P); 0 where the grid has no entry."""
    flat = field.flatten(1)
    here = flat[:, table.clamp(min=0).reshape(-1)].reshape(-1, *table.shape)
    return here if bool((table >= 0).all()) else here * (table >= 0)


# -- fields --


def fields(program: Program, x: Tensor, masks: list[Tensor], constant: bool = False) -> Fields:
    """Masks at sites and the numbers that weights read, for rows x (N, *input_shape).

    constant: 1 instead of each number of the input.
    """
    sites = program.gated.sites
    on: dict[str, Tensor] = {s.at: m for s, m in zip(sites, masks, strict=True)}
    numbers: dict[str, Tensor] = {INPUT: x}
    for name in program.numbers:
        numbers[name] = _number(program, name, numbers, on)
        if constant and name in program.pure:
            numbers[name] = torch.ones_like(numbers[name])
    if constant:
        numbers[INPUT] = torch.ones_like(x)
    wanted = {s.data for s in program.steps if isinstance(s, Contract) and s.data is not None}
    return on | {numbers_of(name): numbers[name] for name in {INPUT, *wanted}}


def numbers_of(name: str) -> str:
    """The field of a node's numbers: a gate on them has its mask under its own name."""
    return f"numbers of {name}"


def _number(
    program: Program, name: str, numbers: Mapping[str, Tensor], on: Mapping[str, Tensor]
) -> Tensor:
    """One node's numbers: a mask times them, or a fixed map of them."""
    node, site = program.gated.network.node(name), program.gated.site(name)
    if site is not None:
        mask = on[name].double()
        return mask if site.value == CONSTANT else mask * numbers[site.value]
    kind, network = node.kind, program.gated.network
    assert isinstance(kind, Affine)
    rows = len(numbers[INPUT])
    none = {n: numbers[INPUT].new_zeros(rows, *network.shape(n)) for n in node.inputs}
    xs = [numbers.get(n, none[n]) for n in node.inputs]
    return kind(*xs) if name in program.pure else kind.linear(*xs)


def tile_rows(program: Program, order: int = 1) -> int:
    """Rows a side of a tile, so that its largest kernel and its copies take TILE_BYTES."""
    largest = max(
        (p * p if name in program.full else p for name, p in program.positions.items()), default=1
    )
    return max(1, math.isqrt(TILE_BYTES // (8 * COPIES * order * largest)))


def rounded(program: Program) -> float:
    """A bound on |computed - exact| / the kernel of |x| and |x'|: roundings on the longest path."""
    terms = 0
    for step in program.steps:
        if isinstance(step, Contract):
            terms += 6 + sum(_roundings(reading) for reading in step.readings)
            terms += step.fan_in if step.data is not None else 0
        elif isinstance(step, Pooled):
            terms += 2 * step.pool.shape[1]
        else:
            terms += 2
    return gamma(terms, torch.float64)


def _roundings(reading: Reading) -> int:
    """Of adding sources, products with fixed numbers, the pool on both sides, and the classes."""
    term = reading.term
    fixed = any(name == FIXED for product in term.products for name, _ in product)
    pool = 0 if term.pool is None else 2 * term.pool.shape[1]
    units = term.grid[0] if fixed or len(term.products) > 1 else 0
    return len(reading.sources) + 3 + units + pool + len(reading.classes)
