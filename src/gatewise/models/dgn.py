"""DGN: q_l = U_l relu(q_{l-1}) makes the gates g_l = gate(q_l) of h_l = g_l * V_l h_{l-1}."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from gatewise.errors import ModelError
from gatewise.models.checks import all_whole
from gatewise.models.gates import Gate, GateName
from gatewise.models.towers import GatedNetwork, ReLUNetwork, ValueInput, Wiring
from gatewise.models.weights import Init, dense, generator


def checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """(inputs, width, .., width, outputs): at least one gated layer, whole numbers from 1."""
    if not all_whole(sizes, 1) or len(sizes) < 3:
        raise ModelError(
            f"`sizes` is (inputs, width of each gated layer, outputs), at least three whole "
            f"numbers from 1, and it is {sizes!r}"
        )
    return tuple(int(n) for n in sizes)


class Dense(GatedNetwork):
    """The fully connected families: only where a gate's layer reads from, and a(q), differ."""

    reads_input = False  # does every gate layer read x, rather than the layer before it?

    def __init__(
        self,
        sizes: Sequence[int],
        gate: GateName = "hard",
        beta: float = 4.0,
        epsilon: float = 0.1,
        value_input: ValueInput = "x",
        bias: bool = False,
        order: Sequence[int] | None = None,
        *,
        init: Init = "glorot",
        seed: int | None = None,
    ) -> None:
        """Towers for `sizes` = (inputs, width, .., width, outputs), rows of shape (inputs,).

        gate: "hard", "sigmoid" or "scaled_sigmoid" (train with a soft one: a hard gate passes no
        gradient to the features); value_input "ones": values start from ones in place of x;
        order[l]: the gate layer that masks value layer l; seed None: torch's global generator.
        """
        self.sizes = sizes = checked_sizes(sizes)
        rng = generator(seed)
        pairs = list(pairwise(sizes))
        sources = [sizes[0] if self.reads_input else n for n, _ in pairs[:-1]]
        features = [dense(n, w, bias, init, rng) for n, w in zip(sources, sizes[1:], strict=False)]
        values = [dense(n, w, bias, init, rng) for n, w in pairs]
        super().__init__(
            features,
            values,
            Wiring.plain(sizes[1:-1]),
            Gate(gate, beta, epsilon),
            value_input=value_input,
            order=order,
        )


class DGN(Dense):
    """Gates of a ReLU tower: q_l = U_l relu(q_{l-1}), h_l = gate(q_l) * V_l h_{l-1}.

    Settings as `GatedNetwork` and `Dense.__init__` say. Source: arXiv:2006.10529.
    """

    def passed_on(self, q: Tensor) -> Tensor:
        """relu(q)."""
        return F.relu(q)


class ReLUNet(ReLUNetwork):
    """The fully connected ReLU network with the layers of a DGN's value tower."""

    def __init__(
        self,
        sizes: Sequence[int],
        bias: bool = False,
        *,
        init: Init = "glorot",
        seed: int | None = None,
    ) -> None:
        self.sizes = sizes = checked_sizes(sizes)
        rng = generator(seed)
        layers = [dense(n, w, bias, init, rng) for n, w in pairwise(sizes)]
        super().__init__(layers, Wiring.plain(sizes[1:-1]))
