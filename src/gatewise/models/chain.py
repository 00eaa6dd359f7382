"""A deep linear network to train: Linear layers one after another, and no activation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.checks import whole
from gatewise.models.study.chains import ChainInit, Chains


class LinearChain(nn.Module):
    """f(x) = W_L (.. (W_1 x + b_1) ..) + b_L, rows (rows, inputs): M x + C in L layers.

    `width` units between the layers. Starts: as `Chains.draw` says. It is read as one affine map:
    gw.read(LinearChain(..)) collapses.
    """

    def __init__(
        self,
        depth: int,
        inputs: int = 1,
        width: int = 1,
        outputs: int = 1,
        bias: bool = True,
        *,
        init: ChainInit = "default",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        start = Chains.draw(1, depth, inputs, width, outputs, bias, init=init, seed=seed)
        self.layers = nn.ModuleList(_layers(start, 0, torch.get_default_dtype()))

    @classmethod
    def of(cls, chains: Chains, case: int) -> LinearChain:
        """One of many chains as a module, in their float64: the end of a training study, say."""
        if not (whole(case, 0) and case < len(chains)):
            raise ModelError(f"chains are numbered 0 .. {len(chains) - 1}, and `case` is {case!r}")
        chain = cls.__new__(cls)
        nn.Module.__init__(chain)
        chain.layers = nn.ModuleList(_layers(chains, case, torch.float64))
        return chain

    def forward(self, x: Tensor) -> Tensor:
        """(rows, outputs)."""
        for layer in self.layers:
            x = layer(x)
        return x


def _layers(chains: Chains, case: int, dtype: torch.dtype) -> list[nn.Linear]:
    layers = []
    for i, (n, m) in enumerate(pairwise(chains.sizes)):
        bias = chains.biases is not None
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, n, m, bias=bias, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(chains.weights[i][case])
            if chains.biases is not None:
                layer.bias.copy_(chains.biases[i][case])
        layers.append(layer)
    return layers
