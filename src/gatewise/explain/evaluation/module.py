"""A Network as a torch module, so that other people's explainers can be asked about it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gatewise.errors import DataError
from gatewise.ir.kinds import Affine, Pieces, Product
from gatewise.ir.network import Network, Node, fold


class Whole(nn.Module):
    """x (rows, features) -> (rows, 1): one output of the network, autograd through all of it."""

    def __init__(self, network: Network, output: int) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, x: Tensor) -> Tensor:
        """f(x)."""
        return self.network(x)[:, [self.output]]


class Layered(Whole):
    """The same with one nn.ReLU a ReLU: DeepLIFT and DeepSHAP change the rule of such modules.

    They hook modules, never functions: a ReLU they do not see is explained as if it were linear
    (captum issues 199 and 1082), so a gate that is no ReLU is refused.
    """

    def __init__(self, network: Network, output: int) -> None:
        super().__init__(network, output)
        self.relus = nn.ModuleDict(
            {_key(i): _relu(n) for i, n in enumerate(network.nodes) if not _plain(n)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """f(x), gates through their modules."""
        place = {id(n): i for i, n in enumerate(self.network.nodes)}

        def step(node: Node, xs: list[Tensor]) -> Tensor:
            if _plain(node):
                value: Tensor = node.kind(*xs)
                return value
            gate: Tensor = self.relus[_key(place[id(node)])](*xs)
            return gate

        rows = x.reshape(-1, *self.network.input_shape)
        y = fold(self.network, rows, step)[self.network.output]
        return y.reshape(-1, self.network.outputs)[:, [self.output]]


def _key(position: int) -> str:
    return f"node{position}"


def _plain(node: Node) -> bool:
    return isinstance(node.kind, Affine)


def _relu(node: Node) -> nn.Module:
    kind = node.kind
    if isinstance(kind, Pieces) and _is_relu(kind):
        return nn.ReLU()
    what = "a product of two parts" if isinstance(kind, Product) else f"a {node.layer}"
    raise DataError(
        f"DeepLIFT and DeepSHAP have a rule for ReLU alone here, but node '{node.name}' is {what}: "
        f"leave these two out"
    )


def _is_relu(kind: Pieces) -> bool:
    same = (kind.knots.flatten().tolist(), kind.offsets.flatten().tolist())
    return same == ([0.0], [0.0, 0.0]) and kind.slopes.flatten().tolist() == [0.0, 1.0]


def gradient(network: Network, output: int, x: Tensor) -> Tensor:
    """(rows, features) of one output, by autograd."""
    with torch.enable_grad():
        rows = x.detach().clone().requires_grad_()
        (g,) = torch.autograd.grad(network(rows)[:, output].sum(), rows)
    return g
