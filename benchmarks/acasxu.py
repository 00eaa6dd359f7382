"""ACAS Xu: every region that random lines meet, exactly, and properties falsified on slices.

    python -m benchmarks.acasxu lines [--lines 10000] [--nets 1]
    python -m benchmarks.acasxu slices [--only 1_5-prop_2]

The two tables above prove the answers on all nets; `jobs` times one.

`lines`: random lines across the box of inputs, from side to side (seed 0), traced in one call. Then
every piece is checked by plain numpy on the file's own arrays (tests/oracles/pieces.py): no knot
missed, none invented, and the value at each knot against the maps of the pieces on both its sides.
`slices`: for each property whose answer is known, slices of its box along two axes, first through
the centre, then through the corners, until one has a region where the output is unsafe. The middle
of that part is then run by onnxruntime.
Seconds are of the processor; one thread with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import gatewise as gw
from benchmarks.measure import ROOT, Job, Setup, Way, data_folder
from gatewise.regions.lines import Trace, trace

sys.path.insert(0, str(ROOT / "tests"))
from acasxu_slices import polygons
from oracles import pieces, properties

BLOCK = 500  # lines whose pieces are checked at once
LOWER = np.array([-0.328422877, -0.5, -0.5, -0.5, -0.5])  # the range, scaled
UPPER = np.array([0.679857769, 0.5, 0.5, 0.5, 0.5])


def folder() -> Path:
    """The networks and properties."""
    return data_folder("onnx", "acasxu")


# -- jobs --


def tracing(count: int) -> Setup:
    """The first net's pieces; the floor is every knot through it once."""
    path = sorted(folder().glob("*.onnx"))[0]
    network, lines = gw.read(path), lines_across(LOWER, UPPER, count)
    rows = [torch.from_numpy(v) for v in lines]
    knots = len(trace(network, *rows).t)
    points = torch.from_numpy(np.random.default_rng(0).uniform(LOWER, UPPER, (knots, 5)))
    batches = points.split(4096)

    def right(found: Trace) -> str:
        c = checked(pieces.onnx_layers(path), lines, found)
        assert c.missed == c.invented == 0, c
        return f"{c.pieces:,} pieces, none missed or invented"

    return Setup(
        Way("gatewise", lambda: trace(network, *rows)),
        [Way("a point a knot, forward", lambda: [network(x) for x in batches])],
        check=right,
        warm=lambda: trace(network, *(v[:50] for v in rows)),
    )


def slicing(name: str) -> Setup:
    """One property, falsified on slices of its box."""
    instance = next(i for i in properties.instances(folder()) if i.name == name)
    network = gw.read(instance.net)

    def right(found: dict) -> str:
        assert "x" in found, "not falsified"
        return f"{found['regions']:,} regions, falsified"

    return Setup(Way("gatewise", lambda: falsified(instance, network)), check=right)


def jobs(size: str) -> list[Job]:
    count = {"quick": 100, "default": 500, "full": 10_000}[size]
    found = [Job(f"pieces of {count:,} lines", partial(tracing, count))]
    return [*found, Job("a property falsified, 1_5-prop_2", partial(slicing, "1_5-prop_2"))]


# -- lines --


def lines_across(lower: np.ndarray, upper: np.ndarray, count: int, seed: int = 0) -> tuple:
    """(x, direction, start, stop): from side to side of the box, through uniform points."""
    rng = np.random.default_rng(seed)
    side = upper - lower
    x = lower + side * rng.random((count, len(side)))
    way = rng.standard_normal((count, len(side)))
    way *= side / np.linalg.norm(way, axis=1, keepdims=True)
    ends = np.stack([(lower - x) / way, (upper - x) / way])
    return x, way, ends.min(0).max(1), ends.max(0).min(1)


def traced(network: gw.Network, lines: tuple) -> tuple[Trace, float]:
    """The lines, and the CPU seconds."""
    begun = time.process_time()
    found = trace(network, *map(torch.from_numpy, lines))
    return found, time.process_time() - begun


def checked(layers: list, lines: tuple, found: Trace) -> pieces.Checked:
    """Every piece of every line."""
    x, way = lines[:2]
    ptr, t, values = (v.numpy() for v in (found.ptr, found.t, found.values))
    total = pieces.Checked(0, 0, 0, 0, 0.0, frozenset())
    for first in range(0, len(x), BLOCK):
        last = min(first + BLOCK, len(x))
        part = slice(ptr[first], ptr[last])
        line = np.repeat(np.arange(first, last), np.diff(ptr[first : last + 1]))
        total += pieces.check(layers, x, way, line, t[part], values[part])
    return total


def main_lines(nets: int, count: int) -> None:
    """A line a network: pieces, patterns, seconds, rate, most a line, faults, errors."""
    names = "pieces patterns seconds pieces/s most missed invented open error gap max|f|"
    print("net  ", *(f"{name:>9}" for name in names.split()))
    traced(gw.read(sorted(folder().glob("*.onnx"))[0]), lines_across(LOWER, UPPER, 100))
    for path in sorted(folder().glob("*.onnx"))[:nets]:
        network, lines = gw.read(path), lines_across(LOWER, UPPER, count)
        found, seconds = traced(network, lines)
        c = checked(pieces.onnx_layers(path), lines, found)
        values = (
            f"{c.pieces:,}", f"{len(c.patterns):,}", f"{seconds:.2f}", f"{c.pieces / seconds:,.0f}",
            int(found.ptr.diff().max()) - 1, c.missed, c.invented, c.undecided,
            f"{float(found.error.max()):.1e}", f"{c.gap:.1e}",
            f"{float(found.values.abs().max()):.2g}",
        )  # fmt: skip
        print(f"{path.stem[13:16]:5}", *(f"{v:>9}" for v in values), flush=True)


# -- properties --


def falsified(instance: properties.Instance, network: gw.Network) -> dict:
    """The first slice with an unsafe region: slices and regions met, seconds, the witness."""
    seconds, regions = 0.0, 0
    spaces = [(c, p) for c in instance.cases() for p in properties.planes(c)]
    for number, (case, (low, high)) in enumerate(spaces, start=1):
        begun = time.process_time()
        found = polygons(network, low, high)
        seconds, regions = seconds + time.process_time() - begun, regions + len(found)
        parts = properties.unsafe_parts(*found, case)
        if parts:
            point, margin = properties.witness(parts, case)
            x = low.copy()
            x[low < high] = point
            there = {"case": case, "x": x, "margin": margin, "unsafe": len(parts)}
            return {"slices": number, "regions": regions, "seconds": seconds, **there}
    return {"slices": len(spaces), "regions": regions, "seconds": seconds}


def replayed(instance: properties.Instance, found: dict) -> float:
    """The margin of the witness by onnxruntime, in float32; below 0 it is not unsafe there."""
    import onnxruntime

    session = onnxruntime.InferenceSession(instance.net)
    feed = {session.get_inputs()[0].name: found["x"].astype(np.float32).reshape(1, 1, 1, 5)}
    (y,) = session.run(None, feed)
    return float(found["case"].margin(y.astype(float))[0])


def main_slices(only: str | None) -> None:
    """A line a property that is known to be false; then all that are true, on 10 slices each."""
    names = "slices regions seconds unsafe margin float32"
    print("property    ", *(f"{name:>9}" for name in names.split()))
    known = [i for i in properties.instances(folder()) if only in (None, i.name)]
    for instance in (i for i in known if i.answer == "sat"):
        found = falsified(instance, gw.read(instance.net))
        values = [f"{found['slices']}", f"{found['regions']:,}", f"{found['seconds']:.2f}"]
        if "x" in found:
            values += [f"{found['unsafe']}", f"{found['margin']:.1e}"]
            values += [f"{replayed(instance, found):.1e}"]
        print(f"{instance.name:12}", *(f"{v:>9}" for v in values), flush=True)
    main_true([i for i in known if i.answer == "unsat"])


def main_true(known: list[properties.Instance]) -> None:
    """No property that is known to hold may be falsified."""
    slices = regions = wrong = 0
    for instance in known:
        network = gw.read(instance.net)
        for case in instance.cases():
            for low, high in islice(properties.planes(case), 10):
                found = polygons(network, low, high)
                slices, regions = slices + 1, regions + len(found)
                wrong += bool(properties.unsafe_parts(*found, case))
    print(f"{len(known)} that hold: {slices} slices, {regions:,} regions, {wrong} found false")


def main() -> None:
    """One of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", choices=["lines", "slices"])
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--nets", type=int, default=1)
    parser.add_argument("--only")
    args = parser.parse_args()
    if args.table == "lines":
        main_lines(args.nets, args.lines)
    else:
        main_slices(args.only)


if __name__ == "__main__":
    main()
