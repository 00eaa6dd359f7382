"""QK and OV circuits, virtual weights and the strongest pairs, against the dense way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from gatewise.bilinear.circuits.loading import load_transformer
from gatewise.bilinear.circuits.pairs import strongest_token_pairs as strongest_pairs
from gatewise.bilinear.circuits.pairs import top_pairs
from gatewise.bilinear.circuits.parts import TransformerLayer, attention, mlp, norm
from gatewise.bilinear.circuits.paths import path_expansion
from gatewise.bilinear.circuits.transformer import Transformer, freeze, scores
from gatewise.bilinear.circuits.weights import (
    Circuit,
    attention_table,
    mlp_layer,
    ov_circuit,
    qk_circuit,
    virtual_weight,
)
from gatewise.errors import DataError, GatewiseError, NotBilinear, WrongShape

FILES = shared.params("bilinear/bilinear_transformer_vpd/*.npz")
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def model(
    seed=0, *, heads=2, layers=2, kind="softmax", factors=1, norm_kind="none", base=None,
    vocabulary=5, outputs=5, gate=None, biases=False, positions=False, d=4,
):  # fmt: skip
    """A random transformer."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape)

    def a_norm():
        return norm(norm_kind, None if norm_kind == "none" else 1 + 0.2 * normal(d))

    def layer():
        b = {"q_bias": normal(factors, heads, 2), "k_bias": normal(factors, heads, 2)}
        part = attention(
            normal(factors, heads, 2, d), normal(factors, heads, 2, d), normal(heads, 2, d),
            normal(heads, d, 2), kind, rotary_base=base, **(b if biases else {}),
        )  # fmt: skip
        c = {"w_bias": normal(3), "v_bias": normal(3)} if biases else {}
        inner = mlp(normal(3, d), normal(3, d), normal(d, 3) / 4, activation=gate, **c)
        return TransformerLayer(part, inner, a_norm(), a_norm())

    return Transformer.from_arrays(
        normal(vocabulary, d),
        normal(outputs, d),
        [layer() for _ in range(layers)],
        final_norm=a_norm(),
        positions=normal(6, d) if positions else None,
    )


def near(got, want, tol=1e-12):
    want = np.asarray(want)
    assert np.abs(np.asarray(got) - want).max() <= tol * (1 + np.abs(want).max())


# ---------------------------------------------------------------- circuits


@pytest.mark.parametrize("kind", ["none", "channel", "rmsnorm"])
def test_virtual_weights_are_the_weights_of_the_path_table(kind):
    """Every linear path of a row, by source, weighs what its virtual weight says."""
    m, tokens, o = model(norm_kind=kind), [3, 0, 4], 2
    table = path_expansion(m, tokens, logit=o, by_source=True)
    weight = {table.term(i): w for i, w in enumerate(table.weights)}
    near(weight["embed"], virtual_weight(m).matrix[o, 4])
    for h in range(2):
        for j in range(3):
            near(weight[f"L0.H{h}@{j}(embed)"], ov_circuit(m, 0, h).matrix[o, tokens[j]])
            near(weight[f"L1.H{h}@{j}(embed)"], ov_circuit(m, 1, h).matrix[o, tokens[j]])
            for g in range(2):
                composed = virtual_weight(m, (0, g), (1, h)).matrix
                near(weight[f"L1.H{h}@2(L0.H{g}@{j}(embed))"], composed[o, tokens[j]])


def test_scores_of_the_first_layer_are_its_qk_circuits():
    for base in (None, 50.0):
        m = model(kind="bilinear", factors=2, base=base)
        tokens = [1, 4, 2, 2]
        want = scores(m.layers[0].attention, m.embedding[tokens])
        for f in range(2):
            for i in range(4):
                for j in range(i + 1):
                    got = qk_circuit(m, 0, 1, offset=i - j, factor=f).matrix
                    near(got[tokens[i], tokens[j]], want[f, 1, i, j])


def test_a_composed_score_is_the_query_of_what_a_head_wrote():
    m = model(norm_kind="channel")
    first, second = m.layers[0], m.layers[1]
    e = m.embedding * first.attention_norm.scale
    wrote = e @ first.attention.V[1].T @ first.attention.O[1].T * second.attention_norm.scale
    plain = m.embedding * second.attention_norm.scale
    q, k = second.attention.Q[0, 0], second.attention.K[0, 0]
    want = wrote @ q.T @ k @ plain.T / 2**0.5
    near(qk_circuit(m, 1, 0, query=((0, 1),)).matrix, want)
    near(qk_circuit(m, 1, 0, key=((0, 1),)).matrix, plain @ q.T @ k @ wrote.T / 2**0.5)


@pytest.mark.parametrize("kind", ["none", "rmsnorm"])
@pytest.mark.parametrize("biases", [False, True])
def test_an_attention_table_is_the_pattern_of_every_row(kind, biases):
    m = model(kind="bilinear", factors=2, norm_kind=kind, base=20.0, biases=biases)
    tokens = [3, 1, 0, 1]
    pattern = freeze(m, tokens).layers[0].pattern
    for i in range(4):
        for j in range(i + 1):
            got = attention_table(m, 1, offset=i - j)[tokens[i], tokens[j]]
            near(got, pattern[1, i, j])


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_a_circuit_is_read_from_its_factors(seed, n, m, rank):
    rng = np.random.default_rng(seed)
    c = Circuit("c", rng.normal(size=(n, rank)), rng.normal(size=(rank, m)), "r", "c")
    near(c.singular_values[: min(n, m, rank)],
         np.linalg.svd(c.matrix, compute_uv=False)[: min(n, m, rank)])  # fmt: skip
    k = 1 + seed % (n * m)
    rows, columns, values = c.strongest(k)
    near(c.matrix[rows, columns], values)
    near(np.abs(values), np.sort(np.abs(c.matrix).ravel())[::-1][:k])
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == k


def test_entries_are_found_across_blocks(monkeypatch):
    monkeypatch.setattr("gatewise.bilinear.circuits.weights.ROWS", 8)
    rng = np.random.default_rng(0)
    c = Circuit("c", rng.normal(size=(11, 2)), rng.normal(size=(2, 4)), "r", "c")
    near(np.abs(c.strongest(9)[2]), np.sort(np.abs(c.matrix).ravel())[::-1][:9])


def test_eigenvalues_say_what_copies():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(6, 2))
    c = Circuit("c", a, a.T, "r", "c")
    near(np.sort(c.eigenvalues.real)[-2:], np.linalg.eigvalsh(a @ a.T)[-2:])
    assert c.copying == pytest.approx(1)
    assert Circuit("c", a, -a.T, "r", "c").copying == pytest.approx(-1)
    with pytest.raises(WrongShape, match="only a square matrix"):
        _ = Circuit("c", a, a.T[:, :3], "r", "c").eigenvalues


def test_a_circuit_prints_what_it_leaves_out():
    text = str(ov_circuit(model(norm_kind="rmsnorm"), 0, 0))
    assert "E then L0.H0 then U: 5 x 5 (outputs x tokens), rank at most 2" in text
    assert "copying: " in text and "Left out: attention, the scale 1/rms(x) of RMSNorm" in text
    assert "RMSNorm" not in str(ov_circuit(model(norm_kind="channel"), 0, 0))


def test_the_mlp_of_a_layer_is_a_bilinear_layer_of_the_stream():
    m = model(norm_kind="channel", biases=True)
    part, x = m.layers[1].mlp, np.random.default_rng(0).normal(size=(6, 4))
    n = x * m.layers[1].mlp_norm.scale
    want = ((n @ part.W.T + part.w_bias) * (n @ part.V.T + part.v_bias)) @ part.P.T
    near(mlp_layer(m, 1)(x).numpy(), want)
    read = m.unembedding * m.final_norm.scale
    near(mlp_layer(m, 1, to_logits=True)(x).numpy(), want @ read.T)


# ---------------------------------------------------------------- pairs


def brute(x, W, V, read, exclusive=0):
    """{(output, p, q): weight} of every pair, one by one."""
    found = {}
    for o in range(len(read)):
        for p in range(len(x)):
            for q in range(p, len(x)):
                if p != q and q < exclusive:
                    continue
                one = float(read[o] @ ((W @ x[p]) * (V @ x[q])))
                other = float(read[o] @ ((W @ x[q]) * (V @ x[p])))
                found[o, p, q] = one if p == q else one + other
    return found


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 4), st.data())
def test_top_pairs_are_those_of_all_pairs(seed, n, outputs, data):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) * rng.choice([0.01, 1.0, 5.0], size=(n, 1))
    W, V, read = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(outputs, 2))
    exclusive = data.draw(st.integers(0, n))
    every = brute(x, W, V, read, exclusive)
    k = data.draw(st.integers(1, len(every)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gatewise.bilinear.circuits.pairs.BLOCK", data.draw(st.sampled_from([1, 2, 8]))
        )
        top = top_pairs(x, W, V, read, k, exclusive=exclusive)
    assert top.total == len(every) and top.formed <= top.total
    keys = list(zip(top.outputs.tolist(), top.first.tolist(), top.second.tolist(), strict=True))
    assert len(set(keys)) == k
    near(top.weights, [every[key] for key in keys], 1e-11)
    near(np.abs(top.weights), sorted((abs(v) for v in every.values()), reverse=True)[:k], 1e-11)


def test_few_pairs_are_formed_where_sizes_fall_off(monkeypatch):
    monkeypatch.setattr("gatewise.bilinear.circuits.pairs.BLOCK", 4)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 5)) * np.geomspace(1, 1e-3, 60)[rng.permutation(60), None]
    W, V, read = (rng.normal(size=s) for s in ((4, 5), (4, 5), (3, 4)))
    top = top_pairs(x, W, V, read, 6)
    want = sorted((abs(v) for v in brute(x, W, V, read).values()), reverse=True)[:6]
    near(np.abs(top.weights), want)
    assert top.formed < top.total / 10


@pytest.mark.parametrize("heads_only", [False, True])
def test_strongest_pairs_are_the_weights_of_the_path_table(heads_only):
    """What a pair weighs is what the expansion by source says of that pair in a row."""
    m = model(5, layers=1, norm_kind="rmsnorm")
    found = strongest_pairs(m, 15, heads_only=heads_only)
    tokens = [0, 1, 2, 3, 4]
    for i in range(len(found)):
        names = [found.source_names[side[i]] for side in (found.first, found.second)]
        at = [int(name.split("'")[1]) for name in names]
        direct = [t for t, name in zip(at, names, strict=True) if name.startswith("embed")]
        assert len(set(direct)) <= 1 and not (direct and heads_only)
        row = [*tokens, *direct[:1]]
        table = path_expansion(m, row, logit=int(found.outputs[i]), by_source=True, ordered=False)
        ways = [
            "embed" if name.startswith("embed") else f"{name.split('(')[0]}@{t}(embed)"
            for name, t in zip(names, at, strict=True)
        ]
        said = {f"L0.mlp({a} × {b})" for a, b in (ways, ways[::-1])}
        near(found.weights[i], [w for j, w in enumerate(table.weights) if table.term(j) in said])


def test_strongest_pairs_print():
    found = strongest_pairs(model(norm_kind="rmsnorm"), 14, outputs=[1, 3])
    assert set(found.outputs.tolist()) <= {1, 3}
    text = str(found).splitlines()
    assert text[0].startswith("14 strongest of ") and " × " in text[1]
    assert text[13] == "  .. and 2 more" and "1/rms(x)" in text[14]
    plain = str(strongest_pairs(model(biases=True, positions=True), 3))
    assert plain.endswith("Left out: attention, learned positions, biases.")


@pytest.mark.parametrize("file", FILES)
def test_strongest_pairs_of_a_public_checkpoint_are_those_of_all(file):
    m = load_transformer(file)
    part, e = m.layers[0].attention, m.embedding
    a, b = (n.scaled for n in (m.layers[0].attention_norm, m.layers[0].mlp_norm))
    x = b(np.concatenate([e, a(e) @ part.V[0].T @ part.O[0].T]))
    inner = m.layers[0].mlp
    read = m.final_norm.scaled(m.unembedding) @ inner.P
    G = np.einsum("oj,pj,qj->opq", read, x @ inner.W.T, x @ inner.V.T, optimize=True)
    G = np.where(np.eye(126, dtype=bool), G, G + G.swapaxes(1, 2))
    off = np.triu(np.ones((126, 126), bool), 1)
    off[63:, 63:] = False
    off[:63, 63:] = False
    G[:, off | ~np.triu(np.ones((126, 126), bool))] = 0
    want = np.sort(np.abs(G).ravel())[::-1][:50]
    found = strongest_pairs(m, 50)
    near(np.abs(found.weights), want, 1e-11)
    near(G[found.outputs, found.first, found.second], found.weights, 1e-11)
    assert found.formed < found.total / 3


# ---------------------------------------------------------------- refusals


def refused(error, words, call):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_what_no_weight_holds_is_refused():
    refused(GatewiseError, "L0.H1 is softmax attention: what it attends to depends on every token",
            lambda: attention_table(model(), 1))  # fmt: skip
    refused(GatewiseError, "learned positions",
            lambda: attention_table(model(kind="bilinear", positions=True), 0))  # fmt: skip
    refused(NotBilinear, "a GLU with the gate 'silu'", lambda: strongest_pairs(model(gate="silu")))
    e = np.ones((3, 2))
    bare = Transformer.from_arrays(e, e, [TransformerLayer()])
    refused(NotBilinear, "layer 0 has no MLP", lambda: strongest_pairs(bare))
    refused(DataError, "layer 0 has no attention", lambda: ov_circuit(bare, 0, 0))
    alone = TransformerLayer(None, mlp(np.ones((1, 2)), np.ones((1, 2)), np.ones((2, 1))))
    headless = Transformer.from_arrays(e, e, [alone])
    refused(DataError, "no head comes before", lambda: strongest_pairs(headless, heads_only=True))
    refused(NotBilinear, "is a third-order tensor", lambda: mlp_layer(bare, 0))


def test_bad_numbers_are_refused():
    m = model(kind="bilinear", factors=2)
    n = 5 * (15 * 16 - 5 * 4) // 2
    refused(
        DataError,
        f"k must be 1 to {n}, the pairs there are",
        lambda: strongest_pairs(m, n + 1),
    )
    refused(DataError, "k must be 1 to", lambda: strongest_pairs(m, 0))
    refused(
        DataError,
        "outputs must be numbers from 0 to 4",
        lambda: strongest_pairs(m, outputs=5),
    )
    refused(DataError, "layer 2 is not among", lambda: strongest_pairs(m, layer=2))
    refused(DataError, "layer 2 is not among", lambda: ov_circuit(m, 2, 0))
    refused(DataError, "head 2 is not among", lambda: ov_circuit(m, 1, 2))
    refused(DataError, "factor 2 is not among", lambda: qk_circuit(m, 0, 0, factor=2))
    refused(DataError, "L1.H0 does not come before layer 1",
            lambda: qk_circuit(m, 1, 0, key=((1, 0),)))  # fmt: skip
    refused(DataError, "does not come after layer 1", lambda: virtual_weight(m, (1, 0), (0, 0)))
    refused(DataError, "offset must be at least 0", lambda: attention_table(m, 0, -1))
    refused(DataError, "k must be 1 to 25", lambda: ov_circuit(m, 0, 0).strongest(26))
    one, two = np.ones((1, 3)), np.ones((1, 2))
    refused(WrongShape, "x must have shape", lambda: top_pairs(one, two, two, [[1]], 1))
