"""Collapse against the bare matrix products, and a folded network before and after: one run.

    python benchmarks/linear.py [--repeat 3] [--only collapse|fold]

CPU seconds of one thread, float64, medians. "floor": W = W_k W in a loop, no bound, no scaling.
"collapsed": W, b, rigorous bound, scaled by powers of two. Folding is compared in the network's own
float64 and as ONNX files in onnxruntime (float32, one thread, optimised as it likes: it folds
batch norms too).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gatewise as gw
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


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Median CPU seconds."""
    took = []
    for _ in range(repeat):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return statistics.median(took)


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


def collapse_table(repeat: int) -> None:
    print("| chain | floor s | collapsed s | ratio | measured error | proved bound |")
    print("|---|---|---|---|---|---|")
    for name, sizes in CHAINS.items():
        network = chain(sizes)
        floor = seconds(lambda n=network: bare(n), repeat)
        ours = seconds(lambda n=network: collapsed(n), repeat)
        found = collapsed(network).whole
        print(
            f"| {name} | {floor:.4f} | {ours:.4f} | {ours / floor:.2f} | {found.error:.1e} | "
            f"{found.relative_bound:.1e} |"
        )


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


def fold_table() -> None:
    print("| network | | parameters | nodes | gate units | f64 us a row | ORT us a row | bytes |")
    print("|---|---|---|---|---|---|---|---|")
    net, rows = planted()
    whole = resnet()
    for name, network, found in (
        ("ResNet with 10 BatchNorms", whole, fold(whole)),
        ("30-256-256-1, two thirds constant", net, fold(net, rows)),
    ):
        x = rows[:256] if network is net else None
        with tempfile.TemporaryDirectory() as folder:
            files = [
                write_onnx(n, Path(folder) / f"{k}.onnx", x)
                for k, n in enumerate((network, found.network))
            ]
        for k, when in enumerate(("before", "after")):
            print(
                f"| {name} | {when} | {found.parameters[k]:,} | {found.nodes[k]} | "
                f"{found.units[k]:,} | {1e6 * found.seconds[k]:.1f} | "
                f"{1e6 * files[k].seconds:.1f} | {files[k].bytes:,} |"
            )
        print(f"\n{name}: differs by {found.apart.error:.1e}, bound {found.apart.bound:.1e}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["collapse", "fold"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.only != "fold":
        collapse_table(chosen.repeat)
        print()
    if chosen.only != "collapse":
        fold_table()


if __name__ == "__main__":
    main()
