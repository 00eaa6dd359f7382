"""What is read off trained networks: spectra, cuts, agreement, sparsity, the challenge, HOSVD.

Eigenvectors are those of the hidden space, brought to pixels by the embedding (v E), as published:
orthonormal before, not after. Library: `gatewise.bilinear`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from batched import Net
from data import Images
from reporting import Row
from torch import Tensor

from gatewise.bilinear import (
    Spectrum,
    contributions,
    effective_rank,
    eigenvector_agreement,
    hosvd,
    linear_part,
    quadratic_part,
    spectrum,
    truncation,
)

RANKS = 20
CUTS = 30
ORDERS = ("positive", "negative", "magnitude")


def whole(net: Net) -> Spectrum:
    """Every eigenpair of every output, in hidden space, without biases and residual stream."""
    layer = quadratic_part(net.layer)
    return spectrum(layer, layer.inputs, method="dense")


def pixels(found: Spectrum) -> Spectrum:
    """The same pairs with readers v E, (m, k, 784)."""
    return replace(found, readers=found.readers @ found.layer.embedding)


def ordered(found: Spectrum, order: str) -> tuple[Tensor, Tensor]:
    """Values (m, k) and readers by rank: largest first, most negative first, or by |value|."""
    key = {"positive": found.values, "negative": -found.values, "magnitude": found.values.abs()}
    at = key[order].argsort(dim=1, descending=True, stable=True)
    index = at.unsqueeze(2).expand(-1, -1, found.readers.shape[2])
    return found.values.gather(1, at), found.readers.gather(1, index)


# ---------------------------------------------------------------- figures 2B, 3, 15 to 18


def spectra(net: Net, found: Spectrum) -> list[Row]:
    """The 20 largest and the 20 most negative eigenvalues of every output."""
    rows: list[Row] = []
    for sign in ORDERS[:2]:
        values, _ = ordered(found, sign)
        for u, line in enumerate(values[:, :RANKS].tolist()):
            key: Row = {"data": net.spec.data, "output": u, "sign": sign}
            rows += [{**key, "rank": k + 1, "value": v} for k, v in enumerate(line)]
    return rows


def unfolded(net: Net) -> tuple[list[Row], Tensor]:
    """HOSVD: singular values, output directions, extreme eigenvalues of the first two parts.

    Also their pixels (2, 6, 784): three largest eigenvectors, three most negative.
    """
    found = hosvd(net.layer)
    values, vectors = torch.linalg.eigh(found.parts[:2].dense())
    sign = torch.where(values[:, -1] >= -values[:, 0], 1.0, -1.0)  # larger side positive
    rows: list[Row] = []
    for i, singular in enumerate(found.singular.tolist()):
        row: Row = {"data": net.spec.data, "direction": i + 1, "singular": singular}
        ends = (values[i, [-1, 0]] * sign[i]).tolist() if i < 2 else ["", ""]
        row |= {"top": max(ends, default=""), "bottom": min(ends, default="")}
        side = sign[i] if i < 2 else 1.0
        row |= {f"output {u}": v for u, v in enumerate((found.outputs[i] * side).tolist())}
        rows.append(row)
    pick = torch.tensor([-1, -2, -3, 0, 1, 2])
    kept = [vectors[i][:, pick if sign[i] > 0 else pick.roll(3)].mT for i in range(2)]
    return rows, torch.stack(kept) @ net.layer.embedding


def cases(net: Net, found: Spectrum, images: Images) -> list[Row]:
    """Two test rows explained: the first, and the first wrong one; three largest terms each."""
    hidden = images.test_x.double() @ net.layer.embedding.mT
    said = net.layer(hidden).argmax(1)
    wrong = int((said != images.test_y).nonzero()[0])
    rows: list[Row] = []
    for at in (0, wrong):
        parts = contributions(found, hidden[at : at + 1])
        label, answer = int(images.test_y[at]), int(said[at])
        for u in dict.fromkeys((answer, label)):
            terms = parts.terms[0, u]
            top = terms.abs().argsort(descending=True)[:3]
            row: Row = {"data": net.spec.data, "row": at, "label": label, "answer": answer}
            row |= {"output": u, "logit": float(parts.total[0, u])}
            row |= {f"term {k + 1}": float(terms[i]) for k, i in enumerate(top)}
            rows.append({**row, "of the spectrum": float(terms[top].sum() / terms.sum())})
    return rows


# ---------------------------------------------------------------- figures 5A, 5B, 20


def cut(net: Net, images: Images, space: str = "hidden") -> list[Row]:
    """Test accuracy with the 0 .. 30 eigenpairs of largest |value| an output.

    space "hidden": as published; "data": weighted by the second moment of 10,000 training rows.
    """
    rows = images.x[:10_000].double() @ net.layer.embedding.mT if space == "data" else None
    found = spectrum(net.layer, min(CUTS, net.spec.hidden), space=space, data=rows, method="dense")
    hidden = images.test_x.double() @ net.layer.embedding.mT
    curve = truncation(found, hidden, images.test_y)
    key: Row = {"data": net.spec.data, "hidden": net.spec.hidden, "seed": net.spec.seed}
    key["space"] = space
    right = curve.accuracy.tolist()
    return [{**key, "kept": i, "accuracy": a, "whole": curve.whole} for i, a in enumerate(right)]


def agreement(runs: list[Spectrum], hidden: int) -> list[Row]:
    """Mean |cosine| by rank between seeds of one size, both ways of counting; ± over outputs."""
    rows: list[Row] = []
    for order in ORDERS:
        held = runs
        if order == "magnitude":
            held = [replace(r, values=r.values.abs()) for r in runs]
        found = eigenvector_agreement(held, positive=order != "negative")
        for name in ("distinct", "with_self"):
            table = getattr(found, name)[:, :RANKS]
            key: Row = {"hidden": hidden, "order": order, "pairs": name}
            for k, (mean, spread) in enumerate(
                zip(table.mean(0).tolist(), table.std(0).tolist(), strict=True)
            ):
                rows.append({**key, "rank": k + 1, "cosine": mean, "deviation": spread})
    return rows


def across(runs: dict[int, list[Spectrum]], order: str = "positive") -> list[Row]:
    """Mean |cosine| of the first eigenvectors between sizes: pairs of seeds r <= s, and r < s."""
    first = {}
    for size, found in runs.items():
        v = torch.stack([ordered(r, order)[1][:, 0] for r in found])
        first[size] = v / v.norm(dim=2, keepdim=True)
    rows: list[Row] = []
    for a in first:
        for b in first:
            cos = torch.einsum("run,sun->rsu", first[a], first[b]).abs().mean(2)
            i, j = torch.triu_indices(*cos.shape)
            row: Row = {"order": order, "hidden": a, "other": b}
            row |= {"script": float(cos[i, j].mean()), "distinct": float(cos[i, j][i < j].mean())}
            rows.append(row)
    return rows


# ---------------------------------------------------------------- figures 4, 13, 14, 19


def concentration(net: Net, found: Spectrum, outer: Tensor) -> Row:
    """(L1 / L2)² of the eigenvalues, and of eigenvectors in pixels; how their pixels lie.

    edge: share of the first positive eigenvector's squares on `outer` pixels (those that rows
    hardly use); smooth: correlation of each pixel of it with its right and lower neighbours.
    """
    seen = pixels(found)
    spec = net.spec
    row: Row = {"noise": spec.noise, "decay": spec.decay, "kind": spec.kind or "none"}
    row |= {"level": spec.level, "test": net.test, "train": net.train}
    row["rank"] = float(effective_rank(found.values).mean())
    for order in ORDERS[:2]:
        row[f"pixels {order}"] = float(effective_rank(ordered(seen, order)[1][:, :5]).mean())
    first = ordered(seen, "positive")[1][:, 0]
    row["pixels first"] = float(effective_rank(first).mean())
    row["edge"] = float((first[:, outer].square().sum(1) / first.square().sum(1)).mean())
    row["smooth"] = float(neighbours(first).mean())
    return row


def neighbours(v: Tensor) -> Tensor:
    """Σ v(p) v(q) over neighbours / Σ v²: 1 for a constant picture, 0 for white noise. (m,)"""
    p = v.view(len(v), 28, 28)
    right = (p[:, :, 1:] * p[:, :, :-1]).sum((1, 2)) / (28 * 27)
    down = (p[:, 1:] * p[:, :-1]).sum((1, 2)) / (28 * 27)
    return (right + down) / 2 / (p.square().sum((1, 2)) / 28**2)


# ---------------------------------------------------------------- figure 6


def challenge(net: Net, images: Images) -> tuple[list[Row], Tensor]:
    """The form of True - False: eigenvalues, what the first one does alone, what biases add.

    Returns numbers by name, and the pixels (3, 784) of the two largest and the most negative.
    """
    plain, u = quadratic_part(net.layer), [-1.0, 1.0]
    found = spectrum(plain, net.spec.hidden, directions=u, method="dense")
    values, readers = (t[0] for t in ordered(found, "positive"))
    E = net.layer.embedding
    hidden = [x.double() @ E.mT for x in (images.x, images.test_x)]
    terms = [values[0] * (h @ readers[0]).square() for h in hidden]
    alone = (terms[1] > best_threshold(terms[0], images.y)).long() == images.test_y
    slopes, constant = linear_part(net.layer)
    biases = (hidden[1] @ (slopes[1] - slopes[0])).mean() + constant[1] - constant[0]
    whole = spectrum(net.layer, 3, directions=u, method="dense").values[0]
    ones = float(images.test_y.double().mean())
    first, target = readers[0] @ E, images.x[6].double()
    numbers = {
        "test accuracy": net.test,
        "share of the larger class": max(ones, 1 - ones),
        "first eigenvalue": values[0],
        "second eigenvalue": values[1],
        "most negative eigenvalue": values[-1],
        "accuracy of the first alone": alone.double().mean(),
        "what biases add on the mean": biases,
        "first eigenvalue above the others": values[0] - max(values[1], -values[-1]),
        "cosine to the target": torch.cosine_similarity(first, target, 0).abs(),
        **{f"with 1 appended, {k + 1}": v for k, v in enumerate(whole)},
    }
    kept = readers[[0, 1, -1]] @ E
    return [{"name": k, "value": float(v)} for k, v in numbers.items()], kept


def best_threshold(score: Tensor, y: Tensor) -> float:
    """The t for which (score > t) = y is right most often."""
    order = score.argsort()
    label = y[order].double()
    right = (1 - label).cumsum(0) + label.sum() - label.cumsum(0)
    return float(score[order][int(right.argmax())])
