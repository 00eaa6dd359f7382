"""`models.BilinearTransformer`: against sums position by position, and as circuits that add up."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.bilinear import from_state, load_transformer, path_expansion
from gatewise.errors import DataError, Diverged, EmptyData, ModelError, UnsupportedLayer, WrongShape
from gatewise.models import BilinearTransformer, anneal_beta, annealed, fit_next_token
from oracles.transformer import logits

VOCABULARY = 7
NORMS = (("attention", "attn"), ("mlp", "mlp"))
KINDS = {
    "plain": {},
    "bilinear, rotary": {"attention": "bilinear", "rope_base": 100.0},
    "two layers, norm, biases": {"layers": 2, "norm": "rmsnorm", "bias": True, "context": 6},
    "swish, norm, rotary": {"gate": "swish", "norm": "rmsnorm", "rope_base": 50.0, "bias": True},
    "two layers, bilinear": {"layers": 2, "attention": "bilinear", "bias": True, "head_width": 2},
    "soft swish": {"gate": "swish", "beta": 0.6, "bias": True},
    "swish at 0": {"gate": "swish", "beta": 0.0, "context": 9},
}


def made(kind, **more):
    """In float64, its biases and scales moved off 0 and 1."""
    net = BilinearTransformer(VOCABULARY, 8, hidden=5, seed=1, **KINDS[kind], **more).double()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith(("bias", "scale")):
                p.add_(0.4 * torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return net


def spec(net):
    """The dict of arrays that the slow oracle reads, from the module's own names."""
    held = {name: p.numpy() for name, p in net.state_dict().items()}
    s = net.settings
    H, which = s["n_heads"], [""] if s["attention"] == "softmax" else ["1", "2"]

    def bias(name, width):
        return held.get(f"{name}.bias", np.zeros(width))

    def norm(name):
        return (s["norm_type"], held.get(f"{name}.scale"), 1e-6)

    def side(at, letter):
        names = [f"{at}.{letter}{i}_proj" for i in which]
        W = [held[f"{n}.weight"] for n in names]
        split = np.stack([w.reshape(H, -1, w.shape[1]) for w in W])
        return split, np.stack([bias(n, len(w)).reshape(H, -1) for n, w in zip(names, W)])  # noqa: B905

    def layer(i):
        at, m = f"blocks.{i}.attn", f"blocks.{i}.mlp"
        (Q, q), (K, k) = side(at, "q"), side(at, "k")
        V, O = held[f"{at}.v_proj.weight"], held[f"{at}.o_proj.weight"]  # noqa: E741
        W, V2, P = (held[f"{m}.{name}.weight"] for name in ("V", "W", "P"))  # V is gated
        part = {
            "Q": Q, "K": K, "q_bias": q, "k_bias": k, "V": V.reshape(H, -1, V.shape[1]),
            "v_bias": bias(f"{at}.v_proj", len(V)).reshape(H, -1),
            "O": np.stack(np.split(O, H, axis=1)), "bias": bias(f"{at}.o_proj", len(O)),
            "kind": s["attention"], "scale": s["d_head"] ** -0.5, "base": s["rope_base"],
        }  # fmt: skip
        inner = {
            "W": W, "V": V2, "P": P, "w_bias": bias(f"{m}.V", len(W)),
            "v_bias": bias(f"{m}.W", len(W)), "bias": bias(f"{m}.P", len(P)),
            "activation": "silu" if s["gate"] == "swish" else None,
        }  # fmt: skip
        norms = {f"{n}_norm": norm(f"blocks.{i}.norm_{m}") for n, m in NORMS}
        return {"attention": part, "mlp": inner, **norms}

    return {
        "embedding": held["embed.weight"], "positions": held.get("positions.weight"),
        "layers": [layer(i) for i in range(s["n_layers"])], "final_norm": norm("final_norm"),
        "unembedding": held["unembed.weight"], "unembedding_bias": bias("unembed", VOCABULARY),
    }  # fmt: skip


def run(net, tokens):
    with torch.no_grad():
        return net(torch.as_tensor(tokens)[None])[0].numpy()


@pytest.mark.parametrize("kind", [k for k, v in KINDS.items() if v.get("beta", 1.0) == 1.0])
def test_the_logits_are_those_of_sums_written_out(kind):
    net, tokens = made(kind), [3, 1, 6, 6, 0]
    np.testing.assert_allclose(run(net, tokens), logits(spec(net), tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_circuits_are_read_in_one_line_and_paths_sum_to_the_modules_logits(kind):
    net, tokens = made(kind), [3, 1, 6, 0]
    model, want = from_state(net.state_dict(), net.settings), run(net, tokens)
    np.testing.assert_allclose(model(tokens), want, rtol=0, atol=1e-12)
    for by_source in (False, True) if net.settings["n_layers"] == 1 else (False,):
        table = path_expansion(model, tokens, logit=4, by_source=by_source)
        assert abs(table.total - want[-1, 4]) <= 1e-10 and table.error <= 1e-10
    said = " ".join(table.frozen)
    assert ("RMSNorm" in said) == (net.settings["norm_type"] == "rmsnorm")
    assert ("gates" in said) == (net.settings["gate"] == "swish" and net.settings["beta"] > 0)


def test_swish_is_z_sigmoid_of_beta_z():
    """Against the plain network with the gated side's rows put through it by hand."""
    net = made("soft swish")
    part, x = net.blocks[0].mlp, torch.randn(3, 8, dtype=torch.float64)
    z = x @ part.V.weight.T + part.V.bias
    y = (z / (1 + torch.exp(-0.6 * z))) * (x @ part.W.weight.T + part.W.bias)
    torch.testing.assert_close(part(x), y @ part.P.weight.T + part.P.bias)


def test_a_position_sees_no_later_token():
    for kind in ("plain", "bilinear, rotary"):
        net = made(kind)
        whole, part = run(net, [3, 1, 6, 0, 2]), run(net, [3, 1, 6])
        np.testing.assert_allclose(whole[:3], part, atol=1e-13)
        assert np.abs(run(net, [4, 1, 6])[2] - part[2]).max() > 1e-3  # but earlier ones


def rows(n=300, length=6, seed=0):
    """Each token is followed by itself plus the first one, mod the vocabulary."""
    t = np.random.default_rng(seed).integers(0, VOCABULARY, (n, length))
    for i in range(1, length):
        t[:, i] = (t[:, i - 1] + t[:, 0]) % VOCABULARY
    return t


@pytest.mark.parametrize(
    "settings",
    [{"layers": 2}, {"attention": "bilinear"}, {"layers": 2, "attention": "bilinear"},
     {"norm": "rmsnorm", "context": 6}],
)  # fmt: skip
def test_paths_of_a_trained_one_sum_to_its_logits(settings):
    net = BilinearTransformer(VOCABULARY, 16, hidden=12, **settings)
    history = fit_next_token(net, rows(), epochs=6, lr=1e-2, validation=rows(50, seed=1))
    assert history.losses[-1] < history.losses[0] - 0.05 and history.without_gradient == ()
    net.double()
    model, tokens = from_state(net.state_dict(), net.settings), rows(1)[0, :4]
    table = path_expansion(model, tokens, ordered=False)
    best = run(net, tokens)[-1].max()
    assert abs(table.total - best) <= 1e-10
    short = table.strongest(3)
    assert abs(short.contributions.sum() + short.remainder - best) <= 1e-10


def test_the_loss_is_the_mean_surprise_of_every_next_token():
    net, t = BilinearTransformer(VOCABULARY, 8, seed=2), rows(20)
    with torch.no_grad():
        p = net(torch.tensor(t)).log_softmax(-1).numpy()
    places = [(r, i) for r in range(20) for i in range(5)]
    surprise = -np.mean([p[r, i, t[r, i + 1]] for r, i in places])
    right = np.mean([p[r, i].argmax() == t[r, i + 1] for r, i in places])
    history = fit_next_token(net, t, epochs=1, lr=1e-12, batch=7, validation=t)
    assert history.losses[0] == pytest.approx(surprise, rel=1e-5)
    assert history.epochs[0].validation_loss == pytest.approx(surprise, rel=1e-5)
    assert history.epochs[0].validation_score == pytest.approx(right)


def test_a_cosine_by_epochs_stands_still_within_each(monkeypatch):
    rates, step = [], torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1],
    )
    net, tokens = BilinearTransformer(VOCABULARY, 8), rows()[:10]
    settings = {"epochs": 3, "batch": 4, "lr": 1e-3}
    fit_next_token(net, tokens, schedule="epoch-cosine", **settings)
    assert rates == pytest.approx([1e-3] * 3 + [0.75e-3] * 3 + [0.25e-3] * 3)
    rates.clear()
    fit_next_token(net, tokens, schedule="cosine", **settings)
    assert len(set(rates)) == 9


def test_training_is_of_its_seed_and_leaves_torchs_own_alone():
    before = torch.get_rng_state()
    nets = [BilinearTransformer(VOCABULARY, 8, seed=5) for _ in range(2)]
    seen = []
    for net in nets:
        fit_next_token(net, rows(), epochs=2, seed=3, progress=seen.append)
        assert not net.training
    assert torch.equal(before, torch.get_rng_state()) and len(seen) == 4
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)
    other = BilinearTransformer(VOCABULARY, 8, seed=6)
    assert not torch.equal(
        other.embed.weight, BilinearTransformer(VOCABULARY, 8, seed=5).embed.weight
    )


def test_a_glu_annealed_while_it_learns_ends_bilinear():
    net = BilinearTransformer(VOCABULARY, 8, layers=2, gate="swish")
    fit_next_token(net, rows(), epochs=3, along=anneal_beta(net, share=0.5))
    assert [block.mlp.beta for block in net.blocks] == [0.0, 0.0]
    plain = annealed(net)
    assert (net.settings["gate"], plain.settings["gate"]) == ("swish", "bilinear")
    t = rows(1)[0]
    np.testing.assert_array_equal(run(net, t), run(plain, t))
    table = path_expansion(from_state(plain.state_dict(), plain.settings), t[:3], ordered=False)
    assert not any("gate" in said for said in table.frozen)


def test_it_is_saved_and_opened_as_plain_arrays(tmp_path):
    net = made("two layers, norm, biases")
    np.savez(tmp_path / "m.npz", **{k: v.numpy() for k, v in net.state_dict().items()})
    named = {**net.settings, "token_names": list("abcdefg")}
    (tmp_path / "m.config.json").write_text(json.dumps(named))
    model = load_transformer(tmp_path / "m.npz")
    np.testing.assert_allclose(model([1, 2, 3]), run(net, [1, 2, 3]), atol=1e-12)
    assert model.name(2) == "c"


def refused(kind, words, call):
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)


def test_settings_that_do_not_fit_are_refused():
    for settings, words in (
        ({"vocabulary": 0}, "`vocabulary` is a whole number from 1, and it is 0"),
        ({"width": 2.0}, "`width` is a whole number from 1, and it is 2.0"),
        ({"layers": True}, "`layers` is a whole number from 1, and it is True"),
        ({"heads": 3}, "3 heads cannot share a width of 8: give `head_width`"),
        ({"head_width": 0}, "`head_width` is a whole number from 1, and it is 0"),
        ({"attention": "linear"}, "`attention` is 'softmax' or 'bilinear', and it is 'linear'"),
        ({"gate": "relu"}, "`gate` is 'bilinear' or 'swish', and it is 'relu'"),
        ({"norm": "layernorm"}, "`norm` is 'none' or 'rmsnorm', and it is 'layernorm'"),
        ({"beta": float("nan")}, "`beta` is a number from 0, and it is nan"),
        ({"beta": "1"}, "`beta` is a number from 0, and it is '1'"),
        ({"rope_base": 1.0}, "`rope_base` is a number above 1"),
        ({"rope_base": 9.0, "head_width": 3}, "give an even `head_width`"),
        ({"context": 0}, "`context` is the number of learned positions"),
    ):
        refused(
            ModelError,
            words,
            lambda s=settings: BilinearTransformer(**{"vocabulary": 5, "width": 8} | s),
        )


def test_tokens_that_do_not_fit_are_refused():
    net = BilinearTransformer(VOCABULARY, 8, context=4)
    one = torch.tensor([[1, 2]])
    refused(WrongShape, "tokens are (rows, n)", lambda: net(one[0]))
    refused(WrongShape, "at least one of each", lambda: net(one[:, :0]))
    refused(
        DataError,
        "tokens are whole numbers, and their dtype is torch.float32",
        lambda: net(one.float()),
    )
    refused(DataError, "token 7 is not in the vocabulary: 0 to 6", lambda: net(one + 5))
    refused(DataError, "token -1 is not in", lambda: net(one - 2))
    refused(WrongShape, "rows of 5 tokens for 4 learned positions", lambda: net(one[:, [0] * 5]))
    for tokens, kind, words in (
        (np.zeros((0, 4), int), EmptyData, "tokens have no rows"),
        ([[1], [2]], WrongShape, "(rows, n) with n at least 2"),
        ([[1, 2], [1]], WrongShape, "rows of whole numbers, all of one length"),
        ([[1.5, 2.0]], DataError, "tokens are whole numbers"),
        ([[1, 9]], DataError, "token 9 is not in the vocabulary"),
        (["a b"], WrongShape, "rows of whole numbers"),
    ):
        refused(kind, words, lambda t=tokens: fit_next_token(net, t))
    refused(DataError, "token 9", lambda: fit_next_token(net, [[1, 2]], validation=[[9, 1]]))


def test_training_settings_that_do_not_fit_are_refused():
    net = BilinearTransformer(VOCABULARY, 8)
    for settings, words in (
        ({"epochs": 0}, "`epochs` is a whole number from 1, and it is 0"),
        ({"batch": 1.5}, "`batch` is a whole number from 1, and it is 1.5"),
        ({"lr": -1.0}, "`lr` is -1.0"),
        ({"schedule": "up"}, "there is no schedule 'up'"),
        ({"optimizer": "lion"}, "there is no optimizer 'lion'"),
        ({"weight_decay": -1}, "`weight_decay` is a number from 0, and it is -1"),
        ({"along": 3}, "`along` is a function, and it is 3"),
    ):
        refused(ModelError, words, lambda s=settings: fit_next_token(net, rows(), **s))
    frozen = BilinearTransformer(VOCABULARY, 8).requires_grad_(False)
    refused(ModelError, "there is nothing to train", lambda: fit_next_token(frozen, rows()))
    other = torch.nn.Linear(2, 2)
    words = "`net` is a BilinearTransformer, and it is a Linear"
    refused(ModelError, words, lambda: fit_next_token(other, rows()))
    refused(Diverged, "the loss of epoch", lambda: fit_next_token(net, rows(), lr=1e9, epochs=9))


def test_a_module_is_not_taken_for_its_circuits():
    net = made("plain")
    words = "make one with from_state(net.state_dict(), net.settings)"
    for call in (
        lambda: path_expansion(net, [1, 2]),
        lambda: gw.bilinear.freeze(net, [1, 2]),
        lambda: gw.bilinear.strongest_token_pairs(net),
        lambda: gw.bilinear.qk_circuit(net, 0, 0),
    ):
        refused(ModelError, words, call)
    state = net.state_dict()
    refused(
        ModelError,
        "does not hold 3 heads",
        lambda: from_state(state, net.settings | {"n_heads": 3}),
    )
    refused(UnsupportedLayer, "gate must be one of bilinear, swish, got 'gelu'",
            lambda: from_state(state, net.settings | {"gate": "gelu"}))  # fmt: skip
    refused(DataError, "beta must be a number from 0",
            lambda: from_state(state, net.settings | {"gate": "swish", "beta": -1.0}))  # fmt: skip
    refused(ModelError, "no array 'blocks.0.attn.q1_proj.weight'",
            lambda: from_state(state, net.settings | {"attention": "bilinear"}))  # fmt: skip
