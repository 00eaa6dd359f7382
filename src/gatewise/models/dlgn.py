"""DLGN: gates of a linear tower, so each gate is one half-space of input space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gatewise.errors import InternalError
from gatewise.models.dgn import Dense


class DLGN(Dense):
    """Gates of a deep linear tower: q_l = U_l q_{l-1}, h_l = gate(q_l) * V_l h_{l-1}.

    Source: arXiv:2110.03403. Settings as `Dense.__init__` says.
    """

    def passed_on(self, q: Tensor) -> Tensor:
        """q itself."""
        return q

    def effective_halfspaces(self) -> list[tuple[Tensor, Tensor]]:
        """(A, c) of each value layer's gates, in float64: gate i is on where A[i] x + c[i] > 0.

        A = U_l .. U_1 (w_l, inputs), c (w_l,); in the order of the value layers they mask.
        """
        made: list[tuple[Tensor, Tensor]] = []
        for layer in self.features:
            a, c = _affine(layer)
            if made:
                a, c = a @ made[-1][0], a @ made[-1][1] + c
            made.append((a, c))
        return [made[i] for i in self.order]


class DLGNShallow(Dense):
    """Shallow features (SF): every gate layer reads the input, q_l = U_l x.

    Source: arXiv:2404.04312. Settings as `Dense.__init__` says.
    """

    reads_input = True

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        """[U_1 x, .., U_{d-1} x], each (rows, w_l)."""
        return [layer(x) for layer in self.features]

    def passed_on(self, q: Tensor) -> Tensor:
        """q itself; no later layer reads it."""
        return q

    def effective_halfspaces(self) -> list[tuple[Tensor, Tensor]]:
        """(U_l, its bias) of each value layer's gates, in float64: on where A[i] x + c[i] > 0."""
        made = [_affine(layer) for layer in self.features]
        return [made[i] for i in self.order]


def _affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """(weight, bias or zeros) in float64, away from the graph of gradients."""
    if not isinstance(layer, nn.Linear):
        raise InternalError(f"a dense tower holds a {type(layer).__name__}")
    weight = layer.weight.detach().to(torch.float64)
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return weight, bias.to(torch.float64)
