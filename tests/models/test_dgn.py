"""Dense gated networks against numpy, gates and starts, refusals."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise import models
from gatewise.errors import ModelError
from gatewise.models import DGN, DLGN, DLGNShallow, Gate, ReLUNet, initialise
from oracles import gated
from oracles.gated import rows, with_biases

FAMILIES = {"dgn": DGN, "dlgn": DLGN, "shallow": DLGNShallow}
GATES = {
    "hard": lambda q: float(q > 0),
    "sigmoid": lambda q: 1 / (1 + math.exp(-3 * q)),
    "scaled_sigmoid": lambda q: 1.2 / (1 + math.exp(-3 * q)),
}


# ---------------------------------------------------------------- the door


def test_the_door_opens_to_every_name_and_to_no_other():
    for name in models.__all__:
        assert getattr(models, name).__name__ == name
    assert set(models.WHERE) == set(models.__all__) == set(dir(models))
    with pytest.raises(AttributeError, match=r"module 'gatewise.models' has no attribute 'DLG'"):
        models.DLG  # noqa: B018


def test_gatewise_is_imported_with_the_door_to_its_models_alone():
    code = (
        "import sys, gatewise; sys.exit(any(m.startswith('gatewise.models.') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- against numpy


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("value_input", ["x", "ones"])
def test_masks_and_outputs_are_those_worked_out_unit_by_unit(kind, gate, value_input):
    net = FAMILIES[kind]((3, 4, 4, 2), gate, 3.0, 0.2, value_input, bias=True, order=(1, 0), seed=5)
    net = with_biases(net)
    X = rows(5, 3)
    found, out = net.gates(X), net(X)
    for i, x in enumerate(X.numpy()):
        want = [gated.masks(net.features, x, kind, GATES[gate])[k] for k in (1, 0)]
        for layer in range(2):
            np.testing.assert_allclose(found[layer][i].detach(), want[layer], atol=1e-12)
        start = x if value_input == "x" else np.ones(3)
        np.testing.assert_allclose(
            out[i].detach(), gated.output(net.values, start, want), atol=1e-12
        )


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(FAMILIES)),
    sizes=st.lists(st.integers(1, 5), min_size=3, max_size=6),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_sizes_give_rows_of_outputs_and_masks_of_each_width(kind, sizes, bias, seed):
    net = with_biases(FAMILIES[kind](sizes, "sigmoid", bias=bias, seed=seed), seed)
    X = rows(3, sizes[0], seed=seed)
    assert net(X).shape == (3, sizes[-1])
    assert [tuple(g.shape) for g in net.gates(X)] == [(3, w) for w in sizes[1:-1]]
    want = gated.masks(net.features, X[0].numpy(), kind, lambda q: 1 / (1 + math.exp(-4 * q)))
    np.testing.assert_allclose(net.gates(X)[-1][0].detach(), want[-1], atol=1e-12)


def test_a_relu_networks_own_signs_as_gates_give_the_relu_network():
    relu, net = ReLUNet((3, 6, 6, 2), seed=1).double(), DGN((3, 6, 6, 2), seed=2).double()
    net.values.load_state_dict(relu.values.state_dict())
    for feature, value in zip(net.features, relu.values, strict=False):
        feature.load_state_dict(value.state_dict())
    X = rows(20, 3)
    torch.testing.assert_close(net(X), relu(X))


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("value_input", ["x", "ones"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_hard_gated_network_is_read_and_explained_exactly(kind, value_input, bias):
    net = with_biases(FAMILIES[kind]((2, 4, 4, 2), value_input=value_input, bias=bias, seed=3))
    X = rows(40, 2)
    read = gw.read(net)
    torch.testing.assert_close(read(X), net(X), rtol=0, atol=1e-13)
    explanation = gw.explain(read, X.numpy())
    maps = explanation.coefficients[explanation.ids], explanation.intercepts[explanation.ids]
    by_rules = np.einsum("noi,ni->no", maps[0], X.numpy()) + maps[1]
    np.testing.assert_allclose(by_rules, net(X).detach(), atol=1e-12)


# ---------------------------------------------------------------- parameters and gradients


@pytest.mark.parametrize("kind", FAMILIES)
def test_feature_and_value_parameters_part_all_parameters(kind):
    net = FAMILIES[kind]((3, 4, 4, 2), bias=True)
    features, values = (set(map(id, p)) for p in (net.feature_parameters(), net.value_parameters()))
    assert not features & values
    assert features | values == set(map(id, net.parameters()))


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("gate", GATES)
def test_gradients_are_the_slopes_of_the_output(kind, gate):
    net = with_biases(FAMILIES[kind]((2, 3, 3, 1), gate, bias=True, seed=4))
    X, step = rows(3, 2), 1e-6
    net(X).sum().backward()
    for name, p in net.named_parameters():
        if gate == "hard" and name.startswith("features"):
            assert p.grad is None  # a step has no slope
            continue
        for place in np.ndindex(*p.shape):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p[place] += sign * step
                    ends.append(net(X).sum().item())
                    p[place] -= sign * step
            slope = (ends[0] - ends[1]) / (2 * step)
            assert p.grad[place].item() == pytest.approx(slope, abs=1e-7), (name, place)


# ---------------------------------------------------------------- gates


@pytest.mark.parametrize("kind", FAMILIES)
def test_hardening_keeps_weights_and_leaves_the_network_as_it_was(kind):
    net = FAMILIES[kind]((3, 5, 5, 2), "scaled_sigmoid", order=(1, 0), seed=6).double()
    X = rows(30, 3)
    before, hard = net(X), net.hardened()
    torch.testing.assert_close(net(X), before, rtol=0, atol=0)
    assert hard.order == (1, 0) and hard.state_dict().keys() == net.state_dict().keys()
    for own, copied in zip(net.parameters(), hard.parameters(), strict=True):
        assert own is not copied and torch.equal(own, copied)
    for soft, mask in zip(net.gates(X), hard.gates(X), strict=True):
        assert torch.equal(mask, (soft > 0.55).double())


def test_a_hard_gate_at_zero_is_off_and_soft_ones_approach_it():
    q = torch.tensor([-2.0, 0.0, 3.0])
    assert Gate()(q).tolist() == [0, 0, 1] and Gate()(q).dtype == q.dtype
    assert Gate("sigmoid", 100.0)(q).tolist() == pytest.approx([0, 0.5, 1])
    assert Gate("scaled_sigmoid", 100.0, 0.1)(q).tolist() == pytest.approx([0, 0.55, 1.1])


def refused(sentence):
    return pytest.raises(ModelError, match="^" + re.escape(sentence))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_a_soft_gate_that_does_not_open_is_refused(beta):
    with refused("a soft gate sigmoid(beta q) opens as q grows only for beta > 0, and beta is "):
        DLGN((2, 3, 1), "sigmoid", beta=beta)


def test_settings_that_are_no_network_are_refused():
    with refused("there is no gate 'soft': choose one of 'hard', 'sigmoid', 'scaled_sigmoid'"):
        DGN((2, 3, 1), "soft")
    with refused("a scaled gate is (1 + epsilon) sigmoid(beta q) with epsilon >= 0, and epsilon"):
        DGN((2, 3, 1), "scaled_sigmoid", epsilon=-0.1)
    with refused("`sizes` is (inputs, width of each gated layer, outputs), at least three whole"):
        DGN((2, 1))
    with refused("`sizes` is"):
        DGN((2, 0, 1))
    with refused("`sizes` is"):
        DGN((2, 2.5, 1))
    for sizes in (5, "abc", (2, True, 1)):
        with refused("`sizes` is (inputs, width of each gated layer, outputs), at least three"):
            DGN(sizes)
    with refused("`value_input` is 'x' or 'ones', and it is 'one'"):
        DGN((2, 3, 1), value_input="one")
    with refused("there is no initialisation 'xavier': choose one of 'glorot', 'he', 'rademacher'"):
        DGN((2, 3, 1), init="xavier")


def test_an_order_of_unequal_layers_or_of_no_layers_is_refused():
    with refused(
        "gate layer 1 cannot mask value layer 0: their shapes are (4,) and (3,); "
        "`order` may exchange layers of equal shapes only"
    ):
        DLGN((2, 3, 4, 1), order=(1, 0))
    with refused("`order` says which gate layer masks each value layer, so it is a permutation of"):
        DLGN((2, 3, 3, 1), order=(0, 0))
    for order in ((0, 1.9), (1.0, 0.0), (False, True), 3, "01"):
        with refused("`order` says which gate layer masks each value layer, so it is a permut"):
            DLGN((2, 3, 3, 1), order=order)
    assert DLGN((2, 3, 3, 1), order=np.array([1, 0])).order == (1, 0)


# ---------------------------------------------------------------- starts


@pytest.mark.parametrize(
    "init, variance",
    [("glorot", 2 / 500), ("he", 2 / 200), ("rademacher", 2 / 200), ("torch", 1 / 600)],
)
def test_a_start_has_its_variance_and_no_mean(init, variance):
    weight = ReLUNet((200, 300, 1), init=init, seed=0).values[0].weight.detach()
    assert weight.var().item() == pytest.approx(variance, rel=0.03)
    assert abs(weight.mean().item()) < 4 * math.sqrt(variance / weight.numel())
    if init == "rademacher":
        assert weight.abs().unique().tolist() == pytest.approx([math.sqrt(variance)])


def test_the_theorems_start_has_one_sigma_in_every_layer():
    net = DGN((3, 8, 5, 2), bias=True, seed=0)
    initialise(net, "rademacher", seed=1, sigma=0.25)
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    assert all(set(w.abs().unique().tolist()) == {0.25} for w in weights)
    assert all((p == 0).all() for name, p in net.named_parameters() if name.endswith("bias"))


def test_a_seed_repeats_a_network_and_leaves_torchs_state_alone():
    before = torch.get_rng_state()
    first, again, other = (DGN((3, 4, 2), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    same = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(first.values[0].weight, other.values[0].weight)
    assert not torch.equal(first.values[0].weight, first.features[0].weight)
    torch.manual_seed(0)
    fourth, fifth = DGN((3, 4, 2)), DGN((3, 4, 2))
    assert not torch.equal(fourth.values[0].weight, fifth.values[0].weight)
