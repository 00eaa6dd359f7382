"""Gram matrices of packed gates against integer arithmetic on unpacked ones."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
from gatewise.dual.gating import gated, masks, pattern_of
from gatewise.dual.kernels import packed, panels
from gatewise.dual.kernels.gram import from_pattern, gram, mirror, overlaps, pack, relative_error
from gatewise.errors import DataError, WrongShape

METHODS = ("table", "word", "matrix")
SCALES = ("raw", "normalised", "cosine", "log")
DTYPES = ("float32", "float64")


@pytest.fixture(params=METHODS)
def method(request):
    if request.param == "table" and panels.best_method() != "table":
        pytest.skip("this processor has no AVX2")
    return request.param


def masks_of(rows: int, widths, seed: int = 0, share: float = 0.4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random((rows, w)) < share for w in widths]


def integers(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Small integers, so that products are exact: the oracle needs no tolerance."""
    return np.random.default_rng(seed).integers(-3, 4, (rows, columns)).astype(float)


def counted(one, two, x=None, x2=None, biases=None) -> np.ndarray:
    """K_l = (K_{l-1} + b_l) o_l in Python's integers: any depth, no rounding."""
    starts = biases or [False] * (len(one) + 1)
    kernel = np.ones((len(one[0]), len(two[0])), object)
    if x is not None:
        kernel = x.astype(int).astype(object) @ x2.astype(int).T.astype(object)
    for m, n, start in zip(one, two, starts[:-1], strict=True):
        kernel = (kernel + int(start)) * (m.astype(int) @ n.astype(int).T).astype(object)
    return kernel + int(starts[-1])


# -- exactness --


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 4, 63, 64, 65, 127, 252, 253, 256, 300, 1023])
def test_overlaps_are_the_integer_product(width, dtype, method):
    one, two = masks_of(9, [width]), masks_of(133, [width], 1)
    found = gram(pack(one), pack(two), dtype=dtype, method=method)
    assert (found == counted(one, two)).all()
    assert found.dtype == dtype


def test_gates_all_on_are_counted_to_the_last(method):
    """Sums of a byte at their largest: 252 gates of 63 half-bytes, and many of them."""
    for width in (252, 256, 1000, 4096):
        on = [np.ones((3, width), bool)]
        assert (gram(pack(on), method=method) == width).all()


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    columns=st.one_of(st.none(), st.integers(1, 300)),
    widths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    inputs=st.one_of(st.none(), st.integers(1, 9)),
    data=st.data(),
)
def test_any_shape_is_the_integer_recursion(rows, columns, widths, inputs, data):
    biases = data.draw(st.lists(st.booleans(), min_size=len(widths) + 1, max_size=len(widths) + 1))
    method = data.draw(st.sampled_from([m for m in METHODS if m in (panels.best_method(), "word")]))
    one = masks_of(rows, widths, 2)
    two = one if columns is None else masks_of(columns, widths, 3)
    x = None if inputs is None else integers(rows, inputs)
    x2 = x if columns is None or inputs is None else integers(columns, inputs, 1)
    other = (None, x, None) if columns is None else (pack(two), x, x2)
    found = gram(pack(one), *other, biases=biases, dtype="float64", method=method)
    assert (found == counted(one, two, x, x2, biases).astype(float)).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 128, 129, 256, 257, 600])
def test_the_triangle_and_its_mirror_are_the_whole(rows, method):
    m, x = masks_of(rows, [70, 5]), integers(rows, 6)
    half = gram(pack(m), inputs=x, method=method)
    full = gram(pack(m), pack(m), x, x, method=method)
    assert (half == full).all()
    assert half.shape == (rows, rows)


def test_no_rows_on_one_side_are_an_empty_kernel():
    found = gram(pack(masks_of(0, [5])), pack(masks_of(7, [5])), np.ones((0, 2)), np.ones((7, 2)))
    assert found.shape == (0, 7)


def test_columns_of_threads_meet(method):
    m = masks_of(700, [90, 33])
    alone = gram(pack(m), method=method)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = gram(pack(m), method=method)
    finally:
        torch.set_num_threads(threads)
    assert (alone == shared).all()


def test_one_layer_among_others():
    one, two = masks_of(20, [30, 40, 50]), masks_of(31, [30, 40, 50], 1)
    found = overlaps(pack(one), 1, pack(two))
    assert (found == counted(one[1:2], two[1:2])).all()


def test_soft_gates_are_a_matrix_product():
    rng = np.random.default_rng(0)
    soft, hard = rng.random((40, 17)), masks_of(40, [33, 65])
    found = gram(pack([hard[0], soft, hard[1]]), biases=[True] * 4, dtype="float64")
    k = (1 + 1) * counted(hard[:1], hard[:1]).astype(float)
    k = (k + 1) * (soft @ soft.T)
    k = (k + 1) * counted(hard[1:], hard[1:]).astype(float) + 1
    np.testing.assert_allclose(found, k, rtol=1e-13)


# -- scales --


@pytest.mark.parametrize("biases", [None, [True] * 4, [True, False, False, False]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_normalised_divides_by_inputs_and_units(dtype, biases, method):
    widths = [64, 10, 33]
    one, two = masks_of(30, widths), masks_of(140, widths, 1)
    x, x2 = integers(30, 7), integers(140, 7, 1)
    k = (x @ x2.T) / 7
    for m, n, w, b in zip(one, two, widths, biases or [False] * 3, strict=False):
        k = (k + b) * (m.astype(float) @ n.astype(float).T) / w
    k += biases[-1] if biases else 0
    options = {"biases": biases, "scale": "normalised", "dtype": dtype, "method": method}
    found = gram(pack(one), pack(two), x, x2, **options)
    np.testing.assert_allclose(found, k, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)


@pytest.mark.parametrize("biases", [None, [True] * 4])
def test_cosine_and_log_are_those_of_the_integers(biases, method):
    widths = [64, 10, 33]
    one, two = masks_of(30, widths), masks_of(140, widths, 1)
    one[0][4] = False  # no active path, unless one starts at a later bias
    x, x2 = integers(30, 7), integers(140, 7, 1)
    raw = counted(one, two, x, x2, biases).astype(float)
    own = np.diag(counted(one, one, x, x, biases).astype(float))
    own2 = np.diag(counted(two, two, x2, x2, biases).astype(float))
    norms = np.sqrt(np.outer(own, own2))
    cosine = np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0)
    options = {"biases": biases, "dtype": "float64", "method": method}
    found = gram(pack(one), pack(two), x, x2, scale="cosine", **options)
    np.testing.assert_allclose(found, cosine, atol=1e-14)
    with np.errstate(divide="ignore"):
        log = np.log(np.abs(raw))
    found = gram(pack(one), pack(two), x, x2, scale="log", **options)
    np.testing.assert_allclose(found, log, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_depth_overflows(dtype):
    """60 layers of 512 gates: 10^160 paths."""
    m = masks_of(5, [512] * 60)
    exact = counted(m, m)
    logs = np.array([[math.log(v) for v in line] for line in exact])
    found = gram(pack(m), scale="log", dtype=dtype)
    np.testing.assert_allclose(found, logs, rtol=1e-12 if dtype == "float64" else 1e-6)
    own = np.diag(logs) / 2
    cosine = np.exp(logs - own[:, None] - own)
    found = gram(pack(m), scale="cosine", dtype=dtype)
    np.testing.assert_allclose(found, cosine, rtol=1e-11 if dtype == "float64" else 1e-4)


def test_raw_counts_that_overflow_are_refused():
    m = masks_of(5, [512] * 20, share=0.9)
    with pytest.raises(DataError, match=r"raw kernel reaches 10\^53, more than float32 holds: use"):
        gram(pack(m))
    assert np.isfinite(gram(pack(m), dtype="float64")).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stated_error_holds(dtype):
    rng = np.random.default_rng(0)
    m, x = masks_of(20, [100, 31]), rng.normal(size=(20, 50))
    exact = np.array([[sum(map(Fraction, a * 0 + 1)) for a in x] for _ in x], object)
    fractions = np.vectorize(Fraction, otypes=[object])(x)
    exact = (fractions @ fractions.T + 1) * counted(m[:1], m[:1])
    exact = (exact + 1) * counted(m[1:], m[1:]) + 1
    sizes = (np.abs(x) @ np.abs(x).T + 1) * counted(m[:1], m[:1])
    sizes = ((sizes + 1) * counted(m[1:], m[1:]) + 1).astype(float)
    found = gram(pack(m), inputs=x, biases=[True] * 3, dtype=dtype)
    wrong = np.vectorize(lambda a, b: abs(float(Fraction(float(a)) - b)))(found, exact)
    assert (wrong <= relative_error(50, 2, dtype) * sizes).all()
    assert wrong.max() > 0


# -- what is skipped changes nothing --


@pytest.mark.parametrize("columns", [None, 90])
def test_dead_gates_are_left_out(columns, monkeypatch):
    monkeypatch.setattr(packed, "REPACK", 0.0)
    one = masks_of(50, [130, 40])
    two = masks_of(columns, [130, 40], 1) if columns else one
    one[0][:, 3:77] = False
    two[0][:, 100:] = False
    one[1][:] = False if columns else one[1]
    first, second = packed.without_dead(pack(one), pack(one) if columns is None else pack(two))
    assert first.units[0] == 130 - 74 - 30 if columns else first.units[0] < 60
    found = gram(pack(one), None if columns is None else pack(two), scale="normalised")
    want = counted(one, two).astype(float) / (130 * 40)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert len(second) == len(two[0])


def test_inputs_that_are_zero_in_all_rows_are_left_out():
    x = integers(30, 8)
    x[:, 2:5] = 0
    m = masks_of(30, [9])
    assert (gram(pack(m), inputs=x) == counted(m, m, x, x)).all()


# -- patterns --


def test_gates_of_a_pattern_are_the_masks():
    layers = nn.Linear(6, 70), nn.ReLU(), nn.Linear(70, 9), nn.ReLU(), nn.Linear(9, 3)
    module = nn.Sequential(*layers)
    whole, x = gated(gw.read(module)), torch.randn(25, 6)
    seen = from_pattern(pattern_of(whole, x), whole.sites)
    for layer, units, mask in zip(seen.layers, seen.units, masks(whole, x), strict=True):
        bits = np.unpackbits(layer.view(np.uint8), axis=1)
        assert (bits[:, :units] == mask.reshape(25, units).numpy()).all()
        assert not bits[:, units:].any()


# -- refusals --


def test_wrong_arguments_are_refused_in_a_sentence():
    m, x = pack(masks_of(4, [5, 6])), np.ones((4, 3))
    cases = [
        (DataError, "scale must be one of raw, normalised, cosine, log", {"scale": "big"}),
        (WrongShape, "between 3 weight layers, got 1 biases", {"biases": [True]}),
        (WrongShape, r"inputs must be \(4, d\) as the gates, got \(3, 3\)", {"inputs": x[:3]}),
        (WrongShape, "out must be C-contiguous float32", {"out": np.zeros((4, 4))}),
        (WrongShape, "out must be C-contiguous", {"out": np.zeros((4, 8), np.float32)[:, ::2]}),
        (WrongShape, r"gate layers of \(5, 6\) and \(5,\) units", {"gates2": m.only(0)}),
        (WrongShape, "inputs of 3 and no columns", {"inputs": x, "gates2": m}),
        (WrongShape, "inputs of 3 and 2", {"inputs": x, "gates2": m, "inputs2": x[:, :2]}),
        (DataError, "dtype must be float32 or float64", {"dtype": "float16"}),
    ]
    for kind, words, options in cases:
        with pytest.raises(kind, match=words):
            gram(m, **options)


def test_words_that_do_not_fit_their_units_are_refused():
    with pytest.raises(WrongShape, match="gate layer 1 is uint64"):
        packed.Gates((np.zeros((3, 1), np.uint64),), (65,))
    with pytest.raises(WrongShape, match="gate layer 2 is"):
        pack([np.ones((3, 5), bool), np.ones((4, 5), bool)])


def test_an_answer_is_written_where_asked():
    m = pack(masks_of(6, [5]))
    room = np.full((6, 6), np.nan, np.float32)
    assert gram(m, out=room) is room
    assert (room == gram(m)).all()


def test_without_numba_the_answer_is_the_same(monkeypatch):
    m, x = masks_of(300, [70, 9]), integers(300, 4)
    want = gram(pack(m), inputs=x)
    monkeypatch.setattr(panels, "best_method", lambda: "matrix")
    monkeypatch.setattr("gatewise.dual.kernels.gram.best_method", lambda: "matrix")
    assert (gram(pack(m), inputs=x) == want).all()


def test_mirroring_leaves_the_lower_triangle():
    square = np.arange(100.0).reshape(10, 10).astype(np.float32)
    lower = np.tril(square)
    mirror(square, 0, 10)
    assert (square == square.T).all()
    assert (np.tril(square) == lower).all()
