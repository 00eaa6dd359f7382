"""The blocks of a Network that convert: a function of one pre-activation, or it times another.

A block gives v = g(y), or v = g(y) z (a GLU), entry by entry: y the pre-activation, g whatever
the nodes between compute (one activation, or GELU spelt out in erf, products and sums).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.conversion.entrywise import entrywise, shared_over_positions
from gatewise.errors import DataError, NotBilinear
from gatewise.ir.kinds import Affine, Pieces, Product, Winner
from gatewise.ir.network import Network, Node
from gatewise.tables.words import listed


@dataclass(frozen=True, eq=False)
class Block:
    """v = g(y), or g(y) z: `name` the node of v, `root` that of y, `other` that of z (or None).

    path: the nodes from y to g(y), in order; gate: the name of g(y); shape: of y, its units along
    the last axis, or all its entries where no more than one axis is longer than 1.
    """

    name: str
    layer: str
    root: str
    other: str | None
    path: tuple[Node, ...]
    gate: str
    shape: tuple[int, ...]

    @property
    def flat(self) -> bool:
        """Is every entry a unit of its own?"""
        return sum(n > 1 for n in self.shape) <= 1

    @property
    def units(self) -> int:
        """h: units, each a function of its own."""
        return math.prod(self.shape) if self.flat else self.shape[-1]

    def by_unit(self, values: Tensor) -> Tensor:
        """(rows, *shape) as (rows x positions, h)."""
        return values.reshape(-1, self.units)

    def shaped(self, each: Tensor) -> Tensor:
        """Numbers of the units (h,) so that they broadcast against one row of y."""
        return each.reshape(self.shape) if self.flat else each

    def at(self, y: Tensor) -> Tensor:
        """g(y) for y (rows, *shape)."""
        values = {self.root: y}
        for node in self.path:
            values[node.name] = node.kind(*(values[name] for name in node.inputs))
        return values[self.gate]


def blocks_of(network: Network, names: Sequence[str] | None = None) -> tuple[Block, ...]:
    """Every block in order, or those named; what is curved and converts not is refused."""
    found = Scalars(network)
    blocks, refused = found.blocks()
    if names is not None:
        return _picked(blocks, refused, names)
    if refused:
        name, why = next(iter(refused.items()))
        raise _refusal(network.node(name), why, blocks)
    if not blocks:
        layers = ", ".join(dict.fromkeys(n.layer for n in network.nodes))
        raise NotBilinear(f"the network has no activation to convert; its nodes are {layers}")
    return blocks


def _picked(
    blocks: tuple[Block, ...], refused: dict[str, str], names: Sequence[str]
) -> tuple[Block, ...]:
    wanted = [names] if isinstance(names, str) else list(names)
    known = [block.name for block in blocks]
    wrong = [name for name in wanted if name not in known]
    if wrong or not wanted:
        got = f"'{wrong[0]}'" if wrong else "no name"
        why = f", which {refused[wrong[0]]}" if wrong and wrong[0] in refused else ""
        raise DataError(
            f"blocks must name nodes that convert ({listed(known) or 'there are none'}); got "
            f"{got}{why}"
        )
    return tuple(block for block in blocks if block.name in wanted)


def _refusal(node: Node, why: str, blocks: tuple[Block, ...]) -> NotBilinear:
    known = [block.name for block in blocks if block.name != node.name]
    rest = f"what converts: blocks={known}" if known else "nothing else in the network converts"
    return NotBilinear(f"node '{node.name}' ({node.layer}) {why}; {rest}")


class Scalars:
    """Which values are a curved function of one other value (their root), entry by entry."""

    def __init__(self, network: Network) -> None:
        self.net = network
        self.nodes = {n.name: n for n in network.nodes}
        self.root: dict[str, str] = {}
        self._apart = {n.name for n in network.nodes if entrywise(network, n)}
        self._base: dict[str, str] = {}
        for node in network.nodes:
            self._look(node)

    def _look(self, node: Node) -> None:
        """A node is a function of the root that all its inputs share, or begins a new value."""
        roots = {self.root.get(name) or self._base.get(name, name) for name in node.inputs}
        if len(roots) != 1 or node.name not in self._apart:
            return
        curved = any(name in self.root for name in node.inputs)
        if curved or not isinstance(node.kind, Affine):
            self.root[node.name] = roots.pop()
        elif len(node.inputs) == 1:  # a bias or a scale: still the same pre-activation
            self._base[node.name] = roots.pop()

    def gate_of(self, node: Node) -> tuple[str, str] | None:
        """(g(y), z) of a product of a curved function and another value."""
        if not isinstance(node.kind, Product) or node.name not in self._apart:
            return None
        gates = [name for name in node.inputs if name in self.root]
        if node.name in self.root or len(gates) != 1:
            return None
        return gates[0], next(name for name in node.inputs if name != gates[0])

    def blocks(self) -> tuple[tuple[Block, ...], dict[str, str]]:
        """The blocks, and why each other curved node is none."""
        ends = self._ends()
        blocks: list[Block] = []
        refused: dict[str, str] = {}
        for node in self.net.nodes:
            gate = self.gate_of(node)
            if gate is None and node.name not in ends:
                why = self._why_not(node)
                refused |= {node.name: why} if why else {}
                continue
            block = self._block(node, *(gate or (node.name, None)))
            why = self._why_not_block(block)
            if why:
                refused[node.name] = why
            else:
                blocks.append(block)
        return tuple(blocks), refused

    def _ends(self) -> set[str]:
        """The last curved value before the network goes on; what is affine in it commutes."""
        outside, ends = {self.net.output}, set()
        for node in reversed(self.net.nodes):
            inside = node.name in self.root
            if inside and node.name in outside and not isinstance(node.kind, Affine):
                squares = not any(name in self.root for name in node.inputs)
                if not (isinstance(node.kind, Product) and squares):
                    ends.add(node.name)
            if (not inside and self.gate_of(node) is None) or (
                isinstance(node.kind, Affine) and node.name in outside
            ):
                outside.update(node.inputs)
        return ends

    def _block(self, node: Node, gate: str, other: str | None) -> Block:
        root, needed, path = self.root[gate], {gate}, []
        for step in reversed(self.net.nodes):
            if step.name in needed and step.name != root:
                needed.update(step.inputs)
                path.append(step)
        shape = self.net.shape(root)
        return Block(node.name, node.layer, root, other, tuple(path[::-1]), gate, shape)

    # -- what is none, and why --

    def _why_not(self, node: Node) -> str:
        """Why a curved node outside of every block is refused; empty where it is no matter."""
        if node.name in self.root or isinstance(node.kind, Affine):
            return ""
        if isinstance(node.kind, Product):
            if node.name in self._apart and sum(n in self.root for n in node.inputs) == 2:
                return "multiplies two activations of different values, which is no bilinear layer"
            return ""
        if isinstance(node.kind, Winner):
            return "picks a winner among several values, so it is no function of one value a unit"
        if "softmax" in node.layer.lower():
            return "is a softmax, as attention has it: it mixes entries, so it does not convert"
        return "mixes entries, so it is no function of one value a unit"

    def _why_not_block(self, block: Block) -> str:
        last = self.nodes[block.gate]
        if isinstance(last.kind, Pieces) and last.kind.constant:
            return "is a step: a gate that opens or closes is no activation of an MLP block"
        behind = None if block.flat else shared_over_positions(self.net, block.root)
        if behind is not None:
            return (
                f"stands behind '{behind}' ({self.nodes[behind].layer}), whose units are not along "
                f"the last axis of {block.shape}: convolutional activations do not convert"
            )
        if not _alike(block):
            return "is another function at each position, so its units are no functions of one kind"
        return ""


def _alike(block: Block) -> bool:
    """Is g the same at every position?"""
    if block.flat:
        return True
    y = torch.tensor([-2.1, -0.3, 0.4, 2.2], dtype=torch.float64)
    g = block.at(y.reshape(4, *[1] * len(block.shape)).expand(4, *block.shape))
    g = g.reshape(4, -1, block.units)
    return bool(torch.isclose(g, g[:, :1], equal_nan=True).all())
