"""Figure by figure: the networks it needs (learnt, or read from the work folder), then its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import attacks
import gates
import measures
import numpy as np
import plan
import torch
from batched import Net, Spec, learnt
from data import Images, folder, images
from reporting import Row
from torch import Tensor

from gatewise.bilinear import BilinearLayer, Masks


@dataclass(frozen=True)
class Found:
    """Rows of each table, and pictures (count, 784) by name."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)


def of(spec: Spec) -> Images:
    """The images that a network learns."""
    return images(spec.data, spec.task, spec.rows)


def outer_pixels(x: Tensor) -> Tensor:
    """Pixels whose mean over the training rows is below .01."""
    return x.mean(0) < 0.01


def top(net: Net, output: int | slice, ranks: int | slice = 0, order: str = "positive") -> Tensor:
    """Eigenvectors in pixels by rank."""
    seen = measures.pixels(measures.whole(net))
    return measures.ordered(seen, order)[1][output, ranks]


def eigenvectors(nets: dict[Spec, Net]) -> Found:
    """Figures 2B, 3, 15 to 18, and the truncation of these networks."""
    found = Found({name: [] for name in ("spectra", "hosvd", "cases", "cuts")})
    for spec, net in nets.items():
        whole = measures.whole(net)
        found.tables["spectra"] += measures.spectra(net, whole)
        found.pictures[f"{spec.data} first"] = top(net, slice(None))
        for space in ("hidden", "data"):
            found.tables["cuts"] += measures.cut(net, of(spec), space)
        rows, parts = measures.unfolded(net)
        found.tables["hosvd"] += rows
        if spec.data == "mnist":
            found.tables["cases"] += measures.cases(net, whole, of(spec))
            ends = [top(net, 5, slice(4), order) for order in ("positive", "negative")]
            found.pictures["mnist 5"] = torch.cat(ends)
            found.pictures["hosvd 1"], found.pictures["hosvd 2"] = parts
    return found


def masks(nets: dict[Spec, Net]) -> Found:
    """Figure 7: dense masks on the network with noise, outer ones on that without."""
    noisy, plain = nets.values()
    data = of(noisy.spec)
    every = torch.ones(784, dtype=torch.bool)
    outer = outer_pixels(data.x)
    found = Found({"masks": []})
    for kind, net, where, by in (
        ("dense", noisy, every, every),
        ("outer", plain, outer, every),
        ("outer, std of outer pixels", plain, outer, outer),
    ):
        held = attacks.published(measures.whole(net), data)
        found.tables["masks"] += attacks.rows(net, held, data, where, kind, by)
        if kind != "outer":
            found.pictures[kind.split(",")[0]] = example(net, held, where, by)
    found.tables["masks"] += checkpoint(data)
    steep = attacks.gradients(noisy, data)
    found.tables["masks"] += attacks.rows(noisy, steep, data, every, "gradient", every)
    return found


def checkpoint(data: Images) -> list[Row]:
    """Dense masks on a public reproduction's network (512, noise .15), over its test images."""
    path = folder() / "bilinear" / "bilinear_mnist_1layer" / "gaussian_0.15.npz"
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as file:
        (W, V), P = np.split(file["blocks.0.weight"], 2), file["head.weight"]
        layer = BilinearLayer.from_weights(W, V, P, skip=P, embedding=file["embed.weight"])
    net = Net(Spec("mnist", 512, 0.15, residual=True), layer, 0.9817, 0.9817, 0.0)
    every = torch.ones(784, dtype=torch.bool)
    held = attacks.published(measures.whole(net), data)
    seen = Images(data.test_x, data.test_y, data.test_x, data.test_y)
    return attacks.rows(net, held, seen, every, "checkpoint", every)


def example(net: Net, held: Masks, where: Tensor, by: Tensor, digit: int = 3) -> Tensor:
    """Digit 3's second eigenvector, its mask, and a training image with it and a permuted one."""
    at = int(((held.target == digit) & (held.rank == 1)).nonzero()[0])
    mask = held.masks[at : at + 1] * where
    mask = 0.15 * mask / mask[:, by].std()
    image = of(net.spec).x[0].double()
    other = attacks.permuted(mask, where, 0)
    return torch.stack([top(net, digit, 1), mask[0], image + mask[0], image + other[0]])


def challenge(nets: dict[Spec, Net]) -> Found:
    """Figure 6."""
    (net,) = nets.values()
    rows, pictures = measures.challenge(net, of(net.spec))
    target = of(net.spec).x[6:7].double()
    return Found({"challenge": rows}, {"challenge": torch.cat([target, pictures])})


def similarity(nets: dict[Spec, Net]) -> Found:
    """Figures 5A, 5B, 20."""
    found = Found({name: [] for name in ("agreement", "across", "truncation")})
    sizes = dict.fromkeys(s.hidden for s in nets)
    seen = {d: [] for d in sizes}
    for spec, net in nets.items():
        seen[spec.hidden].append(measures.pixels(measures.whole(net)))
        found.tables["truncation"] += measures.cut(net, of(spec))
        if spec.hidden == max(sizes):
            found.tables["truncation"] += measures.cut(net, of(spec), "data")
    for size, runs in seen.items():
        found.tables["agreement"] += measures.agreement(runs, size)
    for order in ("positive", "negative"):
        found.tables["across"] += measures.across(seen, order)
    return found


def sparsity(nets: dict[Spec, Net]) -> Found:
    """Figures 4 and 19."""
    rows, kept = [], []
    for spec, net in nets.items():
        outer = outer_pixels(of(spec).x)
        rows.append(measures.concentration(net, measures.whole(net), outer))
        if spec.decay == max(s.decay for s in nets):
            kept.append(top(net, 0))
    return Found({"sparsity": rows}, {"noise": torch.stack(kept)})


def augment(nets: dict[Spec, Net]) -> Found:
    """Figures 13 and 14. Digits shown as published: 5 where turned, else 0."""
    rows, kept = [], {}
    for spec, net in nets.items():
        outer = outer_pixels(of(spec).x)
        rows.append(measures.concentration(net, measures.whole(net), outer))
        name = f"{spec.kind or 'none'} {spec.level:g} {spec.noise:g}"
        kept[name] = top(net, [0, 5])
    return Found({"augment": rows}, kept)


FIGURES: dict[str, Callable[[dict[Spec, Net]], Found]] = {
    "eigenvectors": eigenvectors,
    "masks": masks,
    "challenge": challenge,
    "similarity": similarity,
    "sparsity": sparsity,
    "augment": augment,
}


def run(c: dict, figure: str, work: Path) -> Found:
    """One figure: learn what `work` does not hold, then measure."""
    nets = learnt(plan.specs(c, figure), of, work)
    found = FIGURES[figure](nets)
    found.tables[f"networks {figure}"] = [network_row(figure, n) for n in nets.values()]
    return found


def network_row(figure: str, net: Net) -> Row:
    """Settings and accuracies of a network."""
    names = ("data", "hidden", "noise", "decay", "seed", "passes", "batch", "kind", "level")
    row: Row = {"figure": figure} | {n: getattr(net.spec, n) for n in names}
    return {**row, "test": net.test, "train": net.train, "cpu": net.cpu}


def toy(c: dict) -> Found:
    """The gates."""
    by_hand = [row for name in gates.COEFFICIENTS for row in gates.truth_table(name)]
    return Found({"gates": gates.learnt(c), "gates by hand": by_hand})


# ---------------------------------------------------------------- pictures are kept as bytes


def keep_pictures(path: Path, pictures: dict[str, Tensor]) -> None:
    """Each picture scaled to a largest absolute value of 127 and rounded."""
    held = {}
    for name, p in pictures.items():
        p = p.reshape(-1, 784)
        scale = p.abs().amax(1, keepdim=True).clamp(min=1e-300)
        held[name] = (127 * p / scale).round().to(torch.int8).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **held)


def kept_pictures(path: Path) -> dict[str, np.ndarray]:
    """(count, 28, 28) of -1 to 1 by name."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].reshape(-1, 28, 28) / 127 for name in file.files}


def quiet() -> None:
    """One thread, no denormals."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
