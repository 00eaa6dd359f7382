"""torch_module(network): a torch module of the same function, with the weights as parameters."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import UnsupportedLayer
from gatewise.given.rows import require_network
from gatewise.ir.kinds import Affine, Kind, Pieces
from gatewise.ir.network import Network, Node, fold, with_head
from gatewise.numeric import as_float_dtype


class NetworkModule(nn.Module):
    """f(x) for x (rows, *input shape), as the Network computes it; trainable, saved by state_dict.

    Weights and biases are parameters named after their node: '<node>.weight0', '<node>.bias'.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.lead = len(network.input_shape) > 1 and network.input_shape[0] == 1
        self.layers = nn.ModuleList(Layer(node) for node in network.nodes)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, *output shape)."""
        network = self.network
        layers = dict(zip((n.name for n in network.nodes), self.layers, strict=True))
        start = x.reshape(-1, *network.input_shape)
        y = fold(network, start, lambda node, xs: layers[node.name](*xs))[network.output]
        shape = network.output_shape
        return y.reshape(len(y), *(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape))


class Layer(nn.Module):
    """One node; what floats in an Affine is a parameter, all else a constant."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.kind: Kind = node.kind
        self.label = re.sub(r"\W+", "_", node.name)
        if isinstance(node.kind, Affine):
            self.weights = nn.ParameterList(
                nn.Parameter(w.detach().clone(), requires_grad=w.is_floating_point())
                for w in node.kind.weights
            )
            bias = node.kind.bias
            self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, *xs: Tensor) -> Any:
        """The node's value."""
        kind = self.kind
        if isinstance(kind, Affine):
            return dataclasses.replace(kind, weights=tuple(self.weights), bias=self.bias)(*xs)
        if isinstance(kind, Pieces) and kind.direct is None:
            return _branches(kind, *xs)
        return kind(*xs)


def _branches(kind: Pieces, z: Tensor) -> Tensor:
    """The branch of the cell, without a look at the tables' numbers (which export cannot trace)."""
    y = kind.slopes[0] * z + kind.offsets[0]
    for k, closed in enumerate(kind.closed):
        above = z >= kind.knots[k] if closed else z > kind.knots[k]
        y = torch.where(above, kind.slopes[k + 1] * z + kind.offsets[k + 1], y)
    return y


def torch_module(network: Network, dtype: torch.dtype | str = torch.float32) -> NetworkModule:
    """The network, its head included, as a torch.nn.Module in evaluation mode."""
    require_network(network)
    frozen = next((n for n in network.nodes if isinstance(n.kind, Affine) and n.kind.batched), None)
    if frozen is not None:
        raise UnsupportedLayer(
            f"node '{frozen.name}' ({frozen.layer}) is frozen to a pattern, so it is no layer: "
            f"collapse the network to W and b instead"
        )
    return NetworkModule(with_head(network.to(as_float_dtype(dtype), "cpu"))).eval()
