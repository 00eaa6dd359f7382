"""The input box of a VNN-LIB specification, by regular expression; nothing of ours is imported."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np

BOUND = re.compile(r"\(\s*(<=|>=)\s+X_(\d+)\s+([-+0-9.eE]+)\s*\)")


def box(text: str) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper), each (inputs,), in float64: of the first box where there are several."""
    lower: dict[int, float] = {}
    upper: dict[int, float] = {}
    for sign, index, value in BOUND.findall(text):
        (upper if sign == "<=" else lower).setdefault(int(index), float(value))
    count = len(re.findall(r"declare-(?:const|fun)\s+X_\d+", text))
    if not (set(lower) == set(upper) == set(range(count))):
        raise ValueError(f"{count} inputs, but bounds for {sorted(lower)} and {sorted(upper)}")
    return np.array([lower[i] for i in range(count)]), np.array([upper[i] for i in range(count)])


def read_box(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The box of a .vnnlib or .vnnlib.gz file."""
    data = path.read_bytes()
    return box((gzip.decompress(data) if path.suffix == ".gz" else data).decode())


def first_spec(net: Path) -> Path | None:
    """The first specification that the instances.csv beside a network lists for it."""
    table = net.parent / "instances.csv"
    if not table.exists():
        return None
    with table.open(newline="") as stream:
        specs = [row["vnnlib"] for row in csv.DictReader(stream) if row["onnx"] == net.name]
    return net.parent / "vnnlib" / specs[0] if specs else None


def inputs(net: Path, count: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, width) float32 points, uniform in the first specification's box, or in [-1, 1]."""
    spec = first_spec(net)
    lower, upper = read_box(spec) if spec else (np.full(width, -1.0), np.full(width, 1.0))
    random = np.random.default_rng(seed).random((count, width))
    return (lower + (upper - lower) * random).astype(np.float32)
