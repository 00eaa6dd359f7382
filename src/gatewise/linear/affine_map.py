"""AffineMap: f(x) = W x + b on the regions of some patterns, multiplied out only when asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import DataError, WrongShape
from gatewise.ir.kinds import Affine, push
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.ir.rounding import path_terms
from gatewise.linear.collapse import apply, collapse, walk_back
from gatewise.linear.freeze import freeze
from gatewise.numeric import as_tensor, gamma, underflow, unit_roundoff

CHUNK_BYTES = 16 << 20  # of gate slopes and cotangents alive at once: what fits the caches
THERE_BYTES = 512 << 20  # the same on a GPU, whose cores are many and caches small


@dataclass(frozen=True, eq=False)
class AffineMap:
    """One affine map for each row of `pattern`: y = W x + b, W (rows, outputs, inputs).

    Lazy: `mv` and `rmv` cost one walk through the network; `rows`, `matrix` and `offset` multiply
    out. Everything is done a chunk of patterns at a time, so memory is bounded by the answer.
    """

    network: Network
    pattern: Pattern

    def __len__(self) -> int:
        return len(self.pattern)

    def __getitem__(self, rows: Any) -> AffineMap:
        return AffineMap(self.network, self.pattern[rows])

    def __repr__(self) -> str:
        n = self.network
        return f"AffineMap({len(self)} maps, {n.outputs} outputs x {n.inputs} inputs, lazy)"

    def mv(self, x: Any) -> Tensor:
        """W x + b, row i under map i: (rows, outputs)."""
        return self._walk(self._rows(x, self.network.inputs), _forward)

    def rmv(self, g: Any) -> Tensor:
        """g W, row i under map i: (rows, inputs)."""
        return self._walk(self._rows(g, self.network.outputs), _backward)

    def rows(self, outputs: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows of W and entries of b for some outputs: (rows, k, inputs) and (rows, k)."""
        if any(not -self.network.outputs <= o < self.network.outputs for o in outputs):
            raise DataError(f"outputs run from 0 to {self.network.outputs - 1}, got {outputs}")
        weight = self._empty(len(outputs), self.network.inputs)
        offset = self._empty(len(outputs))
        for part, frozen in self.frozen(len(outputs)):
            weight[part], offset[part] = collapse(frozen, outputs)
        return weight, offset

    def matrix(self) -> Tensor:
        """W: (rows, outputs, inputs)."""
        return self.rows(range(self.network.outputs))[0]

    @property
    def offset(self) -> Tensor:
        """b: (rows, outputs)."""
        return self.mv(self._empty(self.network.inputs).zero_())

    def bound(self, x: Any) -> Tensor:
        """How far W x + b, as computed, can be from f(x), as computed, for x in the region.

        (rows, outputs). With M the same product over |weights| and m its offset, W and f(x) are
        each within gamma(N) (M |x| + m) of the exact ones, N summing the lengths of the inner
        products along the longest path (Higham, chapter 3.5), and W x + b rounds once more.
        """
        rows = self._rows(x, self.network.inputs).abs()
        frozen = freeze(self.network, self.pattern[:1])
        return rounding(frozen) * self._walk(rows, lambda part, v: torch.add(*spread(part, v)))

    def frozen(self, vectors: int = 1) -> Iterator[tuple[slice, Network]]:
        """The frozen networks of successive chunks of patterns, sized for `vectors` each."""
        step = chunk_rows(self.network, vectors)
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, freeze(self.network, self.pattern[part])

    def _rows(self, x: Any, width: int) -> Tensor:
        rows = as_tensor(x, self.network.dtype, self.network.device)
        rows = rows.reshape(len(rows), -1) if rows.ndim else rows.reshape(1, 1)
        if rows.shape != (len(self), width):
            raise WrongShape(
                f"expected one row of {width} for each of the {len(self)} maps, "
                f"got shape {tuple(rows.shape)}"
            )
        return rows

    def _walk(self, x: Tensor, walk: Callable[[Network, Tensor], Tensor]) -> Tensor:
        parts = [walk(frozen, x[part].unsqueeze(1)) for part, frozen in self.frozen()]
        return torch.cat(parts)

    def _empty(self, *shape: int) -> Tensor:
        """Room for the answer, filled a chunk at a time: nothing is held twice."""
        n = self.network
        return torch.empty(len(self), *shape, dtype=n.dtype, device=n.device)


def chunk_rows(network: Network, vectors: int) -> int:
    """Patterns a chunk: the slopes of every gate and three vectors at the widest node fit."""
    sizes = [network.inputs, *(node_size(n.shape) for n in network.nodes)]
    slopes = sum(node_size(n.shape) for n in network.gates)
    itemsize = torch.empty((), dtype=network.dtype).element_size()
    room = CHUNK_BYTES if network.device.type == "cpu" else THERE_BYTES
    return max(1, room // (itemsize * (slopes + 3 * vectors * max(sizes))))


def node_size(shape: tuple[int, ...]) -> int:
    """Numbers in one row of a value."""
    size = 1
    for n in shape:
        size *= n
    return size


def magnitudes(frozen: Network) -> Network:
    """The frozen network over |weights| and |biases|: M and m of every rounding bound.

    Where products are rounded the bias is raised by what underflow can lose, over u: since every
    bound is at least u times these sizes, it then pays for underflow here and all that follows.
    """
    nodes = []
    for node in frozen.nodes:
        assert isinstance(node.kind, Affine)
        kind = node.kind.absolute()
        if kind.terms:
            lost = underflow(kind.terms, frozen.dtype) / unit_roundoff(frozen.dtype)
            raised = lost if kind.bias is None else kind.bias + lost
            bias = torch.as_tensor(raised, dtype=frozen.dtype, device=frozen.device)
            bias = bias.expand(1, 1, *node.shape) if kind.batched and not bias.ndim else bias
            direct = None if kind.bias is None else kind.direct  # which takes a number a unit
            kind = dataclasses.replace(kind, bias=bias, direct=direct)
        nodes.append(dataclasses.replace(node, kind=kind))
    return dataclasses.replace(frozen, nodes=tuple(nodes))


def _forward(frozen: Network, x: Tensor) -> Tensor:
    y = apply(frozen, x.reshape(len(x), 1, *frozen.input_shape))
    return y.reshape(-1, frozen.outputs).expand(len(x), -1)


def rounding(frozen: Network) -> float:
    """What M |x| + m is to be multiplied by: see `AffineMap.bound`."""
    ahead, back = path_terms(frozen), path_terms(frozen, backward=True)
    return gamma(2 * (max(ahead, back) + ahead + frozen.inputs) + 8, frozen.dtype)


def spread(frozen: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """M |x| + m, (P, outputs), and what underflow can lose on the walk back, over u, (P, 1).

    There a product lost at a node is worth the size of the value it would have multiplied.
    """
    dtype = frozen.dtype
    lost = [x.new_full((len(x), 1), underflow(frozen.inputs, dtype) / unit_roundoff(dtype))]

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        assert isinstance(node.kind, Affine)
        most = underflow(node.kind.terms_back + 1, dtype) / unit_roundoff(dtype)
        sizes = sum(v.reshape(len(v), -1).sum(1, keepdim=True) for v in xs)
        lost[0] = lost[0] + most * (sizes + node_size(node.shape))
        return push(node.kind, xs)

    start = x.reshape(len(x), 1, *frozen.input_shape)
    size = fold(magnitudes(frozen), start, step)[frozen.output].reshape(-1, frozen.outputs)
    return size, lost[0]


def _backward(frozen: Network, g: Tensor) -> Tensor:
    weight, _ = walk_back(frozen, g.reshape(len(g), 1, *frozen.output_shape))
    return weight[:, 0]
