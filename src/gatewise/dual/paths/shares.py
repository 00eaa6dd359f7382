"""What a unit carries of an output: f = sum_i h_i df/dh_i + (paths that pass the layer by).

On a row's region the network is one affine map, so h_i df/dh_i (gates held) is the sum of all paths
through unit i, exactly; what starts later (later biases) or goes round the layer (skips) is the
value of the same frozen network with the layer's units set to 0. Their sum is f, and the
difference is printed. `layer_shares` divides f among the places where paths start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated
from gatewise.errors import DataError
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.kinds import Affine, Pieces, Product, Shape, Winner, pull, push
from gatewise.ir.network import INPUT, Network, Node, fixed_by_pattern, fold, fold_back
from gatewise.ir.network import require_piecewise_affine as require_pieces
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.tables.frames import open_table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WORDS = 5  # units a layer that a printed result names


@dataclass(frozen=True, eq=False)
class LayerUnits:
    """One gate layer: shares (rows, units) = h df/dh; later (rows,): paths that pass it by.

    error (rows,): |sum of shares + later - f|, measured.
    """

    name: str
    shape: Shape
    shares: Floats
    later: Floats
    error: Floats

    @property
    def mass(self) -> Floats:
        """sum_i |h_i df/dh_i|, (rows,)."""
        return np.asarray(np.abs(self.shares).sum(1))

    def top(self, count: int = 20) -> Ints:
        """The units with the largest mean |share|, largest first; ties by number."""
        mean = np.abs(self.shares).mean(0)
        return np.argsort(-mean, kind="stable")[:count]

    def in_top(self, count: int = 20) -> Floats:
        """The part of the absolute mass that each row's `count` largest units carry, (rows,)."""
        size = np.abs(self.shares)
        if size.shape[1] > count:
            size = np.partition(size, size.shape[1] - count, axis=1)[:, -count:]
        mass = self.mass
        part: Floats = np.divide(size.sum(1), mass, out=np.ones_like(mass), where=mass > 0)
        return part

    @property
    def relative(self) -> float:
        """The largest error over the size of the terms that were added."""
        return _relative(self.error, self.mass + np.abs(self.later))


@dataclass(frozen=True, eq=False)
class UnitShares:
    """Shares of the units of every gate layer in one output a row.

    outputs, values (rows,): which output, and f there.
    """

    outputs: Ints
    values: Floats
    layers: tuple[LayerUnits, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> LayerUnits:
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            names = ", ".join(layer.name for layer in self.layers)
            raise DataError(f"there is no gate layer '{name}' on the way; there are: {names}")
        return found[0]

    @property
    def error(self) -> float:
        """The largest relative completeness error of any layer and row."""
        return max((layer.relative for layer in self.layers), default=0.0)

    def __str__(self) -> str:
        head = (
            f"Shares of units in {_outputs(self.outputs)} over {_count(len(self), 'row')}: "
            f"h df/dh with the gates held."
        )
        lines = [head, *(self._line(layer) for layer in self.layers)]
        lines.append(f"Each layer adds up to f; largest relative error {self.error:.1e}.")
        return "\n".join(lines)

    def _line(self, layer: LayerUnits) -> str:
        mean = layer.shares.mean(0)
        units = ", ".join(f"[{place(i, layer.shape)}] ({mean[i]:+.3g})" for i in layer.top(WORDS))
        return (
            f"  {layer.name}: {len(mean)} units; {min(20, len(mean))} of them carry "
            f"{layer.in_top(20).mean():.0%} of the absolute mass; largest: {units}; paths that "
            f"pass the layer by: {layer.later.mean():+.3g}"
        )


@dataclass(frozen=True, eq=False)
class LayerShares:
    """f divided by where paths start: parts (rows, starts); the first start is the input.

    error (rows,): |sum of parts - f|, measured.
    """

    outputs: Ints
    values: Floats
    starts: tuple[str, ...]
    parts: Floats
    error: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def relative(self) -> float:
        """The largest error over the size of the terms that were added."""
        return _relative(self.error, np.abs(self.parts).sum(1))

    def __str__(self) -> str:
        mean, size = self.parts.mean(0), np.abs(self.parts).mean(0)
        whole = size.sum() or 1.0
        rows = [
            f"  {name}: {m:+.4g} on average ({s / whole:.0%} of the absolute mass)"
            for name, m, s in zip(self.starts, mean, size, strict=True)
        ]
        head = (
            f"Where the paths of {_outputs(self.outputs)} start, over "
            f"{_count(len(self), 'row')}; f is {self.values.mean():+.4g} on average:"
        )
        tail = f"The parts add up to f; largest relative error {self.relative:.1e}."
        return "\n".join([head, *rows, tail])


def unit_shares(
    net: Network | Gated, X: Any, output: int | Sequence[int] | None = None
) -> UnitShares:
    """h_i df/dh_i of every unit of every gate layer, for any piecewise-affine network.

    output: which one, for all rows or row by row; None: each row's own largest.
    """
    work = _Work(net, X, output, "unit_shares")
    parts = [_unit_part(work, *piece) for piece in work.pieces()]
    layers = []
    for i, name in enumerate(work.cuts):
        shares, later = (np.concatenate(c) for c in zip(*(p[i] for p in parts), strict=True))
        error = np.abs(shares.sum(1) + later - work.values)
        layers.append(LayerUnits(name, work.network.shape(name), shares, later, error))
    return UnitShares(work.outputs, work.values, tuple(layers))


def layer_shares(
    net: Network | Gated, X: Any, output: int | Sequence[int] | None = None
) -> LayerShares:
    """How f divides among where paths start: <x, df/dx>, and <c, df/dc> for every bias c.

    output: which one, for all rows or row by row; None: each row's own largest.
    """
    work = _Work(net, X, output, "layer_shares")
    found: list[dict[str, Floats]] = []
    for _, frozen, x, seed in work.pieces():
        found.append(_starts(frozen, x, seed))
    keys = list(dict.fromkeys(name for part in found for name in part))
    size = [len(next(iter(part.values()))) for part in found]
    columns = [
        np.concatenate([p.get(k, np.zeros(n)) for p, n in zip(found, size, strict=True)])
        for k in keys
    ]
    parts = np.stack(columns, 1)
    error = np.abs(parts.sum(1) - work.values)
    return LayerShares(work.outputs, work.values, tuple(keys), parts, error)


class _Work:
    """The network in float64, its rows, and the output that is asked of each (a builder)."""

    def __init__(
        self, net: Network | Gated, X: Any, output: int | Sequence[int] | None, task: str
    ) -> None:
        network = net.network if isinstance(net, Gated) else net
        require_network(network)
        require_pieces(network, task)
        self.network = network.to(torch.float64)
        self.x = rows_of(self.network, X)
        values = self.network(self.x)
        self.outputs = which_outputs(values, output)
        rows = torch.arange(len(values))
        self.values: Floats = values[rows, torch.from_numpy(self.outputs)].cpu().numpy()
        self.cuts = cuts(self.network)

    def pieces(self) -> Iterator[tuple[slice, Network, Tensor, Tensor]]:
        """Frozen networks of chunks of rows, with x (P, 1, *in) and the seed (P, 1, *out)."""
        n = self.network
        whole = AffineMap(n, pattern_of(n, self.x))
        for part, frozen in whole.frozen(2 + len(self.cuts)):
            x = self.x[part].unsqueeze(1)
            seed = x.new_zeros(len(x), n.outputs)
            seed[range(len(x)), self.outputs[part].tolist()] = 1
            yield part, frozen, x, seed.reshape(-1, 1, *n.output_shape)


def _unit_part(
    work: _Work, part: slice, frozen: Network, x: Tensor, seed: Tensor
) -> list[tuple[Floats, Floats]]:
    """For each cut: shares (P, units) and what passes it by (P,)."""
    values = fold(frozen, x, _push, keep=work.cuts)
    grads = cotangents(frozen, seed)
    found = []
    for name in work.cuts:
        h, g = values[name], grads.get(name)
        shares = torch.zeros_like(h) if g is None else h * g
        rest = (without(frozen, x, name) * seed).reshape(len(x), -1).sum(1)
        flat = shares.reshape(len(shares), -1).expand(len(x), -1)
        found.append((flat.cpu().numpy(), rest.cpu().numpy()))
    return found


def cotangents(frozen: Network, seed: Tensor) -> dict[str, Tensor]:
    """For each node that the output depends on, d<seed, f>/d(its value), (P, 1, *shape)."""
    shapes = {n.name: n.shape for n in frozen.nodes} | {INPUT: frozen.input_shape}
    found: dict[str, Tensor] = {}

    def step(node: Node, g: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(node.kind, Affine)
        found[node.name] = g
        return pull(node.kind, g, [shapes[name] for name in node.inputs])

    reached = fold_back(frozen, seed, step)
    if reached is not None:
        found[INPUT] = reached
    return found


def without(frozen: Network, x: Tensor, name: str) -> Tensor:
    """The output of the frozen network when the units of one node are set to 0."""
    needed = {frozen.output}
    for node in reversed(frozen.nodes):
        if node.name in needed and node.name != name:
            needed.update(node.inputs)

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        if node.name == name or node.name not in needed:  # what only feeds it is not worked out
            return x.new_zeros(1, 1, *node.shape)
        return _push(node, xs)

    return fold(frozen, x, step)[frozen.output]


def _starts(frozen: Network, x: Tensor, seed: Tensor) -> dict[str, Floats]:
    """What the paths from the input, and from each bias, bring to the output, (P,) each."""
    grads, rows = cotangents(frozen, seed), len(x)
    reached = grads.get(INPUT, torch.zeros_like(x))
    found = {INPUT: (reached * x).reshape(rows, -1).sum(1).cpu().numpy()}
    for node in frozen.nodes:
        kind = node.kind
        assert isinstance(kind, Affine)
        if kind.bias is None or node.name not in grads:
            continue
        carried = (grads[node.name] * kind.bias).reshape(-1, _size(node.shape)).sum(1)
        if bool(kind.bias.any()):
            found[f"bias of {node.name}"] = carried.expand(rows).cpu().numpy()
    return found


def _push(node: Node, xs: list[Tensor]) -> Tensor:
    assert isinstance(node.kind, Affine)
    return push(node.kind, xs)


# -- what the analyses of the dual view ask of a network and of rows --


def cuts(network: Network) -> tuple[str, ...]:
    """The gate layers on the way from the input to the output: where a gate multiplies a value.

    A gate itself (ReLU, a pool), or the product of a value with what a pattern fixes (DLGN). Gates
    that only feed other gates carry no path, and are not among them.
    """
    fixed, side = fixed_by_pattern(network), value_side(network)
    return tuple(
        n.name
        for n in network.nodes
        if n.name in side
        and (
            (isinstance(n.kind, Pieces) and not n.kind.constant)
            or isinstance(n.kind, Winner)
            or (isinstance(n.kind, Product) and any(i in fixed for i in n.inputs))
        )
    )


def value_side(network: Network) -> set[str]:
    """Names of the values that reach the output other than through a pattern."""
    fixed = fixed_by_pattern(network)
    reached = {network.output} - fixed
    for node in reversed(network.nodes):
        if node.name in reached:
            reached |= {name for name in node.inputs if name not in fixed}
    return reached


def one_row(network: Network, x: Any, name: str) -> Tensor:
    """x, however shaped, as the one row (1, *input_shape) that it holds."""
    if hasattr(x, "to_frame") and all(isinstance(n, str) for n in x.index):
        x = x.to_frame().T  # a row of a pandas table keeps its names
    if open_table(x) is None:
        x = x if isinstance(x, Tensor) else np.asarray(x)
        x = x.reshape(1, -1) if math.prod(x.shape) == network.inputs else x
    row = rows_of(network, x, name)
    if len(row) != 1:
        raise DataError(f"{name} must be one row of {network.inputs} inputs, got {len(row)} rows")
    return row


def which_outputs(values: Tensor, output: int | Sequence[int] | None) -> Ints:
    """The output asked of each row: given, or where None the largest of `values` (rows, k)."""
    rows, outputs = values.shape
    if output is None:
        return np.asarray(values.argmax(1).cpu().numpy(), np.int64)
    asked = np.asarray(output)
    if asked.dtype.kind not in "iu" or asked.shape not in {(), (rows,)}:
        raise DataError(
            f"output must be one whole number, or one for each of the {rows} rows, got {output!r}"
        )
    if asked.size and not -outputs <= asked.min() <= asked.max() < outputs:
        raise DataError(f"outputs run from 0 to {outputs - 1}, got {output!r}")
    return np.broadcast_to(asked % outputs, (rows,)).astype(np.int64)


def place(unit: int, shape: Shape) -> str:
    """A unit's number, or its channel and position, where the layer has more than one axis."""
    inner = [n for n in shape if n > 1] or [1]
    return ",".join(str(int(i)) for i in np.unravel_index(unit, inner))


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _relative(error: Floats, size: Floats) -> float:
    scaled = np.divide(error, size, out=np.zeros_like(error), where=size > 0)
    return float(np.where(size > 0, scaled, error).max(initial=0.0))


def _outputs(outputs: Ints) -> str:
    first = outputs[0] if len(outputs) else 0
    return f"output {first}" if (outputs == first).all() else "each row's output"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
