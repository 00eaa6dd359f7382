"""Every region of a box: the published counts, and cell for cell what exact splitting finds."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
import oracles.cells as exact
from gatewise.errors import DataError, InternalError, NotPiecewiseAffine, WrongShape
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.regions.cells import chunks, gather
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral import enumeration
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from oracles import degenerate_nets as degenerate
from oracles.grid import patterns_on_grid


def default(*sizes: int) -> nn.Sequential:
    """torch's own initialisation at seed 0, in float64: the nets whose counts are published."""
    torch.manual_seed(0)
    pairs = itertools.pairwise(sizes[:-1])
    hidden = [m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(*sizes[-2:])).double()


def read(model: nn.Module, inputs: int) -> gw.Network:
    return gw.read(model, torch.zeros(1, inputs, dtype=torch.float64))


def codes(found) -> list[tuple[int, ...]]:
    """The pattern of each region as one tuple."""
    parts = [found.pattern.codes(n.name).reshape(len(found), -1) for n in found.network.gates]
    whole = torch.cat([p.int() for p in parts], 1) if parts else torch.zeros(len(found), 0)
    return [tuple(row) for row in whole.int().tolist()]


def area(corners: np.ndarray) -> float:
    """Shoelace: the corners must be in order around the polygon."""
    x, y = corners.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def assert_same_cells(found, layers, low, high) -> None:
    """Cell for cell, with its vertices, as exact splitting has them."""
    truth = {c.pattern: c for c in exact.cells(layers, low, high)}
    assert found.undecided == 0
    assert sorted(codes(found)) == sorted(truth)
    for i, pattern in enumerate(codes(found)):
        corners = [[float(v) for v in p] for p in truth[pattern].body.vertices]
        mine = found.vertices_of(i)
        assert len(mine) == len(corners)
        gap = np.abs(mine[:, None] - np.array(corners)[None]).max(2)
        slack = found.error[found.cells.vertex].max() + 1e-15 * np.abs(corners).max()
        assert gap.min(0).max() <= slack and gap.min(1).max() <= slack


@pytest.mark.parametrize(
    ("sizes", "regions", "vertices"),
    [
        ((2, 32, 32, 1), 795, 855),
        ((2, 64, 64, 64, 1), 6_668, 6_832),
        ((2, 128, 128, 128, 1), 20_714, 21_012),
        ((3, 16, 16, 1), 1_276, 1_663),
        ((4, 16, 16, 1), 6_658, 10_435),
        ((5, 16, 16, 1), 15_621, 35_394),
        ((6, 16, 16, 1), 35_227, 111_143),
    ],
)
def test_counts_are_the_published_ones(sizes, regions, vertices) -> None:
    found = enumerate_regions(read(default(*sizes), sizes[0]), (-1, 1))
    assert (len(found), len(found.vertices)) == (regions, vertices)
    assert found.complete and found.undecided == 0
    assert len(set(map(bytes, found.pattern.bits))) == regions
    assert np.median(found.error) < 1e-9 and found.error.max() < 1e-6


@pytest.mark.parametrize("kind", degenerate.TRUTH)
def test_degenerate_nets_have_their_true_cells(kind) -> None:
    found = enumerate_regions(read(degenerate.net(kind), 2), (-1, 1))
    assert len(found) == degenerate.TRUTH[kind]
    assert_same_cells(found, degenerate.arrays(kind), [-1, -1], [1, 1])


@pytest.mark.parametrize("kind", degenerate.TRUTH)
@pytest.mark.parametrize("seed", range(900, 903))
def test_degenerate_nets_of_other_seeds_have_their_true_cells(kind, seed) -> None:
    found = enumerate_regions(read(degenerate.net(kind, seed), 2), (-1, 1))
    assert_same_cells(found, degenerate.arrays(kind, seed), [-1, -1], [1, 1])


def near_miss() -> list[tuple[np.ndarray, np.ndarray]]:
    """Decimal weights: walls that would meet in a point if 0.1 were a float miss by 1e-17."""
    return [
        (
            np.array(
                [
                    [-0.3, 0.2],
                    [0.8999999999999999, -0.6000000000000001],
                    [0.3, -0.2],
                    [0.3, 0.3],
                    [0.1, 0.1],
                    [0.0, -0.3],
                    [-0.1, -0.2],
                    [0.2, -0.1],
                    [0.3, 0.1],
                ]
            ),
            np.array([0.3, -0.3, -0.1, -0.1, 0.1, -0.1, 0.1, 0.2, -0.1]),
        ),
        (
            np.array(
                [
                    [-0.1, -0.1, 0.0, 0.3, 0.3, 0.1, -0.1, -0.2, 0.3],
                    [
                        0.30000000000000004,
                        0.30000000000000004,
                        -0.0,
                        -0.8999999999999999,
                        -0.8999999999999999,
                        -0.30000000000000004,
                        0.30000000000000004,
                        0.6000000000000001,
                        -0.8999999999999999,
                    ],
                    [-0.1, 0.0, -0.2, 0.3, 0.1, 0.2, 0.3, -0.1, 0.1],
                    [0.1, 0.0, 0.1, -0.3, 0.1, 0.2, -0.2, 0.0, 0.0],
                    [-0.1, -0.2, 0.0, 0.0, -0.3, -0.1, 0.3, 0.3, -0.1],
                    [0.1, 0.0, -0.2, -0.1, -0.3, 0.1, -0.3, -0.2, 0.3],
                    [-0.3, -0.1, -0.1, -0.2, -0.2, -0.2, -0.2, 0.3, 0.1],
                    [-0.3, -0.3, 0.0, 0.1, -0.1, 0.3, -0.3, -0.3, -0.2],
                    [-0.2, 0.3, -0.3, -0.3, 0.0, 0.0, 0.2, 0.2, 0.1],
                    [-0.1, -0.1, 0.3, -0.2, -0.1, -0.2, -0.3, 0.0, 0.1],
                    [0.2, -0.3, 0.3, 0.1, 0.3, 0.1, -0.3, -0.1, 0.0],
                    [-0.1, -0.1, -0.1, 0.0, -0.1, -0.3, -0.1, 0.1, 0.2],
                    [0.3, -0.1, 0.3, 0.0, -0.3, 0.0, -0.1, 0.3, 0.3],
                ]
            ),
            np.array([0.0, -0.0, 0.1, 0.2, 0.3, 0.0, 0.1, 0.1, 0.1, -0.1, -0.1, 0.1, -0.1]),
        ),
        (
            np.array([[-0.3, -0.1, -0.1, -0.1, 0.0, -0.2, 0.1, -0.2, -0.3, -0.3, 0.1, -0.1, -0.3]]),
            np.array([0.0]),
        ),
    ]


def test_walls_that_miss_one_another_by_a_rounding_error() -> None:
    found = enumerate_regions(read(degenerate.sequential(near_miss()), 2), (-1, 1))
    assert len(found) == 100
    assert_same_cells(found, near_miss(), [-1, -1], [1, 1])


@st.composite
def layers(draw):
    """Small nets with weights that float, are decimal, or are small whole numbers."""
    d = draw(st.integers(1, 3))
    sizes = [d, draw(st.integers(1, 6)), draw(st.integers(1, 5)), 1]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grain = draw(st.sampled_from([None, 10.0, 1.0]))

    def some(*shape):
        x = rng.normal(size=shape)
        return x if grain is None else np.round(x * grain) / grain

    return [(some(b, a), some(b)) for a, b in itertools.pairwise(sizes)]


@settings(max_examples=60, deadline=None)
@given(layers())
def test_any_small_net_has_its_true_cells(parts) -> None:
    d = parts[0][0].shape[1]
    found = enumerate_regions(read(degenerate.sequential(parts), d), (-1.5, 2), workers=1)
    assert_same_cells(found, parts, [-1.5] * d, [2] * d)


def test_no_pattern_of_a_dense_grid_is_missing() -> None:
    model = default(2, 64, 64, 64, 1)
    found = enumerate_regions(read(model, 2), (-1, 1))
    parts = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in model[::2]]
    seen = set(map(tuple, patterns_on_grid(parts, (-1, -1), (1, 1), 1000)))
    assert len(seen) > 6_000 and seen <= set(codes(found))


def test_counts_do_not_hang_on_order_scale_or_float_type_of_the_weights() -> None:
    model = default(2, 32, 32, 1)
    rng = np.random.default_rng(0)
    order, factor = torch.from_numpy(rng.permutation(32)), torch.from_numpy(rng.uniform(0.1, 9, 32))
    with torch.no_grad():
        moved = default(2, 32, 32, 1)
        moved[0].weight.copy_(model[0].weight[order] * factor[:, None])
        moved[0].bias.copy_(model[0].bias[order] * factor)
        moved[2].weight.copy_(model[2].weight[:, order] / factor)
    single = enumerate_regions(read(default(2, 32, 32, 1).float().double(), 2), (-1, 1))
    assert len(enumerate_regions(read(moved, 2), (-1, 1))) == len(single) == 795


class Maxout(nn.Module):
    """The largest of k affine functions, unit by unit."""

    def __init__(self, inputs: int, units: int, k: int) -> None:
        super().__init__()
        self.linear, self.units = nn.Linear(inputs, units * k), units

    def forward(self, x):
        return self.linear(x).reshape(len(x), self.units, -1).amax(2)


class Residual(nn.Module):
    """x + W relu(V x)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return x + self.out(torch.relu(self.into(x)))


def convolutional() -> nn.Module:
    head = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    tail = [nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(*head, *tail).eval()


MODELS = {
    "maxout": lambda: nn.Sequential(Maxout(2, 5, 4), Maxout(5, 3, 3), nn.Linear(3, 1)),
    "residual": lambda: nn.Sequential(
        nn.Linear(2, 8), Residual(8), nn.ReLU(), Residual(8), nn.Linear(8, 1)
    ),
    "several knots": lambda: nn.Sequential(
        nn.Linear(2, 10), nn.Hardtanh(), nn.Linear(10, 8), nn.ReLU6(), nn.Linear(8, 1)
    ),
    "leaky": lambda: nn.Sequential(
        nn.Linear(2, 10), nn.LeakyReLU(), nn.Linear(10, 8), nn.PReLU(), nn.Linear(8, 1)
    ),
    "jumps": lambda: nn.Sequential(
        nn.Linear(2, 6), nn.Hardshrink(), nn.Linear(6, 6), nn.Threshold(0.1, -1.0), nn.Linear(6, 1)
    ),
    "gate behind gate": lambda: nn.Sequential(
        nn.LeakyReLU(),
        nn.Linear(2, 6),
        nn.ReLU(),
        nn.Hardtanh(),
        nn.Linear(6, 4),
        nn.ReLU(),
        nn.LeakyReLU(),
        nn.Linear(4, 1),
    ),
    "products on the way": lambda: nn.Sequential(
        nn.Linear(2, 8),
        nn.ReLU(),
        nn.Linear(8, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, 6),
        nn.ReLU(),
        nn.Linear(6, 1),
    ).eval(),
    "convolution and pooling": convolutional,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_cells_of_every_kind_of_gate_tile_the_box_and_are_right(name, seed) -> None:
    torch.manual_seed(seed)
    model = MODELS[name]().double()
    inputs = 16 if name.startswith("conv") else 2
    network = read(model, inputs)
    where = slice_through(*torch.randn(3, inputs).double(), margin=1.0)
    found = enumerate_regions(network, slice=where)
    areas = np.array([area(found.vertices_of(i)) for i in range(len(found))])
    assert areas.min() > 0
    assert areas.sum() == pytest.approx(np.prod(where.high - where.low), rel=1e-9)
    assert len(set(map(bytes, found.pattern.bits))) == len(found)
    inside = pattern_of(network, network.rows(where.inputs(found.interior)))
    assert (inside.bits == found.pattern.bits).all()
    points = np.random.default_rng(seed).uniform(where.low, where.high, (20_000, 2))
    seen = pattern_of(network, network.rows(where.inputs(points))).bits
    assert set(map(bytes, seen)) <= set(map(bytes, found.pattern.bits))
    maps = found.map
    at = torch.from_numpy(where.inputs(found.interior))
    gap = (maps.matrix() @ at[..., None])[..., 0] + maps.offset - network(at)
    assert gap.abs().max() < 1e-9


def test_one_layer_of_hyperplanes_in_general_position() -> None:
    """sum C(n, i), i <= d: n hyperplanes that all meet inside the box."""
    torch.manual_seed(3)
    for d, n, truth in ((2, 6, 22), (3, 7, 64), (4, 6, 57), (8, 5, 32)):
        model = nn.Sequential(nn.Linear(d, n), nn.ReLU(), nn.Linear(n, 1)).double()
        assert len(enumerate_regions(read(model, d), (-1e3, 1e3))) == truth


def test_a_cell_with_more_facets_than_one_word_has_bits() -> None:
    angle = torch.arange(150, dtype=torch.float64) * 2 * torch.pi / 150
    model = nn.Sequential(nn.Linear(2, 150), nn.ReLU(), nn.Linear(150, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
        model[0].bias.fill_(0.5)
    found = enumerate_regions(read(model, 2), (-1, 1))
    sides = np.diff(found.cells.ptr)
    assert sides.max() == 150 and found.cells.mask.shape[1] > 1
    assert sum(area(found.vertices_of(i)) for i in range(len(found))) == pytest.approx(4)


def constant(bias: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.zero_()
            layer.bias.fill_(bias)
    return model.double()


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0])
def test_a_constant_network_has_one_region(bias) -> None:
    found = enumerate_regions(read(constant(bias), 2), (-1, 1))
    assert len(found) == 1 and len(found.vertices) == 4
    assert codes(found) == [(int(bias > 0),) * 5]


def test_a_knot_through_a_corner_and_along_a_wall_of_the_box() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 1.0]))  # the diagonal; and the left wall
    found = enumerate_regions(read(model, 2), (-1, 1))
    assert sorted(codes(found)) == [(0, 1), (1, 1)]
    assert len(found.vertices) == 4


def test_inputs_held_by_equal_bounds_are_no_dimensions() -> None:
    network = read(default(3, 16, 16, 1), 3)
    whole = enumerate_regions(network, (-1, 1))
    plane = enumerate_regions(network, ([-1, 0.25, -1], [1, 0.25, 1]))
    assert plane.dimension == 2 and (plane.slice.inputs(plane.vertices)[:, 1] == 0.25).all()
    assert set(map(bytes, plane.pattern.bits)) <= set(map(bytes, whole.pattern.bits))
    point = enumerate_regions(network, (0.25, 0.25))
    assert (point.dimension, len(point), len(point.vertices)) == (0, 1, 1)
    at = pattern_of(network, torch.full((1, 3), 0.25, dtype=torch.float64))
    assert (point.pattern.bits == at.bits).all()


def test_counts_by_gate_grow_and_end_with_the_regions() -> None:
    found = enumerate_regions(read(default(2, 64, 64, 64, 1), 2), (-1, 1))
    counts = list(found.counts.values())
    assert counts == sorted(counts) and counts[-1] == len(found) and len(counts) == 3


def test_the_answer_does_not_hang_on_threads_or_chunks(monkeypatch) -> None:
    network = read(default(2, 32, 32, 32, 1), 2)
    one = enumerate_regions(network, (-1, 1), workers=1)
    monkeypatch.setattr(chunks, "FORM_BYTES", 1 << 14)
    two = enumerate_regions(network, (-1, 1), workers=2)
    assert sorted(codes(one)) == sorted(codes(two))
    assert len(one.vertices) == len(two.vertices)
    again = enumerate_regions(network, (-1, 1), workers=2)
    assert codes(again) == codes(two) and (again.vertices == two.vertices).all()


def test_stopping_early_says_so() -> None:
    told = []
    network = read(default(2, 64, 64, 64, 1), 2)
    part = enumerate_regions(
        network, (-1, 1), max_regions=500, workers=1, progress=lambda *x: told.append(x)
    )
    assert not part.complete and "incomplete" in repr(part)
    assert len(part) == 500 == told[-1][0] and 0 < told[-1][1] < 1
    whole = enumerate_regions(network, (-1, 1), max_regions=10_000)
    assert whole.complete and len(whole) == 6_668


def test_vertices_that_share_a_key_by_chance_are_found_out(monkeypatch) -> None:
    network = read(default(2, 8, 8, 1), 2)

    def one_key(key, used):
        return gather.first_of(np.where(key == key[0], key[1], key), used)

    monkeypatch.setattr(enumeration, "first_of", one_key)
    with pytest.raises(InternalError, match="two vertices have one key"):
        enumerate_regions(network, (-1, 1))


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    network = read(default(2, 4, 1), 2)
    with pytest.raises(DataError, match="either a box or a slice"):
        enumerate_regions(network)
    with pytest.raises(WrongShape, match="2 numbers, one for each input"):
        enumerate_regions(network, ([0, 0, 0], [1, 1, 1]))
    with pytest.raises(DataError, match="a box must be finite"):
        enumerate_regions(network, (-np.inf, 1))
    with pytest.raises(DataError, match="a box reaches 1e\\+150 at most, got 1e\\+308"):
        enumerate_regions(network, (-1e308, 1e308))
    with pytest.raises(DataError, match="low must not exceed high, got low 1 and high -1"):
        enumerate_regions(network, (1, -1))
    with pytest.raises(DataError, match="at most 8 free inputs, got 9"):
        enumerate_regions(read(default(9, 4, 1), 9), (-1, 1))
    with pytest.raises(DataError, match="max_regions must be a whole number, at least 1, got 0"):
        enumerate_regions(network, (-1, 1), max_regions=0)
    with pytest.raises(DataError, match="workers must be a whole number, at least 1, got 0"):
        enumerate_regions(network, (-1, 1), workers=0)
    with pytest.raises(DataError, match="points span fewer than 2 dimensions"):
        slice_through([0, 0], [1, 1], [2, 2])
    with pytest.raises(DataError, match="the slice has points of 3 inputs, the network takes 2"):
        enumerate_regions(network, slice=slice_through([0, 0, 0], [1, 0, 0], [0, 1, 0]))
    curved = read(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double(), 2)
    with pytest.raises(NotPiecewiseAffine, match="enumerating regions needs"):
        enumerate_regions(curved, (-1, 1))
