"""Gated convolutions: h_l = pool(g_l * (V_l conv h_{l-1}) + h_skip), then the mean over positions.

Pooling is by averages, so the feature tower of a ConvDLGN stays linear, batch normalisation and
residual blocks included. (arXiv:2006.10529, 2110.03403)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.checks import all_whole, whole
from gatewise.models.gates import Gate, GateName
from gatewise.models.towers import GatedNetwork, ReLUNetwork, ValueInput, Wiring
from gatewise.models.weights import Init, convolution, dense, generator

Head = Literal["gap", "flatten"]


@dataclass(frozen=True)
class Layout:
    """The layers of a convolutional tower; an entry a convolution in each tuple that is given.

    channels: (inputs, of each convolution ..); strides; pools: average pooling after each;
    skips: the output added to each (0: the input, l: of convolution l), None for none;
    hidden: widths of gated dense layers after the head, "gap" (mean over positions) or "flatten"
    (rows of size x size). batch_norm: after each convolution, in place of its bias.
    """

    channels: tuple[int, ...]
    outputs: int
    kernel: int = 3
    strides: tuple[int, ...] | None = None
    pools: tuple[int, ...] | None = None
    skips: tuple[int | None, ...] | None = None
    hidden: tuple[int, ...] = ()
    head: Head = "gap"
    size: int | None = None
    batch_norm: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        counts = (self.channels, self.hidden, (self.outputs,))
        if not all(all_whole(n, 1) for n in counts) or len(self.channels) < 2:
            raise ModelError(
                f"`channels` is (inputs, of each convolution ..), whole numbers from 1, as are "
                f"`outputs` and `hidden`; got {self.channels}, {self.outputs} and {self.hidden}"
            )
        if not whole(self.kernel, 1) or self.kernel % 2 == 0:
            raise ModelError(
                f"`kernel` is odd, so that positions are kept, and it is {self.kernel}"
            )
        for name, least in (("strides", 1), ("pools", 1), ("skips", 0)):
            self._check_each(name, least)
        if self.head not in get_args(Head) or (self.head == "flatten" and not whole(self.size, 1)):
            raise ModelError(
                f"`head` is 'gap', or 'flatten' with `size`, the rows and columns of an image; "
                f"got {self.head!r} and size {self.size}"
            )

    def _check_each(self, name: str, least: int) -> None:
        """One whole number a convolution; a skip may be None."""
        given = getattr(self, name)
        if given is None:
            return
        kept = [n for n in given if n is not None] if name == "skips" else given
        if not all_whole(kept, least):
            raise ModelError(f"`{name}` is made of whole numbers from {least}, and it is {given!r}")
        if len(given) != self.depth:
            raise ModelError(
                f"`{name}` has {len(given)} entries for {self.depth} convolutions: one each"
            )

    @property
    def depth(self) -> int:
        """How many convolutions."""
        return len(self.channels) - 1

    def scales(self) -> list[tuple[int, int]]:
        """(channels, by how much rows and columns shrank) of the input and of each output."""
        found, scale = [(self.channels[0], 1)], 1
        for c, stride, pool in zip(self.channels[1:], *self._steps(), strict=True):
            scale *= stride * pool
            found.append((c, scale))
        return found

    def _steps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ones = (1,) * self.depth
        return self.strides or ones, self.pools or ones

    def wiring(self) -> Wiring:
        """How the layers follow one another; ModelError for a skip between unequal shapes."""
        strides, pools = self._steps()
        before = self.scales()
        masked = [
            (c, n * stride)
            for c, (_, n), stride in zip(self.channels[1:], before, strides, strict=False)
        ]
        skips = self.skips or (None,) * self.depth
        for layer, skip in enumerate(skips):
            if skip is not None and not (0 <= skip <= layer and before[skip] == masked[layer]):
                raise ModelError(
                    f"`skips` adds output {skip} to convolution {layer + 1}: it must come "
                    f"before it and have its channels and scale, {masked[layer]}"
                )
        n = len(self.hidden)
        shapes = (*masked, *((w,) for w in self.hidden))
        return Wiring(shapes, pools + (1,) * n, skips + (None,) * n)

    def layers(self, init: Init, rng: torch.Generator | None) -> list[nn.Module]:
        """One tower: the convolutions, the hidden dense layers, and last the head."""
        strides, _ = self._steps()
        made: list[nn.Module] = [
            self._convolution(a, b, stride, init, rng)
            for (a, b), stride in zip(pairwise(self.channels), strides, strict=True)
        ]
        first, *rest = (
            dense(a, b, self.bias, init, rng)
            for a, b in pairwise((self._joined(), *self.hidden, self.outputs))
        )
        join = GlobalAverage() if self.head == "gap" else nn.Flatten()
        return [*made, nn.Sequential(join, first), *rest]

    def _convolution(
        self, a: int, b: int, stride: int, init: Init, rng: torch.Generator | None
    ) -> nn.Module:
        bias = self.bias and not self.batch_norm
        layer = convolution(a, b, self.kernel, bias, init, rng, stride)
        return nn.Sequential(layer, nn.BatchNorm2d(b)) if self.batch_norm else layer

    def _joined(self) -> int:
        """Numbers a row after its positions were averaged or flattened."""
        positions = 1
        if self.size is not None and self.head == "flatten":
            side = self.size
            for stride, pool in zip(*self._steps(), strict=True):
                side = -(-side // stride) // pool
            if side < 1:
                raise ModelError(
                    f"nothing is left of images of {self.size} x {self.size} after the strides and "
                    f"pools: give larger images, or pool less"
                )
            positions = side**2
        return self.channels[-1] * positions


class GlobalAverage(nn.Module):
    """The mean over rows and columns: (rows, channels, height, width) -> (rows, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """x.mean over the last two axes."""
        return x.mean((-2, -1))


class _Convolutional(GatedNetwork):
    """The convolutional families: only a(q) differs."""

    def __init__(
        self,
        layout: Layout,
        gate: GateName = "hard",
        beta: float = 4.0,
        epsilon: float = 0.1,
        value_input: ValueInput = "x",
        order: Sequence[int] | None = None,
        *,
        init: Init = "glorot",
        seed: int | None = None,
    ) -> None:
        """Towers of this layout for rows of shape (channels, height, width).

        gate: "hard", "sigmoid" or "scaled_sigmoid" (train with a soft one); value_input "ones":
        values start from ones in place of x; order[l]: the gate layer that masks value layer l;
        seed None: torch's global generator.
        """
        rng = generator(seed)
        self.layout = layout
        super().__init__(
            layout.layers(init, rng)[:-1],
            layout.layers(init, rng),
            layout.wiring(),
            Gate(gate, beta, epsilon),
            value_input=value_input,
            order=order,
        )


class ConvDGN(_Convolutional):
    """Gates of a convolutional ReLU tower."""

    def passed_on(self, q: Tensor) -> Tensor:
        """relu(q)."""
        return F.relu(q)


class ConvDLGN(_Convolutional):
    """Gates of a linear convolutional tower: each gate is one half-space of the input."""

    def passed_on(self, q: Tensor) -> Tensor:
        """q itself."""
        return q


class ConvReLUNet(ReLUNetwork):
    """The ReLU network with the layers of a ConvDGN's value tower."""

    def __init__(self, layout: Layout, *, init: Init = "glorot", seed: int | None = None) -> None:
        self.layout = layout
        super().__init__(layout.layers(init, generator(seed)), layout.wiring())
