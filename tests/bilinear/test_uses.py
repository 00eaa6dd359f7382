"""What a layer says of a row: contributions, curvature and masks, against autograd and algebra."""

from __future__ import annotations

import pytest
import torch

from bilinear.layers import F64, layer, random
from gatewise.bilinear import (
    BilinearLayer,
    along,
    contributions,
    curvature,
    eigenvector_masks,
    gradient_masks,
    linear_part,
    pseudo_inverse_masks,
    quadratic_part,
    spectrum,
)
from gatewise.errors import DataError


@pytest.mark.parametrize("biased", [False, True])
def test_contributions_and_the_rest_make_the_output(biased):
    one = layer(d=8, biased=biased)
    X = random(6, 8, seed=3)
    found = contributions(spectrum(one, 3), X)
    torch.testing.assert_close(found.terms.sum(2) + found.rest, one(X), rtol=1e-12, atol=1e-12)
    whole = contributions(spectrum(one, 8 + biased), X)
    assert float(whole.rest.abs().max()) < 1e-11
    assert "the first, output by output" in str(found)


def test_a_layer_is_its_quadratic_and_its_linear_part():
    one = layer(biased=True)
    X = random(6, 6, seed=3)
    slopes, constant = linear_part(one)
    whole = quadratic_part(one)(X) + X @ slopes.mT + constant
    torch.testing.assert_close(whole, one(X), rtol=1e-12, atol=1e-12)
    assert quadratic_part(one).homogeneous


@pytest.mark.parametrize("biased", [False, True])
def test_curvature_is_autograds(biased):
    one, u = layer(biased=biased), random(3, seed=8)
    X = random(4, 6, seed=9)
    found = curvature(one, u, X)
    for x, gradient in zip(X, found.gradients, strict=True):
        hessian = torch.autograd.functional.hessian(lambda v: one(v) @ u, x)
        torch.testing.assert_close(found.hessian, hessian)
        torch.testing.assert_close(
            gradient, torch.autograd.functional.jacobian(lambda v: one(v) @ u, x)
        )
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(found.hessian))


def test_a_sphere_is_curved_by_one_over_its_radius():
    ball = BilinearLayer.from_weights(torch.eye(4), torch.eye(4), torch.ones(1, 4))
    x = torch.tensor([[0.0, 3.0, 0.0, 4.0]], dtype=F64)
    principal = curvature(ball, [1.0], x).principal
    torch.testing.assert_close(principal, torch.full((1, 3), 0.2, dtype=F64))
    assert bool(curvature(ball, [1.0], 0 * x).principal.isnan().all())
    with pytest.raises(DataError, match="one output direction, got 2"):
        curvature(layer(), random(2, 3), random(1, 6))


def test_a_line_sees_a_parabola():
    one, u = layer(biased=True), random(3, seed=8)
    x, v = random(6, seed=1), random(6, seed=2)
    a, b, c = along(one, u, x, v)
    for t in (-2.0, 0.3, 5.0):
        assert a + b * t + c * t * t == pytest.approx(float(one(x + t * v) @ u), rel=1e-10)


def test_a_pseudo_inverse_mask_reaches_its_eigenvector_alone():
    one = layer(d=12, h=20, o=3)
    found = spectrum(one, 6)
    masks = pseudo_inverse_masks(found, each=2)
    count = len(masks.masks)
    assert 3 < count <= 6
    own = torch.stack(
        [
            found.readers[u, found.values[u].argsort(descending=True)[r]]
            for u, r in zip(masks.target.tolist(), masks.rank.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(own @ masks.masks.mT, torch.eye(count, dtype=F64))
    assert float(masks.scaled(0.3).std(1).max()) == pytest.approx(0.3)
    assert float(masks.scaled(2, by="norm").norm(dim=1).min()) == pytest.approx(2)
    with pytest.raises(DataError, match="by must be 'std' or 'norm', got 'max'"):
        masks.scaled(1, by="max")


def test_the_gradient_mask_is_the_gradient_of_the_margin_at_the_mean():
    one = layer(biased=True, embedding=random(6, 9, seed=5))
    pixels = random(40, 9, seed=6)
    rows = pixels @ one.embedding.mT
    masks = gradient_masks(one, rows)
    mean = pixels.mean(0)
    for c in range(3):
        want = torch.autograd.functional.jacobian(
            lambda p, c=c: one(one.embedding @ p)[c] - one(one.embedding @ p).mean(), mean
        )
        torch.testing.assert_close(masks.masks[c], want)
    assert masks.space == "input"


def test_steering_along_an_eigenvector_moves_its_output_most():
    one = layer(d=10, h=30, o=2)
    mask = eigenvector_masks(spectrum(one, 10)).masks
    X = random(500, 10, seed=4)
    rise = (one(X + 5 * mask[0]) - one(X))[:, 0].mean()
    others = [(one(X + 5 * v) - one(X))[:, 0].mean() for v in torch.eye(10, dtype=F64)]
    assert float(rise) > float(max(others))
    with pytest.raises(DataError, match="masks need eigenvectors of x itself"):
        eigenvector_masks(spectrum(layer(biased=True), 2))
    with pytest.raises(DataError, match="no direction has a positive eigenvalue"):
        pseudo_inverse_masks(spectrum(BilinearLayer.from_weights(-torch.eye(2), torch.eye(2)), 2))
