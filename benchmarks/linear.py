"""Collapse against the bare matrix products, and networks folded: what it takes and what it saves.

float64. The floor of a collapse: W = W_k W in a loop, no bound, no scaling. Ours: W, b, rigorous
bound, scaled by powers of two. A folded network runs beside the one it was made of, and both as
ONNX files in onnxruntime (float32, one thread, optimised as it likes: it folds batch norms too).
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gatewise as gw
from benchmarks.measure import Curve, Job, Setup, Way, perceptron
from gatewise.ir.kinds import Affine
from gatewise.ir.network import Network, Node
from gatewise.linear import collapsed, fold
from gatewise.write import write_onnx

F64 = torch.float64
CHAINS = {
    "512 x 50": [512] * 51,
    "128 x 20": [128] * 21,
    "784-1024-1024-10": [784, 1024, 1024, 10],
}


def dense(w: Tensor, x: Tensor) -> Tensor:
    """The rule of a layer."""
    return F.linear(x, w)


def chain(sizes: list[int]) -> Network:
    """Random layers whose products neither grow nor vanish."""
    rng = torch.Generator().manual_seed(0)
    nodes, at = [], "input"
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        w = torch.randn(b, a, generator=rng, dtype=F64) / a**0.5
        kind = Affine(dense, (w,), torch.randn(b, generator=rng, dtype=F64), a, b)
        nodes.append(Node(f"layer{k}", "Linear", kind, (at,), (b,)))
        at = nodes[-1].name
    return Network(tuple(nodes), (sizes[0],), at)


def bare(network: Network) -> Tensor:
    """What one would write, in the order that is cheaper."""
    weights = [n.kind.weights[0] for n in network.nodes if isinstance(n.kind, Affine)]
    if weights[-1].shape[0] < weights[0].shape[1]:
        found = weights[-1]
        for w in weights[-2::-1]:
            found = found @ w
        return found
    found = weights[0]
    for w in weights[1:]:
        found = w @ found
    return found


class Block(nn.Module):
    """Two convolutions and a shortcut, each with its batch norm."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b))
        self.second = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))
        self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))


def resnet() -> Network:
    """The shape of sri_resnet 3b2_bn as it was trained, with random weights and statistics."""
    torch.manual_seed(0)
    blocks = [Block(16, 32, 2), Block(32, 64, 2), Block(64, 128, 2)]
    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.Flatten(), nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 10)]
    module = nn.Sequential(*stem, *blocks, *head).eval().double()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return gw.read(module, torch.zeros(1, 3, 32, 32, dtype=F64))


def planted() -> tuple[Network, Tensor]:
    """30-256-256-1, a third of the units dead and a third always on, over normal rows."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)
    ).double()
    with torch.no_grad():
        for k, b in ((0, 20.0), (2, 500.0)):
            module[k].bias[:85] -= b
            module[k].bias[85:170] += b
    return gw.read(module, torch.zeros(1, 30, dtype=F64)), torch.randn(2000, 30, dtype=F64)


# -- jobs --


def collapsing(sizes: list[int]) -> Setup:
    """A chain to one affine map."""
    network = chain(sizes)

    def right(found) -> str:
        whole = found.whole
        assert whole.error <= whole.relative_bound
        return f"error {whole.error:.0e}, bound {whole.relative_bound:.0e}"

    return Setup(
        Way("gatewise", lambda: collapsed(network)),
        [Way("the bare products", lambda: bare(network))],
        check=right,
    )


def nets() -> dict[str, tuple[Network, Tensor | None, Tensor]]:
    """A network, the rows it is folded over, the rows it is run on."""
    net, rows = planted()
    images = torch.randn(16, 3 * 32 * 32, dtype=F64, generator=torch.Generator().manual_seed(0))
    return {"a ResNet, 10 BatchNorms": (resnet(), None, images), "planted": (net, rows, rows)}


def folding(name: str) -> Setup:
    """fold itself; the floor is a forward pass over the rows it proves things of."""
    network, over, rows = nets()[name]
    some = rows if over is not None else rows[:1]
    return Setup(
        Way("gatewise", lambda: fold(network) if over is None else fold(network, over)),
        [Way("the forward pass", lambda: network(some))],
        check=lambda found: f"units {found.units[0]:,} to {found.units[1]:,}",
    )


def running(name: str) -> Setup:
    """A folded network's forward pass beside that of the network it was made of."""
    network, over, rows = nets()[name]
    found = fold(network) if over is None else fold(network, over)
    place = tempfile.TemporaryDirectory()
    before, after = (session(n, Path(place.name)) for n in (network, found.network))
    single = rows.numpy().astype(np.float32)

    def right(y: Tensor) -> str:
        off = float((y - network(rows)).abs().max() / y.abs().max())
        assert off < 1e-9, off
        return f"differs by {off:.0e}"

    return Setup(
        Way("gatewise, folded", lambda: found.network(rows)),
        peers=[
            Way("gatewise, unfolded", lambda: network(rows)),
            Way("onnxruntime, unfolded, float32", lambda: before(single)),
            Way("onnxruntime, folded, float32", lambda: after(single)),
        ],
        check=right,
    )


def session(network: Network, folder: Path) -> Callable[[np.ndarray], list]:
    """The network's ONNX file, run by onnxruntime on one thread."""
    import onnxruntime

    path = folder / f"{id(network)}.onnx"
    write_onnx(network, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first = run.get_inputs()[0]
    return lambda x: run.run(None, {first.name: x.reshape(-1, *first.shape[1:])})


def jobs(size: str) -> list[Job]:
    few = {"quick": ["128 x 20"], "default": ["128 x 20", "784-1024-1024-10"]}
    chains = {name: CHAINS[name] for name in few.get(size, CHAINS)}
    found = [Job(f"collapse, {name}", partial(collapsing, s)) for name, s in chains.items()]
    wanted = ["planted"] if size == "quick" else list(nets())
    words = {"planted": "30-256-256-1, two thirds of the units constant"}
    found += [Job(f"fold, {words.get(n, n)}", partial(folding, n)) for n in wanted]
    return found + [Job(f"run, {words.get(n, n)}", partial(running, n)) for n in wanted]


def deep(depth: int) -> Network:
    """A perceptron of 64 units a layer, all of them always on over the rows near 0."""
    module = perceptron((16, *[64] * depth, 1)).requires_grad_(False)
    for layer in list(module)[:-1]:
        if isinstance(layer, nn.Linear):
            layer.bias += 10.0
    return gw.read(module, torch.zeros(1, 16, dtype=F64))


def growth(size: str) -> list[Curve]:
    width = 64 if size == "quick" else 256

    def collapse(products: int) -> Callable[[], object]:
        network = chain([width] * (products + 2))
        return lambda: collapsed(network)

    def folded(depth: int) -> Callable[[], object]:
        network, rows = deep(depth), torch.randn(200, 16, dtype=F64)
        return lambda: fold(network, rows)

    quick = size == "quick"
    many = [7, 15, 31] if quick else [1, 3, 7, 15, 31, 63]
    layers = [4, 6, 8, 12] if quick else [1, 2, 4, 6, 8, 12, 16]
    return [
        Curve("collapse, depth", "layers - 1", many, collapse, 1.0, "as many products"),
        Curve("fold, depth", "layers", layers, folded, 1.0, "one look a layer"),
    ]
