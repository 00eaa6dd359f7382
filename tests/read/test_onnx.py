"""What reading an ONNX model means: batch 1, folding, branches, heads, and the check."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from gatewise.errors import MissingExtra, ReadingMismatch, UnsupportedLayer
from gatewise.ir.network import Network, breaker, fingerprint
from gatewise.ops import ONNX
from gatewise.read.onnx import read_onnx

OPSET = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body: str, given: str = "float[N,3] x", output: str = "float[N,2] y", **weights) -> bytes:
    """The bytes of a model in ONNX's own text form; weights (in float32) become initializers."""
    made = parse_model(f"{OPSET} g ({given}) => ({output}) {{ {body} }}")
    for name, value in weights.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made.SerializeToString()


def read(*args, **kwargs) -> Network:
    return read_onnx(model(*args, **kwargs))


W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])
X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], dtype=torch.float64)
RELU = "h = MatMul(x, W) y = Relu(h)"


def layers(network: Network) -> list[str]:
    return [node.layer for node in network.nodes]


# -- inputs and outputs --


def test_a_small_network():
    network = read(RELU, W=W)
    assert network.input_shape == (1, 3)
    assert torch.equal(network(X), (X @ torch.from_numpy(W)).relu())


def test_paths_and_bytes_are_the_same(tmp_path):
    data = model(RELU, W=W)
    file = tmp_path / "net.onnx"
    file.write_bytes(data)
    prints = {fingerprint(read_onnx(source)) for source in (data, file, str(file))}
    assert len(prints) == 1


@pytest.mark.parametrize("first", ["N", "1", "0"])
def test_an_open_first_axis_is_one_row(first):
    assert read(RELU, f"float[{first},3] x", W=W).input_shape == (1, 3)


def test_a_rank_one_input():
    network = read("y = Relu(x)", "float[3] x", "float[3] y")
    assert network.input_shape == (3,)
    assert torch.equal(network(X), X.relu())


def test_another_open_axis_is_refused():
    with pytest.raises(UnsupportedLayer, match=r"input 'x' .* \('width'\) on axis 1"):
        read("y = Relu(x)", "float[N,width] x", "float[N,width] y")


def test_a_fixed_batch_is_one_row_with_a_note():
    network = read(RELU, "float[4,3] x", "float[4,2] y", W=W)
    assert (network.inputs, network.outputs) == (12, 8)
    assert any("first axis of input 'x' is fixed at 4" in note for note in network.notes)


def test_initializers_among_the_inputs_are_constants():
    made = onnx.load_from_string(model(RELU, W=W))
    made.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [3, 2]))
    assert read_onnx(made.SerializeToString()).inputs == 3


def test_two_inputs_are_listed():
    with pytest.raises(UnsupportedLayer, match=r"the inputs 'x', 'z'.*exactly one"):
        read("y = Add(x, z)", "float[N,2] x, float[N,2] z")


def test_integer_input_is_refused():
    with pytest.raises(UnsupportedLayer, match=r"input 'x' .* is not of a float type"):
        read("h = Cast<to=1>(x) y = MatMul(h, W)", "int64[N,3] x", W=W)


TWO = ("y = Relu(x) z = Neg(x)", "float[N,2] x", "float[N,2] y, float[N,2] z")


def test_two_outputs_are_listed():
    with pytest.raises(UnsupportedLayer, match="outputs 'y', 'z': pick one with output="):
        read(*TWO)


@pytest.mark.parametrize(("output", "sign"), [("y", 0), ("z", -1)])
def test_an_output_is_picked_by_name(output, sign):
    network = read_onnx(model(*TWO), output=output)
    x = X[:, :2]
    assert torch.equal(network(x), x.relu() if sign == 0 else -x)


def test_an_unknown_output_is_refused():
    with pytest.raises(UnsupportedLayer, match="no output 'q': it has 'y', 'z'"):
        read_onnx(model(*TWO), output="q")


def test_an_output_of_no_input_is_refused():
    with pytest.raises(UnsupportedLayer, match="'y' does not depend on its input"):
        read("y = Relu(W)", output="float[3,2] y", W=W)


def test_names_are_those_of_the_nodes():
    made = onnx.load_from_string(model(RELU, W=W))
    made.graph.node[0].name = "/layer/MatMul"
    names = [node.name for node in read_onnx(made.SerializeToString()).nodes]
    assert names == ["/layer/MatMul", "y"]


# -- folding --


def test_shapes_are_folded():
    body = """
        s = Shape(x) n = Gather(s, zero) m = Unsqueeze(n, first) t = Concat<axis=0>(m, last)
        h = Reshape(x, t) y = MatMul(h, W)"""
    constants = {"zero": np.int64(0), "first": np.array([0]), "last": np.array([-1])}
    network = read(body, "float[N,3,1] x", W=W, **constants)
    assert torch.allclose(network(X), X @ torch.from_numpy(W))


def test_folding_keeps_the_type_of_the_source():
    """0.1f * 10 is 1 in float32 and a little more in float64: Ceil tells them apart."""
    body = "a = Mul(tenth, ten) b = Ceil(a) y = Mul(x, b)"
    network = read(body, "float[N,2] x", tenth=np.float64(0.1), ten=np.float64(10))
    assert torch.equal(network(X[:, :2]), X[:, :2])


def test_squeeze_without_axes_takes_the_batch_too():
    """As the model itself does at batch 1."""
    network = read(
        "a = Squeeze(x) b = Relu(a) y = Unsqueeze(b, first)", "float[N,2,1] x", first=np.array([0])
    )
    assert network.node("a").shape == (2,)
    assert torch.equal(network(X[:, :2]), X[:, :2].relu())


def test_an_attribute_left_out_is_of_float32():
    """LeakyRelu's 0.01 is the float32 nearest to it, as in every run of the model."""
    network = read("y = LeakyRelu(x)", "float[N,2] x")
    assert network(-torch.ones(1, 2, dtype=torch.float64))[0, 0] == -float(np.float32(0.01))


def test_random_constants_are_refused():
    with pytest.raises(UnsupportedLayer, match=r"RandomNormal.*draws random numbers"):
        read("r = RandomNormal<shape=[2]>() y = Add(x, r)", "float[N,2] x")


# -- branches and functions --

IF = """
    h = MatMul(x, W)
    y = If (flag) <
        then_branch = a () => (float[N,2] r) { k = Relu(h) r = Add(k, one) },
        else_branch = b () => (float[N,2] r) { k = Neg(h) r = Identity(k) }
    >"""


@pytest.mark.parametrize("flag", [True, False])
def test_a_constant_if_is_the_branch_it_takes(flag):
    h = X @ torch.from_numpy(W)
    network = read(IF, W=W, one=np.float64(1), flag=np.array(flag))
    assert torch.allclose(network(X), h.relu() + 1 if flag else -h)


def test_two_ifs_keep_their_names_apart():
    second = IF.replace("y =", "z =").replace("h = MatMul(x, W)", "").replace("(h)", "(y)")
    body = IF + second.replace("k", "l").replace("r)", "s)").replace("r =", "s =")
    network = read(body, output="float[N,2] z", W=W, one=np.float64(1), flag=np.array(True))
    assert torch.allclose(network(X), (X @ torch.from_numpy(W)).relu() + 2)


def test_an_if_that_depends_on_data_is_refused():
    body = "m = ReduceMax<keepdims=0>(x) flag = Greater(m, one)" + IF
    with pytest.raises(UnsupportedLayer, match=r"'y' \(If\): its condition depends on the input"):
        read(body, W=W, one=np.float64(1))


def test_a_loop_is_refused():
    body = """
        y = Loop (n, , x) <
            body = b (int64 i, bool c, float[N,2] u) => (bool d, float[N,2] v)
            { d = Identity(c) v = Relu(u) }
        >"""
    with pytest.raises(UnsupportedLayer, match=r"'y' \(Loop\): loops are control flow"):
        read(body, "float[N,2] x", n=np.int64(3))


FUNCTION = """
    <ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
    g (float[N,3] x) => (float[N,3] y) { y = mine.twice(x) }
    <domain: "mine", opset_import: ["" : 17]>
    twice (u) => (w) { v = Relu(u) w = Add(v, v) }"""


def test_model_local_functions_are_written_out():
    network = read_onnx(parse_model(FUNCTION).SerializeToString())
    assert torch.equal(network(X), 2 * X.relu())


# -- what is refused by name --


def test_another_domain_is_refused():
    made = parse_model(FUNCTION)
    del made.functions[:]
    with pytest.raises(UnsupportedLayer, match=r"'y' \(twice, domain mine\).* 'mine' are not read"):
        read_onnx(made.SerializeToString())


def test_an_operator_that_onnx_has_not_is_refused():
    with pytest.raises(UnsupportedLayer, match=r"node 'y' \(Wobble\): ONNX has no operator"):
        read("y = Wobble(x)", "float[N,2] x")


def test_an_operator_the_table_has_not_is_refused():
    assert "Det" not in ONNX
    with pytest.raises(UnsupportedLayer, match=r"node 'y' \(Det\): the table has no layer"):
        read("y = Det(x)", "float[N,2,2] x", "float[N] y")


def test_an_attribute_the_table_has_not_is_refused(monkeypatch):
    entry, adapter = ONNX["Softmax"]
    monkeypatch.setitem(ONNX, "Softmax", (entry, lambda b, x: adapter(b, x)))
    with pytest.raises(UnsupportedLayer, match=r"'y' \(Softmax\): its attribute 'axis' \(= 1\)"):
        read("y = Softmax<axis=1>(x)", "float[N,2] x")


def test_a_newer_opset_is_refused():
    made = onnx.load_from_string(model(RELU, W=W))
    made.opset_import[0].version = 999
    with pytest.raises(UnsupportedLayer, match=r"opset 999, and onnx .* install a newer onnx"):
        read_onnx(made.SerializeToString())


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"reading an ONNX file needs .*'gatewise\[onnx\]'"):
        read_onnx(b"")


# -- the head --


def head(network: Network) -> list[str]:
    return [node.layer for node in network.head]


@pytest.mark.parametrize("layer", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_a_final_softmax_is_set_aside(layer):
    network = read(f"h = MatMul(x, W) y = {layer}(h)", W=W)
    logits = X @ torch.from_numpy(W)
    function = {
        "Softmax": lambda z: z.softmax(-1),
        "Sigmoid": torch.sigmoid,
        "LogSoftmax": lambda z: z.log_softmax(-1),
    }[layer]
    assert head(network) == [layer]
    assert torch.allclose(network(X), logits)
    assert torch.allclose(network.predict(X), function(logits))
    assert breaker(network) is None
    assert f"the final {layer} ('y') is set aside: outputs are logits" in network.notes


def test_shapes_may_follow_the_head():
    body = "h = MatMul(x, W) p = Softmax(h) y = Reshape(p, shape)"
    network = read(body, output="float[2] y", W=W, shape=np.array([2]))
    assert head(network)[0] == "Softmax"
    assert breaker(network) is None


def test_what_moves_entries_keeps_the_softmax():
    """Logits in another order than the outputs would be read wrongly by everybody."""
    body = "p = Softmax<axis=1>(x) y = Transpose<perm=[0,2,1]>(p)"
    network = read(body, "float[N,2,3] x", "float[N,3,2] y")
    assert head(network) == []
    assert breaker(network).layer == "Softmax"


def test_a_softmax_used_twice_stays():
    network = read("p = Softmax(x) y = Mul(p, x)", "float[N,2] x")
    assert head(network) == []


def test_a_softmax_alone_leaves_the_identity():
    network = read("y = Softmax(x)", "float[N,2] x")
    assert (network.nodes, network.output, head(network)) == ((), "input", ["Softmax"])


# -- the check --


def test_a_wrong_rule_is_found(monkeypatch):
    entry, _ = ONNX["Relu"]
    monkeypatch.setitem(ONNX, "Relu", (entry, ONNX["Abs"][1]))
    with pytest.raises(ReadingMismatch, match="does not compute what its source computes"):
        read(RELU, W=W)


def test_a_wrong_shape_is_found(monkeypatch):
    """Even one that every later layer agrees with."""
    entry, _ = ONNX["Flatten"]
    monkeypatch.setitem(ONNX, "Flatten", (entry, lambda b, x: x))
    body = "a = Flatten(x) b = Relu(a) y = Flatten(b)"
    with pytest.raises(ReadingMismatch, match=r"'a' .* has shape \(1, 6\), .* shape \(1, 2, 3\)"):
        read(body, "float[N,2,3] x", "float[N,6] y")


def test_a_wrong_constant_is_found(monkeypatch):
    from gatewise.read.onnx import graph as onnx_graph

    fold = onnx_graph.fold_node
    monkeypatch.setattr(onnx_graph, "fold_node", lambda *a: [v + 1 for v in fold(*a)])
    with pytest.raises(ReadingMismatch, match=r"the constant 'V' .* is not what it was folded to"):
        read("V = Neg(W) y = MatMul(x, V)", W=W)


def test_a_float64_model_and_a_float16_model():
    for kind, name in ((TensorProto.DOUBLE, "double"), (TensorProto.FLOAT16, "float16")):
        made = parse_model(f"{OPSET} g ({name}[N,3] x) => ({name}[N,2] y) {{ {RELU} }}")
        array = W.astype(helper.tensor_dtype_to_np_dtype(kind))
        made.graph.initializer.append(numpy_helper.from_array(array, "W"))
        network = read_onnx(made.SerializeToString())
        assert torch.equal(network(X), (X @ torch.from_numpy(W)).relu())
