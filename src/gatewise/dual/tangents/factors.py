"""The rows' gradients in factors: d f_o / d W[i, t] = sum over positions q of G[o, q, i] U[q, t].

U are the layer's inputs, one vector of taps a position, and G what flows back to its outputs. The
gradient itself is formed only where it is cheaper to compare (a convolution at many positions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.dual.tangents.weights import Weight, Weights
from gatewise.errors import DataError
from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Smooth, Winner, pull, push
from gatewise.ir.network import INPUT, Network, Node, fold

Codes = Mapping[str, Tensor]
BATCH_BYTES = 32 << 20  # of the values of one batch on its way forward and back


@dataclass(frozen=True, eq=False)
class Outer:
    """u (rows, positions, taps), g (rows, k, positions, units): the gradient is sum_q g_q u_q^T."""

    u: Tensor
    g: Tensor


@dataclass(frozen=True, eq=False)
class Whole:
    """d (rows, k, numbers): the gradient itself."""

    d: Tensor


Factor = Outer | Whole


@dataclass(frozen=True, eq=False)
class Plan:
    """How to take the gradients of a network's outputs, combined by `seed` (k, outputs).

    trace: the kernels of the k outputs are added up; gates: the Network that decides the gates.
    """

    network: Network
    weights: Weights
    seed: Tensor
    trace: bool
    gates: Network | None

    @property
    def k(self) -> int:
        """Kernels kept apart."""
        return 1 if self.trace else len(self.seed)

    def factors(self, x: Tensor, batch: int | None) -> list[Factor]:
        """One factor for each weight, of the gradients at x (rows, *input_shape)."""
        step = batch or self._batch()
        parts = [self._factors(rows) for rows in x.split(step)]
        return [_join(same) for same in zip(*parts, strict=True)]

    def row_bytes(self) -> int:
        """What the factors of one row take, found from the shapes of one."""
        zero = torch.zeros(1, *self.network.input_shape).to(self.seed)
        kept = [t for f in self._factors(zero) for t in vars(f).values()]
        return sum(t.numel() * t.element_size() for t in kept)

    def _batch(self) -> int:
        n = self.network
        sizes = [n.inputs, *(math.prod(node.shape) for node in n.nodes)]
        row = sum(sizes) + 3 * len(self.seed) * max(sizes) + max(map(self._taps, n.nodes))
        return max(1, BATCH_BYTES // (self.seed.element_size() * row))

    def _taps(self, node: Node) -> int:
        """Entries of what a layer's inputs become as taps."""
        kind = node.kind
        if not isinstance(kind, Affine) or kind.taps is None:
            return 0
        w = kind.weights[0]
        return w.numel() * math.prod(node.shape) // max(1, len(w) ** 2)

    def _factors(self, x: Tensor) -> list[Factor]:
        values, codes = run(self.network, x, self.gates)
        seed = self.seed.reshape(1, -1, *self.network.output_shape)
        g = backward(self, values, codes, seed.expand(len(x), *seed.shape[1:]))
        return [self._factor(w, values, g) for w in self.weights.weights]

    def _factor(self, weight: Weight, values: Codes, g: Mapping[str, Tensor]) -> Factor:
        uses = [self.network.node(name) for name in weight.nodes]
        if weight.form == "matrix":
            outers = [_outer(n, values[n.inputs[0]], g, weight.with_bias, self) for n in uses]
            return cheaper(
                Outer(torch.cat([o.u for o in outers], 1), torch.cat([o.g for o in outers], 2)),
                self.trace,
            )
        parts = [_direct(weight, n, values[n.inputs[0]], _at(g, n, values, self)) for n in uses]
        d = torch.stack(parts).sum(0)
        return Whole(d.flatten(1).unsqueeze(1) if self.trace else d)


def _join(parts: tuple[Factor, ...]) -> Factor:
    if len(parts) == 1:
        return parts[0]
    fields = zip(*(vars(p).values() for p in parts), strict=True)
    return type(parts[0])(*(torch.cat(same) for same in fields))


# -- one weight --


def _at(g: Mapping[str, Tensor], node: Node, values: Codes, plan: Plan) -> Tensor:
    """What flows back to a node: zeros where nothing does (behind a step)."""
    if node.name in g:
        return g[node.name]
    return values[node.name].new_zeros(len(values[INPUT]), len(plan.seed), *node.shape)


def _outer(node: Node, x: Tensor, g: Mapping[str, Tensor], biased: bool, plan: Plan) -> Outer:
    """The factors at one use; a bias is the weight of one more tap, which is always 1."""
    kind = node.kind
    assert isinstance(kind, Affine) and kind.taps is not None
    u = kind.taps(x).mT
    if biased:
        u = torch.cat([u, u.new_ones(*u.shape[:2], 1)], 2)
    back = _at(g, node, {INPUT: x, node.name: x}, plan)
    units = kind.taps.units(back.flatten(0, 1)).mT
    return Outer(u, units.reshape(len(x), -1, *units.shape[1:]))


def cheaper(f: Outer, trace: bool) -> Factor:
    """Pairs of positions, or the gradient whole: whichever costs less for a pair of rows."""
    (rows, q, taps), (k, units) = f.u.shape, (f.g.shape[1], f.g.shape[3])
    g = f.g.transpose(1, 2).reshape(rows, 1, q, k * units) if trace else f.g
    if q * q * (taps + k * units) <= k * units * taps:
        return Outer(f.u, g)
    return Whole((g.mT @ f.u.unsqueeze(1)).flatten(2))


def _direct(weight: Weight, node: Node, x: Tensor, g: Tensor) -> Tensor:
    """The gradient by a scale, g x summed over what the scale is repeated along; or by a bias."""
    kind = node.kind
    assert isinstance(kind, Affine)
    if weight.form == "scale":
        return _summed(g * x.unsqueeze(1), kind.weights[0].shape)
    assert kind.bias is not None
    return _summed(g, kind.bias.shape)


def _summed(g: Tensor, shape: Shape) -> Tensor:
    """The transpose of repeating `shape` to the row shape of g: (rows, k, numbers)."""
    first = g.ndim - len(shape)
    over = [*range(2, first), *(first + i for i, n in enumerate(shape) if n == 1)]
    return (g.sum(over) if over else g).reshape(*g.shape[:2], -1)


# -- the walks --


def run(network: Network, x: Tensor, gates: Network | None) -> tuple[dict[str, Tensor], Codes]:
    """Every value at x and the codes of every gate: its own, or those of another network."""
    given = None if gates is None else _codes(network, gates, x)
    codes: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        kind = node.kind
        if not isinstance(kind, Pieces | Winner):
            return kind(*xs)
        if given is None:
            codes[node.name] = kind.choose(*xs)
            return kind(*xs)
        codes[node.name] = given[node.name]
        return push(kind.branch(given[node.name]), [v.unsqueeze(1) for v in xs]).squeeze(1)

    values = fold(network, x, step, keep=[n.name for n in network.nodes])
    return {**values, INPUT: x}, codes


def _codes(network: Network, gates: Network, x: Tensor) -> Codes:
    """The codes that another network's gates take at x, by the name of ours."""
    _, codes = run(gates, x.to(gates.device, gates.dtype), None)
    ours, theirs = network.gates, gates.gates
    if [n.shape for n in ours] != [n.shape for n in theirs]:
        raise DataError(
            f"gates= must be a network with gates of the same shapes in the same order, "
            f"{[n.shape for n in ours]}; got {[n.shape for n in theirs]}"
        )
    pairs = zip(ours, theirs, strict=True)
    return {mine.name: codes[their.name].to(network.device) for mine, their in pairs}


def backward(
    plan: Plan, values: Mapping[str, Tensor], codes: Codes, seed: Tensor
) -> dict[str, Tensor]:
    """What flows back to each node that counts: (rows, k, *shape), the gates held.

    A step lets nothing through, and nothing is pulled to where no weight is.
    """
    network, counted = plan.network, plan.weights.nodes
    reach = _reach(network, counted)
    g, found = {network.output: seed}, {}
    for node in reversed(network.nodes):
        if node.name not in g:
            continue
        here = g.pop(node.name)
        if node.name in counted:
            found[node.name] = here
        if not reach.intersection(node.inputs):
            continue
        for name, part in _parts(node, here, values, codes):
            if name in reach:
                g[name] = g[name] + part if name in g else part
    return found


def _reach(network: Network, counted: set[str]) -> set[str]:
    """Nodes at or behind which some weight counts."""
    reach: set[str] = set()
    for node in network.nodes:
        if node.name in counted or reach.intersection(node.inputs):
            reach.add(node.name)
    return reach


def _parts(
    node: Node, g: Tensor, values: Mapping[str, Tensor], codes: Codes
) -> list[tuple[str, Tensor]]:
    """The cotangent of each input of a node, at the rows' own values."""
    kind = node.kind
    xs = [values[name] for name in node.inputs]
    shapes = [tuple(v.shape[1:]) for v in xs]
    if isinstance(kind, Pieces) and kind.constant:
        return []
    if isinstance(kind, Affine):
        parts = pull(kind, g, shapes)
    elif isinstance(kind, Pieces | Winner):
        parts = pull(kind.branch(codes[node.name]), g, shapes)
    elif isinstance(kind, Product):
        sides = (pull(kind.fix(1 - i, xs[1 - i]), g, [shapes[i]])[0] for i in range(2))
        parts = tuple(sides)
    else:
        parts = _curved(kind, g, xs)
    return list(zip(node.inputs, parts, strict=True))


def _curved(kind: Smooth, g: Tensor, xs: list[Tensor]) -> tuple[Tensor, ...]:
    """The transpose of a curve's Jacobian at each row, k cotangents at once."""
    k = g.shape[1]
    with torch.enable_grad():
        repeated = [x.repeat_interleave(k, 0).requires_grad_() for x in xs]
        y = kind(*repeated)
        parts = torch.autograd.grad(y, repeated, g.flatten(0, 1), materialize_grads=True)
    return tuple(p.unflatten(0, (-1, k)) for p in parts)
