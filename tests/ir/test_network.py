"""The object everything reads: walks, names, types, identity."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.errors import InternalError, WrongShape
from gatewise.ir.network import INPUT, checked, fingerprint, fold, forward
from gatewise.numeric import Verdict, decide, gamma
from nets import F64, mixed, mlp, rows


def test_fold_drops_a_value_after_its_last_use():
    network = mixed(0)
    alive, most = set(), 0

    class Value:
        def __init__(self, name):
            self.name = name
            alive.add(name)

        def __del__(self):
            alive.discard(self.name)

    def step(node, xs):
        nonlocal most
        most = max(most, len(alive) + 1)
        return Value(node.name)

    found = fold(network, Value(INPUT), step)
    assert list(found) == [network.output]
    assert most <= 5 < len(network.nodes)


def test_fold_keeps_what_it_is_asked_to():
    network = mixed(0)
    names = {n.name for n in network.nodes[:3]}
    assert set(fold(network, 0, lambda node, xs: 1, keep=names)) == names | {network.output}


def test_names_are_unique_and_in_order():
    network = mlp(2, 3, 1)
    with pytest.raises(InternalError, match="out of order or named twice"):
        checked(dataclasses.replace(network, nodes=network.nodes[::-1]))
    assert checked(network) is network


def test_another_dtype_is_another_network_and_the_first_is_unchanged():
    network = mixed(1)
    x = rows(network, 3)
    before = network(x)
    small = network.to(torch.float32)
    assert small(x).dtype == torch.float32
    torch.testing.assert_close(small(x).double(), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(network(x), before)
    assert network.to(F64) is network


def test_rows_may_come_flat_or_shaped_or_wrong():
    network = dataclasses.replace(mlp(6, 2), input_shape=(1, 6))
    x = rows(network, 4)
    assert torch.equal(network(x), network(x.reshape(4, 1, 6)))
    assert torch.equal(network(x.tolist()), network(x))
    for bad in (x[:, :5], x[0]):
        with pytest.raises(WrongShape, match=r"rows of 6 inputs.*got shape"):
            network(bad)


def test_fingerprint_sees_weights_settings_and_structure():
    torch.manual_seed(0)

    def net(stride=1):
        return nn.Sequential(nn.Conv1d(1, 2, 2, stride), nn.ReLU(), nn.Flatten())

    first = net()
    same = net()
    same.load_state_dict(first.state_dict())
    other = net(stride=2)
    other.load_state_dict(first.state_dict())
    x = torch.zeros(1, 1, 9)
    a, b, c = (fingerprint(gw.read(m, x)) for m in (first, same, other))
    assert a == b != c
    assert fingerprint(mlp(2, 3, 1, seed=1)) != fingerprint(mlp(2, 3, 1, seed=2))
    assert fingerprint(mlp(2, 3, 1, gate="relu")) != fingerprint(mlp(2, 3, 1, gate="leaky"))


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import nets; "
        "from gatewise.ir.network import fingerprint; print(fingerprint(nets.mixed(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(mixed(3))


def test_what_was_read_does_not_follow_the_model():
    w, b = torch.ones(1, 2, dtype=F64), torch.zeros(1, dtype=F64)
    network = gw.read([(w, b)])
    x = torch.ones(1, 2, dtype=F64)
    before = forward(network, network.rows(x)).clone()
    w += 1
    assert torch.equal(forward(network, network.rows(x)), before)


def test_decide_and_gamma():
    value = torch.tensor([1.0, -1.0, 0.1, -0.1, 0.0], dtype=F64)
    assert decide(value, 0.1).tolist() == [
        Verdict.YES,
        Verdict.NO,
        Verdict.UNDECIDED,
        Verdict.UNDECIDED,
        Verdict.UNDECIDED,
    ]
    assert gamma(1e17, F64) == float("inf")
    assert gamma(10, F64) == pytest.approx(10 * 2**-53)
