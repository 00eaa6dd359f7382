"""MNIST and Fashion-MNIST as (rows, 784) in [0, 1], the challenge's labels, and augmentations."""

from __future__ import annotations

import gzip
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"mnist": "mnist", "fashion": "fashion_mnist"}
SIDE = 28


@dataclass(frozen=True, eq=False)
class Images:
    """x (rows, 784) of 0 to 1, y (rows,) labels; the same of the test rows."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def folder() -> Path:
    """Where real data lie: GATEWISE_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a gzipped IDX file."""
    raw = gzip.decompress(path.read_bytes())
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


@lru_cache(maxsize=2)
def images(name: str, task: str = "classes", rows: int | None = None) -> Images:
    """All rows, or the first `rows` for training; task "challenge": the two classes of figure 6."""
    if task == "challenge":
        found = images(name, rows=rows)
        target = found.x[6]
        labels = [challenge_labels(x, target) for x in (found.x, found.test_x)]
        return Images(found.x, labels[0], found.test_x, labels[1])
    here = folder() / "images" / FOLDERS[name]
    parts = []
    for part in ("train", "t10k"):
        x = read_idx(here / f"{part}-images-idx3-ubyte.gz")
        y = read_idx(here / f"{part}-labels-idx1-ubyte.gz")
        x, y = (a[:rows] if part == "train" else a for a in (x, y))
        pixels = torch.from_numpy(x.reshape(len(x), -1).astype(np.float32) / 255)
        parts += [pixels, torch.from_numpy(y.astype(np.int64))]
    return Images(*parts)


def challenge_labels(x: Tensor, target: Tensor) -> Tensor:
    """1 where cos(x, target) > 0.4 or cos(x, 1 - target) > 0.4, else 0."""
    near = [F.cosine_similarity(x, t.unsqueeze(0)) > 0.4 for t in (target, 1 - target)]
    return (near[0] | near[1]).long()


# ---------------------------------------------------------------- augmentations


def noisy(
    x: Tensor, kind: str, level: float, noise: float, bank: Tensor, draw: torch.Generator
) -> Tensor:
    """x (rows, 784) plus noise of that standard deviation, blurred where kind is "blur".

    Noise is read from the normals of `bank` at a random place.
    """
    if noise:
        at = int(torch.randint(len(bank) - x.numel(), (1,), generator=draw))
        x = x.add(bank[at : at + x.numel()].view_as(x), alpha=noise)
    return blurred(x, level) if kind == "blur" and level else x


def moved(x: Tensor, kind: str, level: float, draw: torch.Generator) -> Tensor:
    """Each image turned by up to +-level degrees ("rotation"), moved by up to +-level of its width
    ("translation"), or as it is."""
    if kind not in ("rotation", "translation") or not level:
        return x
    n = len(x)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    if kind == "rotation":
        angle = (2 * torch.rand(n, generator=draw) - 1) * math.radians(level)
        theta[:, 0, 0] = theta[:, 1, 1] = angle.cos()
        theta[:, 1, 0] = angle.sin()
        theta[:, 0, 1] = -angle.sin()
    else:
        theta[:, :, 2] = (2 * torch.rand(n, 2, generator=draw) - 1) * 2 * level
    grid = F.affine_grid(theta, (n, 1, SIDE, SIDE), align_corners=False)
    seen = F.grid_sample(x.view(n, 1, SIDE, SIDE), grid, align_corners=False)
    return seen.view(n, -1)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of five by five pixels, the border reflected."""
    line = torch.exp(-0.5 * (torch.arange(-2.0, 3) / sigma).square())
    line /= line.sum()
    whole = F.pad(x.view(-1, 1, SIDE, SIDE), (2, 2, 2, 2), mode="reflect")
    across = F.conv2d(whole, line.view(1, 1, 1, 5))
    return F.conv2d(across, line.view(1, 1, 5, 1)).reshape(len(x), -1)
