"""Training through second moments against plain torch on the data themselves; saddles by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gatewise.errors import BadRows, DataError, EmptyData, ModelError, WrongShape
from gatewise.models import Chains, LinearChain, Moments, descend, diagnose

F64 = torch.float64
SHAPES = {"scalar": (1, 1, 1), "wide": (3, 4, 2), "narrow": (4, 2, 3)}


def trials(count: int, rows: int, d: int = 1, o: int = 1, seed: int = 0, noise: float = 0.3):
    draw = torch.Generator().manual_seed(seed)
    x, maps, shift, e = (
        torch.randn(count, *s, generator=draw, dtype=F64)
        for s in ((rows, d), (o, d), (1, o), (rows, o))
    )
    return x + 0.5, (x + 0.5) @ maps.mT + shift + noise * e


def torch_run(chain: LinearChain, x, y, optimizer, steps: int):
    """The oracle: autograd on the rows."""
    rule = optimizer(chain.parameters())
    for _ in range(steps):
        rule.zero_grad()
        nn.functional.mse_loss(chain(x), y).backward()
        rule.step()
    return chain


OPTIMIZERS = {
    "gd": (lambda p: torch.optim.SGD(p, lr=0.03), 0.03),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), 0.01),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), 0.01),
}


CASES = [(o, s, True) for o in OPTIMIZERS for s in SHAPES]


@pytest.mark.parametrize(("optimizer", "shape", "bias"),
                         [*CASES, ("gd", "scalar", False), ("adam", "wide", False)])  # fmt: skip
def test_weights_are_those_of_autograd_on_the_rows(optimizer, shape, bias):
    """Every weight to 1e-9 after 200 steps, whatever the width; and what is recorded."""
    d, width, o = SHAPES[shape]
    x, y = trials(2, 40, d, o)
    start = Chains.draw(2, 3, d, width, o, bias, seed=3)
    rule, lr = OPTIMIZERS[optimizer]
    run = descend(start, Moments.of(x, y), lr=lr, steps=200, optimizer=optimizer)
    for case in range(2):
        chain = torch_run(LinearChain.of(start, case), x[case], y[case], rule, 200)
        found = LinearChain.of(run.end, case)
        for a, b in zip(found.parameters(), chain.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        loss = nn.functional.mse_loss(chain(x[case]), y[case])
        grads = torch.autograd.grad(loss, list(chain.parameters()))
        assert run.train[-1, 0, case] == pytest.approx(float(loss.detach()), rel=1e-9)
        size = float(torch.cat([g.flatten() for g in grads]).norm())
        assert run.gradient[-1, 0, case] == pytest.approx(size, rel=1e-6, abs=1e-12)


def test_what_is_recorded_is_what_the_rows_say():
    """D from numpy's least squares, and the intercept as mean(f(X) - M X); the test error too."""
    x, y = trials(3, 50)
    x2, y2 = trials(3, 20, seed=1)
    start = Chains.draw(3, 4, seed=0)
    run = descend(start, Moments.of(x, y), lr=(0.01, 0.05), steps=40, record=(10,),
                  test=Moments.of(x2, y2))  # fmt: skip
    assert run.steps.tolist() == [0, 10, 40] and run.deviation.shape == (3, 2, 3)
    for k in range(2):
        for case in range(3):
            chain = LinearChain.of(run.end, 3 * k + case)
            with torch.no_grad():
                f, f2 = chain(x[case]), chain(x2[case])
            M = float(np.prod([float(layer.weight.detach()) for layer in chain.layers]))
            C = float((f - M * x[case]).mean())
            slope, intercept = np.polyfit(x[case, :, 0].numpy(), y[case, :, 0].numpy(), 1)
            assert run.deviation[-1, k, case] == pytest.approx(abs(M - slope) + abs(C - intercept))
            assert run.test[-1, k, case] == pytest.approx(float((f2 - y2[case]).square().mean()))
    first = descend(start, Moments.of(x, y), lr=0.05, steps=10)
    np.testing.assert_allclose(first.deviation[-1, 0], run.deviation[1, 1], rtol=1e-12)
    mean, error = run.mean("train")
    np.testing.assert_allclose(mean, run.train[-1].mean(1))
    np.testing.assert_allclose(error, run.train[-1].std(1, ddof=1) / 3**0.5)


def test_moments_are_least_squares_even_far_from_the_origin():
    """Columns at 1e6 cost no more digits than centring them costs."""
    x, y = trials(2, 60, 3, 2)
    x = x + 1e6
    bowl = Moments.of(x, y).bowl()
    for case in range(2):
        rows = x[case] - x[case].mean(0)
        fit = torch.linalg.lstsq(rows, y[case] - y[case].mean(0)).solution.T
        torch.testing.assert_close(bowl.slope[case], fit, rtol=1e-8, atol=1e-9)
        left = (y[case] - y[case].mean(0) - rows @ fit.T).square().mean()
        assert float(bowl.least[case]) == pytest.approx(float(left), rel=1e-9)
        through = torch.linalg.lstsq(x[case] - 1e6, y[case]).solution.T
        there = Moments.of(x[case] - 1e6, y[case]).bowl(bias=False)
        torch.testing.assert_close(there.slope[0], through, rtol=1e-9, atol=1e-9)


def test_a_narrow_chain_is_measured_against_the_best_map_of_its_rank():
    x, y = trials(1, 200, 4, 4, noise=0.01)
    run = descend(Chains.draw(1, 2, 4, 2, 4, seed=1), Moments.of(x, y), lr=0.05, steps=6000)
    assert run.modes.tolist() == [2] and run.verdicts.tolist() == [["converged"]]
    assert run.deviation[-1, 0, 0] < 1e-6
    assert float(run.bowl.deviation(*run.end.map())[0]) > 0.1  # the least-squares map has rank 4


# ---------------------------------------------------------------- where a run ends


def test_verdicts_and_escape_on_chains_whose_fate_is_known():
    """m = 1 meets a slope of -2: it has to cross 0. A large step blows up, and ends no other."""
    x = torch.linspace(-1, 1, 50, dtype=F64)[:, None].expand(2, 50, 1)
    y = torch.stack([3.0 * x[0], -2.0 * x[1]])
    start = Chains.draw(2, 3, init="identity")
    run = descend(start, Moments.of(x, y), lr=(0.05, 5.0), steps=4000, record=range(0, 4001, 5))
    assert run.verdicts.tolist() == [["converged", "plateau"], ["diverged", "diverged"]]
    late = run.deviation[:, 0, 0] >= 1.5  # less than half of the slope 3
    assert late[0] and run.escape[0, 0] == run.steps[late.sum()]
    assert np.isinf(run.escape[0, 1]) and run.learnt[-1, 0].tolist() == [1, 0]
    found = diagnose(run, hessian=True)
    assert found.missing[0, :, 0].tolist() == [False, True]
    assert found.loss[0, 1] == pytest.approx(float(y[1].square().mean()))
    assert found.distance[0, 1] < 1e-3 and found.distance[0, 0] < 1e-6
    assert np.isnan(found.least[1]).all()
    assert "50.0% converged, 0.0% unfinished, 50.0% plateau, 0.0% diverged" in str(run)


def test_the_hessian_is_autograds_on_the_rows():
    x, y = trials(2, 30, 2, 1)
    run = descend(Chains.draw(2, 3, 2, 2, 1, seed=1), Moments.of(x, y), lr=0.01, steps=5)
    found = diagnose(run, hessian=True)
    for case in range(2):
        chain = LinearChain.of(run.end, case)
        names, held = zip(*chain.named_parameters(), strict=True)
        sizes = [p.numel() for p in held]

        def loss(flat, chain=chain, names=names, held=held, sizes=sizes, case=case):
            parts = zip(names, flat.split(sizes), held, strict=True)
            weights = {n: v.view(p.shape) for n, v, p in parts}
            out = torch.func.functional_call(chain, weights, (x[case],))
            return nn.functional.mse_loss(out, y[case])

        flat = torch.cat([p.detach().flatten() for p in held])
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
        assert found.least[0, case] == pytest.approx(float(values[0]), abs=1e-9)
        assert found.greatest[0, case] == pytest.approx(float(values[-1]), abs=1e-9)


@pytest.mark.parametrize(("depth", "strict"), [(2, True), (3, False)])
def test_the_origin_is_a_strict_saddle_of_two_layers_and_a_flat_one_of_three(depth, strict):
    x, y = trials(1, 40)
    data = Moments.of(x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True))
    chains = Chains.draw(1, depth, bias=False, seed=0)
    nil = chains.like([torch.zeros_like(t) for t in chains.tensors()])
    run = descend(nil, data, lr=0.1, steps=20)
    assert run.gradient.max() == 0 and run.verdicts.tolist() == [["plateau"]]
    found = diagnose(run, hessian=True)
    assert bool(found.strict[0, 0]) is strict
    assert found.distance[0, 0] == 0 and (found.least[0, 0] < 0) is np.bool_(strict)


def test_a_saddle_of_a_wide_chain_lacks_the_modes_it_has_not_learnt():
    """Balanced in the first mode alone: the second is never learnt, and the loss says so."""
    draw = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(300, 2, generator=draw, dtype=F64))[0] * 300**0.5
    q = torch.linalg.qr(q - q.mean(0))[0] * 300**0.5  # uncorrelated, of mean 0 and variance 1
    y = q @ torch.diag(torch.tensor([3.0, 1.0], dtype=F64))
    chains = Chains.draw(1, 3, 2, 2, 2, bias=False, init="identity")
    stuck = chains.like([w * torch.diag(torch.tensor([1.0, 0.0])) for w in chains.weights])
    run = descend(stuck, Moments.of(q, y), lr=0.02, steps=2000)
    found = diagnose(run)
    assert found.missing.tolist() == [[[False, True]]] and run.modes.tolist() == [2]
    assert found.loss[0, 0] == pytest.approx(0.5, rel=1e-6)  # 1^2 of the lost mode, two outputs
    assert found.distance[0, 0] < 1e-6 and run.learnt[-1].tolist() == [[1]]


def test_small_steps_keep_the_layers_as_balanced_as_they_were():
    x, y = trials(3, 40, 3, 2)
    start = Chains.draw(3, 3, 3, 4, 2, seed=0)
    found = diagnose(descend(start, Moments.of(x, y), lr=1e-3, steps=1500))
    np.testing.assert_allclose(found.imbalance_end, found.imbalance_start, rtol=0.02)
    coarse = diagnose(descend(start, Moments.of(x, y), lr=0.1, steps=15))
    assert (abs(coarse.imbalance_end - coarse.imbalance_start) > 0.02).any()


def test_chunks_and_rates_side_by_side_change_nothing(monkeypatch):
    x, y = trials(70, 20)
    start, data = Chains.draw(70, 2, seed=1), Moments.of(x, y)
    whole = descend(start, data, lr=(0.01, 0.1), steps=30)
    monkeypatch.setattr("gatewise.models.study.descent.CHUNK_BYTES", 1)
    parts = descend(start, data, lr=(0.01, 0.1), steps=30)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-12)
    one = descend(start, data, lr=0.1, steps=30)
    np.testing.assert_allclose(one.deviation[:, 0], whole.deviation[:, 1], rtol=1e-12)


# ---------------------------------------------------------------- refusals


def test_data_that_cannot_be_used_are_refused():
    x, y = trials(2, 10)
    with pytest.raises(DataError, match=r"y is the same in every row \(trial 1, column 0\)"):
        Moments.of(x, torch.stack([y[0], torch.full((10, 1), 0.1, dtype=F64)]))
    bad = x.clone()
    bad[1, 4] = torch.nan
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 4: repair"):
        Moments.of(bad, y)
    with pytest.raises(WrongShape, match=r"X is \(rows, inputs\) and y .* got X \(2, 10, 1\)"):
        Moments.of(x, y[:, :9])
    with pytest.raises(EmptyData, match="at least two rows"):
        Moments.of(x[:, :1], y[:, :1])
    with pytest.raises(DataError, match="y is to be numbers, and its dtype is <U1"):
        Moments.of(x[0], np.array(["a"] * 10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "learning rates are positive, and `lr` is 0.0"),
        ({"lr": "fast"}, "learning rates are positive, and `lr` is 'fast'"),
        ({"lr": []}, r"learning rates are positive, and `lr` is \[\]"),
        ({"steps": 1.5}, "`steps` is a whole number from 1, and it is 1.5"),
        ({"record": (3, 11)}, r"`record` is whole numbers from 0 to `steps` = 10, got \(3, 11\)"),
        ({"record": (0.5,)}, "`record` is whole numbers from 0"),
        ({"optimizer": "sgd"}, "there is no optimizer 'sgd': choose one of 'gd', 'momentum'"),
        ({"momentum": 1.0}, "momentum and the two betas are numbers from 0 below 1, got 1.0"),
        ({"betas": (0.9,)}, r"the two betas are numbers from 0 below 1, got \(0.9,\)"),
        ({"betas": 3}, "the two betas are numbers from 0 below 1, got 3"),
        ({"test": 3}, r"`moments` and `test` are Moments.of\(X, y\); `test` is a int"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    x, y = trials(2, 10)
    with pytest.raises(ModelError, match=message):
        descend(Chains.draw(2, 2), Moments.of(x, y), **{"steps": 10, **settings})


def test_chains_that_do_not_fit_the_data_are_refused():
    x, y = trials(2, 10)
    with pytest.raises(WrongShape, match="the chains take 3 inputs to 1 outputs, and the data"):
        descend(Chains.draw(2, 2, 3, 2, 1), Moments.of(x, y))
    with pytest.raises(WrongShape, match="there are 3 chains and 2 trials"):
        descend(Chains.draw(3, 2), Moments.of(x, y))
    with pytest.raises(ModelError, match=r"`start` is Chains.draw\(..\).*`start` is a Moments"):
        descend(Moments.of(x, y), Chains.draw(2, 2))
    lost = descend(Chains.draw(2, 2, seed=0), Moments.of(x, y), lr=1e6, steps=50)
    assert np.isnan(diagnose(lost, hessian=True).least).all()  # not one is left to bend
    for name in ("test", "losses"):
        with pytest.raises(ModelError, match=f"no record '{name}': choose one of deviation, train"):
            lost.mean(name)
    wide = descend(Chains.draw(1, 3, 3, 6, 2, seed=0), Moments.of(*trials(1, 20, 3, 2)), steps=2)
    with pytest.raises(ModelError, match="at most 64 parameters, and these have 80"):
        diagnose(wide, hessian=True)
