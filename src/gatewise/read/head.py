"""What stands at the very end of a classifier is set aside, so that its logits are explained."""

from __future__ import annotations

import dataclasses
import math

import torch

from gatewise.ir.kinds import Affine, Smooth
from gatewise.ir.network import INPUT, Network, Node

HEADS = {"softmax", "logsoftmax", "sigmoid", "logsigmoid"}


def set_aside_head(network: Network) -> Network:
    """The network up to a final Softmax, LogSoftmax or Sigmoid; that node and the rest as `head`.

    What follows it may only reshape (an entry moved would give the logits another order than the
    outputs have). A network without such an end is returned as it is.
    """
    tail = _reshapes(network)
    first = tail[0].inputs[0] if tail else network.output
    if first == INPUT:
        return network
    node = network.node(first)
    if not isinstance(node.kind, Smooth) or _plain(node.layer) not in HEADS:
        return network
    if len(node.inputs) != 1 or not _keeps_order(tail, node.shape):
        return network
    head = (node, *tail)
    names = {n.name for n in head}
    note = f"the final {node.layer} ('{node.name}') is set aside: outputs are logits"
    return dataclasses.replace(
        network,
        nodes=tuple(n for n in network.nodes if n.name not in names),
        output=node.inputs[0],
        head=head,
        notes=(*network.notes, note),
    )


def _reshapes(network: Network) -> tuple[Node, ...]:
    """The nodes at the end that take one value and round nothing, in order."""
    found: list[Node] = []
    name = network.output
    while name != INPUT:
        node = network.node(name)
        if not isinstance(node.kind, Affine) or node.kind.terms or node.kind.bias is not None:
            break
        if len(node.inputs) != 1:
            break
        found.insert(0, node)
        name = node.inputs[0]
    return tuple(found)


def _keeps_order(tail: tuple[Node, ...], shape: tuple[int, ...]) -> bool:
    """Is every entry where it was? (Seen from 0, 1, 2, ... sent through.)"""
    start = torch.arange(math.prod(shape), dtype=torch.float64)
    x = start.reshape(1, *shape)
    for node in tail:
        assert isinstance(node.kind, Affine)
        x = node.kind(x)
    return torch.equal(x.flatten(), start)


def _plain(layer: str) -> str:
    return layer.lower().replace("_", "").replace(" ", "")
