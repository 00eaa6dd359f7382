"""What may not change does not, exactly; bounds are met by name; and units do not matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import gatewise as gw
from gatewise.errors import InternalError
from gatewise.explain.recourse import recourse as module
from gatewise.explain.recourse.problem import domain_of
from gatewise.explain.recourse.recourse import recourse
from nets import mlp

METHODS = ("exact", "region", "milp")
SUM = gw.read([(np.ones((1, 3)), np.zeros(1))], feature_names=["age", "income", "debt"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("held", [{"immutable": ["age"]}, {"scale": [0, 1, 1]}])
@pytest.mark.parametrize("low", [0, 45.2])
def test_a_held_input_keeps_its_fraction(method, held, low):
    ask = {"integers": ["age", "income"], "bounds": {"age": (low, 99), "income": (0, 99)}}
    r = recourse(SUM, [45.5, 3.0, 0.25], at_least=52.1, method=method, **ask, **held)
    assert r.point is not None and r.point[0] == 45.5
    assert r.point[1] == round(r.point[1])


@pytest.mark.parametrize("seed", range(6))
def test_a_held_fraction_is_held_on_a_walk(seed):
    network, home = mlp(4, 6, 5, 1, seed=seed), np.array([0.5, 1.0, -0.3, 0.7])
    for method in ("exact", "region"):
        r = recourse(
            network,
            home,
            integers=[0, 1],
            immutable=[0],
            bounds=(home - 9, home + 9),
            method=method,
        )
        assert r.point is None or r.point[0] == 0.5


def test_a_fraction_that_is_free_moves_to_a_whole_number():
    r = recourse(SUM, [45.5, 3.0, 0.0], at_least=10, integers="age")
    assert r.status == "optimal" and r.cost == pytest.approx(0.5)
    assert r.point[0] in (45, 46)


def test_an_answer_that_leaves_the_domain_is_never_returned(monkeypatch):
    monkeypatch.setattr(module, "repaired", lambda x, *rest: x + 0.5)
    with pytest.raises(InternalError, match="leaves what it may change"):
        recourse(SUM, [1.0, 2.0, 3.0], at_least=9, immutable=["age"])


def test_a_domain_says_what_it_holds():
    names = ("a", "red", "blue", "n")
    domain, _ = domain_of(
        dataclasses.replace(mlp(4, 3, 1, seed=0), feature_names=names),
        np.array([0.5, 1, 0, 2]),
        names,
        immutable="a",
        integers="n",
        categories={"colour": ["red", "blue"]},
        bounds={"n": (0, 5)},
    )
    assert domain.holds(np.array([0.5, 0, 1, 5]))
    for bad in ([0.6, 0, 1, 5], [0.5, 1, 1, 5], [0.5, 0, 0.5, 5], [0.5, 0, 1, 6], [0.5, 0, 1, 4.5]):
        assert not domain.holds(np.array(bad))


@pytest.mark.parametrize("as_", [dict, pd.Series, lambda row: pd.DataFrame([row])])
def test_bounds_are_met_by_name(as_):
    low = {"debt": np.nan, "income": 2.0, "age": 10.0}
    high = {"debt": 4.0, "income": np.inf, "age": 20.0}
    names = SUM.feature_names
    home = np.array([15.0, 3.0, 3.0])
    domain, _ = domain_of(SUM, home, names, bounds=(as_(low), as_(high)))
    assert domain.low.tolist() == [10, 2, -np.inf]
    assert domain.high.tolist() == [20, np.inf, 4]
    open_, _ = domain_of(SUM, home, names, bounds=({"age": None}, as_({"age": 16.0})))
    assert open_.low.tolist() == [-np.inf] * 3
    assert open_.high.tolist() == [16, np.inf, np.inf]


def test_bounds_in_order_stay_in_order():
    low, high = [0, -np.inf, np.nan], pd.Series([20.0, np.inf, 4.0])
    domain, _ = domain_of(SUM, np.ones(3), SUM.feature_names, bounds=(low, high))
    assert domain.low.tolist() == [0, -np.inf, -np.inf]
    assert domain.high.tolist() == [20, np.inf, 4]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_the_proof_does_not_depend_on_units(unit):
    """f(x / unit) in a finite box: the same question, its cost times the unit."""
    network, home, edge = mlp(2, 6, 5, 1, seed=2), np.array([0.3, -0.2]), np.full(2, 4.0)
    (w, b), *rest = [
        (n.kind.weights[0].numpy(), n.kind.bias.numpy())
        for n in network.nodes
        if n.layer == "Affine"
    ]
    scaled = gw.read([(w / unit, b), *rest])
    start = float(network(home[None])[0, 0])
    one = recourse(network, home, at_least=start + 0.2, bounds=(-edge, edge))
    r = recourse(scaled, home * unit, at_least=start + 0.2, bounds=(-edge * unit, edge * unit))
    assert one.status == r.status == "optimal"
    assert r.cost / unit == pytest.approx(one.cost, rel=1e-5)
    assert r.gap < 1e-5
    none = recourse(scaled, home * unit, at_least=1e3, bounds=(-edge * unit, edge * unit))
    assert none.status == "infeasible"
