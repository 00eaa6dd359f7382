"""What is in a network, as plain rows of text: nodes, kinds, gates, parameters, the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gatewise.ir.kinds import Affine, Pieces, Smooth, Winner, kind_name, tensors
from gatewise.ir.network import Network, Node, breaker
from gatewise.tables import counted

COLUMNS = ("node", "layer", "kind", "shape", "branches", "parameters")


def node_rows(network: Network) -> Iterator[tuple[str, ...]]:
    """One row of text a node, in order, what was set aside from the end included."""
    for node in network.nodes + network.head:
        gate = isinstance(node.kind, Pieces | Winner)
        yield (
            node.name,
            node.layer + (" (set aside)" if node in network.head else ""),
            kind_name(node.kind),
            _shape(node.shape),
            f"{math.prod(node.shape)} x {node.kind.branches}" if gate else "",  # type: ignore[union-attr]
            str(_parameters(node) or ""),
        )


def verdict(network: Network) -> str:
    """Is it piecewise affine, and if not, which node breaks it: one sentence."""
    node = breaker(network)
    if node is not None:
        return (
            f"not piecewise affine: node '{node.name}' ({node.layer}, {kind_name(node.kind)}) "
            "is curved"
        )
    units = sum(math.prod(n.shape) for n in network.gates)
    if not units:
        return "affine: no gates, one map for every input"
    return (
        f"piecewise affine: {counted(units, 'gate unit')} in {counted(len(network.gates), 'gate')}"
    )


def summary(network: Network) -> list[str]:
    """Size, verdict and notes, a line each."""
    return [
        f"{counted(network.inputs, 'input')}, {counted(network.outputs, 'output')}, "
        f"{counted(network.parameters, 'parameter')}",
        verdict(network),
        *(f"note: {note}" for note in network.notes),
    ]


def _shape(shape: tuple[int, ...]) -> str:
    """One row's shape; the source's own leading 1 (its batch) only where more axes follow."""
    shown = shape[1:] if len(shape) == 2 and shape[0] == 1 else shape
    return "x".join(map(str, shown)) or "1"


def _parameters(node: Node) -> int:
    if not isinstance(node.kind, Affine | Smooth):
        return 0
    return sum(t.numel() for t in tensors(node.kind) if t.is_floating_point())
