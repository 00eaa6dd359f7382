"""Two towers of layers: one makes the gates, the other's values pass through them.

    value tower     h_l = pool_l(g_order[l](x) * V_l h_{l-1} + h_skip[l]),   f(x) = V_d h_{d-1}
    feature tower   z_l = pool_l(a(q_l) + z_skip[l]),  q_l = U_l z_{l-1},    g_l = gate(q_l)

with h_0 = x or ones, z_0 = x. What a(q) is tells the families apart: ReLU in a DGN, q itself in a
DLGN; in a DLGN of shallow features q_l = U_l x. (arXiv:2006.10529, 2110.03403)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.checks import all_whole
from gatewise.models.gates import Gate

ValueInput = Literal["x", "ones"]
After = Callable[[int, Tensor], Tensor]  # (layer, its output) -> what goes on


@dataclass(frozen=True)
class Wiring:
    """How gated layers follow one another, a tuple entry each.

    shapes: what must be equal for one layer's gates to mask another's values: its units or
    channels, and how much smaller its rows and columns are than the input's;
    pools: the average pooling after a layer, 1 for none; skips: the output added to a layer's
    own (0: the input, l: of the l-th layer), None for none.
    """

    shapes: tuple[tuple[int, ...], ...]
    pools: tuple[int, ...]
    skips: tuple[int | None, ...]

    @classmethod
    def plain(cls, widths: Sequence[int]) -> Wiring:
        """Layers one after another and nothing between them."""
        n = len(widths)
        return cls(tuple((w,) for w in widths), (1,) * n, (None,) * n)

    def walk(self, layers: Sequence[nn.Module], x: Tensor, after: After) -> Tensor:
        """The last layer's output; `after(l, q)` makes of a layer's q what is added and pooled."""
        outputs = [x]
        for i, (layer, pool, skip) in enumerate(zip(layers, self.pools, self.skips, strict=True)):
            h = after(i, layer(outputs[-1]))
            h = h if skip is None else h + outputs[skip]
            outputs.append(h if pool == 1 else F.avg_pool2d(h, pool))
        return outputs[-1]

    def ordered(self, order: Sequence[int] | None) -> tuple[int, ...]:
        """`order` if it is a permutation of layers of equal shapes; else ModelError."""
        n = len(self.shapes)
        asked = tuple(range(n)) if order is None else order
        if not all_whole(asked, 0) or sorted(asked) != list(range(n)):
            raise ModelError(
                f"`order` says which gate layer masks each value layer, so it is a permutation of "
                f"0 .. {n - 1}, and it is {asked!r}"
            )
        chosen = tuple(int(i) for i in asked)
        for value, gate in enumerate(chosen):
            if self.shapes[value] != self.shapes[gate]:
                raise ModelError(
                    f"gate layer {gate} cannot mask value layer {value}: their shapes are "
                    f"{self.shapes[gate]} and {self.shapes[value]}; "
                    f"`order` may exchange layers of equal shapes only"
                )
        return chosen


class GatedNetwork(nn.Module):
    """f(x) = V_d (g_{d-1} * V_{d-1} ( ... g_1 * V_1 x_v)): gates from one tower, values in another.

    features: U_1 .. U_{d-1}; values: V_1 .. V_d, the head last; each a Linear, or a module that is
    affine when it is evaluated. `order[l]` is the gate layer that masks value layer l.
    """

    def __init__(
        self,
        features: Sequence[nn.Module],
        values: Sequence[nn.Module],
        wiring: Wiring,
        gate: Gate,
        *,
        value_input: ValueInput = "x",
        order: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if value_input not in get_args(ValueInput):
            raise ModelError(f"`value_input` is 'x' or 'ones', and it is {value_input!r}")
        self.order = wiring.ordered(order)
        self.features, self.values = nn.ModuleList(features), nn.ModuleList(values)
        self.wiring, self.gate = wiring, gate
        self.value_input: ValueInput = value_input
        self.frozen = False

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        """[q_1, .., q_{d-1}] of the feature tower, each (rows, *shape of the layer)."""
        made: list[Tensor] = []

        def after(_: int, q: Tensor) -> Tensor:
            made.append(q)
            return self.passed_on(q)

        self.wiring.walk(list(self.features), x, after)
        return made

    def passed_on(self, q: Tensor) -> Tensor:
        """a(q): what the feature tower hands to its next layer."""
        raise NotImplementedError

    def gates(self, x: Tensor) -> list[Tensor]:
        """The masks in the order of the value layers they multiply, each (rows, *shape)."""
        made = self.pre_activations(x)
        return [self.gate(made[i]) for i in self.order]

    def forward(self, x: Tensor) -> Tensor:
        """f(x): (rows, *input) -> (rows, outputs)."""
        masks = self.gates(x)
        start = x if self.value_input == "x" else torch.ones_like(x)
        *layers, head = self.values
        h = self.wiring.walk(layers, start, lambda i, v: masks[i] * v)
        return head(h)  # type: ignore[no-any-return]

    def feature_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that make the gates."""
        return self.features.parameters()

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that the gates mask: all the others."""
        return self.values.parameters()

    def freeze_features(self) -> Self:
        """Keep the gates as they are while the values are trained; returns self.

        The feature tower stays in evaluation mode, or batch normalisation would move the gates.
        """
        self.frozen = True
        self.features.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """torch's own, but that frozen features stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.features.eval()
        return self

    def hardened(self) -> Self:
        """A copy with the same weights and gates 1{q > 0}."""
        other = copy.deepcopy(self)
        other.gate = self.gate.hardened()
        return other

    def extra_repr(self) -> str:
        """What the printed module says beside its layers."""
        return f"gate={self.gate}, value_input={self.value_input!r}, order={self.order}"


class ReLUNetwork(nn.Module):
    """f(x) = V_d relu(V_{d-1} ... relu(V_1 x)): the network whose gates are its own values' signs.

    The same layers and wiring as a GatedNetwork's value tower.
    """

    def __init__(self, values: Sequence[nn.Module], wiring: Wiring) -> None:
        super().__init__()
        self.values, self.wiring = nn.ModuleList(values), wiring

    def forward(self, x: Tensor) -> Tensor:
        """f(x): (rows, *input) -> (rows, outputs)."""
        *layers, head = self.values
        return head(self.wiring.walk(layers, x, lambda _, q: F.relu(q)))  # type: ignore[no-any-return]
