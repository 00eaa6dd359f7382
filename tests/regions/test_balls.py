"""The largest ball: regions whose answer is known, points of its rim, a program of scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from gatewise.errors import DataError
from gatewise.ir.kinds import Affine
from gatewise.regions.halfspaces import region
from gatewise.regions.local.balls import inscribed
from nets import F64, Chain, dense, mlp, rows


def arrangement(w, b):
    """One layer of units with these rows."""
    w, b = (torch.tensor(v, dtype=F64) for v in (w, b))
    chain = Chain(w.shape[1])
    chain.put(Affine(dense, (w,), b, w.shape[1], len(w)), shape=(len(w),))
    chain.gate("relu")
    return chain.network()


def at(network, *x):
    return region(network, torch.tensor([x], dtype=F64))


SQUARE = ([[1.0, 0], [-1, 0], [0, 1], [0, -1]], [1.0, 1, 1, 1])


def test_the_ball_in_a_square():
    found = inscribed(at(arrangement(*SQUARE), 0.3, -0.2))
    assert found.bounded is True and found.ray is None
    assert found.radius == pytest.approx(1, abs=1e-12) and found.radius <= 1
    assert 1 <= found.at_most <= 1 + 1e-8
    torch.testing.assert_close(found.centre, torch.zeros(2, dtype=F64), atol=1e-12, rtol=0)
    assert "bounded" in repr(found)


def test_a_strip_holds_a_ball_and_has_no_end():
    found = inscribed(at(arrangement([[1.0, 1], [-1, -1]], [1.0, 3]), 0, 0))
    assert found.bounded is False
    assert found.radius == pytest.approx(2 / math.sqrt(2), rel=1e-9)
    assert found.radius <= 2 / math.sqrt(2) * (1 + 1e-15)


def test_a_corner_holds_balls_of_any_size():
    found = inscribed(at(arrangement([[1.0, 0], [0, 1], [1, 1]], [0.0, 0, 5]), 1, 1))
    assert found.radius == found.at_most == math.inf and found.bounded is False
    assert bool((found.ray > 0).all())


def test_a_triangle_with_copies_and_rows_that_do_not_matter():
    w = [[1.0, 0], [0, 1], [-1, -1], [-2, -2], [1, 0], [1, 1]]
    found = inscribed(at(arrangement(w, [0.0, 0, 1, 2, 5, 9]), 0.2, 0.2))
    assert found.radius == pytest.approx(1 / (2 + math.sqrt(2)), rel=1e-12)
    assert found.bounded is True and found.at_most == pytest.approx(found.radius, rel=1e-8)


def test_a_flat_region_holds_none():
    found = inscribed(at(arrangement([[1.0, 1], [-1, -1]], [0.0, 0]), 1, -1))
    assert found.radius == 0 and found.bounded is False


def test_no_gates_no_walls():
    found = inscribed(region(mlp(3, 2), torch.zeros(1, 3, dtype=F64)))
    assert found.radius == math.inf and found.bounded is False
    dead = inscribed(at(arrangement([[0.0, 0], [0, 0]], [1.0, 1]), 0, 0))
    assert dead.radius == math.inf and dead.bounded is False


def oracle(a, b):
    norm = np.linalg.norm(a, axis=1)
    keep = norm > 1e-12
    done = linprog(
        np.append(np.zeros(a.shape[1]), -1),
        np.append(-a[keep], norm[keep, None], 1),
        b[keep],
        bounds=(None, None),
        method="highs",
    )
    return math.inf if done.status == 3 else -done.fun


@pytest.mark.parametrize("gate", ["relu", "hardtanh", "leaky"])
@pytest.mark.parametrize("seed", range(5))
def test_as_scipy_says_in_a_box_and_without(seed, gate):
    network = mlp(3, 12, 12, 1, seed=seed, gate=gate)
    x = rows(network, 1, seed).clamp(-0.9, 0.9)
    h, eye = region(network, x).halfspaces(), np.eye(3)
    free, boxed = inscribed(region(network, x)), inscribed(region(network, x), box=(-1, 1))
    truth = oracle(h.a.numpy(), h.b.numpy())
    within = oracle(np.concatenate([h.a.numpy(), eye, -eye]), np.append(h.b.numpy(), np.ones(6)))
    assert free.radius == pytest.approx(truth, rel=1e-8)
    assert boxed.radius == pytest.approx(within, rel=1e-8)
    assert boxed.bounded is True
    assert boxed.radius <= boxed.at_most <= boxed.radius * (1 + 1e-7)
    way = torch.randn(200, 3, dtype=F64)
    rim = boxed.centre + boxed.radius * (1 - 1e-12) * way / way.norm(dim=1, keepdim=True)
    assert bool((rim @ h.a.T + h.b >= -1e-12).all()) and bool((rim.abs() <= 1).all())


def test_more_inputs_than_units_have_no_end():
    network = mlp(12, 5, 7, 1, seed=3)
    found = inscribed(region(network, rows(network, 1)))
    h = region(network, rows(network, 1)).halfspaces()
    assert found.bounded is False
    truth = oracle(h.a.numpy(), h.b.numpy())
    assert found.radius == (truth if truth == math.inf else pytest.approx(truth, rel=1e-8))


def test_an_index_beyond_the_regions():
    with pytest.raises(DataError, match="there are 1 regions"):
        inscribed(at(arrangement(*SQUARE), 0, 0), 1)
