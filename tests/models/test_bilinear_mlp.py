"""Bilinear networks: their formula worked out by hand, how they are read, annealing and noise."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
from gatewise.errors import ModelError
from gatewise.models import GLU, BilinearMLP, anneal_beta, annealed, fit_bilinear
from gatewise.models.bilinear.annealing import gaussian_noise
from oracles.gated import rows

X = rows(200, 5).float()
Y = (X[:, 0] * X[:, 1] > 0).long()

shapes = st.fixed_dictionaries(
    {
        "embed": st.none() | st.integers(1, 5),
        "layers": st.integers(1, 3),
        "bias": st.booleans(),
        "residual": st.booleans(),
        "gate": st.sampled_from(["bilinear", "swish"]),
        "beta": st.sampled_from([0.0, 0.5, 2.0]),
        "seed": st.integers(0, 9),
    }
)


def by_hand(model: BilinearMLP, x: np.ndarray) -> np.ndarray:
    """The formula, entry by entry, from the arrays of the state."""
    held = {k: v.double().numpy() for k, v in model.state_dict().items()}
    y = x @ held["embed.weight"].T if "embed.weight" in held else x
    for i, layer in enumerate(model.layers):
        side = {
            n: y @ held[f"layers.{i}.{n}.weight"].T + held.get(f"layers.{i}.{n}.bias", 0)
            for n in "WV"
        }
        gate = side["V"]
        if layer.gate == "swish":
            gate = gate / (1 + np.exp(-layer.beta * gate))
        out = side["W"] * gate
        if f"layers.{i}.P.weight" in held:
            out = out @ held[f"layers.{i}.P.weight"].T
        y = y + out if layer.residual else out
    return y @ held["head.weight"].T


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 6), st.booleans())
def test_the_answer_is_the_formulas(shape, hidden, project):
    hidden = (shape["embed"] or 5) if shape["residual"] and not project else hidden
    model = BilinearMLP(5, hidden, 3, project=project, **shape).double().eval()
    x = X[:7].double()
    with torch.no_grad():
        np.testing.assert_allclose(model(x).numpy(), by_hand(model, x.numpy()), atol=1e-12)


READ = {
    "published": {"embed": 6},
    "raw input": {"bias": True},
    "stream": {"embed": 4, "layers": 3, "residual": True, "project": True, "bias": True},
    "no P": {"layers": 2},
    "annealed": {"embed": 6, "gate": "swish", "beta": 0.0, "bias": True},
}


@pytest.mark.parametrize("name", READ)
def test_its_layers_are_found_and_compose_to_the_network(name):
    model = BilinearMLP(5, 7, 3, **READ[name])
    net = gw.read(model, X[:2])
    layers = gw.bilinear.bilinear_layers(net)
    assert [layer.hidden for layer in layers] == [7] * len(model.layers)
    y = gw.bilinear.layer_input(net, layers[0], X)
    for layer in layers:
        y = layer(y)
    with torch.no_grad():
        want = model.double()(X.double())
    torch.testing.assert_close(y, want, atol=1e-9, rtol=1e-6)


def test_one_layer_without_biases_is_a_form_of_degree_two_of_the_input():
    model = BilinearMLP(5, 7, 3, embed=6).double()
    E, H = model.embed.weight, model.head.weight
    W, V = model.layers[0].W.weight, model.layers[0].V.weight
    Q = torch.einsum("oh,hi,hj,ia,jb->oab", H, W, V, E, E)
    x = X.double()
    torch.testing.assert_close(model(x), torch.einsum("oab,na,nb->no", Q, x, x))
    torch.testing.assert_close(model(3 * x), 9 * model(x))


def test_a_seed_names_a_network_of_torchs_usual_size_and_none_asks_torch():
    one, two, other = (BilinearMLP(50, 60, 3, bias=True, seed=s) for s in (1, 1, 2))
    pairs = zip(one.parameters(), two.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in pairs)
    for side in (one.layers[0].W, one.layers[0].V):
        for values in (side.weight, side.bias):
            assert 0.9 * 50**-0.5 < values.abs().max() <= 50**-0.5
    torch.manual_seed(3)
    first = BilinearMLP(5, 6, 3, seed=None)
    torch.manual_seed(3)
    assert torch.equal(BilinearMLP(5, 6, 3, seed=None).head.weight, first.head.weight)
    images = BilinearMLP(12, 4, 2)  # rows of any shape are flattened
    flat = torch.ones(3, 12)
    assert torch.equal(images(flat.reshape(3, 1, 3, 4)), images(flat))
    assert "gate=swish, beta=0.5" in repr(BilinearMLP(5, 6, 3, gate="swish", beta=0.5))


# ---------------------------------------------------------------- annealing


def test_beta_falls_in_a_line_over_the_share_and_stays_at_nothing():
    model = nn.Sequential(BilinearMLP(5, 4, 3, gate="swish"), BilinearMLP(3, 4, 2))
    along = anneal_beta(model, 0.3)
    betas = []
    for t in (0.0, 0.15, 0.3, 0.31, 1.0):
        along(t)
        betas.append(model[0].layers[0].beta)
    assert betas == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert model[1].layers[0].beta == 1.0  # not a swish gate: left alone


def test_at_beta_nothing_the_layer_is_bilinear_with_half_of_v_bit_for_bit():
    model = BilinearMLP(5, 7, 3, embed=6, layers=2, bias=True, gate="swish", beta=0.0)
    plain = annealed(model)
    assert torch.equal(plain(X), model(X)) and model.layers[0].gate == "swish"
    assert torch.equal(plain.layers[0].V.weight, model.layers[0].V.weight / 2)
    assert torch.equal(plain.layers[1].V.bias, model.layers[1].V.bias / 2)
    assert torch.equal(annealed(plain)(X), plain(X))  # bilinear already
    loaded = BilinearMLP(5, 7, 3, embed=6, layers=2, bias=True, seed=5)
    loaded.load_state_dict(plain.state_dict())
    assert torch.equal(loaded(X), model(X))
    nearly = BilinearMLP(5, 7, 3, embed=6, layers=2, bias=True, gate="swish", beta=1e-6)
    nearly.load_state_dict(model.state_dict())
    torch.testing.assert_close(nearly(X), model(X), atol=1e-5, rtol=1e-4)  # the limit


def test_readings_that_share_their_weights_are_halved_once():
    one, two = nn.Linear(5, 5), nn.Linear(5, 5)
    squares = GLU(one, one, None, gate="swish", beta=0.0)
    twice = nn.Sequential(*(GLU(part, two, None, gate="swish", beta=0.0) for part in (one, two)))
    for model in (squares, twice):
        torch.testing.assert_close(annealed(model)(X), model(X))


def test_training_ends_bilinear_and_no_earlier_epoch_is_kept():
    model = BilinearMLP(5, 8, 2, gate="swish")
    betas, seen = [], []

    def progress(epoch):
        betas.append(model.layers[0].beta)
        seen.append((epoch.validation_score, -epoch.validation_loss, epoch.number))

    settings = {"epochs": 20, "batch": 40, "lr": 0.02, "anneal": 0.5, "progress": progress}
    history = fit_bilinear(model, X, Y, validation=(X, 1 - Y), **settings)
    assert betas == pytest.approx([1 - n / 10 for n in range(1, 10)] + [0] * 11)
    assert max(seen)[2] < 10  # what is learnt is wrong there: the first epochs score best
    assert history.kept == max(seen[9:])[2] and model.layers[0].beta == 0
    assert len(gw.bilinear.bilinear_layers(gw.read(model, X[:2]))) == 1


def test_the_published_run_is_torchs_adamw_and_cosine_epoch_by_epoch():
    seen = []
    model, twin = (BilinearMLP(5, 6, 2, embed=4) for _ in range(2))
    model.register_forward_pre_hook(lambda m, args: seen.append(args[0]) if m.training else None)
    chosen = {"epochs": 3, "batch": 60, "lr": 0.01, "weight_decay": 1.0, "noise": 0.0}
    fit_bilinear(model, X, Y, **chosen)
    assert [len(x) for x in seen] == [60] * 9  # the last 20 rows of each epoch are left out
    adam = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3)
    for step, part in enumerate(seen):
        adam.zero_grad()
        at = torch.cdist(part, X).argmin(1)
        nn.functional.cross_entropy(twin(X[at]), Y[at]).backward()
        adam.step()
        if step % 3 == 2:
            cosine.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_noise_is_drawn_anew_for_every_batch_and_never_where_nothing_is_learnt():
    zeros = torch.zeros(4000, 5)
    seen = {True: [], False: []}
    model = BilinearMLP(5, 6, 2)
    model.register_forward_pre_hook(lambda m, args: seen[m.training].append(args[0]))
    fit_bilinear(model, zeros, torch.arange(4000) % 2, epochs=2, batch=1000, validation=0.25)
    drawn = torch.stack(seen[True])
    assert drawn.shape == (6, 1000, 5) and len(torch.unique(drawn[:, 0, 0])) == 6
    assert abs(float(drawn.std()) - 0.4) < 0.01 and abs(float(drawn.mean())) < 0.01
    assert seen[False] and not any(bool(x.any()) for x in seen[False])
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(gaussian_noise(0.0)(X, rng), X)


# ---------------------------------------------------------------- refusals


def refused(sentence):
    return pytest.raises(ModelError, match=re.escape(sentence))


def test_settings_that_are_no_network_are_refused():
    for name in ("inputs", "hidden", "outputs", "layers", "embed"):
        with refused(f"`{name}` is a whole number from 1, and it is 0"):
            BilinearMLP(**{"inputs": 5, "hidden": 6, "outputs": 2, name: 0})
    with refused("`hidden` is a whole number from 1, and it is True"):
        BilinearMLP(5, True, 2)
    with refused("`gate` is 'bilinear' or 'swish', and it is 'relu'"):
        BilinearMLP(5, 6, 2, gate="relu")
    for beta in (-1, float("nan"), "1"):
        with refused(f"`beta` is a number from 0, and it is {beta!r}"):
            BilinearMLP(5, 6, 2, gate="swish", beta=beta)
    with refused("adds 6 products to the 5 numbers it reads: give hidden=5, or project=True"):
        BilinearMLP(5, 6, 2, residual=True)
    for name in ("bias", "residual", "project"):
        with refused(f"`{name}` is True or False, and it is 'no'"):
            BilinearMLP(5, 6, 2, **{name: "no"})
    for seed in ("a", 1.5, -1):
        with refused(f"`seed` is a whole number from 0, or None, and it is {seed!r}"):
            BilinearMLP(5, 6, 2, seed=seed)
    with refused("`gate` is 'bilinear' or 'swish', and it is 'relu'"):
        GLU(nn.Linear(5, 6), nn.Linear(5, 6), None, gate="relu")
    with refused("the weights are (6, 5) and (7, 5): give one shape"):
        GLU(nn.Linear(5, 6), nn.Linear(5, 7), None)
    with refused("a gate is swish with beta = 0.5, which no bilinear layer is: anneal beta to 0"):
        annealed(BilinearMLP(5, 6, 2, gate="swish", beta=0.5))


def test_schedules_that_mean_nothing_are_refused():
    swish = BilinearMLP(5, 6, 2, gate="swish")
    with refused("the module has no layer with gate='swish': there is nothing to anneal"):
        anneal_beta(BilinearMLP(5, 6, 2))
    for share in (0, 1.5, None):
        with refused(f"`share` is a share of the training in (0, 1], and it is {share!r}"):
            anneal_beta(swish, share)
    with refused("`start` is the first beta, a number from 0, and it is -1"):
        anneal_beta(swish, start=-1)
    with refused("the noise's standard deviation is a number from 0, and it is -0.1"):
        fit_bilinear(swish, X, Y, noise=-0.1)
    with refused("`drop_last` leaves out all 200 rows, less than one `batch` of 2048: give a smal"):
        fit_bilinear(swish, X, Y)
    assert isinstance(swish.layers[0], GLU) and swish.layers[0].beta == 1.0
