"""The data: scikit-learn's digits, and 12,000 images of CIFAR-10; shifts and flips of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def digits(held_out: float, seed: int) -> tuple[np.ndarray, ...]:
    """(X, y, X to test on, y of it): grey values from 0 to 1, a split of each class by `seed`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, test_size=held_out, random_state=seed, stratify=y)
    return parts[0], parts[2], parts[1], parts[3]


def cifar(rows: int, shrink: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(X, y, X to test on, y of it): images (rows, 3, 32 / shrink, ..), channels standardised."""
    folder = Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")
    folder = folder / "images" / "cifar10"
    X, y = _read(folder / "cifar10_train10000.npz", shrink)
    T, t = _read(folder / "cifar10_test2000.npz", shrink)
    X, y = X[:rows], y[:rows]
    mean, spread = X.mean((0, 2, 3), keepdim=True), X.std((0, 2, 3), keepdim=True)
    return (X - mean) / spread, y, (T - mean) / spread, t


def _read(path: Path, shrink: int) -> tuple[Tensor, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    X = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (F.avg_pool2d(X, shrink) if shrink > 1 else X), torch.from_numpy(labels).long()


def changed(flips: bool, crops: int):
    """A change of a batch's images: each flipped with even chances, shifted by up to `crops`."""

    def change(X: Tensor, rng: torch.Generator) -> Tensor:
        if flips:
            chosen = (torch.rand(len(X), generator=rng) < 0.5).to(X.device)
            X = torch.where(chosen[:, None, None, None], X.flip(3), X)
        if crops:
            size = X.shape[-1]
            wide = F.pad(X, (crops,) * 4)
            down, right = torch.randint(0, 2 * crops + 1, (2, len(X)), generator=rng).to(X.device)
            steps = torch.arange(size, device=X.device)
            rows = (down[:, None] + steps)[:, None, :, None]
            columns = (right[:, None] + steps)[:, None, None, :]
            image = torch.arange(len(X), device=X.device)[:, None, None, None]
            channel = torch.arange(X.shape[1], device=X.device)[None, :, None, None]
            X = wide[image, channel, rows, columns]
        return X

    return change
