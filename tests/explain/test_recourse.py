"""The nearest change is the nearest: against every pattern's own LP, and against fine grids."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gatewise.explain.recourse.recourse import recourse
from gatewise.ir.kinds import Affine
from nets import Chain, dense, mixed, mlp

BOX = 2.0


def weights(network):
    """(W, b) of every dense layer, as numpy."""
    kinds = [n.kind for n in network.nodes if n.layer == "Affine"]
    return [(k.weights[0].numpy(), k.bias.numpy()) for k in kinds]


def brute_force(network, home, low, high, sign, norm, whole=()):
    """Least cost with sign f(x) >= 1e-6: an LP for each of the 2^units sign patterns."""
    best = np.inf
    layers = weights(network)
    units = sum(len(b) for _, b in layers[:-1])
    ranges = [range(int(np.ceil(low[j])), int(np.floor(high[j])) + 1) for j in whole]
    for fixed in itertools.product(*ranges):
        lo, hi = low.copy(), high.copy()
        lo[list(whole)] = hi[list(whole)] = fixed
        for pattern in itertools.product([0, 1], repeat=units):
            best = min(best, pattern_lp(layers, np.array(pattern), home, lo, hi, sign, norm))
    return best


def pattern_lp(layers, pattern, home, low, high, sign, norm):
    """min |x - home| over one pattern's region with the goal; columns x and e (one, or each)."""
    d = len(home)
    a, c, at, rows, ends = np.eye(d), np.zeros(d), 0, [], []
    for w, b in layers[:-1]:
        z, k = w @ a, w @ c + b
        on = pattern[at : at + len(b)]
        at += len(b)
        side = np.where(on, 1.0, -1.0)
        rows.append(-side[:, None] * z)
        ends.append(side * k)
        a, c = on[:, None] * z, on * k
    w, b = layers[-1]
    rows.append(-sign * (w @ a))
    ends.append(sign * (w @ c + b) - 1e-6)
    upper = np.concatenate(rows)
    e = np.eye(d) if norm == "l1" else np.ones((d, 1))
    A = np.block([[upper, np.zeros((len(upper), e.shape[1]))], [np.eye(d), -e], [-np.eye(d), -e]])
    b_ub = np.concatenate([*ends, home, -home])
    box = [*zip(low, high, strict=True), *[(0, None)] * e.shape[1]]
    found = linprog(np.r_[np.zeros(d), np.ones(e.shape[1])], A, b_ub, bounds=box)
    return found.fun if found.status == 0 else np.inf


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("method", ["exact", "milp"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_agrees_with_brute_force(norm, method, seed):
    network = mlp(3, 4, 2, 1, seed=seed)
    home = np.random.default_rng(seed).normal(size=3)
    low, high = np.minimum(home, -BOX), np.maximum(home, BOX)
    sign = -1.0 if network(home[None])[0, 0] > 0 else 1.0
    least = brute_force(network, home, low, high, sign, norm)
    r = recourse(network, home, bounds=(low, high), norm=norm, method=method)
    if np.isinf(least):
        assert (r.status, r.point, r.gap) == ("infeasible", None, 0)
        return
    assert r.status == "optimal"
    assert r.cost == pytest.approx(least, abs=1e-6)
    assert r.bound <= least + 1e-7
    assert sign * network(r.point[None])[0, 0] >= 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_whole_numbers_agree_with_brute_force(seed):
    network = mlp(2, 3, 3, 1, seed=seed + 20)
    home = np.array([1.0, 0.3])
    low, high = np.full(2, -2.0), np.full(2, 2.0)
    sign = -1.0 if network(home[None])[0, 0] > 0 else 1.0
    least = brute_force(network, home, low, high, sign, "l1", whole=(0,))
    for method in ("exact", "milp"):
        r = recourse(network, home, bounds=(low, high), integers=["x0"], method=method)
        if np.isinf(least):
            assert r.status == "infeasible"
        else:
            assert r.cost == pytest.approx(least, abs=1e-6)
            assert r.point[0] == round(r.point[0])


def test_the_oracle_can_disagree():
    network = mlp(3, 4, 2, 1, seed=0)
    home = np.zeros(3)
    sign = -1.0 if network(home[None])[0, 0] > 0 else 1.0
    box = np.full(3, 5.0)
    least = brute_force(network, home, -box, box, sign, "l1")
    r = recourse(
        network,
        home,
        bounds=(-box, box),
        at_least=1.0 if sign > 0 else None,
        at_most=-1.0 if sign < 0 else None,
    )
    assert r.status == "infeasible" or r.cost > least + 1e-3


def grid(network, low, high, steps):
    """Every point of a grid of two inputs, and f there."""
    axes = [np.linspace(a, b, steps) for a, b in zip(low, high, strict=True)]
    x = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return x, network(x).numpy()


def maxed(seed, sign=1):
    chain = Chain(2, seed)
    chain.linear(6)
    chain.maxout(2)
    if sign < 0:
        kind = chain.nodes[-1].kind
        chain.nodes.pop()
        chain.put(type(kind)(kind.index, -1), chain.nodes[-1].name, shape=(2,))
    chain.linear(5)
    chain.gate("hardtanh")
    chain.linear(1)
    return chain.network()


OTHERS = [lambda s, g=g: mlp(2, 5, 4, 1, gate=g, seed=s) for g in ("leaky", "hardtanh", "abs")]


@pytest.mark.parametrize("make", [*OTHERS, maxed, lambda s: maxed(s, -1)])
@pytest.mark.parametrize("seed", range(2))
def test_other_gates_agree_with_a_grid(make, seed):
    network, home, edge = make(seed), np.zeros(2), np.full(2, 3.0)
    r = recourse(network, home, bounds=(-edge, edge))
    x, f = grid(network, -edge, edge, 401)
    flipped = (f[:, 0] > 0) != (network(home[None])[0, 0] > 0).item()
    least = np.abs(x[flipped]).sum(1).min(initial=np.inf)
    if r.status == "infeasible":
        assert np.isinf(least)
        return
    assert r.status == "optimal"
    assert r.bound <= least + 1e-6  # no point of the grid is nearer than what was proven
    assert least <= r.cost + 0.2  # and one is about as near


def test_any_other_class_flips_a_class():
    network, home, edge = mlp(2, 6, 5, 4, seed=3), np.zeros(2), np.full(2, 4.0)
    x, f = grid(network, -edge, edge, 401)
    now = int(network(home[None])[0].argmax())
    least = np.abs(x[f.argmax(1) != now]).sum(1).min()
    r = recourse(network, home, bounds=(-edge, edge))
    assert r.status == "optimal"
    assert int(network(r.point[None])[0].argmax()) != now
    assert r.bound - 1e-6 <= least <= r.cost + 0.1
    for t in range(4):
        one = recourse(network, home, target=t, bounds=(-edge, edge))
        there = f.argmax(1) == t
        if one.status == "infeasible":
            assert not there.any()
        elif t != now:
            assert one.cost >= r.cost - 1e-6
            assert int(network(one.point[None])[0].argmax()) == t


@pytest.mark.parametrize("seed", [5, 6, 9])  # out of reach; the same level; another level
def test_categories_agree_with_every_level_tried(seed):
    network = dataclasses.replace(
        mlp(5, 8, 6, 1, seed=seed), feature_names=("a", "red", "green", "blue", "b")
    )
    home, edge, least = np.array([0.2, 1.0, 0.0, 0.0, -0.4]), np.linspace(-3, 3, 241), np.inf
    a, b = (v.reshape(-1) for v in np.meshgrid(edge, edge))
    now = (network(home[None])[0, 0] > 0).item()
    for level in range(3):
        x = np.zeros((len(a), 5))
        x[:, 0], x[:, 4], x[:, 1 + level] = a, b, 1
        flipped = (network(x)[:, 0] > 0).numpy() != now
        least = min(least, np.abs(x[flipped] - home).sum(1).min(initial=np.inf))
    ask = {
        "bounds": {"a": (-3, 3), "b": (-3, 3)},
        "categories": {"colour": ["red", "green", "blue"]},
    }
    kept = recourse(network, home, immutable="colour", **ask)
    for method in ("exact", "milp"):
        r = recourse(network, home, method=method, **ask)
        if np.isinf(least):
            assert r.status == kept.status == "infeasible"
            continue
        assert r.status == "optimal"
        assert sorted(r.point[1:4].tolist()) == [0, 0, 1]
        assert r.bound - 1e-6 <= least <= r.cost + 0.1
        assert kept.point[1:4].tolist() == [1, 0, 0]
        assert kept.cost >= r.cost - 1e-9
        assert (kept.cost > r.cost + 0.1) == (r.point[1] == 0)


@settings(max_examples=25)
@example(seed=1024, norm="l1", scaled=False)  # a leaf whose LP point is in another region
@given(st.integers(0, 10_000), st.sampled_from(["l1", "linf"]), st.booleans())
def test_the_answer_keeps_every_constraint(seed, norm, scaled):
    rng = np.random.default_rng(seed)
    network = mlp(5, 7, 5, 1, seed=seed)
    home = np.round(rng.normal(size=5), 2)
    home[1] = round(home[1])
    scale = rng.uniform(0.1, 9, size=5) if scaled else None
    edge = np.full(5, 3.0)
    r = recourse(
        network,
        home,
        bounds=(home - edge, home + edge),
        immutable=[0],
        integers=[1],
        monotone={2: "increase", 3: "decrease"},
        norm=norm,
        scale=scale,
        time_limit=20,
    )
    near = recourse(
        network,
        home,
        bounds=(home - edge, home + edge),
        immutable=[0],
        integers=[1],
        monotone={2: "increase", 3: "decrease"},
        norm=norm,
        scale=scale,
        method="region",
    )
    assert r.status in ("optimal", "infeasible")
    if r.point is None:
        assert near.point is None
        return
    moved = r.change
    assert moved[0] == 0 and moved[2] >= 0 and moved[3] <= 0
    assert r.point[1] == round(r.point[1])
    assert (np.abs(moved) <= edge).all()
    assert (network(r.point[None])[0, 0] > 0) != (network(home[None])[0, 0] > 0)
    size = np.abs(moved) / (np.ones(5) if scale is None else scale)
    assert r.cost == pytest.approx(size.sum() if norm == "l1" else size.max(), abs=1e-12)
    assert r.bound <= r.cost and r.replay_error < 1e-9
    if near.point is not None:
        assert near.cost >= r.cost * (1 - 1e-6)
        assert near.bound <= r.cost * (1 + 1e-6)


def test_what_cannot_be_reached_is_proven():
    network = mlp(3, 6, 5, 1, seed=1)
    edge = np.full(3, 2.0)
    for method in ("exact", "milp", "region"):
        r = recourse(network, np.zeros(3), at_least=1e3, bounds=(-edge, edge), method=method)
        assert (r.status, r.point, r.cost) == ("infeasible", None, np.inf)
        assert r.gap == 0 and "none exists in these bounds" in repr(r)


def test_without_bounds_nothing_is_claimed():
    """max(0, .) summed with weights -1 is at most 0 everywhere, and no ball is the last one."""
    chain = Chain(2, 0)
    chain.linear(4)
    chain.gate("relu")
    chain.put(Affine(dense, (-torch.ones(1, 4, dtype=torch.float64),), None, 4, 1), shape=(1,))
    r = recourse(chain.network(), np.ones(2), at_least=1.0, time_limit=3)
    assert r.status == "unknown" and r.point is None and r.bound > 0
    assert "none found; none is cheaper than" in repr(r)


def test_a_time_limit_returns_the_best_and_a_bound():
    network = mlp(8, 40, 40, 1, seed=2)
    home = np.zeros(8)
    r = recourse(network, home, at_least=float(network(home[None])[0, 0]) + 3, time_limit=1e-3)
    whole = recourse(network, home, at_least=float(network(home[None])[0, 0]) + 3, time_limit=2)
    assert r.status in ("feasible", "unknown") and r.bound >= 0
    assert whole.status in ("feasible", "optimal")
    assert 0 < whole.bound <= whole.cost
    assert r.bound <= whole.cost * (1 + 1e-6)


def test_a_row_that_meets_the_target_is_told_so():
    network, home = mlp(3, 6, 1, seed=1), np.zeros(3)
    f = float(network(home[None])[0, 0])
    r = recourse(network, home, at_least=f - 1)
    assert (r.status, r.cost, r.changes) == ("already", 0, {})
    assert "meets it already" in repr(r)


def test_a_row_outside_its_bounds_must_move():
    network, home = mlp(3, 6, 1, seed=1), np.zeros(3)
    f = float(network(home[None])[0, 0])
    r = recourse(network, home, at_least=f - 1e3, bounds={"x1": (0.5, 2)})
    assert r.status == "optimal" and r.cost == pytest.approx(0.5)


def test_the_margin_is_kept():
    network, home = mlp(3, 6, 4, 1, seed=4), np.zeros(3)
    up = network(home[None])[0, 0] <= 0
    small, large = (recourse(network, home, margin=m, bounds=([-9] * 3, [9] * 3)) for m in (0, 0.1))
    assert small.cost < large.cost
    assert (1 if up else -1) * float(large.after[0]) >= 0.1
    assert (1 if up else -1) * float(small.after[0]) >= 0


def test_region_serves_networks_of_steps_and_products():
    network, home = mixed(2), np.zeros(4)
    r = recourse(network, home, bounds=([-5] * 4, [5] * 4), method="region")
    assert r.status in ("feasible", "unknown")
    if r.point is not None:
        now = network(np.stack([home, r.point])).argmax(1)
        assert now[0] != now[1]
        assert r.bound == 0


def test_bounds_and_changes_are_told_in_names():
    network = dataclasses.replace(mlp(2, 6, 1, seed=8), feature_names=("age", "income"))
    r = recourse(network, {"income": 0.5, "age": -0.5}, bounds={"age": (-3, 3), "income": (-3, 3)})
    assert r.home.tolist() == [-0.5, 0.5]
    assert set(r.changes) <= {"age", "income"}
    text = repr(r)
    assert ("proven least" in text and "->" in text) or "none exists" in text
