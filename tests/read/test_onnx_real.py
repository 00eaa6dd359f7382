"""Every staged ONNX network: read, in agreement with onnxruntime, and judged of the right sort."""

from __future__ import annotations

import functools
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import shared
from gatewise.errors import NotPiecewiseAffine
from gatewise.ir.network import Network, breaker, require_piecewise_affine
from gatewise.read.onnx import read_onnx
from oracles import vnnlib

ROWS = 1000
CURVED = {"vit", "ml4acopf", "lsnc", "dist_shift", "mscn_128d"}  # by family, or name of the net
NETS = shared.params("onnx/*/*.onnx")
LARGE = {"cgan", "cifar10_resnet", "cifar_biasfield", "sri_resnet"}  # 1,000 rows take ten seconds
SLOWLY = [
    pytest.param(*p.values, id=p.id, marks=[*p.marks, pytest.mark.slow])
    if p.values[0].parent.name in LARGE
    else p
    for p in NETS
]

read = functools.cache(read_onnx)


def by_onnxruntime(file: Path, x: np.ndarray) -> np.ndarray:
    """(rows, outputs) in float32, one row at a time at batch 1, as the file says."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in given.shape]
    answers = [session.run(None, {given.name: row.reshape(shape)})[0].ravel() for row in x]
    return np.stack(answers)


def ours(network: Network, x: np.ndarray) -> np.ndarray:
    """(rows, outputs) of the Network with its head, in float64, some rows at a time."""
    with torch.no_grad():
        return np.concatenate([network.predict(part).numpy() for part in np.array_split(x, 20)])


@pytest.mark.parametrize("file", SLOWLY)
def test_agrees_with_onnxruntime(file):
    """Largest difference over all rows and outputs, relative to the largest |output| there."""
    network = read(file)
    x = vnnlib.inputs(file, ROWS, network.inputs)
    theirs = by_onnxruntime(file, x)
    difference = np.abs(theirs - ours(network, x)).max() / np.abs(theirs).max()
    print(f"{file.name}: largest relative difference {difference:.2g}")
    if table := os.environ.get("GATEWISE_ONNX_AGREEMENT"):
        with Path(table).open("a") as stream:
            stream.write(f"{file.parent.name},{file.name},{difference:.3g},{network!r}\n")
    assert theirs.shape == (ROWS, network.outputs)
    assert difference <= 1e-4


@pytest.mark.parametrize("file", NETS)
def test_piecewise_affine_or_named(file):
    network = read(file)
    if {file.parent.name, file.stem} & CURVED:
        node = breaker(network)
        with pytest.raises(NotPiecewiseAffine, match=f"node '{node.name}' is {node.layer}"):
            require_piecewise_affine(network, "a region")
    else:
        require_piecewise_affine(network, "a region")
        assert network.gates


@pytest.mark.parametrize("file", NETS)
def test_the_note_tells_of_the_check(file):
    assert any("checked against" in note and "float64" in note for note in read(file).notes)


# -- accuracy on the MNIST test images --


@pytest.fixture(scope="module")
def mnist(shared_data) -> tuple[np.ndarray, np.ndarray]:
    """(10000, 784) pixels in [0, 1] by rows, and their labels."""
    folder = shared_data / "images" / "mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(10000, 784) / 255
    return pixels, np.frombuffer(labels, np.uint8)


@pytest.mark.parametrize(
    ("net", "accuracy"),
    [
        ("mnist_fc/mnist-net_256x2", 0.9808),
        ("mnist_fc/mnist-net_256x4", 0.9764),
        ("verivital_mnist_pool/Convnet_maxpool", 0.9792),
    ],
)
def test_accuracy_is_the_published_one(shared_data, mnist, net, accuracy):
    pixels, labels = mnist
    network = read(shared_data / "onnx" / f"{net}.onnx")
    picked = ours(network, pixels).argmax(1)
    assert round(float((picked == labels).mean()), 4) == accuracy


def test_a_transposed_image_is_told_apart(shared_data, mnist):
    """The test can fail: cora's network was trained on columns, and rows bring it to 14 %."""
    pixels, labels = mnist
    network = read(shared_data / "onnx" / "cora_mnist" / "mnist-point.onnx")
    columns = pixels.reshape(-1, 28, 28).swapaxes(1, 2).reshape(-1, 784)
    right, wrong = ((ours(network, x).argmax(1) == labels).mean() for x in (columns, pixels))
    assert round(float(right), 4) == 0.9817
    assert wrong < 0.2
