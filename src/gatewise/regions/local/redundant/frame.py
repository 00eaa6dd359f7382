"""The coordinates in which the rows of one region are looked at, and the rows there.

Rows depend on the input only through z = W1 x + b1 where every path to a gate goes through z. If z
is shorter than x, and W1 is onto, a row is redundant in z exactly if it is in x: then the rows are
those of the rest of the network, at z. (784 inputs and 256 units: 256 columns, most of them 0.)
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, Pieces, Winner, push
from gatewise.ir.network import INPUT, Network, Node, forward
from gatewise.ir.rounding import path_terms
from gatewise.linear.collapse import collapse
from gatewise.numeric import gamma, underflow
from gatewise.regions.constraints import Frozen, frozen, magnitude, slack, spread, visit
from gatewise.regions.halfspaces import Region

F64 = torch.float64
LOW, HIGH = "box low", "box high"  # the gates of a box's own rows
Box = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Walls:
    """m rows a.u + s >= 0 of one region, u the step from `origin`: s is the slack there.

    The exact row's a is within spread (m, d) of this one, entry by entry (0 where no path leads
    from that coordinate to the row), its slack at the origin within error (m,).
    """

    a: Tensor
    s: Tensor
    spread: Tensor
    error: Tensor

    def __len__(self) -> int:
        return len(self.s)

    @property
    def zero(self) -> Tensor:
        """(m,) bool: the exact a is 0."""
        return ~((self.spread > 0) | (self.a != 0)).any(1)

    def at(self, u: Tensor) -> Walls:
        """The same rows seen from origin + u."""
        d, m = self.a.shape[1], self.a.abs() @ u.abs()
        lost = gamma(d + 4, F64) * (m + self.s.abs()) + underflow(d, F64)
        error = (self.error + self.spread @ u.abs() + lost) * (1 + gamma(d + 4, F64))
        return Walls(self.a, self.s + self.a @ u, self.spread, error)


@dataclass(frozen=True, eq=False)
class Frame:
    """One region: `f` freezes its network; walls in the coordinates of `network`, `lift` back.

    network: what comes after z (or the whole), head: what comes before; lift (d, k): a step in z as
    one in x, None: z is x;
    origin (k,): home in these coordinates.
    """

    f: Frozen
    home: Tensor
    box: Box | None
    network: Network
    head: Network | None
    lift: Tensor | None
    origin: Tensor
    walls: Walls
    gate: tuple[str, ...]
    unit: Tensor

    def x(self, u: Tensor) -> Tensor:
        """Steps u (k, coordinates) from the origin, as points (k, inputs)."""
        return self.home + (u if self.lift is None else u @ self.lift.T)


def frame(region: Region, index: int, box: Box | None = None) -> Frame:
    """The frame of one region of several; box rows come after those of the gates."""
    network = region.network.to(F64, "cpu")
    pattern = region.pattern[index : index + 1]
    home = region.home[index].reshape(-1).to("cpu", F64)
    f, inner, lift, before, origin = frozen(network, pattern), network, None, None, home
    found = None if box is not None else cut(network)
    if found is not None:
        head, tail = found
        lift = _lift(collapse(head)[0][0])
        if lift is not None:
            inner, before = tail, head
            origin = forward(head, home.reshape(1, *network.input_shape)).reshape(-1)
    g = f if inner is network else frozen(inner, pattern)
    walls, gate, unit = _walls(g, origin)
    if box is not None:
        walls, gate, unit = _boxed(walls, gate, unit, origin, box)
    return Frame(f, home, box, inner, before, lift, origin, walls, gate, unit)


def cut(network: Network) -> tuple[Network, Network] | None:
    """The shortest affine value, shorter than the input, that all gates see the input through.

    As two networks, up to it and on from it; None where there is none.
    """
    nodes = _behind_gates(network)
    last = {name: k for k, node in enumerate(nodes) for name in node.inputs}
    best, size = None, network.inputs
    for k, node in enumerate(nodes):
        if not isinstance(node.kind, Affine):
            break
        earlier = [INPUT, *(n.name for n in nodes[:k])]
        if all(last.get(name, -1) <= k for name in earlier) and math.prod(node.shape) < size:
            best, size = k, math.prod(node.shape)
    if best is None:
        return None
    value = nodes[best]
    head = dataclasses.replace(network, nodes=nodes[: best + 1], output=value.name, head=())
    rest = tuple(_renamed(n, value.name) for n in nodes[best + 1 :])
    tail = dataclasses.replace(
        network, nodes=rest, input_shape=value.shape, output=rest[-1].name, head=()
    )
    return head, tail


def _renamed(node: Node, name: str) -> Node:
    inputs = tuple(INPUT if i == name else i for i in node.inputs)
    return dataclasses.replace(node, inputs=inputs)


def _behind_gates(network: Network) -> tuple[Node, ...]:
    """The gates, and the nodes that lead to one."""
    wanted = {g.name for g in network.gates}
    for node in reversed(network.nodes):
        if node.name in wanted:
            wanted |= set(node.inputs)
    return tuple(n for n in network.nodes if n.name in wanted)


def _lift(w: Tensor) -> Tensor | None:
    """W^T (W W^T)^-1, or None where W is not clearly onto."""
    gram = w @ w.T
    factor, info = torch.linalg.cholesky_ex(gram)
    steep = factor.diagonal()
    if int(info) or not float(steep.min()) > 1e-6 * float(steep.max()):
        return None
    return torch.cholesky_solve(w, factor).T


def _walls(f: Frozen, origin: Tensor) -> tuple[Walls, tuple[str, ...], Tensor]:
    """The rows of one region by its gates, in the order of `Halfspaces`."""
    found = Region(f.source, origin[None], f.pattern).halfspaces()
    d = len(origin)
    eye = torch.eye(d, dtype=F64).reshape(1, d, *f.source.input_shape)
    sizes: list[Tensor] = [origin.new_zeros(0, d)]

    def see(node: Node, zs: list[Tensor]) -> None:
        codes = f.codes(node.name)
        kind = node.kind
        assert isinstance(kind, Pieces | Winner)
        asked = slack(kind, [z[:, :1] for z in zs], codes).reshape(-1).isfinite()
        rows = zs[0].expand(len(kind.knots), *zs[0].shape) if isinstance(kind, Pieces) else None
        rows = magnitude(kind, zs, codes) if rows is None else rows
        sizes.append(rows.movedim(2, -1).reshape(-1, d)[asked])

    visit(Frozen(f.source, spread(f), f.pattern), eye, without_bias, see)
    size = torch.cat(sizes)
    bound = rounding(f) * size + underflow(4 * d, F64)
    walls = Walls(found.a, found.b, torch.where(size > 0, bound, 0.0), found.bound[1])
    return walls.at(origin), found.gate, found.unit


def with_bias(node: Node, xs: list[Tensor]) -> Tensor:
    """A frozen node forward."""
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs)


def without_bias(node: Node, xs: list[Tensor]) -> Tensor:
    """Its linear part forward."""
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs, with_bias=False)


def rounding(f: Frozen) -> float:
    """gamma for a slack: the longest path to any gate, a bias and the knot's subtraction."""
    return gamma(2 * path_terms(f.network) + 8, F64)


def _boxed(
    walls: Walls, gate: tuple[str, ...], unit: Tensor, x: Tensor, box: Box
) -> tuple[Walls, tuple[str, ...], Tensor]:
    """The rows and those of a box: its finite sides only."""
    eye = torch.eye(len(x), dtype=F64)
    for name, rows, room in ((LOW, eye, x - box[0]), (HIGH, -eye, box[1] - x)):
        k = room.isfinite().nonzero().flatten()
        error = 2e-16 * (room.abs() + x.abs())  # one subtraction
        walls = Walls(
            torch.cat([walls.a, rows[k]]),
            torch.cat([walls.s, room[k]]),
            torch.cat([walls.spread, 0 * rows[k]]),
            torch.cat([walls.error, error[k]]),
        )
        gate, unit = gate + (name,) * len(k), torch.cat([unit, k])
    return walls, gate, unit
