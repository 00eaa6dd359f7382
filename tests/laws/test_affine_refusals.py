"""What the Affine rows refuse, and how they say it: the node, the fact, what was got."""

from __future__ import annotations

import pytest
import torch

from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.ops import ONNX, TORCH, Builder

W = torch.ones(2, 1, 3, 3)
ONES = torch.ones(3)


def call(table, name, *operands, shape=(1, 3, 4, 4), opset=17, **attrs):
    """The entry's adapter at a value of that shape; "x" stands for the value."""
    b = Builder(shape)
    entry, adapter = table[name]
    b.opset = opset
    b.at("net.layer", entry.name)
    return adapter(b, *(put(b, v) for v in operands), **attrs)


def put(b, value):
    if isinstance(value, list):
        return [put(b, v) for v in value]
    return b.input if isinstance(value, str) and value == "x" else value


BATCH_NORM = ("batch_norm", "x", ONES, ONES, ONES, ONES)

TORCH_CASES = [
    (("conv2d", ONES.reshape(1, 3, 1, 1), "x"), "weight must be constant, got a value computed"),
    (("conv2d", "x", W), "takes 1 channels and 2 more axes; its input has shape"),
    (("conv2d", "x", torch.ones(2, 3, 3, 3), None, [1, 1, 1]), "stride has 3 entries for 2 axes"),
    ((*BATCH_NORM, True, 0.1, 1e-5), "training mode"),
    ((*BATCH_NORM[:4], None, None, False, 0.1, 1e-5), "no running mean"),
    ((*BATCH_NORM[:5], -ONES, False, 0.1, 1e-5), "not finite"),
    (("dropout", "x", 0.5, True), "at random"),
    (("to", "x", torch.int64), "dtype=torch.int64 is not supported"),
    (("to", "x", torch.float16), "dtype=torch.float16 is not supported"),
    (("div", "x", torch.tensor([1.0, 0.0, 1.0, 1.0])), "a constant that is zero"),
    (("view", "x", [5, -1]), "cannot be given shape"),
    (("permute", "x", [0, 1, 1, 2]), "is not an order"),
    (("expand", "x", [2, 3, 5, 4]), "do not broadcast"),
    (("roll", "x", 1), "from row to row"),
    (("repeat_interleave", "x", 2), "name the axis"),
    (("index_select", "x", 1, torch.tensor([7])), "takes position 7 of an axis of 3"),
    (("index", torch.ones(5), ["x"]), "must be the computed value, got a constant"),
    (("index", "x", ["x"]), "are computed from the input"),
    (("slice_scatter", "x", "x", 1, 0, 3, 2), "step=2 is not supported"),
    (("split_with_sizes", "x", [1, 1], 1), "splits 3 values into parts of [1, 1]"),
    (("reflection_pad1d", "x", [4, 0]), "a reflection of 4 does not fit an axis of 4"),
    (("pad", "x", [1, 1], "mirror"), "mode='mirror' is not supported"),
    (("avg_pool2d", "x", 9), "larger than its padded input"),
    (("avg_pool2d", "x", 2, 2, 0, False, True, -1), "divisor_override must be positive"),
    (("upsample_bicubic2d", "x", [8, 8], False), "cubic"),
    (("linear", "x", torch.ones(2, 5)), "takes 5 values, but its input has shape"),
    (("einsum", "bcij,cij", ["x", ONES]), "does not fit operands of shapes"),
]

ONNX_CASES = [
    (("Conv", "x", W), {"auto_pad": "SAME"}, "auto_pad='SAME' is not"),
    (("Conv", "x", W), {"pads": [1, -1, 0, 0]}, "none negative"),
    (("Conv", "x", W), {"kernel_shape": [5, 5]}, "the weight has [3, 3]"),
    (("BatchNormalization", "x", *[ONES] * 4), {"training_mode": 1}, "training mode"),
    (("BatchNormalization", "x", *[ONES] * 4), {"spatial": 0}, "spatial=0"),
    (("Cast", "x"), {"to": 7}, "ONNX type 7"),
    (("Dropout", "x", 0.5, True), {}, "at random"),
    (("Squeeze", "x", torch.tensor([1])), {}, "not of length 1"),
    (("Split", "x"), {"axis": 1}, "neither the lengths nor the number"),
    (("Gather", "x", torch.tensor(3)), {"axis": 1}, "takes position 3 of an axis of 3"),
    (("Gather", torch.ones(3), "x"), {}, "must be the computed value"),
    (("GatherElements", "x", "x"), {}, "are computed from the input"),
    (("Reshape", "x", "x"), {}, "shape must be constant, got a value computed"),
    (("Resize", "x", None, torch.ones(4)), {"mode": "cubic"}, "mode='cubic' is not supported"),
    (("Resize", "x", None, torch.ones(4)), {"antialias": 1}, "antialias=1"),
    (("Resize", "x"), {}, "either scales or sizes"),
    (
        ("Resize", "x", None, torch.tensor([1.0, 1, 2, 2])),
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "coordinate_transformation_mode='tf_crop_and_resize' is not supported",
    ),
    (("Pad", "x", torch.tensor([1, 2])), {}, "pads must be 8 numbers, got 2"),
    (("DepthToSpace", "x"), {"blocksize": 1, "mode": "XYZ"}, "mode='XYZ'"),
]


@pytest.mark.parametrize(("operands", "why"), TORCH_CASES, ids=lambda v: str(v)[:30])
def test_torch(operands, why):
    check(lambda: call(TORCH, *operands), why)


@pytest.mark.parametrize(("operands", "attrs", "why"), ONNX_CASES, ids=lambda v: str(v)[:30])
def test_onnx(operands, attrs, why):
    check(lambda: call(ONNX, *operands, **attrs), why)


def test_an_axis_that_is_not_there():
    with pytest.raises(ModelError, match="axis 4 does not exist in a value of 4 axes"):
        call(TORCH, "cumsum", "x", 4)


def check(attempt, why):
    with pytest.raises(UnsupportedLayer) as caught:
        attempt()
    assert why in str(caught.value)
    assert "net.layer" in str(caught.value)
