"""region(network, x): the closed polyhedron around x on which the network is one affine map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import DataError, WrongShape
from gatewise.ir.kinds import Affine, Pieces, Winner, push
from gatewise.ir.network import Network, Node
from gatewise.ir.pattern import Pattern
from gatewise.ir.rounding import path_terms
from gatewise.linear.affine_map import AffineMap, chunk_rows
from gatewise.numeric import Verdict, as_tensor, decide, gamma
from gatewise.patterns.degenerate import affordable, zero_rows
from gatewise.patterns.exact import rational, settle
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.regions.constraints import Frozen, frozen, magnitude, slack, spread, strict, visit
from gatewise.regions.margins import batch_rows, margins
from gatewise.regions.norms import plan

MOST_BYTES = 8 << 30  # of the rows of one region


@dataclass(frozen=True, eq=False)
class Halfspaces:
    """Rows a.x + b >= 0 of one region; gate and unit say which unit each row is about.

    bound: the row as computed is within bound[0] max_j |x_j| + bound[1] of the exact one.
    """

    a: Tensor
    b: Tensor
    bound: tuple[Tensor, Tensor]
    gate: tuple[str, ...]
    unit: Tensor

    def __len__(self) -> int:
        return len(self.b)


@dataclass(frozen=True, eq=False)
class Margin:
    """Distance from each point to the nearest wall of its region, in three metrics (rows,).

    l2: Euclidean; linf: largest change of a single feature, all free; scaled: Euclidean in units
    of `scale` (standard deviations, say). inf where no wall depends on the input.
    """

    l2: Tensor
    linf: Tensor
    scaled: Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """The regions of P points, one pattern each: { x : pattern(x) = pattern }, closed.

    box: lower and upper corner of the data, or None: where the region has been seen.
    """

    network: Network
    home: Tensor
    pattern: Pattern
    box: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.home)

    def __repr__(self) -> str:
        return f"Region({len(self)} regions of {self.network.inputs} inputs)"

    def __getitem__(self, rows: slice) -> Region:
        return Region(self.network, self.home[rows], self.pattern[rows], self.box)

    @property
    def map(self) -> AffineMap:
        """f(x) = W x + b on each region."""
        return AffineMap(self.network, self.pattern)

    def halfspaces(self, index: int = 0) -> Halfspaces:
        """The rows of one region, every unit's own, redundant ones included."""
        if not -len(self) <= index < len(self):
            raise DataError(f"there are {len(self)} regions, counted from 0; got index {index}")
        index %= len(self)
        _require_room(self.network)
        return _halfspaces(frozen(self.network, self.pattern[index : index + 1]))

    def verdict(self, X: Any) -> Tensor:
        """Is each point inside? (P, k) of +1 yes, -1 no, 0 undecided within rounding.

        X is (k, inputs), tried against every region, or (P, k, inputs).
        """
        points = self._points(X)
        answer = torch.cat(
            [_verdict(frozen(self.network, part.pattern), x) for part, x in self._parts(points)]
        )
        open_ = (answer == 0).any(1).nonzero().flatten().tolist()
        exact = rational(self.network.to(torch.float64)) if open_ else None
        if exact is not None:
            for i in open_[: affordable(exact)]:
                home = self.pattern[i : i + 1]
                x = points[i].reshape(1, -1, *self.network.input_shape)
                answer[i] = _verdict(frozen(self.network, home), x, zero_rows(exact, home))[0]
        return self._settled(answer, points)

    def _settled(self, answer: Tensor, points: Tensor) -> Tensor:
        """The verdicts with those that rounding left open decided by their exact pattern."""
        open_ = (answer == 0).nonzero()
        if not len(open_):
            return answer
        home, k = open_.T
        x = points[home, k].reshape(-1, *self.network.input_shape).double()
        bits, done = settle(self.network.to(torch.float64), x)
        mine = self.pattern.bits[home.cpu().numpy()]
        same = torch.from_numpy((bits == mine).all(1)).to(answer)
        done_ = torch.from_numpy(done).to(answer.device)
        answer[home[done_], k[done_]] = (2 * same - 1)[done_]
        return answer

    def contains(self, X: Any) -> Tensor:
        """True where the point is inside (P, k); what is undecided is not: see `verdict`."""
        return self.verdict(X) == int(Verdict.YES)

    def margin(
        self, scale: Tensor | None = None, progress: Callable[[int], None] | None = None
    ) -> Margin:
        """Distance from each home to the nearest wall of its own region.

        One call for many homes is cheaper than many: what they share is worked out once.
        `progress` is told how many are done.
        """
        s = torch.ones(self.network.inputs) if scale is None else torch.as_tensor(scale)
        s = s.to(self.network.device, self.network.dtype)
        if s.shape != (self.network.inputs,):
            raise WrongShape(
                f"scale must hold one number for each of the {self.network.inputs} inputs, got "
                f"shape {tuple(s.shape)}"
            )
        known, step = plan(self.network, s), batch_rows(self.network)
        found = []
        for start in range(0, len(self), step):
            part = self[start : start + step]
            found.append(margins(known, part.pattern, part.home))
            if progress is not None:
                progress(min(start + step, len(self)))
        return Margin(*(torch.cat(column) for column in zip(*found, strict=True)))

    def _points(self, X: Any) -> Tensor:
        x = as_tensor(X, self.network.dtype, self.network.device)
        x = x.unsqueeze(0) if x.ndim == 2 else x
        if x.ndim != 3 or x.shape[2] != self.network.inputs or x.shape[0] not in (1, len(self)):
            raise WrongShape(
                f"points must be (k, {self.network.inputs}) or ({len(self)}, k, "
                f"{self.network.inputs}), got shape {tuple(x.shape)}"
            )
        return x.expand(len(self), -1, -1)

    def _parts(self, points: Tensor) -> Iterator[tuple[Region, Tensor]]:
        step = chunk_rows(self.network, points.shape[1])
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            yield self[part], points[part].reshape(-1, points.shape[1], *self.network.input_shape)


def _require_room(network: Network) -> None:
    """Refuse rows that take more memory than a machine has to spare."""
    rows = sum(math.prod(n.shape) for n in network.gates)
    size = 3 * 8 * rows * network.inputs  # as values of the gates, as rows, and joined
    if size > MOST_BYTES:
        raise DataError(
            f"the half-spaces of a region of this network are {rows:,} rows or more of "
            f"{network.inputs:,} numbers, {size / 2**30:,.0f} GiB: ask .verdict(X) whether points "
            "are inside, or .map for its affine map"
        )


def region(network: Network, x: Tensor, box: tuple[Tensor, Tensor] | None = None) -> Region:
    """The region of every row of x (rows, *input_shape)."""
    return Region(network, x, pattern_of(network, x), box)


def _with_bias(node: Node, xs: list[Tensor]) -> Tensor:
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs)


def _without_bias(node: Node, xs: list[Tensor]) -> Tensor:
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs, with_bias=False)


def _gate(node: Node) -> Pieces | Winner:
    assert isinstance(node.kind, Pieces | Winner)
    return node.kind


def _rounding(f: Frozen) -> float:
    """gamma for a slack: the longest path to any gate, a bias and the knot's subtraction."""
    return gamma(2 * path_terms(f.network) + 8, f.network.dtype)


def _verdict(f: Frozen, x: Tensor, zero: Mapping[str, Tensor] | None = None) -> Tensor:
    """(P, k) int8 at x (P, k, *input_shape); rows known to be zero on the region ask nothing."""
    inside = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    outside = torch.zeros_like(inside)
    # One bound for all k points, at the largest |x_j| among them: k times cheaper than k bounds.
    g, sizes = _rounding(f), _magnitudes(f, x.abs().amax(1, keepdim=True))

    def see(node: Node, zs: list[Tensor]) -> None:
        kind, codes = _gate(node), f.codes(node.name)
        value = slack(kind, zs, codes)
        size = magnitude(kind, sizes[node.name], codes)
        bound = g * size
        answer = decide(value, bound)
        tie = (bound == 0) & (value == 0)  # exactly on the wall: the tie rule says whose it is
        answer = torch.where(tie, 1 - 2 * strict(kind, codes).to(torch.int8), answer)
        if zero is not None:
            answer = answer.masked_fill(zero[node.name].to(answer.device), int(Verdict.YES))
        inside.logical_and_(~_any_unit(answer < 1))
        outside.logical_or_(_any_unit(answer < 0))

    visit(f, x, _with_bias, see)
    return inside.to(torch.int8) - outside.to(torch.int8)


def _any_unit(rows: Tensor) -> Tensor:
    """(rows a unit, P, k, *shape) -> (P, k)."""
    return rows.movedim(0, 2).reshape(*rows.shape[1:3], -1).any(-1)


def _magnitudes(f: Frozen, x: Tensor) -> dict[str, list[Tensor]]:
    """For each gate the magnitudes of its inputs, M |x| + m."""
    return _gate_inputs(Frozen(f.source, spread(f), f.pattern), x.abs(), _with_bias)


def _halfspaces(f: Frozen) -> Halfspaces:
    """Every row of one region: offsets from the image of 0, normals from that of the identity."""
    d, network = f.network.inputs, f.network
    eye = torch.eye(d, dtype=network.dtype, device=network.device)
    zero = eye.new_zeros(1, 1, *network.input_shape)
    columns = _gate_inputs(f, eye.reshape(1, d, *network.input_shape), _without_bias)
    origin = _gate_inputs(f, zero, _with_bias)
    ones, noughts = _magnitudes(f, zero + 1), _magnitudes(f, zero)
    parts = [
        _gate_rows(f, g, *(v[g.name] for v in (columns, origin, ones, noughts))) for g in f.gates
    ]
    names = tuple(g.name for g, p in zip(f.gates, parts, strict=True) for _ in p[1])
    empty = (eye.new_zeros(0, d), *(eye.new_zeros(0) for _ in range(4)))
    a, b, slope, constant, unit = (torch.cat(c) for c in zip(empty, *parts, strict=True))
    return Halfspaces(a, b, (slope, constant), names, unit.long())


def _gate_rows(
    f: Frozen,
    node: Node,
    columns: list[Tensor],
    origin: list[Tensor],
    ones: list[Tensor],
    noughts: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """a, b, both parts of the bound, and the unit, of the rows that one gate asks for."""
    kind, codes, d = _gate(node), f.codes(node.name), f.network.inputs
    b = slack(kind, origin, codes).reshape(-1)
    asked = b.isfinite()
    a = slack(kind, columns, codes, linear=True).movedim(2, -1).reshape(-1, d)
    one, nought = (_rounding(f) * magnitude(kind, z, codes).reshape(-1) for z in (ones, noughts))
    unit = torch.arange(codes.numel(), device=b.device).repeat(len(b) // codes.numel())
    return a[asked], b[asked], (one - nought)[asked], nought[asked], unit[asked]


def _gate_inputs(
    f: Frozen, x: Tensor, step: Callable[[Node, list[Tensor]], Tensor]
) -> dict[str, list[Tensor]]:
    """For each gate, the values of its inputs at x."""
    found: dict[str, list[Tensor]] = {}
    visit(f, x, step, lambda node, zs: found.update({node.name: zs}))
    return found
