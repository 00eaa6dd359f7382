"""The note's identities, each left side from `gatewise.bilinear`, each right side by sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from reporting import Row

import gatewise as gw
from gatewise import bilinear as bl


def measured(seed: int = 0) -> list[Row]:
    """identity and error: the largest |left - right|, which should be 0."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for part in (_tensors, _features, _one_layer, _more_layers):
        rows += [{"identity": name, "error": float(error)} for name, error in part(rng)]
    return rows


def _tensors(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Sections 2 and 3: the layer as a third-order tensor."""
    W, V, x = rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), rng.normal(size=7)
    layer = bl.BilinearLayer.from_weights(W, V, np.eye(5))
    B = bl.tensor(layer, read_out=False, symmetric=False).numpy()
    y = (W @ x) * (V @ x)
    yield "B_ijk = W1_ij W2_ik", gap(B, np.einsum("ij,ik->ijk", W, V))
    yield "(W1 x) * (W2 x) = x B x", gap(y, np.einsum("ijk,j,k->i", B, x, x))
    Z = bl.three_way_identity(5)
    made = bl.tensor_inner(bl.tensor_inner(W, Z, 1, 1), V, 2, 1)  # (j, z, k)
    yield "B = W1 · Z · W2, Z the three-way identity", gap(made.permute(1, 0, 2), B)
    first, second = (bl.tensor_inner(bl.tensor_inner(B, x, a, 1), x, 2, 1) for a in (2, 3))
    yield "(x B) x = x (B x)", gap(first, second)
    yield (
        "column B_:jk = column j of W1 * column k of W2",
        max(gap(B[:, j, k], W[:, j] * V[:, k]) for j in range(7) for k in range(7)),
    )
    both = (B + B.transpose(0, 2, 1)) / 2
    yield "only the symmetric part of B matters", gap(y, np.einsum("ijk,j,k->i", both, x, x))
    A, C = rng.normal(size=(3, 4)), rng.normal(size=(4, 6))
    yield "A ·_21 C = A C", gap(bl.tensor_inner(A, C, 2, 1), A @ C)
    yield "u ·_11 v = u · v", gap(bl.tensor_inner(A[0], C[:, 0], 1, 1), A[0] @ C[:, 0])
    b, c = rng.normal(size=(2, 5))
    biased = bl.BilinearLayer.from_weights(W, V, np.eye(5), w_bias=b, v_bias=c)
    folded, one = bl.tensor(biased).numpy(), np.append(x, 1)
    want = (W @ x + b) * (V @ x + c)
    yield "biases: append 1 to x", gap(np.einsum("ijk,j,k->i", folded, one, one), want)


def _features(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """x = sum_j a_j d_j: an output reads pairs of features, and nothing else."""
    W, V, P = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), rng.normal(size=(4, 6))
    D, a, u = rng.normal(size=(8, 5)), rng.normal(size=8), rng.normal(size=4)
    layer = bl.BilinearLayer.from_weights(W, V, P)
    Q = D @ bl.interaction(layer, u).numpy() @ D.T
    x = a @ D
    pairs = sum(a[j] * a[k] * Q[j, k] for j in range(8) for k in range(8))
    yield "u·(x B x) = sum_jk a_j a_k d_j (u·B) d_k", gap(u @ (P @ ((W @ x) * (V @ x))), pairs)


def _one_layer(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Section 4: attention and a bilinear MLP, its pattern frozen."""
    net = gw.models.BilinearTransformer(11, 12, heads=3, hidden=10, seed=1).double()
    model = bl.from_state(net.state_dict(), net.settings)
    tokens = rng.integers(0, 11, 7)
    with torch.no_grad():
        logits = net(torch.tensor(tokens)[None])[0].numpy()
    tables = [bl.path_expansion(model, tokens, logit=o) for o in range(11)]
    count = 1 + 3 + (3 + 1) ** 2
    yield f"1 + H + (H + 1)² = {count} terms", float(max(abs(len(t) - count) for t in tables))
    summed = [sum(t.contributions.tolist()) for t in tables]
    yield "they sum to the logits", gap(np.array(summed), logits[-1])
    A = bl.freeze(model, tokens).layers[0].pattern
    worst = max(gap(np.array(t.contributions), by_tensors(model, A, tokens, t)) for t in tables)
    yield "each is virtual weights times A^h times tokens", worst


def by_tensors(model: bl.Transformer, A: np.ndarray, tokens: np.ndarray, table) -> np.ndarray:
    """Every term of the table by the note's formula: dense V_hh' over (out, token, token)."""
    layer, E = model.layers[0], model.embedding
    one_hot = np.eye(len(E))[tokens]
    U, part = model.unembedding[int(np.argmax(table.direction))], layer.attention
    maps = {"embed": E.T} | {
        f"L0.H{h}(embed)": part.O[h] @ part.V[h] @ E.T for h in range(part.heads)
    }
    seen = {"embed": one_hot[-1]} | {f"L0.H{h}(embed)": A[h, -1] @ one_hot for h in range(len(A))}
    B = np.einsum("m,mh,hj,hk->jk", U, layer.mlp.P, layer.mlp.W, layer.mlp.V)
    found = {name: U @ maps[name] @ seen[name] for name in maps}
    for a in maps:
        for b in maps:
            virtual = maps[a].T @ B @ maps[b]
            found[f"L0.mlp({a} × {b})"] = seen[a] @ virtual @ seen[b]
    return np.array([found[table.term(i)] for i in range(len(table))])


def _more_layers(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """What the note leaves to the reader: two layers, and RMSNorm at a point."""
    tokens = rng.integers(0, 9, 6)
    for name, settings in (
        ("two layers", {}),
        ("two layers, attention without softmax", {"attention": "bilinear"}),
        ("two layers, RMSNorm's scales frozen", {"norm": "rmsnorm"}),
    ):
        net = gw.models.BilinearTransformer(9, 8, layers=2, hidden=6, seed=2, **settings).double()
        table = bl.path_expansion(bl.from_state(net.state_dict(), net.settings), tokens, logit=3)
        with torch.no_grad():
            logit = float(net(torch.tensor(tokens)[None])[0, -1, 3])
        yield f"{name}: {len(table)} terms sum to the logit", abs(table.total - logit)


def gap(a, b) -> float:
    """max |a - b|."""
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
