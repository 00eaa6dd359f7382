"""Makes the pictures of regions in the docs: two moons' network, and a slice through three digits.

python docs/make_region_pictures.py     # writes docs/_static/regions_*.png

The digits need the data folder (GATEWISE_DATA, or ../shared/data); without it they are left as is.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from make_pictures import STATIC, two_moons

import gatewise as gw
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.show.maps import plane_map
from gatewise.show.plane import as_image
from gatewise.show.results import save_figure

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")
NETWORK = DATA / "onnx/mnist_fc/mnist-net_256x2.onnx"
IMAGES = DATA / "images/mnist/t10k-images-idx3-ubyte.gz"


def moons() -> None:
    net, x, y = two_moons()
    cells = enumerate_regions(gw.read(net, x[:2]), ([-1.6, -1.1], [2.6, 1.6]))
    labels = y.int().numpy()
    for colour in ("output", "creases"):
        figure = plane_map(cells, colour=colour, points=x.numpy(), labels=labels)
        save_figure(figure, STATIC / f"regions_{colour}.png", dpi=150)
    print(cells)


def digits() -> None:
    flat = np.frombuffer(gzip.decompress(IMAGES.read_bytes()), np.uint8, offset=16)
    images = flat.reshape(-1, 784)[[3, 2, 1]] / 255.0
    network = gw.read(NETWORK)
    cells = enumerate_regions(network, slice=slice_through(*images))
    pictures = [as_image(network.input_shape, x) for x in images]
    figure = plane_map(cells, colour="class", images=pictures)
    save_figure(figure, STATIC / "regions_digits.png", dpi=150)
    print(cells)


if __name__ == "__main__":
    moons()
    if NETWORK.exists() and IMAGES.exists():
        digits()
