"""The census against brute force; order, batches and merging change nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.errors import DataError, EmptyData
from gatewise.ir.kinds import Pieces
from gatewise.ir.network import fold
from gatewise.ir.pattern import Packer, Pattern, layout
from gatewise.ir.rounding import enclose
from gatewise.patterns import hashing
from gatewise.patterns.census import census
from gatewise.patterns.exact import exact_codes, rational
from gatewise.patterns.hashing import group
from gatewise.patterns.observe import Observer, observe_fast, observe_running, pattern
from nets import F64, mixed, mlp, networks, rows
from oracles.plain import exact_mlp


def brute(network, x) -> list[tuple]:
    """Each row's codes, gate by gate, one row at a time."""
    found = []
    for row in x:
        codes = []

        def step(node, zs, codes=codes):
            if hasattr(node.kind, "choose"):
                codes.append(tuple(node.kind.choose(*zs).flatten().tolist()))
            return node.kind(*zs)

        fold(network, row[None], step)
        found.append(tuple(codes))
    return found


@given(networks(), st.integers(1, 60), st.integers(1, 20))
def test_clusters_are_those_of_brute_force(network, n, batch):
    x = rows(network, n)
    found = census(network, x, batch_size=batch)
    truth = brute(network, x)
    expected = Counter(truth)
    assert len(found) == len(expected)
    assert found.counts.tolist() == sorted(expected.values(), reverse=True)
    for c in range(len(found)):
        members = found.members(c)
        assert {truth[i] for i in members} == {truth[members[0]]}
        assert found.first[c] == members.min()
        assert found.counts[c] == len(members)


@given(networks(), st.integers(2, 50), st.data())
def test_it_is_a_commutative_monoid(network, n, data):
    x = rows(network, n)
    whole = census(network, x)
    cut = data.draw(st.integers(1, n - 1))
    order = np.random.default_rng(cut).permutation(n)
    joined = census(network, x[:cut]).merge(census(network, x[cut:]))
    for name in ("ids", "counts", "first", "undecided"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name
    shuffled = census(network, x[order], batch_size=3)
    assert np.array_equal(shuffled.counts, whole.counts)
    assert np.array_equal(shuffled.pattern.bits, whole.pattern.bits)
    assert np.array_equal(shuffled.ids, whole.ids[order])
    assert shuffled.names == whole.names


def test_maps_of_the_clusters_are_those_of_their_rows():
    network = mlp(2, 3, 1)
    x = rows(network, 400)
    found = census(network, x)
    assert len(found) < 20
    y = torch.einsum("nof,nf->no", found.maps.matrix()[found.ids], x) + found.maps.offset[found.ids]
    torch.testing.assert_close(y, network(x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(found.output, network(x))


@given(st.integers(1, 40), st.sampled_from([2, 3, 5, 9, 300]), st.integers(0, 99))
def test_codes_survive_packing(units, branches, seed):
    kind = Pieces(
        torch.zeros(branches - 1, dtype=F64),
        torch.ones(branches, dtype=F64),
        torch.zeros(branches, dtype=F64),
        (False,) * (branches - 1),
    )
    network = mlp(units, units)
    node = dataclasses.replace(network.nodes[0], kind=kind)
    fields = layout(dataclasses.replace(network, nodes=(node,)))
    codes = torch.randint(0, branches, (7, units), generator=torch.Generator().manual_seed(seed))
    packer = Packer(fields, 7)
    packer.put(node.name, codes)
    packed = Pattern(packer.bits, fields)
    assert torch.equal(packed.codes(node.name).long(), codes)
    assert packed.active()[node.name].tolist() == (codes > 0).sum(1).tolist()


def test_a_hash_collision_is_noticed(monkeypatch):
    """With a hash of two values, groups hold equal rows only, in order of (hash, bits)."""

    def poor(bits, salt=0):
        return bits.view(np.uint64)[:, 0] % np.uint64(2)

    monkeypatch.setattr(hashing, "hashes", poor)
    bits = np.random.default_rng(0).integers(0, 2, (50, 8)).astype(np.uint8)
    found = group(bits)
    for i in range(50):
        assert (bits[i] == bits[found.first[found.inverse[i]]]).all()
    words = bits.view(np.uint64)[:, 0].tolist()
    assert [words[i] for i in found.first] == sorted(set(words), key=lambda w: (w % 2, w))
    assert [words.index(words[i]) for i in found.first] == found.first.tolist()


def walls(network, x):
    """x moved onto the wall of the first unit, up to rounding."""
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    return x - ((x @ w[0] + c[0]) / (w[0] @ w[0]))[:, None] * w[0]


def test_units_in_doubt_are_those_within_rounding_of_their_knot(monkeypatch):
    """Rows put on a unit's wall, up to rounding, are reported; the others are not."""
    monkeypatch.setattr("gatewise.patterns.exact.BUDGET", 0)
    monkeypatch.setattr("gatewise.patterns.fixed_point.A_ROW", 0)
    network = mlp(3, 5, 4, 1, seed=2)
    w, c = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    x = rows(network, 40)
    on_wall = walls(network, x[:10])
    found = census(network, torch.cat([on_wall, x[10:]]))
    exact = [exact_mlp([(w, c)], row)[0][0] for row in on_wall]
    doubt = {i for i, z in enumerate(exact) if abs(z) < 1e-16}
    assert doubt <= set(np.flatnonzero(found.undecided).tolist()) <= set(range(10))
    assert doubt


def test_what_float64_leaves_open_is_decided_in_rational_arithmetic():
    """Deep rows on a wall: every code is the exact one, and some float64 codes were not."""
    network = mlp(6, 12, 12, 1, seed=5)
    layers = [(n.kind.weights[0], n.kind.bias) for n in network.nodes if n.layer == "Affine"]
    x = walls(network, rows(network, 60))
    found = census(network, x)
    assert not found.undecided.any()
    wrong_in_float = 0
    for i, row in enumerate(x):
        _, z = exact_mlp(layers, row)
        exact = [v > 0 for layer in z[:-1] for v in layer]
        codes = found.pattern[found.ids[i : i + 1]]
        assert torch.cat([codes.codes(n)[0] for n in codes]).tolist() == exact
        rounded = observe_fast(network, layout(network), row[None])[0].pattern
        wrong_in_float += torch.cat([rounded.codes(n)[0] for n in rounded]).tolist() != exact
    assert wrong_in_float > 0


@given(networks(), st.integers(0, 99))
def test_rational_codes_are_those_of_float64_away_from_walls(network, seed):
    x = rows(network, 3, seed)
    if rational(network) is None:
        assert any(n.layer == "Product" for n in network.nodes)
        return
    near, exact = pattern(network, x), exact_codes(rational(network), x)
    for name in near:
        assert torch.equal(exact[name].long(), near.codes(name).long())


@given(networks(), st.integers(0, 99))
def test_thresholds_flag_every_row_that_the_running_bound_would(network, seed):
    x = rows(network, 30, seed)
    x[::3] = x[::3].round(decimals=1) * (torch.arange(network.inputs) % 2)
    fast, flagged = observe_fast(network, layout(network), x)
    slow = observe_running(network, layout(network), x)
    assert np.array_equal(fast.pattern.bits, slow.pattern.bits)
    assert flagged[slow.undecided > 0].all()
    settled = Observer(network)(x).undecided
    assert np.array_equal(settled, slow.undecided * (rational(network) is None))


def test_running_bound_holds_in_float32_against_float64():
    network = mlp(8, 40, 40, 2, seed=1).to(torch.float32)
    x = rows(network, 200).float()
    found = enclose(network, x)
    truth = network.to(F64)(x.double())
    assert ((found.value.double() - truth).abs() <= found.error.double()).all()
    assert found.error.max() < 1e-2


def test_float32_networks_are_decided_in_float64():
    network = mlp(20, 256, 256, 1).to(torch.float32)
    x = rows(network, 2000).float()
    found = census(network, x)
    assert not found.undecided.any()
    assert np.array_equal(found.pattern.bits[found.ids], pattern(network.to(F64), x.double()).bits)


def test_a_unit_exactly_on_its_knot_is_off_as_torch_has_it():
    network = mlp(1, 1, 1, bias=False)
    assert not pattern(network, torch.zeros(1, 1, dtype=F64)).codes("n1").any()
    z = torch.zeros(1, requires_grad=True)
    torch.relu(z).backward()
    assert z.grad == 0


def test_no_rows_is_a_sentence():
    network = mixed(0)
    with pytest.raises(EmptyData, match="at least one row, got 0"):
        census(network, torch.zeros(0, 4, dtype=F64))


def test_censuses_of_two_networks_do_not_merge():
    a, b = mlp(2, 3, 1, seed=1), mlp(2, 3, 1, seed=2)
    x = rows(a, 5)
    with pytest.raises(DataError, match="only censuses of one network can be merged"):
        census(a, x).merge(census(b, x))
    assert census(a, x).merge(census(mlp(2, 3, 1, seed=1), x)).rows == 10


def test_two_multiplied_weights_are_not_called_exact():
    """0.1 * 3 rounds to 0.30000000000000004: the rational pattern must not be built on it."""
    import dataclasses

    def twice(u, v, x):
        return x @ u.mT @ v.mT

    network = mlp(1, 1, 1)
    u, v = torch.tensor([[0.1]], dtype=F64), torch.tensor([[3.0]], dtype=F64)
    kind = dataclasses.replace(
        network.nodes[0].kind,
        rule=twice,
        weights=(-u, v),
        bias=torch.tensor([0.1 * 3], dtype=F64),
        terms=2,
    )
    node = dataclasses.replace(network.nodes[0], kind=kind)
    odd = dataclasses.replace(network, nodes=(node, *network.nodes[1:]))
    assert rational(network) is not None
    assert rational(odd) is None
    assert census(odd, torch.ones(1, 1, dtype=F64)).undecided.tolist() == [1]


def test_settling_is_bounded_and_equal_rows_are_settled_once(monkeypatch):
    network = mlp(3, 5, 4, 1, seed=2)
    x = walls(network, rows(network, 30))
    before = census(network, torch.cat([x, x]))
    assert not before.undecided.any()
    monkeypatch.setattr("gatewise.patterns.exact.AT_ONCE", 0)
    left = census(network, x)
    assert left.undecided.any()


def test_a_row_of_zeros_without_biases_is_decided_at_once(monkeypatch):
    monkeypatch.setattr("gatewise.patterns.exact.BUDGET", 0)
    monkeypatch.setattr("gatewise.patterns.fixed_point.A_ROW", 0)
    network = mlp(64, 256, 256, 1, bias=False)
    found = census(network, torch.zeros(3, 64, dtype=F64))
    assert not found.undecided.any()
    assert not found.pattern.bits.any()
