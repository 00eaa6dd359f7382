"""SHAP, Captum and LIME under one interface: what they are asked is what they answer."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.errors import DataError, MissingExtra
from gatewise.explain.evaluation import peers
from gatewise.explain.evaluation.evaluate import evaluate
from gatewise.explain.evaluation.methods import checked
from gatewise.explain.evaluation.module import Layered, Whole
from nets import mixed, mlp, rows

NET = mlp(4, 8, 8, 2, seed=5)
X = rows(NET, 60, 1).numpy()
EXP = gw.explain(NET, X)
OUTPUT = 1
FEW = X[:6]
BOXES = {"captum": ["saliency", "input_x_gradient", "integrated_gradients", "deep_lift"],
         "shap": ["deep_shap", "kernel_shap", "permutation_shap"], "lime": ["lime"]}  # fmt: skip
ALL = [(name, package) for package, names in BOXES.items() for name in names]


def asked(name: str, exp=EXP, x=FEW, output=OUTPUT):
    peer = peers.PEERS[name](exp, output)
    return checked(peer.name, peer.attribute(x), x)


@pytest.mark.parametrize(("name", "package"), ALL)
def test_every_peer_answers_twice_the_same_and_again_on_another_network(name, package):
    pytest.importorskip(package)
    state = np.random.get_state()[1].copy()
    first, second = asked(name), asked(name)
    assert np.array_equal(np.random.get_state()[1], state)
    assert logging.root.manager.disable == logging.NOTSET
    for a, b in ((first.values, second.values), (first.slopes, second.slopes)):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)
    peer = peers.PEERS[name](EXP, OUTPUT)
    other = checked(name, peer.rebuild(mlp(4, 8, 8, 2, seed=6))(FEW), FEW)
    mine = first.values if first.values is not None else first.slopes
    theirs = other.values if other.values is not None else other.slopes
    assert not np.allclose(mine, theirs)


def test_saliency_is_the_slope_and_so_is_autograd_through_the_network():
    pytest.importorskip("captum")
    np.testing.assert_allclose(asked("saliency").slopes, EXP.slopes[:6, :, OUTPUT], atol=1e-14)
    np.testing.assert_allclose(
        asked("input_x_gradient").slopes, EXP.slopes[:6, :, OUTPUT], atol=1e-14
    )


@pytest.mark.parametrize(("name", "error"), [("deep_lift", 1e-12), ("deep_shap", 1e-12),
                                             ("kernel_shap", 1e-9), ("permutation_shap", 1e-9),
                                             ("integrated_gradients", 0.1)])  # fmt: skip
def test_what_claims_a_sum_has_it(name, error):
    pytest.importorskip("shap" if "shap" in name else "captum")
    said = asked(name)
    gap = said.base + said.values.sum(1) - EXP.output[:6, OUTPUT]
    assert np.abs(gap).max() < error
    base = NET(EXP.reference[None])[0, OUTPUT]
    np.testing.assert_allclose(said.base, float(base), atol=1e-9)


def test_on_a_linear_network_all_say_the_same():
    net = mlp(4, 1, seed=2)
    exp = gw.explain(net, X)
    for name, package in ALL:
        if name == "input_x_gradient":
            continue
        pytest.importorskip(package)
        said = asked(name, exp, output=0)
        if said.values is not None:
            np.testing.assert_allclose(said.values, exp.values[:6, :, 0], atol=0.02)
        if said.slopes is not None:
            np.testing.assert_allclose(said.slopes, exp.slopes[:6, :, 0], atol=0.02)


def test_kernel_shap_is_the_shapley_value_by_all_orders():
    pytest.importorskip("shap")
    from itertools import permutations

    want = np.zeros((1, 4))
    for order in permutations(range(4)):
        x = EXP.reference.copy()
        before = float(NET(x[None])[0, OUTPUT])
        for j in order:
            x[j] = FEW[0, j]
            after = float(NET(x[None])[0, OUTPUT])
            want[0, j] += (after - before) / 24
            before = after
    for name in ("kernel_shap", "permutation_shap"):
        np.testing.assert_allclose(asked(name, x=FEW[:1]).values, want, atol=0.05)
    np.testing.assert_allclose(asked("kernel_shap", x=FEW[:1]).values, want, atol=1e-9)


@pytest.mark.parametrize("net", [NET, mixed(1)], ids=["mlp", "mixed"])
def test_the_module_is_the_network(net):
    x = rows(net, 9)
    whole = Whole(net, 1)
    assert torch.equal(whole(x), net(x)[:, [1]])
    inside = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(whole(inside).sum(), inside)
    np.testing.assert_allclose(g.numpy(), gw.explain(net, x.numpy()).slopes[:, :, 1], atol=1e-12)


def test_the_layered_module_is_the_network_and_has_its_relus():
    x = rows(NET, 9)
    layered = Layered(NET, OUTPUT)
    assert torch.equal(layered(x), NET(x)[:, [OUTPUT]])
    assert sum(isinstance(m, torch.nn.ReLU) for m in layered.modules()) == 2


def test_gates_without_a_rule_are_refused_for_deep_lift_and_left_out_of_all():
    pytest.importorskip("captum")
    exp = gw.explain(mixed(0), rows(mixed(0), 20).numpy())
    with pytest.raises(
        DataError, match="have a rule for ReLU alone here, but node 'n3' is a Pieces"
    ):
        peers.deep_lift(exp)
    found = {peer.name for peer in peers.peers(exp)}
    assert "captum Saliency" in found and "captum DeepLift" not in found


def test_names_pick_peers_and_a_wrong_one_is_refused():
    pytest.importorskip("captum")
    (one,) = peers.peers(EXP, ["saliency"])
    assert one.name == "captum Saliency"
    with pytest.raises(
        DataError, match="no peer smooth_grad: there are saliency, input_x_gradient"
    ):
        peers.peers(EXP, ["smooth_grad"])


@pytest.mark.parametrize(("name", "package"), ALL)
def test_a_package_that_is_not_installed_is_named(name, package, monkeypatch):
    for module in ("shap", "captum.attr", "lime.lime_tabular"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtra, match=f"needs the package '{package}', which is not installed"
    ):
        peers.PEERS[name](EXP, 0)
    assert peers.peers(EXP) == ()


def test_importing_the_peers_imports_none_of_them():
    code = (
        "import sys, gatewise.explain.evaluation.peers\n"
        "print(*({'shap', 'captum', 'lime', 'numba', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_side_by_side():
    pytest.importorskip("captum")
    mine = peers.integrated_gradients(EXP)
    e = evaluate(EXP, peers=["saliency", mine], rows=20)
    assert evaluate(EXP, peers="saliency", rows=20).methods[-1] == "captum Saliency"
    assert e.methods[0] == "exact rule" and e.methods[-2:] == (
        "captum Saliency",
        "captum IntegratedGradients (50)",
    )
    error = e["region error, largest"]
    assert error["exact rule"] < 1e-12 and error["captum Saliency"] < 1e-12
    assert error["captum IntegratedGradients (50)"] > 1e-6
    assert e["additivity error"]["captum Saliency"] is None
    assert e["additivity error"]["captum IntegratedGradients (50)"] > 1e-6
