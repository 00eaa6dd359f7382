"""HOSVD, CP, dictionaries and similarity against dense tensors written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bilinear.layers import F64, layer, random
from gatewise.bilinear import (
    BilinearLayer,
    cp,
    effective_rank,
    eigenvector_agreement,
    folded,
    hosvd,
    in_dictionary,
    similarity,
    spectrum,
    strongest_pairs,
    tensor,
)
from gatewise.errors import DataError, WrongShape
from oracles.quadratic import full_tensor


@pytest.mark.parametrize("biased", [False, True])
def test_hosvd_is_the_svd_of_the_unfoldings(biased):
    one = layer(d=7, h=9, o=4, biased=biased)
    B = tensor(one).numpy()
    found = hosvd(one)
    by_output = np.linalg.svd(B.reshape(4, -1), compute_uv=False)
    by_input = np.linalg.svd(B.transpose(1, 0, 2).reshape(B.shape[1], -1), compute_uv=False)
    np.testing.assert_allclose(found.singular.numpy(), by_output, rtol=1e-10)
    size = min(len(by_input), len(found.input_singular))
    np.testing.assert_allclose(
        found.input_singular.numpy()[:size], by_input[:size], rtol=1e-7, atol=1e-7 * by_input[0]
    )
    back = torch.einsum("i,io,ijk->ojk", found.singular, found.outputs, found.parts.dense())
    np.testing.assert_allclose(back.numpy(), B, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.parts.norms(), torch.ones(4, dtype=F64))
    gram = found.inputs @ found.inputs.mT
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=F64))
    assert "share" in str(found)


def test_equal_outputs_leave_one_part():
    P = torch.ones(3, 5, dtype=F64)
    found = hosvd(BilinearLayer.from_weights(random(5, 6), random(5, 6, seed=1), P))
    assert len(found.parts) == 1 and float(found.singular[1]) < 1e-7 * float(found.singular[0])


def test_cp_finds_a_layer_that_is_smaller_than_it_looks():
    """Products spent twice: rank 3 behind 12 hidden products."""
    inner = layer(d=6, h=3, o=4, seed=5)
    P = inner.P.repeat_interleave(4, 1) / 4
    many = BilinearLayer.from_weights(
        inner.W.repeat_interleave(4, 0), inner.V.repeat_interleave(4, 0), P
    )
    found = cp(many, 3, steps=400)
    assert found.error < 1e-4 and found.cosine > 1 - 1e-9 and found.layer.hidden == 3
    X = random(5, 6, seed=2)
    torch.testing.assert_close(found.layer(X), many(X), rtol=1e-3, atol=1e-3)
    assert "rank 3" in str(found)


def test_the_error_of_cp_is_that_of_the_dense_tensors():
    one = layer(d=6, h=8, o=3)
    found = cp(one, 3, steps=60)
    B, small = full_tensor(one), full_tensor(found.layer)
    error = np.linalg.norm(B - small) / np.linalg.norm(B)
    cosine = (B * small).sum() / np.linalg.norm(B) / np.linalg.norm(small)
    assert found.error == pytest.approx(error, rel=1e-9)
    assert found.cosine == pytest.approx(cosine, rel=1e-9)
    assert 0 < found.error < 1
    with pytest.raises(DataError, match="rank of at least 1, got 0"):
        cp(one, 0)


def test_similarity_is_the_cosine_of_the_tensors():
    a, b = layer(h=7, biased=True), layer(h=4, seed=30, biased=True)
    A, B = full_tensor(a), full_tensor(b)
    cosine = (A * B).sum() / np.linalg.norm(A) / np.linalg.norm(B)
    found = similarity(a, b)
    assert found.cosine == pytest.approx(cosine, rel=1e-11)
    sizes = np.linalg.norm(A, axis=(1, 2)) * np.linalg.norm(B, axis=(1, 2))
    np.testing.assert_allclose(found.outputs.numpy(), (A * B).sum((1, 2)) / sizes, rtol=1e-11)
    assert similarity(a, a).cosine == pytest.approx(1, rel=1e-12)
    swapped = BilinearLayer.from_weights(
        a.V, a.W, a.P, w_bias=a.v_bias, v_bias=a.w_bias, skip=a.skip, bias=a.bias
    )
    assert similarity(a, swapped).cosine == pytest.approx(1, rel=1e-12)


def test_runs_are_compared_in_the_space_they_share():
    """A rotation of the hidden space changes no function: seen through the embeddings."""
    one = layer(embedding=random(6, 9, seed=3))
    turn = torch.linalg.qr(random(6, 6, seed=4))[0]
    other = BilinearLayer.from_weights(
        one.W @ turn, one.V @ turn, one.P, embedding=turn.mT @ one.embedding
    )
    assert similarity(one, other, space="input").cosine == pytest.approx(1, rel=1e-12)
    assert similarity(one, other).cosine < 0.9
    runs = [spectrum(each, 4, space="input") for each in (one, other)]
    agreed = eigenvector_agreement(runs)
    torch.testing.assert_close(agreed.distinct, torch.ones_like(agreed.distinct))
    third = spectrum(layer(seed=60, embedding=random(6, 9, seed=61)), 4, space="input")
    less = eigenvector_agreement([*runs, third])
    torch.testing.assert_close(less.with_self, (2 * less.distinct + 2) / 4)
    assert float(less.distinct.max()) < 1
    with pytest.raises(WrongShape, match="as many inputs and outputs: got 6 and 3 against 5 and 3"):
        similarity(one, layer(d=5))
    with pytest.raises(DataError, match="at least 2 runs, got 1"):
        eigenvector_agreement(runs[:1])


def test_effective_rank_counts_equal_entries():
    values = torch.tensor([[2.0, -2, 2, 0], [5.0, 0, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(effective_rank(values), torch.tensor([3.0, 1, 0], dtype=F64))


@pytest.mark.parametrize("tile", [4, 7, 64])
@pytest.mark.parametrize("k", [1, 10, 465])
def test_the_strongest_pairs_are_those_of_the_whole_table(tile, k):
    one = layer(d=6, h=8)
    F, u = random(30, 6, seed=7) * torch.logspace(0, -2, 30, dtype=F64)[:, None], random(3, seed=8)
    found = strongest_pairs(one, F, u, k, tile=tile)
    Q = torch.einsum("o,oij->ij", u, tensor(one))
    table = torch.triu(F @ Q @ F.mT)
    want = table.abs()[torch.triu_indices(30, 30).unbind()].sort(descending=True).values[:k]
    torch.testing.assert_close(found.values.abs(), want, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.values, table[found.pairs[:, 0], found.pairs[:, 1]])
    assert len({tuple(p) for p in found.pairs.tolist()}) == k
    if (tile, k) == (4, 10):
        assert found.formed < 0.6
    assert "of all pairs were formed" in str(found)


def test_a_dictionary_is_a_change_of_basis():
    one = layer(d=6, h=8)
    F, z = random(10, 6, seed=7), random(4, 10, seed=9)
    inside = in_dictionary(one, F)
    torch.testing.assert_close(inside.at(z), one(z @ F))
    with pytest.raises(WrongShape, match=r"rows of 6 numbers, got shape \(2, 5\)"):
        in_dictionary(one, random(2, 5))
    with pytest.raises(DataError, match="give a dictionary of"):
        in_dictionary(layer(biased=True), F)
    assert folded(layer(biased=True)).homogeneous
    with pytest.raises(DataError, match="1 <= k <= 55, got k=56"):
        strongest_pairs(one, F, [1.0, 0, 0], 56)
