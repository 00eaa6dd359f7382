"""Maps and regions of every real piecewise-affine network, against autograd and its own patterns.

GATEWISE_FULL=1 runs 200 inputs a network and 1,000 probes around each of their regions, hours in
all: a row a network goes to benchmarks/real_networks.csv with a digest of the code it speaks of,
and a network whose row is of the code at hand is not run again. Without it a few of each.
"""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
import shared
from gatewise.errors import NotPiecewiseAffine
from gatewise.ir.network import breaker, forward
from gatewise.patterns.observe import pattern
from oracles import vnnlib
from oracles.plain import jacobian

FULL = os.environ.get("GATEWISE_FULL") == "1"
INPUTS, PROBES = (200, 1000) if FULL else (12, 60)
LARGE, FEW = 700, 10 if FULL else 2  # inputs from which few margins set the scale of all probes
ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "real_networks.csv"
ROOMS = (
    "numeric.py",
    "ir/*.py",
    "linear/*.py",
    "patterns/*.py",
    "regions/constraints.py",
    "regions/halfspaces.py",
)
NETS = sorted((shared.folder() / "onnx").glob("*/*.onnx")) if shared.folder().is_dir() else []

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def probes(x: torch.Tensor, margin: torch.Tensor, n: int) -> torch.Tensor:
    """n points around each x, from well inside its margin to far outside it, log-uniform."""
    rng = torch.Generator().manual_seed(1)
    way = torch.randn(len(x), n, x.shape[1], generator=rng, dtype=torch.float64)
    far = 10 ** (3 * torch.rand(len(x), n, 1, generator=rng, dtype=torch.float64) - 1)
    reach = torch.where(margin.isfinite(), margin, 1.0).clamp(min=1e-12)
    return x[:, None] + way / way.norm(dim=2, keepdim=True) * far * reach[:, None, None]


@pytest.mark.parametrize("path", NETS, ids=lambda p: p.stem)
def test_maps_and_regions(path):
    if FULL and any(r["network"] == path.stem and r["code"] == code() for r in rows()):
        pytest.skip("its row in benchmarks/real_networks.csv is of this code")
    network = gw.read(path)
    if breaker(network) is not None:
        with pytest.raises(NotPiecewiseAffine, match=breaker(network).name):
            gw.region(network, np.zeros((1, network.inputs)))
        pytest.skip(f"not piecewise affine: {breaker(network).layer}")
    x = torch.from_numpy(vnnlib.inputs(path, INPUTS, network.inputs)).double()
    maps = gw.affine(network, x)
    weight, offset = maps.matrix(), maps.offset
    error = (torch.einsum("nof,nf->no", weight, x) + offset - network(x)).abs()
    bound = maps.bound(x)
    assert (error <= bound).all()

    def f(v):
        return forward(network, v.reshape(-1, *network.input_shape)).reshape(len(v), -1)

    some = slice(0, 200 if network.outputs * network.inputs < 20_000 else 20)
    truth = jacobian(f, x[some])
    gap = (weight[some] - truth).abs().amax() / truth.abs().amax().clamp(min=1e-300)
    wrong, undecided, inside = region_errors(network, x)
    write(path, network, error, bound, float(gap), len(x), wrong, undecided, inside)
    assert float(gap) < 1e-9
    assert wrong == 0


def region_errors(network: gw.Network, x: torch.Tensor) -> tuple[int, int, int]:
    """Probes on the wrong side, undecided, and inside, over all regions, one region at a time."""
    wrong = undecided = inside = 0
    large = network.inputs >= LARGE
    reach = gw.region(network, x[:FEW]).margin().l2.median() if large else None
    step = max(1, min(len(x), 2_000_000 // (PROBES * network.inputs)))
    for start in range(0, len(x), step):
        home = gw.region(network, x[start : start + step])
        margin = reach.expand(len(home)) if large else home.margin().l2
        near = probes(home.home.reshape(len(home), -1), margin, PROBES)
        verdict = home.verdict(near)
        flat = [pattern(network, network.rows(points)) for points in near]
        same = np.stack([p.equal(home.pattern[i : i + 1]) for i, p in enumerate(flat)])
        wrong += int(((verdict == 1) & ~torch.from_numpy(same)).sum())
        wrong += int(((verdict == -1) & torch.from_numpy(same)).sum())
        undecided += int((verdict == 0).sum())
        inside += int((verdict == 1).sum())
    return wrong, undecided, inside


COLUMNS = [
    "family",
    "network",
    "inputs",
    "outputs",
    "gate_units",
    "rows",
    "largest_error",
    "largest_bound",
    "jacobian_gap",
    "regions",
    "probes",
    "inside",
    "undecided",
    "wrong",
    "code",
]


def write(path, network, error, bound, gap, regions, wrong, undecided, inside) -> None:
    """One line a network, and, when full, in the table that is kept."""
    row = [
        path.parent.name,
        path.stem,
        network.inputs,
        network.outputs,
        sum(int(np.prod(n.shape)) for n in network.gates),
        INPUTS,
        f"{float(error.max()):.1e}",
        f"{float(bound.max()):.1e}",
        f"{gap:.1e}",
        regions,
        regions * PROBES,
        inside,
        undecided,
        wrong,
        code(),
    ]
    print(*row)
    if FULL:
        kept = [r for r in rows() if r["network"] != path.stem]
        kept.append(dict(zip(COLUMNS, row, strict=True)))
        with TABLE.open("w", newline="") as handle:
            out = csv.DictWriter(handle, COLUMNS)
            out.writeheader()
            out.writerows(sorted(kept, key=lambda r: (r["family"], r["network"])))


def rows() -> list[dict[str, str]]:
    """The table that is kept."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as handle:
        return list(csv.DictReader(handle))


def code() -> str:
    """A digest of the rooms that decide patterns, maps and regions."""
    files = sorted(f for room in ROOMS for f in (ROOT / "src" / "gatewise").glob(room))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]
