"""The papers' layouts: C4GAP, and networks like VGG-16 and ResNet; all pool by averages."""

from __future__ import annotations

from gatewise.errors import ModelError
from gatewise.models.convolutional import Layout

VGG16 = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)  # times the width: channels of its convolutions
HALVED = (1, 3, 6, 9, 12)  # after these it pools


def c4gap(
    width: int = 128, *, channels: int = 3, outputs: int = 10, batch_norm: bool = False
) -> Layout:
    """Four 3x3 convolutions of `width` channels, the mean over positions, a linear head."""
    return Layout((channels, *(width,) * 4), outputs, batch_norm=batch_norm, bias=True)


def vgg_like(
    width: int = 64, *, channels: int = 3, outputs: int = 10, batch_norm: bool = True
) -> Layout:
    """VGG-16's thirteen convolutions, 2x2 average pooling in place of its maxima, a linear head.

    For 32 x 32 images, which the five poolings bring to one position. VGG-16 has width 64.
    """
    return Layout(
        (channels, *(width * n for n in VGG16)),
        outputs,
        pools=tuple(2 if i in HALVED else 1 for i in range(len(VGG16))),
        batch_norm=batch_norm,
        bias=True,
    )


def resnet_like(
    blocks: int = 18,
    width: int = 16,
    *,
    channels: int = 3,
    outputs: int = 10,
    batch_norm: bool = True,
) -> Layout:
    """A stem, then three stages of `blocks` blocks h + g2 * V2 (g1 * V1 h), `width` doubled twice.

    Between stages stands a gated convolution of stride 2 without a skip, so that every block can
    be left out and the kernel is that of 2^(3 blocks) networks. blocks = 18: 111 convolutions
    where ResNet-110 has 109; gates stand inside the blocks, where ResNet-110 gates each sum.
    """
    if blocks < 1:
        raise ModelError(f"`blocks` is a whole number from 1, and it is {blocks}")
    widths, strides = [channels], []
    skips: list[int | None] = []
    for stage in range(3):
        c = width * 2**stage
        first = len(widths)  # the output that the stage's first block reads
        widths += [c] * (1 + 2 * blocks)
        strides += [1 if stage == 0 else 2] + [1] * (2 * blocks)
        skips += [None]
        for block in range(blocks):
            skips += [None, first + 2 * block]
    return Layout(
        tuple(widths),
        outputs,
        strides=tuple(strides),
        skips=tuple(skips),
        batch_norm=batch_norm,
        bias=True,
    )
