"""Half-spaces of gates: against products of matrices and the gates of rows; others are refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import cases
import gatewise as gw
from gatewise.dual.gates.halfspaces import half_spaces
from gatewise.dual.gating import masks
from gatewise.errors import BadRows, DataError, NotGated, WrongShape


class Linearly(nn.Module):
    """Gates from a linear tower, shifted knots and turned-round gates among them."""

    def __init__(self, turned=False, closed=False):
        super().__init__()
        self.gates = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 5)])
        self.values = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 5)])
        self.head, self.turned, self.closed = nn.Linear(5, 2), turned, closed

    def forward(self, x):
        feature, value = x, x
        for gate, layer in zip(self.gates, self.values, strict=True):
            feature = gate(feature)
            on = feature < 0.25 if self.turned else feature >= 0 if self.closed else feature > 0
            value = layer(value) * on.to(x.dtype)
        return self.head(value)


def read(**settings):
    torch.manual_seed(4)
    module = Linearly(**settings).double()
    return module, gw.read(module, torch.randn(2, 4).double())


def by_hand(module):
    """(A, c) of each layer: U_l .. U_1 and its offset."""
    a, c, found = np.eye(4), np.zeros(4), []
    for gate in module.gates:
        w, b = gate.weight.detach().numpy(), gate.bias.detach().numpy()
        a, c = w @ a, w @ c + b
        found.append((a, c))
    return found


def test_normals_and_offsets_are_the_products_of_the_tower():
    module, network = read()
    found = half_spaces(network)
    assert len(found) == 11
    for layer, (a, c) in zip(found.layers, by_hand(module), strict=True):
        np.testing.assert_allclose(layer.a, a, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(layer.b, c, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(layer.norms, np.linalg.norm(a, axis=1))
        np.testing.assert_allclose(layer.distances, c / np.linalg.norm(a, axis=1), rtol=1e-12)
    assert "11 gates, each on in a half-space" in str(found)


@pytest.mark.parametrize("settings", [{}, {"turned": True}, {"closed": True}])
def test_a_gate_is_on_exactly_in_its_half_space(settings):
    _, network = read(**settings)
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)).double()
    found = half_spaces(network)
    for layer, mask in zip(found.layers, masks(network, x), strict=True):
        np.testing.assert_array_equal(layer.on(x), mask.reshape(500, -1).numpy())
        assert 0 < mask.double().mean() < 1
    assert [la.closed for la in found.layers] == [settings == {"closed": True}] * 2


def test_the_rounding_bound_holds_in_exact_arithmetic():
    module, network = read()
    layer = half_spaces(network)[1]

    def exact(t):
        return [[Fraction(v) for v in row] for row in t.detach().numpy().tolist()]

    first, second = (exact(g.weight) for g in module.gates)
    bias = exact(module.gates[0].bias[None])[0]
    last = exact(module.gates[1].bias[None])[0]
    for i in range(5):
        a = [sum(second[i][k] * first[k][j] for k in range(6)) for j in range(4)]
        b = sum(second[i][k] * bias[k] for k in range(6)) + last[i]
        off = sum(abs(Fraction(v) - w) for v, w in zip(layer.a[i].tolist(), a, strict=True))
        assert off <= Fraction(layer.bound[0, i])
        assert abs(Fraction(layer.b[i]) - b) <= Fraction(layer.bound[1, i])
    assert 0 < layer.bound.max() < 1e-12


def planted():
    """Seven gates: three near one axis, two near its opposite, one apart, one that never turns."""
    module = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 1)).double()
    rows = [[1, 0, 0], [2, 0.1, 0], [1, 0, 0.1], [-1, 0, 0], [-3, 0.1, 0], [0, 0, 5], [0, 0, 0]]
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(rows))
        module[0].bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0, -2]))
    return half_spaces(gw.read(module, torch.zeros(2, 3).double()))


def test_angles_and_clusters():
    found = planted()
    angles = found.angles
    assert angles[0, 3] == 180 and angles[0, 5] == pytest.approx(90) and angles[0, 0] == 0
    assert angles[0, 1] == pytest.approx(np.degrees(np.arctan(0.05)))
    assert angles[6, :6] == pytest.approx(90)
    assert found.clusters(10).tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert len(set(found.clusters(0).tolist())) == 7
    assert found[0].distances[6] == -np.inf
    assert "1 do not depend on the input" in str(found)
    with pytest.raises(DataError, match="degrees must be at least 0 and below 180, got 200"):
        found.clusters(200)


def test_of_a_relu_network_only_the_first_layer_is():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    network = gw.read(module.double(), torch.zeros(2, 3).double())
    gates = [g.name for g in network.gates]
    with pytest.raises(NotGated) as refused:
        half_spaces(network)
    says = str(refused.value)
    assert f"the gate '{gates[1]}' is not linear in the input" in says
    assert f"node '{gates[0]}' (ReLU)" in says
    assert "only its first is; `distill`" in says


def test_a_network_whose_gates_come_from_a_relu_network_is_refused():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.v, self.head = (nn.Linear(3, 3) for _ in range(4))

        def forward(self, x):
            on = (self.b(torch.relu(self.a(x))) > 0).to(x.dtype)
            return self.head(self.v(x) * on)

    network = gw.read(Deep().double(), torch.zeros(2, 3).double())
    with pytest.raises(NotGated, match="is not linear in the input: its pre-activation comes"):
        half_spaces(network)


def test_the_named_case():
    case = cases.CASES["dlgn"]
    found = half_spaces(gw.read(case.module().double(), case.rows(2).double()))
    assert [len(layer) for layer in found.layers] == [8, 8]


def test_a_network_without_gates_is_refused():
    case = cases.CASES["linear"]
    with pytest.raises(NotGated, match="the network has no gate"):
        half_spaces(gw.read(case.module().double(), case.rows(2).double()))


def test_rows_that_half_spaces_cannot_take_are_refused():
    layer = planted()[0]
    with pytest.raises(WrongShape, match="take rows of 3 inputs; X has 2 a row"):
        layer.on(np.ones((4, 2)))
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 1:"):
        layer.on([[1.0, 2, 3], [np.nan, 1, 2]])
    with pytest.raises(WrongShape, match="the data hold text"):
        layer.on(np.array([["a", "b", "c"]]))
    assert layer.on(np.ones((0, 3))).shape == (0, 7)
