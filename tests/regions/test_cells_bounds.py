"""Bounds on rows and signs of ties: against exact rows, and on nets whose units tie all over."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.patterns.thresholds import thresholds
from gatewise.regions.cells.bounds import row_errors
from gatewise.regions.cells.chunks import root
from gatewise.regions.cells.gates import entering, entering_bounds, split
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.slices import box_slice
from gatewise.regions.cells.stages import plan


def deep(*sizes: int, seed: int = 0) -> gw.Network:
    torch.manual_seed(seed)
    pairs = itertools.pairwise(sizes)
    layers = [m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).double()
    return gw.read(model, torch.zeros(1, sizes[0], dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
def test_a_rows_bound_holds_and_counts_only_what_is_on_in_some_cell(seed) -> None:
    network = deep(2, 24, 24, 24, 24, 1, seed=seed)
    p = plan(network, box_slice(network, (-0.1, 0.1)))
    decide, chunk = Signs(p), root(p)
    loose = thresholds(p.network, torch.full((1, 2), 0.1, dtype=torch.float64))
    for stage in p.stages:
        gate = stage.gate.inputs[0]
        got = entering(p, chunk)[gate].flatten(2).numpy()
        known = entering_bounds(p, chunk)
        bound = row_errors(stage, known)
        for cell in range(0, len(chunk), 1 + len(chunk) // 40):
            rows = decide._entering(chunk.bits[cell : cell + 1], stage.number)[gate]
            exact = rows.whole.T / 2**rows.scale  # of whole numbers: correctly rounded
            off = np.abs(got[cell if len(got) > 1 else 0] - exact.astype(float)).sum(0)
            assert (off <= bound + 1e-16 * np.abs(got).max()).all()
        if stage.number == 3:
            assert known[gate].error.max() < loose[stage.gate.name].max() / 2
        chunk = split(p, chunk, decide)


def lattice(inputs: int, lines: int, seed: int) -> nn.Sequential:
    """min(max(a, b), max(a, c), ..) of affine a, b, ..: copies of one line in every group tie."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-4, 5, (lines, inputs)).astype(float)
    b = rng.integers(-2, 3, lines).astype(float)
    pairs = [(i, j) for i in range(lines) for j in range(lines)]  # (i, i) ties all over
    pick = np.zeros((3 * len(pairs), lines))
    for r, (i, j) in enumerate(pairs):  # max(a, b) = relu(a - b) + relu(b) - relu(-b)
        pick[3 * r, i] += 1
        pick[3 * r, j] -= 1
        pick[3 * r + 1, j], pick[3 * r + 2, j] = 1, -1
    first = nn.Linear(inputs, len(pick))
    largest = np.kron(np.eye(len(pairs)), [[1.0, 1.0, -1.0]])
    half = len(pairs) // 2
    low = np.zeros((3 * half, len(pairs)))
    for r in range(half):  # min(u, v) = v - relu(v - u)
        low[3 * r, 2 * r], low[3 * r, 2 * r + 1] = -1, 1
        low[3 * r + 1, 2 * r + 1], low[3 * r + 2, 2 * r + 1] = 1, -1
    second, last = nn.Linear(len(pick), len(low)), nn.Linear(len(low), 1)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(pick @ w))
        first.bias.copy_(torch.from_numpy(pick @ b))
        second.weight.copy_(torch.from_numpy(low @ largest))
        second.bias.zero_()
        last.weight.copy_(torch.from_numpy(np.tile([-1.0, 1.0, -1.0], half))[None])
        last.bias.zero_()
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).double()


@pytest.mark.parametrize("seed", range(3))
def test_units_that_tie_all_over_a_cell_split_nothing(seed) -> None:
    model = lattice(2, 5, seed)
    with torch.no_grad():  # decimals: sums that should cancel leave roundings behind
        for layer in (model[0], model[2]):
            layer.weight.mul_(0.1)
            layer.bias.mul_(0.1)
    network = gw.read(model, torch.zeros(1, 2, dtype=torch.float64))
    found = gw.regions.enumerate_regions(network, (-1, 1))
    assert found.complete and found.undecided == 0
    assert abs(found.volumes().sum() - 4) < 1e-9
    inner = found.interior
    again = gw.pattern(network, found.slice.inputs(inner))
    zero = np.abs(found.volumes()) < 1e-12
    assert (np.asarray(again.equal(found.pattern)) | zero).all()


def test_a_gate_that_is_wide_stops_at_the_number_of_regions_asked_for() -> None:
    network = deep(2, 3000, 4, 1)
    found = gw.regions.enumerate_regions(network, (-1, 1), max_regions=200)
    assert len(found) == 200 and not found.complete
    first = next(iter(found.counts.values()))
    assert first <= 201  # and not all million cells of three thousand lines
