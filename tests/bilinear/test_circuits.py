"""Transformers of arrays: the forward pass, and paths that sum to the logit."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from gatewise.bilinear.circuits.loading import from_state, load_transformer
from gatewise.bilinear.circuits.parts import TransformerLayer, attention, mlp, norm
from gatewise.bilinear.circuits.paths import path_expansion
from gatewise.bilinear.circuits.transformer import Transformer, freeze
from gatewise.errors import (
    CorruptModel,
    DataError,
    ModelError,
    UnsafeModel,
    UnsupportedLayer,
    WrongShape,
)
from oracles.transformer import language, logits, measured, one_layer_terms, random_spec, sentences

FOLDER = "bilinear/bilinear_transformer_vpd"
FILES = shared.params(f"{FOLDER}/*.npz")
QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def built(spec):
    """The Transformer of an oracle's spec; arrays that are zero biases are not given."""

    def some(array):
        return array if spec["biases"] else None

    def layer(la):
        a, m = la["attention"], la["mlp"]
        part = attention(
            a["Q"], a["K"], a["V"], a["O"], a["kind"], scale=a["scale"], rotary_base=a["base"],
            q_bias=some(a["q_bias"]), k_bias=some(a["k_bias"]), v_bias=some(a["v_bias"]),
            bias=some(a["bias"]),
        )  # fmt: skip
        inner = mlp(
            m["W"], m["V"], m["P"], w_bias=some(m["w_bias"]), v_bias=some(m["v_bias"]),
            bias=some(m["bias"]), activation=m["activation"],
        )  # fmt: skip
        (k1, s1, _), (k2, s2, _) = la["attention_norm"], la["mlp_norm"]
        return TransformerLayer(part, inner, norm(k1, s1), norm(k2, s2))

    kind, scale, _ = spec["final_norm"]
    return Transformer.from_arrays(
        spec["embedding"],
        spec["unembedding"],
        [layer(la) for la in spec["layers"]],
        positions=spec["positions"],
        final_norm=norm(kind, scale),
        unembedding_bias=some(spec["unembedding_bias"]),
    )


@st.composite
def specs(draw, layers=(1, 2), gates=(None, None, "silu", "gelu", "relu", "sigmoid")):
    kind = draw(st.sampled_from(["softmax", "bilinear"]))
    return random_spec(
        draw(st.integers(0, 10**6)),
        heads=draw(st.integers(1, 3)),
        layers=draw(st.sampled_from(layers)),
        kind=kind,
        factors=1 if kind == "softmax" else draw(st.integers(1, 2)),
        biases=draw(st.booleans()),
        norm=draw(st.sampled_from(["none", "channel", "rmsnorm"])),
        gamma=draw(st.booleans()),
        base=draw(st.sampled_from([None, 100.0])),
        positions=draw(st.booleans()),
        gate=draw(st.sampled_from(gates)),
    )


TOKENS = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def near(got, want, tol=1e-12):
    scale = 1 + np.abs(want).max()
    assert np.abs(np.asarray(got) - want).max() <= tol * scale


@QUICK
@given(specs(), TOKENS)
def test_forward_is_the_naive_one(spec, tokens):
    near(built(spec)(tokens), logits(spec, tokens), 1e-12)


def test_a_batch_is_its_rows():
    model = built(random_spec(3, norm="rmsnorm"))
    rows = np.array([[0, 1, 2], [4, 4, 0]])
    near(model(rows), np.stack([model(row) for row in rows]), 1e-14)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("gates", [(None,), ("silu", "relu")])
def test_paths_sum_to_the_logit(layers, ordered, gates):
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(specs((layers,), gates), TOKENS, st.data())
    def law(spec, tokens, data):
        position = data.draw(st.integers(0, len(tokens) - 1))
        output = data.draw(st.integers(0, 5))
        table = path_expansion(built(spec), tokens, position, output, ordered=ordered)
        scale = 1 + table.mass
        assert abs(table.logit - logits(spec, tokens)[position, output]) <= 1e-10 * scale
        assert table.error <= 1e-10 * scale
        assert table.pruned == 0 and table.remainder == 0

    law()


@QUICK
@given(specs(layers=(1,)), TOKENS, st.booleans())
def test_paths_by_source_sum_to_the_logit(spec, tokens, ordered):
    model = built(spec)
    table = path_expansion(model, tokens, by_source=True, ordered=ordered)
    assert table.error <= 1e-10 * (1 + table.mass)
    assert len(table) >= len(path_expansion(model, tokens, ordered=ordered))


def test_two_layers_by_source_sum_to_the_logit():
    for kind in ("softmax", "bilinear"):
        model = built(random_spec(8, layers=2, heads=1, kind=kind, norm="rmsnorm"))
        table = path_expansion(model, [1, 4, 2], by_source=True)
        assert table.error <= 1e-10 * (1 + table.mass)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["softmax", "bilinear"])
def test_one_layer_has_the_papers_terms(heads, kind):
    """Each of the 1 + H + (H + 1)² terms is the paper's, worked out from the dense tensor."""
    spec = random_spec(heads, heads=heads, kind=kind, biases=False)
    model, tokens = built(spec), [3, 1, 4, 1]
    table = path_expansion(model, tokens, 2, 4)
    assert len(table) == 1 + heads + (heads + 1) ** 2
    pattern = freeze(model, tokens).layers[0].pattern
    want = one_layer_terms(spec, tokens, 2, 4, pattern)
    got = {table.term(i): c for i, c in enumerate(table.contributions)}
    assert got.keys() == want.keys()
    near([got[name] for name in want], np.array(list(want.values())), 1e-12)


@pytest.mark.parametrize(("heads", "ordered"), [(1, True), (2, True), (4, False)])
def test_two_layers_have_as_many_terms_as_counted(heads, ordered):
    """Unordered with four heads: 100 paths before the last MLP and 5150 terms."""
    model = built(random_spec(2, heads=heads, layers=2, biases=False))
    first = 1 + heads + ((heads + 1) ** 2 if ordered else (heads + 1) * (heads + 2) // 2)
    paths = first * (1 + heads)
    terms = paths + (paths**2 if ordered else paths * (paths + 1) // 2)
    assert len(path_expansion(model, [0, 1, 2], ordered=ordered)) == terms
    assert heads < 4 or (paths, terms) == (100, 5150)


def test_a_term_by_source_is_attention_times_a_weight_of_the_tokens():
    """The same tokens elsewhere have other attention and the same virtual weight."""
    model = built(random_spec(5, biases=False, norm="rmsnorm"))
    a, b = (path_expansion(model, t, logit=2, by_source=True) for t in ([0, 1, 2], [0, 3, 2]))
    same = [i for i in range(len(a)) if "@1" not in a.term(i)]
    assert [a.term(i) for i in same] == [b.term(i) for i in same]
    near(a.weights[same], b.weights[same], 1e-14)
    heads = [i for i in same if a.term(i).startswith("L0.H0@0")]
    assert np.abs(a.coefficients[heads] - b.coefficients[heads]).min() > 1e-6


def test_frozen_at_another_run_is_linear_in_what_is_left():
    """With patterns and gates of another run the terms sum to the logit under those patterns."""
    spec = random_spec(6, norm="rmsnorm", gate="silu")
    model = built(spec)
    other = freeze(model, [4, 4, 0])
    table = path_expansion(model, [0, 1, 2], logit=3, frozen=other)
    assert table.error <= 1e-12 * (1 + table.mass)
    near(table.logit, freeze(model, [0, 1, 2], other).logits[2, 3], 1e-14)
    assert abs(table.logit - model([0, 1, 2])[2, 3]) > 1e-3


def test_pruning_keeps_the_sum():
    table = path_expansion(built(random_spec(7, layers=2)), [1, 2, 3], keep=5)
    every = path_expansion(built(random_spec(7, layers=2)), [1, 2, 3])
    assert len(table) == 5 and table.pruned == len(every) - 5
    assert table.error <= 1e-12 * (1 + table.mass)
    assert np.abs(table.contributions).min() >= np.sort(np.abs(every.contributions))[-6]
    again = table.strongest(2)
    assert again.pruned == len(every) - 2 and again.error <= 1e-12 * (1 + table.mass)
    near(again.remainder, every.logit - again.contributions.sum(), 1e-12)


def test_the_table_prints_terms_remainder_and_what_is_frozen():
    text = str(path_expansion(built(random_spec(7, layers=2, norm="rmsnorm")), [1, 2, 3], keep=5))
    lines = text.splitlines()
    assert lines[0].startswith("logit ") and "the sum of" in lines[0]
    sizes = [abs(float(line.split()[0])) for line in lines[1:6]]
    assert sizes == sorted(sizes, reverse=True)
    assert lines[6].startswith("  remainder: ") and "terms + remainder - logit = " in lines[7]
    assert "attention patterns (softmax)" in lines[8] and "1/rms(x) of RMSNorm" in lines[8]


def test_a_direction_is_a_difference_of_logits():
    model = built(random_spec(1))
    u = np.eye(6)[2] - np.eye(6)[5]
    both = [path_expansion(model, [0, 1], logit=o).contributions for o in (2, 5)]
    near(path_expansion(model, [0, 1], logit=u).contributions, both[0] - both[1], 1e-13)


def test_attention_that_sees_the_future_is_expanded_too():
    spec = random_spec(9, layers=2, norm="rmsnorm")
    model = built(spec)
    layers = [
        dataclasses.replace(la, attention=dataclasses.replace(la.attention, causal=False))
        for la in model.layers
    ]
    seeing = dataclasses.replace(model, layers=tuple(layers))
    assert np.abs(seeing([0, 1, 2])[0] - seeing([0, 1, 3])[0]).max() > 1e-3
    near(model([0, 1, 2])[0], model([0, 1, 3])[0], 1e-14)
    for split in (False, True):
        table = path_expansion(seeing, [0, 1, 2], 0, 3, by_source=split)
        assert table.error <= 1e-10 * (1 + table.mass)
        near(table.logit, seeing([0, 1, 2])[0, 3], 1e-14)


@pytest.mark.parametrize("without", ["attention", "mlp", "both"])
def test_layers_without_a_part_sum_to_the_logit(without):
    model = built(random_spec(11, layers=2))
    gone = {"attention": None, "mlp": None} if without == "both" else {without: None}
    bare = dataclasses.replace(
        model, layers=tuple(dataclasses.replace(la, **gone) for la in model.layers)
    )
    table = path_expansion(bare, [2, 0, 1], logit=4)
    assert table.error <= 1e-12 * (1 + table.mass)
    if without == "both":
        want = model.unembedding @ model.embedding[1] + model.unembedding_bias
        near(bare([2, 0, 1])[2], want, 1e-14)
        near(table.total, path_expansion(dataclasses.replace(model, layers=()), [1], logit=4).logit)


def test_heads_in_another_order_are_the_same_terms():
    spec = random_spec(4, heads=3)
    model, part = built(spec), spec["layers"][0]["attention"]
    for name in ("V", "O", "v_bias"):
        part[name] = part[name][::-1]
    for name in ("Q", "K", "q_bias", "k_bias"):
        part[name] = part[name][:, ::-1]
    pair = [path_expansion(m, [0, 3, 2], logit=1) for m in (model, built(spec))]
    near(*(np.sort(t.contributions) for t in pair), 1e-13)


# ---------------------------------------------------------------- the public checkpoints


@functools.cache
def evaluated(data):
    """The 4096 sentences of the logs' last evaluation; data: the language's settings as JSON.

    Their generator is numpy's, seeded with 10000, after the 25 evaluations before (which took 7
    CPU seconds to draw): its state then is kept here.
    """
    rng = np.random.default_rng()
    state = 284276408902477510624783664094511953348
    inner = {"state": state, "inc": 311813564313336124056813311692527915815}
    rng.bit_generator.state = {
        "bit_generator": "PCG64", "state": inner, "has_uint32": 0, "uinteger": 3299267625
    }  # fmt: skip
    return sentences(language(json.loads(data)), rng, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_public_checkpoint_gives_the_figures_of_its_log(file):
    """Loss, divergence from the true distribution and accuracy, on the very same sentences."""
    config, told = (
        json.loads(file.with_name(file.stem + end).read_text())
        for end in (".config.json", ".last_eval.json")
    )
    made = evaluated(json.dumps(config["dgp"], sort_keys=True))
    got = measured(load_transformer(file), made)
    for name, value in got.items():
        if name.startswith("n_"):
            assert value == told[name]
        else:  # the log is of a float32 run on a GPU
            assert value == pytest.approx(told[name], abs=2e-4), name
    assert got["eval_overall_loss"] == pytest.approx(told["eval_overall_loss"], abs=1e-6)


@pytest.mark.parametrize("file", FILES)
def test_a_public_checkpoint_is_the_naive_forward(file):
    model, rng = load_transformer(file), np.random.default_rng(0)
    part = spec_of(model)
    for n in (1, 7):
        tokens = rng.integers(0, 63, n).tolist()
        near(model(tokens), logits(part, tokens), 1e-12)


@pytest.mark.parametrize("file", FILES)
def test_paths_of_a_public_checkpoint_sum_to_the_logit(file):
    model, rng = load_transformer(file), np.random.default_rng(2)
    tokens = rng.integers(3, 63, 64)
    for ordered in (True, False):
        for position in (0, 31, 63):
            table = path_expansion(model, tokens, position, ordered=ordered)
            assert len(table) == (12 + 144 if ordered else 10 + 55)
            assert table.error <= 1e-10
            assert abs(table.logit - model(tokens)[position].max()) <= 1e-10


def spec_of(model):
    """The oracle's spec of a checkpoint (no biases)."""
    layers = []
    for la in model.layers:
        a, m = la.attention, la.mlp
        zeros = {"q_bias": np.zeros(a.Q.shape[:3]), "k_bias": np.zeros(a.K.shape[:3])}
        zeros |= {"v_bias": np.zeros(a.V.shape[:2]), "bias": np.zeros(64)}
        part = {"Q": a.Q, "K": a.K, "V": a.V, "O": a.O, "kind": a.kind, "scale": 32**-0.5}
        inner = {"W": m.W, "V": m.V, "P": m.P, "w_bias": 0, "v_bias": 0, "bias": 0}
        norms = [(n.kind, n.scale, 1e-6) for n in (la.attention_norm, la.mlp_norm)]
        layers.append(
            {
                "attention": part | zeros | {"base": 10000.0},
                "mlp": inner | {"activation": None},
                "attention_norm": norms[0],
                "mlp_norm": norms[1],
            }
        )
    final = model.final_norm
    return {
        "embedding": model.embedding, "unembedding": model.unembedding, "positions": None,
        "layers": layers, "final_norm": (final.kind, final.scale, 1e-6), "unembedding_bias": 0,
    }  # fmt: skip


# ---------------------------------------------------------------- refusals


def refused(error, words, call):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_bad_tokens_are_refused():
    model = built(random_spec(0, positions=True))
    refused(DataError, "token 5 is not in the vocabulary: 0 to 4", lambda: model([0, 5]))
    refused(DataError, "token -1 is not in the vocabulary", lambda: model([-1]))
    refused(DataError, "whole numbers", lambda: model([0.5]))
    refused(WrongShape, "at least one number", lambda: model([]))
    refused(WrongShape, "9 tokens for 8 learned positions", lambda: model([0] * 9))


def test_bad_questions_are_refused():
    model = built(random_spec(0))
    refused(DataError, "position 2 is not among the 2 tokens",
            lambda: path_expansion(model, [0, 1], 2))  # fmt: skip
    refused(DataError, "logit 6 is not among", lambda: path_expansion(model, [0], logit=6))
    refused(DataError, "number or a direction", lambda: path_expansion(model, [0], logit="a"))
    refused(WrongShape, "direction", lambda: path_expansion(model, [0], logit=[1.0, 2.0]))
    refused(WrongShape, "one row of tokens", lambda: path_expansion(model, [[0]]))
    refused(DataError, "the terms in the table", lambda: path_expansion(model, [0], keep=10**4))
    refused(DataError, "give fewer tokens", lambda: path_expansion(model, [0], limit=10))
    refused(WrongShape, "frozen at tokens",
            lambda: path_expansion(model, [0], frozen=freeze(model, [0, 1])))  # fmt: skip
    other = built(random_spec(0, layers=2))
    refused(DataError, "frozen in another model",
            lambda: path_expansion(model, [0], frozen=freeze(other, [0])))  # fmt: skip


def test_bad_arrays_are_refused():
    part = mlp(np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 2)))
    e = np.ones((5, 4))
    refused(WrongShape, "the mlp of layer 0 has width 3, the embedding has 4",
            lambda: Transformer.from_arrays(e, e, [TransformerLayer(None, part)]))  # fmt: skip
    refused(WrongShape, "unembedding must have shape (any, 4), got (5, 3)",
            lambda: Transformer.from_arrays(e, np.ones((5, 3)), []))  # fmt: skip
    refused(WrongShape, "V must have shape (2, 3)",
            lambda: mlp(np.ones((2, 3)), np.ones((3, 2)), np.ones((3, 2))))  # fmt: skip
    refused(UnsupportedLayer, "norm 'layernorm' is not read", lambda: norm("layernorm"))
    refused(UnsupportedLayer, "got 'linear'", lambda: attention(*[np.ones((1, 1))] * 4, "linear"))
    refused(UnsupportedLayer, "got 'tanh'", lambda: mlp(*[np.ones((1, 1))] * 3, activation="tanh"))
    refused(WrongShape, "one score", lambda: attention(*[np.ones((2, 1, 1, 1))] * 2,
                                                       *[np.ones((1, 1))] * 2))  # fmt: skip
    refused(WrongShape, "is odd", lambda: attention(*[np.ones((1, 1))] * 4, rotary_base=10.0))
    refused(DataError, "NaN or infinity", lambda: Transformer.from_arrays(e * np.nan, e, []))
    refused(WrongShape, "2 token names",
            lambda: Transformer.from_arrays(e, e, [], token_names=["a", "b"]))  # fmt: skip
    short = norm("channel", [1, 2])
    refused(WrongShape, "scale of final norm",
            lambda: Transformer.from_arrays(e, e, [], final_norm=short))  # fmt: skip


def test_torch_tensors_are_arrays():
    e = torch.randn(5, 4, requires_grad=True)
    near(Transformer.from_arrays(e, e, [])([2]), (e @ e.T).detach().double().numpy()[2:3], 1e-6)


def state(norm_type="none"):
    rng = np.random.default_rng(0)
    one = {"embed": (7, 4), "unembed": (7, 4)}
    for part in ("q1", "q2", "k1", "k2", "v"):
        one[f"blocks.0.attn.{part}_proj"] = (2, 4)
    one |= {"blocks.0.attn.o_proj": (4, 2), "blocks.0.mlp.w_m": (3, 4)}
    one |= {"blocks.0.mlp.w_n": (3, 4), "blocks.0.mlp.w_proj": (4, 3)}
    arrays = {f"{name}.weight": rng.normal(size=shape) for name, shape in one.items()}
    return arrays, {"n_layers": 1, "d_head": 2, "rope_base": 100.0, "norm_type": norm_type}


def test_a_file_is_its_arrays(tmp_path):
    arrays, config = state()
    np.savez(tmp_path / "m.npz", **arrays)
    (tmp_path / "m.config.json").write_text(json.dumps({"model": config}))
    got = load_transformer(tmp_path / "m.npz")
    near(got([1, 2]), from_state(arrays, config)([1, 2]), 0.0)


def test_bad_files_are_refused(tmp_path):
    arrays, config = state()
    file, beside = tmp_path / "m.npz", tmp_path / "m.config.json"
    refused(ModelError, "there is no file", lambda: load_transformer(file))
    file.write_bytes(b"PK\x03\x04 no")
    refused(CorruptModel, "is not a .npz", lambda: load_transformer(file))
    with file.open("wb") as out:
        np.save(out, np.ones(3))
    refused(CorruptModel, "is one array", lambda: load_transformer(file))
    np.savez(file, x=np.array([{}], dtype=object))
    refused(UnsafeModel, "pickled objects", lambda: load_transformer(file))
    np.savez(file, **arrays)
    refused(ModelError, "give config=", lambda: load_transformer(file))
    beside.write_text("{")
    refused(CorruptModel, "is not JSON", lambda: load_transformer(file))
    beside.write_text("{}")
    refused(ModelError, "do not say n_layers", lambda: load_transformer(file))
    file.with_name("m.config.json").write_text("[" * 100_000)
    refused(CorruptModel, "is not JSON", lambda: load_transformer(file))
    for name, bad, error, words in (
        ("n_layers", "two", DataError, "n_layers must be a whole number, at least 1, got 'two'"),
        ("n_heads", 1.5, DataError, "n_heads must be a whole number, at least 1, got 1.5"),
        ("d_head", None, DataError, "d_head must be a whole number, at least 1, got None"),
        ("attention", "soft", UnsupportedLayer, "attention must be one of softmax, bilinear"),
        ("rope_base", -1, DataError, "rope_base must be a number from 1, got -1"),
        ("beta", "x", DataError, "beta must be a number from 0, got 'x'"),
        ("token_names", 5, DataError, "token_names must be a list of strings, got 5"),
    ):
        refused(error, words, lambda said={name: bad}: from_state(arrays, config | said))
    refused(DataError, "settings are given by name, got list", lambda: from_state(arrays, [1]))
    flat = arrays | {"blocks.0.attn.o_proj.weight": np.ones(4)}
    refused(WrongShape, "o_proj must have shape (any, any)", lambda: from_state(flat, config))
    refused(ModelError, "'extra' is not part", lambda: from_state(arrays | {"extra": 1}, config))
    refused(ModelError, "d_head is 3", lambda: from_state(arrays, config | {"d_head": 3}))
    refused(ModelError, "no array 'blocks.0.norm_attn.scale'",
            lambda: from_state(arrays, config | {"norm_type": "channel"}))  # fmt: skip
    refused(UnsupportedLayer, "norm 'layernorm' is not read",
            lambda: from_state(arrays, config | {"norm_type": "layernorm"}))  # fmt: skip
    del arrays["embed.weight"]
    refused(ModelError, "no array 'embed.weight'", lambda: from_state(arrays, config))
