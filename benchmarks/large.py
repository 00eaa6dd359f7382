"""A ResNet-18 at 224 x 224 and an MLP 4 x 4096: what each question costs beside forward passes.

    python benchmarks/large.py [--small]

Random weights. ResNet-18 has 11.7 M parameters, 2.5 M gate units and 150,528 inputs. Each job runs
in a process of its own; its floor is the forward pass of the same rows by torch, in float64, and
memory is the peak of the process beyond what the network and the rows took. The census proves its
patterns: what rounding leaves open in float64 is decided in fixed point, which is most of its cost
on a ResNet. `python -m benchmarks --only large` times the same jobs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise.ir.pattern import layout
from gatewise.patterns.observe import observe_running

ROOT = Path(__file__).resolve().parents[1]
F64 = torch.float64


class Block(nn.Module):
    """Two convolutions and a sum: ResNet's basic block."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.relu = nn.ReLU()
        self.down: nn.Module = nn.Identity()
        if stride != 1 or a != b:
            self.down = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.down(x))


def resnet18(width: int = 64, outputs: int = 1000, small: bool = False) -> nn.Module:
    """ResNet-18 in evaluation mode, float64, as trained ones are: scales and means that are not 1
    and 0. small: the form for 32 x 32 images, without the first pooling."""
    torch.manual_seed(0)
    kernel, stride = (3, 1) if small else (7, 2)
    first = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU()]
    layers += [] if small else [nn.MaxPool2d(3, 2, 1)]
    a = width
    for k, b in enumerate((width, 2 * width, 4 * width, 8 * width)):
        layers += [Block(a, b, 1 if k == 0 else 2), Block(b, b, 1)]
        a = b
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(a, outputs))
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, nn.BatchNorm2d):
            for tensor, mean, spread in ((m.weight, 1, 0.2), (m.bias, 0, 0.1)):
                nn.init.normal_(tensor, mean, spread)
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return net.eval().double().requires_grad_(False)


def mlp(width: int, depth: int = 4, inputs: int = 784) -> nn.Module:
    """Dense layers of one width and ReLUs, 10 outputs, torch's default initialisation."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a in (inputs, *[width] * (depth - 1)):
        layers += [nn.Linear(a, width), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    return net.eval().double().requires_grad_(False)


def images(size: int, rows: int) -> Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=F64)


def vectors(rows: int) -> Tensor:
    return torch.randn(rows, 784, generator=torch.Generator().manual_seed(1), dtype=F64)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "ResNet-18, 224 x 224": (resnet18, partial(images, 224)),
    "MLP 4 x 4096": (partial(mlp, 4096), vectors),
    "ResNet-18, 32 x 32": (partial(resnet18, 64, 10, True), partial(images, 32)),
    "ResNet-18 of width 8, 32 x 32": (partial(resnet18, 8, 10, True), partial(images, 32)),
    "MLP 4 x 256": (partial(mlp, 256), vectors),
}
REAL, MIDDLE, SMALL = tuple(NETS)[:2], tuple(NETS)[2], tuple(NETS)[3:]
ROWS = {REAL[0]: 3, REAL[1]: 1000, MIDDLE: 2, SMALL[0]: 3, SMALL[1]: 100}
MOST_ROWS = 100  # of what is asked a row at a time: maps, explanations


class Subject:
    """A module, its Network, some rows, what the jobs ask of them."""

    def __init__(self, name: str, count: int | None = None) -> None:
        make, rows = NETS[name]
        self.module, self.x = make(), rows(count or ROWS[name])
        self.few = self.x[:MOST_ROWS]
        self.net = gw.read(self.module, self.x[:1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.module(part) for part in x.split(4 if x.ndim == 4 else len(x))])

    def read(self) -> str:
        net = gw.read(self.module, self.x[:1])
        return f"{net.parameters:,} parameters"

    def running(self) -> str:
        """What the running bound of float64 leaves open."""
        found = [observe_running(self.net, layout(self.net), x) for x in self.x.split(2)]
        open_ = sum(int((f.undecided > 0).sum()) for f in found)
        units = max(int(f.undecided.max()) for f in found)
        return f"{open_} of {len(self.x)} rows open, at most {units:,} units"

    def census(self) -> str:
        found = gw.census(self.net, self.x)
        size = found.pattern.bits.shape[1] / 1e3
        return f"{int((found.undecided > 0).sum())} rows undecided, {size:.0f} kB a pattern"

    def apply(self) -> str:
        y = self.maps.mv(self.few.flatten(1))
        return f"W x + b is off by {float((y - self.forward(self.few)).abs().max()):.0e}"

    def rows(self) -> str:
        """One output's row of W for every row of the data: its importance."""
        found = self.maps.rows([0])[0][:, 0]
        x = self.few.clone().requires_grad_()
        truth = torch.autograd.grad(self.forward(x)[:, 0].sum(), x)[0].flatten(1)
        return f"off autograd by {float((found - truth).abs().max() / truth.abs().max()):.0e}"

    @property
    def maps(self) -> gw.linear.AffineMap:
        """Of patterns as float64 has them: what the maps cost, without what proves the pattern."""
        if not hasattr(self, "_maps"):
            seen = observe_running(self.net, layout(self.net), self.few)
            self._maps = gw.linear.AffineMap(self.net, seen.pattern)
        return self._maps

    def explain(self) -> str:
        found = gw.explain(self.net, self.few.flatten(1).numpy(), output=0, margin=False)
        return f"largest error {found.max_error:.0e}" if hasattr(found, "max_error") else ""

    def fold(self) -> str:
        folded = gw.linear.fold(self.net)
        return f"{len(self.net.nodes)} nodes to {len(folded.network.nodes)}"

    def write(self) -> str:
        with TemporaryDirectory() as place:
            path = Path(place) / "net.onnx"
            gw.write.write_onnx(self.net, path)
            return f"{path.stat().st_size / 1e6:.0f} MB"


JOBS = {
    "read": ("read", "x"),
    "float64 bound": ("running", "x"),
    "census, proven": ("census", "x"),
    "W x + b": ("apply", "few"),
    "one row of W each": ("rows", "few"),
    "explain, one output": ("explain", "few"),
    "fold": ("fold", "x"),
    "write_onnx": ("write", "x"),
}


def jobs(size: str) -> list:
    """For `python -m benchmarks`."""
    from benchmarks.measure import Job

    asked = {
        "quick": [(SMALL[0], "census, proven", 3), (SMALL[1], "census, proven", 100)],
        "default": [(MIDDLE, "census, proven", 2), (MIDDLE, "one row of W each", 1),
                    (REAL[1], "census, proven", 300)],
        "full": [(name, job, ROWS[name]) for name in REAL for job in JOBS],
    }  # fmt: skip
    return [
        Job(f"{name}: {job}, {n:,} rows".replace(" 1 rows", " 1 row"), partial(build, name, job, n),
            repeat=1 if size == "full" else 3)
        for name, job, n in asked[size]
    ]  # fmt: skip


def build(name: str, job: str, count: int):
    """The job's Setup: its floor is the forward pass."""
    from benchmarks.measure import Setup, Way

    subject, (ask, rows) = Subject(name, count), JOBS[job]
    said: list[str] = []
    return Setup(
        Way("gatewise", lambda: said.append(getattr(subject, ask)())),
        [Way("the forward pass", lambda: subject.forward(getattr(subject, rows)))],
        check=lambda _: said[-1],
        warm=lambda: subject.forward(subject.x[:1]),
    )


def measured(name: str, job: str) -> dict[str, float | str]:
    """CPU seconds of the job and of the forward pass of its rows; MB beyond what was there."""
    subject, (ask, rows) = Subject(name), JOBS[job]
    x = getattr(subject, rows)
    floor = min(_seconds(lambda: subject.forward(x)) for _ in range(2))
    single = subject.module.float()
    parts = x.float().split(4 if x.ndim == 4 else len(x))
    floor32 = min(_seconds(lambda: [single(p) for p in parts]) for _ in range(2))
    single.double()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(subject.maps)  # made outside of the time
    said: list[str] = []
    spent = _seconds(lambda: said.append(getattr(subject, ask)()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "ours": spent,
        "floor": floor,
        "floor32": floor32,
        "MB": (peak - before) * 1024 / 1e6,
        "peak": peak * 1024 / 1e6,
        "said": said[0],
    }


def _seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    """A table; a process for each job on the real sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="seconds, not minutes")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.one:
        print(json.dumps(measured(*asked.one)))
        return
    head = ("job", "ours s", "float64 s", "ratio", "float32 s", "more MB", "peak MB")
    print(f"{head[0]:50}" + "".join(f"{h:>10}" for h in head[1:]))
    for name in SMALL if asked.small else REAL:
        for job in JOBS:
            line(name, job)


def child(name: str, job: str) -> dict:
    """The same in a process of its own, so that its peak is that of the job."""
    command = [sys.executable, __file__, "--one", name, job]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def line(name: str, job: str) -> None:
    """One line of the table."""
    r = measured(name, job) if name in SMALL else child(name, job)
    print(
        f"{name + ': ' + job:50}{r['ours']:10.2f}{r['floor']:10.2f}{r['ours'] / r['floor']:10.1f}"
        f"{r['floor32']:10.2f}{r['MB']:10.0f}{r['peak']:10.0f}  {r['said']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
