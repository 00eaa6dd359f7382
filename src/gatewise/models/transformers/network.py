"""A small transformer whose MLPs multiply: x += attention(n(x)); x += P (W n(x) * g(V n(x))).

Without a norm and with frozen attention patterns its logits are a polynomial of the tokens, which
`bilinear.path_expansion` lists. (arXiv:2305.03452)
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from gatewise.errors import DataError, ModelError, WrongShape
from gatewise.models.bilinear.layers import GLUGate
from gatewise.models.checks import whole
from gatewise.models.transformers.parts import (
    Heads,
    NormName,
    PatternName,
    Shape,
    linear,
    normed_by,
    products,
    require_shape,
    table,
)
from gatewise.models.weights import generator


class Block(nn.Module):
    """x + attn(norm_attn(x)), then x + mlp(norm_mlp(x))."""

    def __init__(self, shape: Shape, rng: torch.Generator | None) -> None:
        super().__init__()
        self.norm_attn, self.norm_mlp = normed_by(shape), normed_by(shape)
        self.attn, self.mlp = Heads(shape, rng), products(shape, rng)

    def forward(self, x: Tensor) -> Tensor:
        """x (rows, n, d), in and out."""
        x = x + self.attn(self.norm_attn(x))
        return x + cast(Tensor, self.mlp(self.norm_mlp(x)))


class BilinearTransformer(nn.Module):
    """Next-token logits (rows, n, vocabulary) of tokens (rows, n); position i sees 0 .. i.

    x = E[t] (+ learned positions); its layers; logits = U n(x). `state_dict()` and `settings` are
    all there is to it: bilinear.from_state(net.state_dict(), net.settings) reads its circuits.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 32,
        *,
        layers: int = 1,
        heads: int = 2,
        hidden: int = 64,
        head_width: int | None = None,
        attention: PatternName = "softmax",
        gate: GLUGate = "bilinear",
        beta: float = 1.0,
        norm: NormName = "none",
        context: int | None = None,
        rope_base: float | None = None,
        bias: bool = False,
        seed: int | None = 0,
    ) -> None:
        """width: d; hidden: the products of each MLP; head_width: width / heads where not given.

        attention "softmax", or "bilinear": the product of two scores, no softmax. gate "swish":
        V x goes through z sigmoid(beta z), at beta = 0 bilinear again. norm "rmsnorm" breaks the
        polynomial. context: as many learned positions, so no longer rows; rope_base: rotary ones;
        neither: where a token stands is not seen. bias: of every linear map but the embeddings.
        seed: of the weights, normal with variance 1 / fan in (embeddings: 1 / d); None: torch's.
        Raises ModelError for sizes and settings that do not fit.
        """
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("layers", layers)):
            if not whole(value, 1):
                raise ModelError(f"`{name}` is a whole number from 1, and it is {value!r}")
        if context is not None and not whole(context, 1):
            raise ModelError(
                f"`context` is the number of learned positions, from 1, or None, and it is "
                f"{context!r}"
            )
        require_shape(width, heads, hidden, head_width)
        w = width // heads if head_width is None else head_width
        self.shape = Shape(width, heads, w, hidden, attention, gate, beta, norm, rope_base, bias)
        self.vocabulary, self.context = vocabulary, context
        rng = generator(seed)
        self.embed = table(vocabulary, width, rng)
        self.positions = None if context is None else table(context, width, rng)
        self.blocks = nn.ModuleList(Block(self.shape, rng) for _ in range(layers))
        self.final_norm = normed_by(self.shape)
        self.unembed = linear(width, vocabulary, bias, rng)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (rows, n, vocabulary) of whole numbers (rows, n)."""
        self.check(tokens)
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.unembed(self.final_norm(x))  # type: ignore[no-any-return]

    @property
    def settings(self) -> dict[str, Any]:
        """What the arrays of `state_dict()` do not say, in names and numbers: goes into JSON."""
        s, mlp = self.shape, cast(Block, self.blocks[0]).mlp
        return {
            "n_layers": len(self.blocks),
            "n_heads": s.heads,
            "d_head": s.head_width,
            "attention": s.attention,
            "rope_base": s.rope_base,
            "norm_type": s.norm,
            "gate": mlp.gate,
            "beta": float(mlp.beta),
        }

    def extra_repr(self) -> str:
        """What the printed module says beside its parts."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def check(self, tokens: Tensor) -> None:
        """Refuses all but whole numbers (rows, n) of the vocabulary, at most `context` a row."""
        if tokens.dim() != 2 or not tokens.numel():
            raise WrongShape(
                f"tokens are (rows, n), at least one of each, and their shape is "
                f"{tuple(tokens.shape)}"
            )
        if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
            raise DataError(f"tokens are whole numbers, and their dtype is {tokens.dtype}")
        low, high = (int(v) for v in tokens.aminmax())
        if low < 0 or high >= self.vocabulary:
            bad = low if low < 0 else high
            raise DataError(f"token {bad} is not in the vocabulary: 0 to {self.vocabulary - 1}")
        if self.context is not None and tokens.shape[1] > self.context:
            raise WrongShape(
                f"rows of {tokens.shape[1]} tokens for {self.context} learned positions: give "
                f"shorter rows, or a larger `context`"
            )
