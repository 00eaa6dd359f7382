"""A published MNIST model (embedding, bilinear layer on a residual stream, head) read from arrays.

Its eigenvectors and masks are checked on the first 2,000 test images.
"""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

import shared
from gatewise.bilinear import (
    BilinearLayer,
    contributions,
    gradient_masks,
    pseudo_inverse_masks,
    quadratic_part,
    spectrum,
    truncation,
)

FILES = shared.params("bilinear/bilinear_mnist_1layer/gaussian_0.15.npz")


def idx(name: str) -> np.ndarray:
    with gzip.open(shared.folder() / "images" / "mnist" / name) as file:
        held = file.read()
    shape = np.frombuffer(held, ">i4", held[3], 4)
    return np.frombuffer(held, np.uint8, offset=4 + 4 * held[3]).reshape(shape)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    X = idx("t10k-images-idx3-ubyte.gz")[:count].reshape(-1, 784) / 255.0
    return torch.tensor(X), torch.tensor(idx("t10k-labels-idx1-ubyte.gz")[:count].astype(int))


def model(path) -> BilinearLayer:
    held = np.load(path)
    both, head = held["blocks.0.weight"], held["head.weight"]
    return BilinearLayer.from_weights(
        both[:512], both[512:], head, skip=head, embedding=held["embed.weight"], name="mnist"
    )


def accuracy(layer: BilinearLayer, X: torch.Tensor, y: torch.Tensor) -> float:
    return float((layer(X @ layer.embedding.mT).argmax(1) == y).double().mean())


@pytest.mark.parametrize("path", FILES)
def test_the_stated_accuracy_is_reproduced(path):
    X, y = images(10_000)
    assert accuracy(model(path), X, y) == 0.9817


@pytest.mark.parametrize("path", FILES)
def test_a_score_of_eigenvectors_says_what_the_model_says(path):
    layer, (X, y) = model(path), images(2000)
    hidden = X @ layer.embedding.mT
    whole = truncation(spectrum(layer, 20, space="input"), X, labels=y)
    assert float(whole.accuracy[20]) >= whole.whole - 0.003
    weighted = truncation(spectrum(layer, 20, space="data", data=hidden), hidden, labels=y)
    assert float(weighted.accuracy[20]) >= weighted.whole - 0.003
    ten = contributions(spectrum(layer, 10), hidden[:5])
    torch.testing.assert_close(ten.terms.sum(2) + ten.rest, layer(hidden[:5]))


@pytest.mark.parametrize("path", FILES)
def test_the_spectrum_is_that_of_the_dense_forms(path):
    layer = quadratic_part(model(path))
    found = spectrum(layer, 10, method="implicit")
    W, V, P = (t.numpy() for t in (layer.W, layer.V, layer.P))
    for u in (0, 4, 9):
        Q = (W * P[u][:, None]).T @ V
        values = np.linalg.eigvalsh((Q + Q.T) / 2)
        want = values[np.argsort(-np.abs(values))[:10]]
        np.testing.assert_allclose(found.values[u].numpy(), want, rtol=1e-6)


@pytest.mark.parametrize("path", FILES)
def test_masks_do_what_was_published_and_shuffled_ones_do_not(path):
    """At strength .3: .625 +- .036 on training images was published; shuffled masks keep .975."""
    layer, (X, y) = model(path), images(1000)
    found = spectrum(quadratic_part(layer), 40)
    masks = pseudo_inverse_masks(found, each=10).of(3).oriented(X).scaled(0.3)
    assert len(masks) == 30
    rng = torch.Generator().manual_seed(0)
    hit = np.mean([accuracy(layer, X + m, y) for m in masks])
    shuffled = [m[torch.randperm(784, generator=rng)] for m in masks[::3]]
    assert 0.5 < hit < 0.7
    assert np.mean([accuracy(layer, X + m, y) for m in shuffled]) > 0.9
    slopes = gradient_masks(layer, X @ layer.embedding.mT).scaled(0.3)
    assert np.mean([accuracy(layer, X + m, y) for m in slopes]) < hit
