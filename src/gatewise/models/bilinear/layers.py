"""Layers that multiply two linear readings of their input: y = P ((W x + b) * (V x + c)).

With a gate in between it is a GLU, (W x) * swish_beta(V x): at beta = 1 a SwiGLU, at beta = 0
bilinear again. (arXiv:2410.08417; gates: arXiv:2002.05202)
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.checks import is_flag, is_number, whole
from gatewise.models.weights import dense, generator

GLUGate = Literal["bilinear", "swish"]


def swish(z: Tensor, beta: float) -> Tensor:
    """z sigmoid(beta z); at beta = 0 it is z / 2, and a network that is read holds no sigmoid."""
    return z / 2 if beta == 0 else z * torch.sigmoid(beta * z)


class GLU(nn.Module):
    """y = P ((W x + b) * gate(V x + c)), without P where it is None; + x where residual.

    gate(z) is z, or `swish(z, beta)`. x (.., d), W and V (hidden, d), P (d, hidden).
    ModelError for a gate there is not, and for W and V of two shapes.
    """

    def __init__(
        self,
        W: nn.Linear,
        V: nn.Linear,
        P: nn.Linear | None,
        *,
        residual: bool = False,
        gate: GLUGate = "bilinear",
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        _require_gate(gate, beta)
        if W.weight.shape != V.weight.shape:
            raise ModelError(
                f"W x and V x are multiplied entry by entry, and the weights are "
                f"{tuple(W.weight.shape)} and {tuple(V.weight.shape)}: give one shape"
            )
        self.W, self.V, self.P = W, V, P
        self.residual, self.gate, self.beta = residual, gate, beta

    def forward(self, x: Tensor) -> Tensor:
        """y (.., hidden), or (.., d) with P, for x (.., d)."""
        z = self.V(x)
        y: Tensor = self.W(x) * (z if self.gate == "bilinear" else swish(z, self.beta))
        y = y if self.P is None else self.P(y)
        return x + y if self.residual else y

    def extra_repr(self) -> str:
        """What the printed module says beside its parts."""
        gate = "'bilinear'" if self.gate == "bilinear" else f"swish, beta={self.beta:g}"
        return f"gate={gate}, residual={self.residual}"


class BilinearMLP(nn.Module):
    """f(x) = H y_L,  y_l = [y +] [P_l] ((W_l y + b_l) * (V_l y + c_l)),  y = y_(l-1),  y_0 = E x.

    The published image models are BilinearMLP(784, 512, 10, embed=512): E, W, V and the head H,
    which takes the place of P. (arXiv:2410.08417, App. G)
    """

    beta: float

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        embed: int | None = None,
        layers: int = 1,
        bias: bool = False,
        residual: bool = False,
        gate: GLUGate = "bilinear",
        beta: float = 1.0,
        project: bool = False,
        seed: int | None = 0,
    ) -> None:
        """x has `inputs` numbers a row, f(x) `outputs`; `hidden` products in each layer.

        embed: the width d of E x, None for no E: d is then `inputs`. layers: how many.
        project: P (d, hidden) ends every layer; without it the next layer reads the products.
        residual: what a layer reads is added to its answer; without P that takes hidden = d.
        bias: b and c, as x' = [x, 1] would give; E, P and H never have one.
        gate "swish": V y goes through z sigmoid(beta z) as published: a SwiGLU at beta = 1, and
        at beta = 0 the bilinear layer of (W, V / 2, P); `anneal_beta` leads from one to the other.
        seed: of torch's usual initialisation; None: torch's own generator.
        Raises ModelError for sizes and settings that do not fit.
        """
        super().__init__()
        _require(inputs, hidden, outputs, embed, layers)
        _require_gate(gate, beta)
        _require_flags(bias=bias, residual=residual, project=project)
        rng = generator(seed)
        d = inputs if embed is None else embed
        if residual and not project and hidden != d:
            raise ModelError(
                f"a residual layer without P adds {hidden} products to the {d} numbers it reads: "
                f"give hidden={d}, or project=True"
            )
        self.embed = None if embed is None else dense(inputs, d, False, "torch", rng)
        made = []
        for _ in range(layers):
            W, V = (_side(d, hidden, bias, rng) for _ in range(2))
            P = dense(hidden, d, False, "torch", rng) if project else None
            made.append(GLU(W, V, P, residual=residual, gate=gate, beta=float(beta)))
            d = d if project else hidden
        self.layers = nn.ModuleList(made)
        self.head = dense(d, outputs, False, "torch", rng)

    def forward(self, x: Tensor) -> Tensor:
        """f(x): (rows, *input) -> (rows, outputs)."""
        y = x.flatten(1)
        y = y if self.embed is None else self.embed(y)
        for layer in self.layers:
            y = layer(y)
        return self.head(y)  # type: ignore[no-any-return]


def _side(inputs: int, hidden: int, bias: bool, rng: torch.Generator | None) -> nn.Linear:
    """W or V as torch starts a Linear: biases of 0 would start without a linear part."""
    layer = dense(inputs, hidden, bias, "torch", rng)
    if bias:
        nn.init.uniform_(layer.bias, -(inputs**-0.5), inputs**-0.5, generator=rng)
    return layer


def _require(inputs: int, hidden: int, outputs: int, embed: int | None, layers: int) -> None:
    """Whole sizes from 1, else ModelError."""
    sizes = {"inputs": inputs, "hidden": hidden, "outputs": outputs, "layers": layers}
    sizes |= {} if embed is None else {"embed": embed}
    for name, value in sizes.items():
        if not whole(value, 1):
            raise ModelError(f"`{name}` is a whole number from 1, and it is {value!r}")


def _require_gate(gate: GLUGate, beta: float) -> None:
    """A gate there is, and a beta from 0; else ModelError."""
    if gate not in get_args(GLUGate):
        raise ModelError(f"`gate` is 'bilinear' or 'swish', and it is {gate!r}")
    if not is_number(beta):
        raise ModelError(f"`beta` is a number from 0, and it is {beta!r}")


def _require_flags(**flags: bool) -> None:
    """True or False, and not "no"; else ModelError."""
    for name, value in flags.items():
        if not is_flag(value):
            raise ModelError(f"`{name}` is True or False, and it is {value!r}")
