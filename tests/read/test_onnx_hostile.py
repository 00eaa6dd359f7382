"""Files made to do harm, and damaged ones: each ends in a sentence and opens nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from gatewise.errors import (
    CorruptModel,
    GatewiseError,
    ModelError,
    UnsafeModel,
    UnsupportedLayer,
)
from gatewise.ir.network import Network
from gatewise.read.onnx import read_onnx

OPSET = '<ir_version: 8, opset_import: ["" : 17]>'


def proto(body: str, given: str = "float[N,4] x", output: str = "float[N,3] y", **weights):
    made = parse_model(f"{OPSET} g ({given}) => ({output}) {{ {body} }}")
    for name, value in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return made


def small() -> onnx.ModelProto:
    """Gemm, Relu, Reshape to a folded shape, Softmax: enough to damage in many ways."""
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    body = """
        h = Gemm(x, W, c) r = LeakyRelu<alpha=0.25>(h) s = Shape(r)
        t = Reshape(r, s) k = Concat<axis=1>(t, r) g = MatMul(k, V) y = Softmax<axis=1>(g)"""
    mix = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    return proto(body, W=weight, V=mix, c=np.ones(3, np.float32))


SMALL = small().SerializeToString()


def test_the_small_model_is_sound():
    assert read_onnx(SMALL).outputs == 3


# -- pickles and archives --


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_not_opened(tmp_path, protocol):
    bomb, file = tmp_path / "went-off", tmp_path / "net.onnx"
    file.write_bytes(pickle.dumps(Bomb(bomb), protocol))
    with pytest.raises(UnsafeModel, match=r"'net.onnx' is a pickle.*torch\.onnx\.export"):
        read_onnx(file)
    assert not bomb.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_an_old_pickle_is_no_model(tmp_path, protocol):
    bomb = tmp_path / "went-off"
    with pytest.raises(CorruptModel):
        read_onnx(pickle.dumps(Bomb(bomb), protocol))
    assert not bomb.exists()


@pytest.mark.parametrize(("zipped", "what"), [(True, "a zip archive"), (False, "a pickle")])
def test_a_torch_file_is_not_opened(tmp_path, zipped, what):
    bomb, stream = tmp_path / "went-off", io.BytesIO()
    torch.save({"w": Bomb(bomb)}, stream, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeModel, match=what):
        read_onnx(stream.getvalue())
    assert not bomb.exists()


def test_other_archives_are_not_opened():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w"):
        pass
    for data in (stream.getvalue(), b"\x1f\x8b\x08\0", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\1\0"):
        with pytest.raises(UnsafeModel, match="it was not opened"):
            read_onnx(data)


# -- damage --


def test_an_empty_file(tmp_path):
    file = tmp_path / "net.onnx"
    file.touch()
    with pytest.raises(CorruptModel, match=r"'net.onnx' is empty"):
        read_onnx(file)


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="there is no file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_onnx(tmp_path)


def test_every_truncation_is_refused():
    for length in range(len(SMALL)):
        with pytest.raises(CorruptModel):
            read_onnx(SMALL[:length])


def outcome(data: bytes) -> str:
    """The error's name, or Network: anything else is a failure."""
    try:
        network = read_onnx(data)
    except GatewiseError as error:
        assert str(error)
        return type(error).__name__
    assert any("checked" in note for note in network.notes)
    return type(network).__name__


def test_flipped_bytes_end_in_a_sentence():
    """Whatever still reads is another sound model (a weight changed, say), checked as such."""
    chance = random.Random(0)
    seen = set()
    for _ in range(200):
        data = bytearray(SMALL)
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        seen.add(outcome(bytes(data)))
    assert {"Network", "CorruptModel", "UnsupportedLayer"} <= seen


def test_a_constant_shorter_than_its_shape():
    made = small()
    made.graph.initializer[0].raw_data = b"\0" * 8
    with pytest.raises(CorruptModel, match=r"tensor name: W\) .* too small"):
        read_onnx(made.SerializeToString())


def test_a_constant_of_nan():
    made = small()
    made.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.float32([1, np.nan, 1]), "c"))
    with pytest.raises(CorruptModel, match="the constant 'c' holds NaN"):
        read_onnx(made.SerializeToString())


def test_shapes_that_do_not_fit():
    weight = np.ones((5, 3), np.float32)
    with pytest.raises((CorruptModel, UnsupportedLayer), match="node 'y'"):
        read_onnx(proto("y = MatMul(x, W)", W=weight).SerializeToString())


def test_a_value_computed_nowhere():
    made = small()
    made.graph.node[0].input[0] = "nothing"
    with pytest.raises(CorruptModel, match="nothing"):
        read_onnx(made.SerializeToString())


def test_a_cycle():
    made = proto("a = Add(x, b) b = Relu(a) y = Relu(b)", output="float[N,4] y")
    with pytest.raises(CorruptModel):
        read_onnx(made.SerializeToString())


def test_no_output():
    made = small()
    del made.graph.output[:]
    with pytest.raises(UnsupportedLayer, match="has no output"):
        read_onnx(made.SerializeToString())


def test_no_input():
    made = small()
    del made.graph.input[:]
    with pytest.raises(UnsupportedLayer, match="has no input"):
        read_onnx(made.SerializeToString())


def test_no_node():
    made = proto("", output="float[N,4] x")
    network = read_onnx(made.SerializeToString())
    assert isinstance(network, Network)
    assert network.nodes == ()


def test_no_number_in_the_input_or_output():
    with pytest.raises(UnsupportedLayer, match="unknown size"):
        read_onnx(proto("y = Relu(x)", "float[N,0] x", "float[N,0] y").SerializeToString())
    made = proto("y = Slice(x, a, a, k)", output="float[N,0] y", a=np.array([0]), k=np.array([1]))
    with pytest.raises(UnsupportedLayer, match=r"output 'y' is empty"):
        read_onnx(made.SerializeToString())


# -- too large --

HUGE = np.array([1 << 20, 1 << 20])
BOMBS = {
    "ConstantOfShape": ("z = ConstantOfShape(n) y = Add(x, z)", {"n": HUGE}),
    "Expand": ("z = Expand(x, n) y = ReduceSum(z)", {"n": np.array([1 << 30, 4])}),
    "Tile": ("z = Tile(x, n) y = ReduceSum(z)", {"n": np.array([1 << 30, 4])}),
    "Range": ("z = Range(a, n, b) y = Add(x, z)", {"a": 0, "n": 1 << 40, "b": 1}),
    "Pad": ("z = Pad(x, n) y = ReduceSum(z)", {"n": np.array([0, 1 << 40, 0, 0])}),
    "Add": ("z = Add(x, n) y = ReduceSum(z)", {"n": np.zeros((100_000, 1), np.float32)}),
    "MatMul": (
        "z = MatMul(u, v) y = Add(x, z)",
        {"u": np.zeros((20_000, 1), np.float32), "v": np.zeros((1, 20_000), np.float32)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_grows(name):
    body, weights = BOMBS[name]
    given = "float[N,2000] x" if name == "Add" else "float[N,4] x"
    data = proto(body, given, "float y", **weights).SerializeToString()
    with pytest.raises(UnsupportedLayer, match=rf"\({name}\): .* more numbers than the limit"):
        read_onnx(data)


def test_many_middling_constants_are_refused_together():
    part = "".join(f"c{i} = ConstantOfShape(n) " for i in range(30))
    added = "".join(f"s{i + 1} = Add(s{i}, c{i}) " for i in range(30))
    body = part + "s0 = ConstantOfShape(n) " + added + "r = ReduceSum(s30) y = Add(x, r)"
    data = proto(body, n=np.array([4_000_000])).SerializeToString()
    with pytest.raises(UnsupportedLayer, match="more numbers than the limit"):
        read_onnx(data)


def test_a_huge_input_is_refused():
    data = proto("y = Relu(x)", "float[N,1000000000000] x").SerializeToString()
    with pytest.raises(UnsupportedLayer, match=r"input 'x'.* more numbers than the limit"):
        read_onnx(data)


# -- external data --


def external(location: str, **entries: str) -> bytes:
    """The small model with W in a file of its own."""
    made = small()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return made.SerializeToString()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder, with the weights of W (behind 8 other bytes), and a secret beside it."""
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "weights.bin").write_bytes(b"\0" * 8 + small().graph.initializer[0].raw_data)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 48)
    return inside


def read_with(folder: Path, location: str, **entries: str) -> Network:
    file = folder / "net.onnx"
    file.write_bytes(external(location, **entries))
    return read_onnx(file)


def test_external_data_in_the_folder_is_read(folder):
    x = torch.randn(5, 4, dtype=torch.float64)
    network = read_with(folder, "weights.bin", offset="8", length="48")
    assert torch.equal(network(x), read_onnx(SMALL)(x))


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "/etc/passwd",
        "sub/../../secret.bin",
        "..\\secret.bin",
        "C:\\secret.bin",
        "",
        "a\0b",
    ],
)
def test_external_data_outside_the_folder(folder, location):
    with pytest.raises(UnsafeModel, match="no path inside the model's folder"):
        read_with(folder, location)


def test_external_data_behind_a_link(folder):
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "up").symlink_to(folder.parent)
    (folder / "loop").symlink_to(folder / "loop")
    for location in ("link.bin", "up/secret.bin"):
        with pytest.raises(UnsafeModel, match="a link out of the model's folder"):
            read_with(folder, location)
    with pytest.raises((UnsafeModel, CorruptModel)):
        read_with(folder, "loop")


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"offset": "8", "length": "40"}, "40 bytes, where its shape needs 48"),
        ({"offset": "9"}, "too short"),
        ({"offset": str(10**17)}, "too short"),
        ({"offset": "-8"}, "no number of bytes"),
        ({"length": "9" * 40}, "no number of bytes"),
    ],
)
def test_external_data_of_a_wrong_size(folder, entries, what):
    with pytest.raises(CorruptModel, match=what):
        read_with(folder, "weights.bin", **entries)


def test_external_data_that_is_missing(folder):
    with pytest.raises(CorruptModel, match=r"'W' .* 'absent.bin', which is missing"):
        read_with(folder, "absent.bin")
    with pytest.raises(CorruptModel, match="missing"):
        read_with(folder, "...")
    with pytest.raises(CorruptModel, match="came as bytes: give the path"):
        read_onnx(external("weights.bin"))


@pytest.mark.parametrize("where", ["attribute", "subgraph", "function"])
def test_external_data_is_looked_for_everywhere(folder, where):
    tensor = TensorProto(name="hidden", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../secret.bin")
    node = helper.make_node("Constant", [], ["k"], value=tensor)
    made = small()
    if where == "attribute":
        made.graph.node.append(node)
    elif where == "function":
        opset = [helper.make_opsetid("", 17)]
        made.functions.append(helper.make_function("d", "f", [], ["k"], [node], opset))
    else:
        graph = helper.make_graph([], "b", [], [], [tensor])
        made.graph.node.append(helper.make_node("If", ["c"], ["q"], then_branch=graph))
    file = folder / "net.onnx"
    file.write_bytes(made.SerializeToString())
    with pytest.raises(UnsafeModel, match="'hidden'"):
        read_onnx(file)


@pytest.mark.parametrize("kind", ["UNDEFINED", "GRAPH", "TYPE_PROTO"])
def test_an_attribute_of_a_type_that_holds_no_numbers_is_refused(kind, monkeypatch):
    """onnx.checker refuses it first; where it does not, the walk does."""
    made = small()
    node = next(n for n in made.graph.node if n.op_type == "LeakyRelu")
    node.attribute[0].type = onnx.AttributeProto.AttributeType.Value(kind)
    with pytest.raises(GatewiseError):
        read_onnx(made.SerializeToString())
    monkeypatch.setattr(onnx.checker, "check_model", lambda *a, **k: None)
    with pytest.raises(GatewiseError):
        read_onnx(made.SerializeToString())
