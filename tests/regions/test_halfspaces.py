"""x in region <=> pattern(x) = pattern(home); margins are what the rows say."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.patterns.observe import pattern
from gatewise.regions.halfspaces import region
from nets import F64, Chain, mixed, mlp, networks, rows
from oracles.plain import exact_mlp


def probes(x, k, scale, seed=0):
    noise = torch.randn(
        len(x), k, x.shape[1], generator=torch.Generator().manual_seed(seed), dtype=F64
    )
    return x[:, None] + scale * noise


@given(networks(), st.integers(0, 99), st.sampled_from([0.01, 0.3, 3.0]))
def test_inside_is_same_pattern(network, seed, scale):
    x = rows(network, 5, seed)
    near = probes(x, 200, scale, seed)
    found = region(network, x)
    inside = found.verdict(near)
    flat = pattern(network, near.reshape(-1, network.inputs))
    same = torch.from_numpy((flat.bits.reshape(5, 200, -1) == found.pattern.bits[:, None]).all(-1))
    assert torch.equal(inside == 1, same)
    assert (found.verdict(x.unsqueeze(1)) == 1).all()


@given(networks(), st.integers(0, 99))
def test_rows_say_the_same_as_membership(network, seed):
    x = rows(network, 3, seed)
    found = region(network, x)
    near = probes(x, 100, 0.5, seed)
    inside = found.verdict(near)
    for i in range(3):
        h = found.halfspaces(i)
        value = near[i] @ h.a.T + h.b
        bound = h.bound[0] * near[i].abs().amax(1, keepdim=True) + h.bound[1]
        assert torch.equal((value > bound).all(1) | (len(h) == 0), inside[i] == 1) or (
            (h.a == 0).all(1).any()
        )
        assert not (value < -bound).any(1)[inside[i] == 1].any()


@given(networks(), st.integers(0, 99))
def test_margins_are_the_nearest_row(network, seed):
    x = rows(network, 4, seed)
    scale = torch.rand(network.inputs, dtype=F64) + 0.1
    found = region(network, x).margin(scale)
    for i in range(4):
        h = region(network, x).halfspaces(i)
        room = (h.a @ x[i] + h.b).clamp(min=0)
        norms = {
            "l2": h.a.norm(dim=1),
            "linf": h.a.abs().sum(1),
            "scaled": (h.a * scale).norm(dim=1),
        }
        for name, norm in norms.items():
            each = torch.where(norm > 0, room / norm, torch.inf)
            nearest = each.min() if len(each) else torch.tensor(torch.inf, dtype=F64)
            torch.testing.assert_close(getattr(found, name)[i], nearest, rtol=1e-9, atol=1e-13)


def test_a_step_of_the_margin_stays_inside_and_a_bit_more_leaves():
    network = mlp(4, 12, 12, 2, seed=7)
    x = rows(network, 20)
    found = region(network, x)
    margin = found.margin().l2
    for i in range(20):
        h = found.halfspaces(i)
        nearest = ((h.a @ x[i] + h.b) / h.a.norm(dim=1)).argmin()
        away = -h.a[nearest] / h.a[nearest].norm()
        steps = torch.stack([x[i] + 0.999 * margin[i] * away, x[i] + 1.001 * margin[i] * away])
        assert found[i : i + 1].verdict(steps)[0].tolist() == [1, -1]


def test_linf_margin_is_safe_for_every_corner():
    network = mlp(3, 8, 1, seed=1)
    x = rows(network, 10)
    found = region(network, x)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=F64)] * 3)
    inside = found.verdict(x[:, None] + 0.9999 * found.margin().linf[:, None, None] * corners)
    assert (inside == 1).all()


def test_a_wall_up_to_rounding_is_undecided_not_wrong(monkeypatch):
    monkeypatch.setattr("gatewise.patterns.exact.BUDGET", 0)
    monkeypatch.setattr("gatewise.patterns.fixed_point.A_ROW", 0)
    network = mlp(3, 5, 1, seed=2)
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    x = rows(network, 30)
    wall = x - ((x @ w[0] + c[0]) / (w[0] @ w[0]))[:, None] * w[0]
    verdict = region(network, x).verdict(wall.unsqueeze(1))[:, 0]
    assert (verdict <= 0).all()
    assert (verdict == 0).any()


def test_a_network_without_gates_is_one_region():
    network = mlp(3, 2)
    found = region(network, rows(network, 2))
    assert len(found.halfspaces()) == 0
    assert (found.verdict(100 * rows(network, 5)) == 1).all()
    assert torch.isinf(found.margin().l2).all()


def test_every_row_names_its_unit():
    network = mixed(2)
    h = region(network, rows(network, 1)).halfspaces()
    sizes = {n.name: int(np.prod(n.shape)) for n in network.gates}
    assert set(h.gate) == set(sizes)
    assert all(0 <= u < sizes[g] for g, u in zip(h.gate, h.unit.tolist(), strict=True))


def test_on_a_wall_the_exact_pattern_decides():
    """A point on a wall up to rounding, and homes whose units tie exactly, in rationals."""
    network = mlp(3, 5, 1, seed=2)
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    x = rows(network, 30)
    wall = x - ((x @ w[0] + c[0]) / (w[0] @ w[0]))[:, None] * w[0]
    found = region(network, x)
    verdict = found.verdict(wall.unsqueeze(1))[:, 0]
    for i in range(30):
        _, z = exact_mlp([(w, c)], wall[i])
        same = [v > 0 for v in z[0]] == found.pattern.codes("n1")[i].tolist()
        assert verdict[i] == (1 if same else -1)


def test_a_home_with_exact_ties_is_in_its_own_region():
    network = mlp(4, 6, 6, 1, bias=False)
    for node in network.nodes:
        if node.layer == "Affine":
            node.kind.weights[0].copy_((node.kind.weights[0] * 4).round())
    x = (3 * rows(network, 40)).round()
    x[0] = 0
    assert region(network, x).contains(x.unsqueeze(1)).all()


def test_underflow_is_not_taken_for_a_decision():
    """Products that vanish in float64 and not in truth: undecided or right, never wrong."""
    network = mlp(1, 1, 1, 1, 1)
    scales = ((1e-200, 0.0), (1e150, 0.0), (1e150, -1e-120), (1.0, 0.0))
    affine = [n.kind for n in network.nodes if n.layer == "Affine"]
    for kind, (weight, bias) in zip(affine, scales, strict=True):
        kind.weights[0].fill_(weight)
        kind.bias.fill_(bias)
    x = torch.full((1, 1), 1e-200, dtype=F64)
    assert (region(network, x).verdict(x) == 1).all()
    assert pattern(network, x).codes("n5").item()  # 1e-100 - 1e-120 > 0, though float64 says 0
    from gatewise.linear.affine_map import AffineMap

    found = AffineMap(network, pattern(network, x))
    assert ((found.mv(x) - 1e-100).abs() <= found.bound(x)).all()


def test_bounds_of_rows_behind_a_step_count_the_path_before_it():
    chain = Chain(2, 5)
    for _ in range(12):
        chain.linear(30)
    last = chain.linear(1)
    chain.gate("step")
    chain.linear(1, source="input")
    chain.product("n13")
    network = chain.network()
    assert last == "n12"
    h = region(network, rows(network, 1)).halfspaces()
    w, b = torch.eye(2, dtype=F64).tolist(), [0.0, 0.0]
    exact = [[Fraction(v) for v in row] for row in w]
    offset = [Fraction(v) for v in b]
    for node in network.nodes[:13]:
        m, c = node.kind.weights[0].tolist(), node.kind.bias.tolist()
        offset = [
            sum(Fraction(p) * q for p, q in zip(r, offset, strict=True)) + Fraction(e)
            for r, e in zip(m, c, strict=True)
        ]
        exact = [
            [sum(Fraction(p) * row[j] for p, row in zip(r, exact, strict=True)) for j in range(2)]
            for r in m
        ]
    sign = 1 if h.a[0, 0] * float(exact[0][0]) > 0 else -1
    error = [abs(Fraction(float(h.a[0, j])) - sign * exact[0][j]) for j in range(2)]
    assert 0 < sum(error) <= float(h.bound[0][0])
    assert abs(Fraction(float(h.b[0])) - sign * offset[0]) <= float(h.bound[1][0])


def test_rows_that_vanish_on_the_region_ask_nothing(monkeypatch):
    """Two equal units and their difference: a tie everywhere, which floats cannot certify."""
    network = mlp(2, 6, 3, 1, seed=4)
    first, second = (n.kind for n in network.nodes if n.name in ("n0", "n2"))
    first.weights[0][1], first.bias[1] = first.weights[0][0], first.bias[0]
    second.weights[0][0] = torch.tensor([1.0, -1, 0, 0, 0, 0])
    second.bias[0] = 0
    x = rows(network, 12)
    near = probes(x, 40, 0.3)
    found = region(network, x)
    same = torch.stack(
        [
            torch.from_numpy(pattern(network, p).equal(found.pattern[i : i + 1]))
            for i, p in enumerate(near)
        ]
    )
    monkeypatch.setattr("gatewise.patterns.exact.AT_ONCE", 0)  # so that only whole rows are settled
    assert torch.equal(found.verdict(near) == 1, same)
    monkeypatch.setattr("gatewise.patterns.degenerate.AT_ONCE", 0)
    assert (found.verdict(near)[same] == 0).any()
