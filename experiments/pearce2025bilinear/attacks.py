"""Figure 7: masks from weights, added to every training image; exact in the strength.

The logits of x + s m are L0 + s (2 Q m · x + S m) + s² mᵀ Q m: one product with all images serves
every strength.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from batched import Net
from data import Images
from reporting import Row
from torch import Tensor

from gatewise.bilinear import (
    Masks,
    Spectrum,
    gradient_masks,
    interaction,
    pseudo_inverse_masks,
    quadratic_part,
)

STRENGTHS = [round(0.025 * k, 3) for k in range(1, 13)]
EACH, RANKS = 10, 3  # eigenvectors of a digit that are inverted; of which so many are used


def oriented(masks: Masks, images: Images) -> Masks:
    """Each mask with the sign that overlaps with 500 test images of each other digit."""
    means = torch.stack([images.test_x[images.test_y == c][:500].mean(0) for c in range(10)])
    others = means.sum(0) - means[masks.target]
    sign = torch.where((masks.masks * others).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return replace(masks, masks=masks.masks * sign)


def published(found: Spectrum, images: Images) -> Masks:
    """Rows of the pseudo-inverse of ten eigenvectors a digit, the first three of each digit."""
    return oriented(pseudo_inverse_masks(found, EACH).of(RANKS), images)


def permuted(masks: Tensor, where: Tensor, seed: int) -> Tensor:
    """The same numbers at other pixels, among those of `where`."""
    rng, found = np.random.default_rng(seed), torch.zeros_like(masks)
    at = where.nonzero()[:, 0]
    for k, mask in enumerate(masks):
        found[k, at] = mask[at[torch.from_numpy(rng.permutation(len(at)))]]
    return found


def attack(net: Net, masks: Tensor, target: Tensor, images: Images) -> Tensor:
    """(strengths, masks, 2): accuracy, and the share of rows wrongly called the mask's digit."""
    E, plain = net.layer.embedding, quadratic_part(net.layer)
    hidden = images.x @ E.float().mT
    L0 = net.layer.to(torch.float32)(hidden)
    Q = interaction(plain, torch.eye(10, dtype=torch.float64))
    m = masks @ E.mT
    slope = 2 * torch.einsum("oij,mj->moi", Q, m)
    square = torch.einsum("moi,mi->mo", slope, m).float() / 2
    shift = 0 if net.layer.skip is None else (m @ net.layer.skip.mT).float()
    found = torch.zeros(len(STRENGTHS), len(m), 2)
    for k in range(len(m)):
        linear = hidden @ slope[k].float().mT + (shift if isinstance(shift, int) else shift[k])
        for i, s in enumerate(STRENGTHS):
            said = (L0 + s * linear + s * s * square[k]).argmax(1)
            wrong = (said == target[k]) & (images.y != target[k])
            right = (said == images.y).float().mean()
            found[i, k] = torch.stack([right, wrong.float().mean()])
    return found


def rows(net: Net, masks: Masks, images: Images, where: Tensor, kind: str, by: Tensor) -> list[Row]:
    """Means over the masks ± their standard errors, beside permuted masks.

    where (784,): pixels that a mask may use. by (784,): pixels over which its standard deviation
    is the strength.
    """
    kept = masks.masks * where
    kept = kept / kept[:, by].std(1, keepdim=True)
    held = attack(net, kept, masks.target, images)
    random = attack(net, permuted(kept, where, 0), masks.target, images)
    found = []
    for i, s in enumerate(STRENGTHS):
        row: Row = {"masks": kind, "noise": net.spec.noise, "strength": s, "clean": net.train}
        for name, table in (("", held), ("random ", random)):
            for j, what in enumerate(("accuracy", "as digit")):
                value = table[i, :, j].double()
                row[f"{name}{what}"] = float(value.mean())
                row[f"{name}{what} error"] = float(value.std() / len(value) ** 0.5)
        found.append(row)
    return found


def gradients(net: Net, images: Images) -> Masks:
    """The library's other masks: the gradient of the margin at the mean image, one a digit."""
    return gradient_masks(net.layer, images.x.double() @ net.layer.embedding.mT)
