"""Boundaries: the pieces that exact arithmetic finds, region by region, and lines without gaps."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.errors import DataError
from gatewise.ir.kinds import Affine
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral import levels
from gatewise.regions.polyhedral.boundary import boundary, class_boundary
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from nets import F64, Chain, dense, mlp
from oracles import degenerate_nets
from oracles.cells import at, cells


def layers(network) -> list:
    affine = [n.kind for n in network.nodes if n not in network.gates]
    return [(k.weights[0].numpy(), k.bias.numpy()) for k in affine]


def centred(*sizes: int, seed: int = 0, gate: str = "relu"):
    """Outputs that are 0 on average over the box, so that all of them matter."""
    network = mlp(*sizes, seed=seed, gate=gate)
    x = torch.rand(800, sizes[0], generator=torch.Generator().manual_seed(1), dtype=F64) * 2 - 1
    network.nodes[-1].kind.bias.sub_(network(x).mean(0))
    return network


def patterns(complex) -> list[tuple[int, ...]]:
    n = len(complex)
    codes = [complex.pattern.codes(name).reshape(n, -1).int() for name in complex.pattern]
    return list(map(tuple, torch.cat(codes, 1).tolist()))


def exact_pieces(layers_, d: int, output: int = 0, other: int | None = None) -> dict:
    """{pattern: points} where the function has both signs on a cell, in rational numbers."""
    found = {}
    for cell in cells(layers_, [-1] * d, [1] * d):
        row = cell.weight[output], cell.offset[output]
        if other is not None:
            slope = tuple(a - b for a, b in zip(row[0], cell.weight[other], strict=True))
            row = slope, row[1] - cell.offset[other]
        values = [at(row, v) for v in cell.body.vertices]
        if min(values) < 0 < max(values):
            low, _ = cell.body.split(row, -1)
            on = [v for v, s in zip(low.vertices, low.tight, strict=True) if -1 in s]
            found[cell.pattern] = np.array(on, float)
    return found


def check_pieces(complex, found, exact) -> None:
    """The same cells are crossed, at the same points, to within the errors stated."""
    pattern = patterns(complex)
    assert {pattern[c] for c in found.cell} == exact.keys() and len(found) == len(exact)
    for i in range(len(found)):
        mine, error = found.piece(i), found.error[found.point[found.ptr[i] : found.ptr[i + 1]]]
        gap = np.abs(mine[:, None] - exact[pattern[found.cell[i]]][None]).max(2)
        assert mine.shape == exact[pattern[found.cell[i]]].shape
        assert (gap.min(1) <= error + 1e-15).all() and (gap.min(0) <= error.max() + 1e-15).all()


@pytest.mark.parametrize("sizes", [(1, 6, 6, 2), (2, 9, 7, 2), (3, 6, 5, 2), (4, 5, 4, 2)], ids=str)
@pytest.mark.parametrize("other", [None, 1])
def test_pieces_are_the_exact_ones(sizes, other):
    network = centred(*sizes, seed=4)
    complex = enumerate_regions(network, (-1, 1))
    found = boundary(complex, 0, other)
    assert len(found) and not len(found.undecided)
    check_pieces(complex, found, exact_pieces(layers(network), sizes[0], 0, other))


@pytest.mark.parametrize("kind", degenerate_nets.PUBLISHED)
def test_pieces_where_rows_lie_badly(kind):
    arrays = degenerate_nets.arrays(kind)
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    network = gw.read(degenerate_nets.sequential(arrays), torch.zeros(1, 2, dtype=F64))
    arrays[-1] = arrays[-1][0], arrays[-1][1] - float(network(x).median())
    network = gw.read(degenerate_nets.sequential(arrays), torch.zeros(1, 2, dtype=F64))
    complex = enumerate_regions(network, (-1, 1))
    found = boundary(complex)
    assert len(found) and not len(found.undecided)
    check_pieces(complex, found, exact_pieces(arrays, 2))


def units(first, last, bias=0.0, inputs: int = 2):
    """last . relu(first x) + bias."""
    chain = Chain(inputs)
    w, v = (torch.tensor(m, dtype=F64) for m in (first, [last]))
    chain.put(Affine(dense, (w,), None, inputs, len(w)), shape=(len(w),))
    chain.gate("relu")
    chain.put(Affine(dense, (v,), torch.tensor([bias], dtype=F64), len(w), 1), shape=(1,))
    return chain.network()


def test_a_region_that_is_zero_throughout():
    """relu(x) + relu(y) = 0 on a quadrant, and nowhere else: no pieces, one whole region."""
    complex = enumerate_regions(units([[1, 0], [0, 1]], [1, 1]), (-1, 1))
    found = boundary(complex)
    assert len(found) == 0 and len(found.touching) == 0 and not len(found.undecided)
    assert complex.interior[found.full].tolist() == [[-0.5, -0.5]]
    assert "1 regions full" in repr(found)


def test_a_facet_that_is_met_and_not_crossed():
    """|x| = 0 on a line between two regions: each part of it is one piece."""
    complex = enumerate_regions(units([[1, 0], [-1, 0], [0, 1]], [1, 1, 0]), (-1, 1))
    found = boundary(complex)
    assert len(complex) == 4 and len(found) == 2
    assert (found.points[:, 0] == 0).all() and not len(found.full)
    (line,) = found.polylines()
    assert sorted(found.points[line, 1].tolist()) == [-1, 0, 1]


def test_a_facet_that_is_crossed():
    """relu(x) - relu(-x) = x: the sign changes at a facet, which is one piece."""
    found = boundary(enumerate_regions(units([[1, 0], [-1, 0]], [1, -1]), (-1, 1)))
    assert len(found) == 1 and found.piece(0)[:, 0].tolist() == [0, 0]


def test_a_point_that_is_met():
    """|x| + |y| = 0 at one vertex."""
    complex = enumerate_regions(units([[1, 0], [-1, 0], [0, 1], [0, -1]], [1] * 4), (-1, 1))
    found = boundary(complex)
    assert len(found) == 0 and complex.vertices[found.touching].tolist() == [[0, 0]]


def test_a_level_and_a_square():
    """|x| + |y| = 1/2: a closed line of four segments."""
    complex = enumerate_regions(units([[1, 0], [-1, 0], [0, 1], [0, -1]], [1] * 4), (-1, 1))
    found = boundary(complex, level=0.5)
    (line,) = found.polylines()
    assert len(found) == 4 and line[0] == line[-1] and len(line) == 5
    assert np.abs(found.points).sum(1).tolist() == [0.5] * 4
    assert len(boundary(complex, level=5)) == 0


@pytest.mark.parametrize("seed", range(4))
def test_lines_are_closed_or_end_at_the_box(seed):
    found = boundary(enumerate_regions(centred(2, 16, 16, 1, seed=seed), (-1, 1)))
    lines = found.polylines()
    assert sum(len(line) - 1 for line in lines) == len(found)
    segments = {frozenset(p) for p in found.point.reshape(-1, 2).tolist()}
    for line in lines:
        assert all(frozenset(p) in segments for p in pairwise(line.tolist()))
        if line[0] != line[-1]:
            assert (np.abs(found.points[line[[0, -1]]]).max(1) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_surfaces_have_no_holes(seed):
    """An edge of a polygon inside the box is an edge of exactly one other."""
    found = boundary(enumerate_regions(centred(3, 9, 9, 1, seed=seed), (-1, 1)))
    assert len(found) > 10
    edges: Counter = Counter()
    for p in range(len(found)):
        ring = found.point[found.ptr[p] : found.ptr[p + 1]].tolist()
        edges.update(frozenset(e) for e in pairwise([*ring, ring[0]]))
    for edge, count in edges.items():
        ends = found.points[list(edge)]
        on_box = bool(((ends == -1).all(0) | (ends == 1).all(0)).any())
        assert count == (1 if on_box else 2)
    assert len(found.triangles()) == len(found.point) - 2 * len(found)


def test_points_are_on_the_level_of_a_slice():
    network = centred(8, 12, 12, 1, seed=2, gate="hardtanh")
    where = slice_through(*np.eye(8)[:3])
    found = boundary(enumerate_regions(network, slice=where), level=0.01)
    values = network(where.inputs(found.points)).numpy()
    assert len(found) and np.abs(values - 0.01).max() < 1e-12


def crossed(found, a, b) -> bool:
    """Does the segment from a to b meet a segment of the boundary?"""
    p, q = found.points[found.point.reshape(-1, 2)].transpose(1, 0, 2)

    def side(o, u, v):
        return np.sign((u - o)[..., 0] * (v - o)[..., 1] - (u - o)[..., 1] * (v - o)[..., 0])

    both = (side(a, b, p) != side(a, b, q)) & (side(p, q, a) != side(p, q, b))
    return bool(both.any())


@pytest.mark.parametrize("outputs", [2, 3, 5])
def test_classes_change_at_the_boundary_and_only_there(outputs):
    network = centred(2, 14, 14, outputs, seed=3)
    complex = enumerate_regions(network, (-1, 1))
    found = class_boundary(complex)
    rng = np.random.default_rng(0)
    ends = rng.uniform(-1, 1, (300, 2, 2))
    ends[:, 1] = (ends[:, 0] + rng.normal(0, 0.1, (300, 2))).clip(-1, 1)
    top = network(ends.reshape(-1, 2)).argmax(1).reshape(-1, 2)
    for (a, b), (i, j) in zip(ends, top.tolist(), strict=True):
        assert i == j or crossed(found, a, b)
    values = network(found.points).sort(1, descending=True).values
    assert (values[:, 0] - values[:, 1]).abs().max() < 1e-12  # and on it two are the largest
    middle = found.points[found.point.reshape(-1, 2)].mean(1)
    two = network(middle).topk(2).indices.sort(1).values.numpy()
    assert (two == np.sort(found.classes, 1)).all()


def test_two_classes_are_one_level():
    network = centred(2, 14, 14, 2, seed=3)
    complex = enumerate_regions(network, (-1, 1))
    one, other = class_boundary(complex), boundary(complex, 0, 1)
    assert len(one) == len(other)
    gap = np.abs(one.points[:, None] - other.points[None]).max(2)
    assert gap.min(1).max() < 1e-9 and gap.min(0).max() < 1e-9


def test_class_surfaces_in_three_dimensions():
    complex = enumerate_regions(centred(3, 8, 8, 3), (-1, 1))
    found = class_boundary(complex)
    assert len(found) and (np.diff(found.ptr) >= 3).all()
    values = complex.network(found.points).sort(1, descending=True).values
    assert (values[:, 0] - values[:, 1]).abs().max() < 1e-12


def test_a_zero_that_no_float_is_at(monkeypatch):
    """|3 x - 1| = 0 at x = 1/3: floats leave the sign open, integers tell it."""
    chain = Chain(2)
    w = torch.tensor([[3, 0], [-3, 0]], dtype=F64)
    chain.put(Affine(dense, (w,), torch.tensor([-1, 1], dtype=F64), 2, 2), shape=(2,))
    chain.gate("relu")
    chain.put(Affine(dense, (torch.ones(1, 2, dtype=F64),), None, 2, 1), shape=(1,))
    complex = enumerate_regions(chain.network(), (-1, 1))
    found = boundary(complex)
    assert len(found) == 1 and not len(found.undecided) and len(complex) == 2
    assert found.piece(0)[:, 0] == pytest.approx([1 / 3] * 2, abs=1e-15)
    monkeypatch.setattr(levels, "_exact", lambda complex, network, v: [None] * len(v))
    assert len(boundary(complex).undecided) == 2


def test_what_cannot_be_asked_is_refused():
    complex = enumerate_regions(mlp(2, 6, 2), (-1, 1))
    with pytest.raises(DataError, match="outputs run from 0 to 1, got 2"):
        boundary(complex, 2)
    with pytest.raises(DataError, match="between two outputs, got output 1 twice"):
        boundary(complex, 1, -1)
    with pytest.raises(DataError, match="level must be a finite number"):
        boundary(complex, level=float("nan"))
    with pytest.raises(DataError, match="triangles are for boundaries in 3 dimensions"):
        boundary(complex).triangles()
    with pytest.raises(DataError, match="two outputs or more, got 1"):
        class_boundary(enumerate_regions(mlp(2, 6, 1), (-1, 1)))
    steps = Chain(2)
    steps.linear(3)
    steps.gate("step")
    with pytest.raises(DataError, match="has a step in it"):
        boundary(enumerate_regions(steps.network(), (-1, 1)))


def test_signs_that_floats_leave_open_are_decided():
    """Creases through the boundary: many vertices are exactly on it, and none is left open."""
    rng = np.random.default_rng(0)
    arrays = [
        (rng.integers(-2, 3, (9, 2)).astype(float) / 3, rng.integers(-1, 2, 9) / 3),
        (np.vstack([rng.integers(-2, 3, (1, 9))]).astype(float), np.zeros(1)),
    ]
    network = gw.read(degenerate_nets.sequential(arrays), torch.zeros(1, 2, dtype=F64))
    complex = enumerate_regions(network, (-1, 1))
    found = boundary(complex)
    assert not len(found.undecided)
    exact = exact_pieces(arrays, 2)
    crossed_ = {patterns(complex)[c] for c in found.cell}
    assert crossed_ >= exact.keys()


def test_a_point_has_no_boundary():
    complex = enumerate_regions(mlp(2, 6, 2), ([0.5, 0.2], [0.5, 0.2]))
    assert len(boundary(complex)) == len(class_boundary(complex)) == 0
