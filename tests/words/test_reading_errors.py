"""What a person reads when a model is refused: the fact, what was got, what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases import CASES
from gatewise.errors import CorruptModel, ModelError, UnsafeModel, UnsupportedLayer, WrongColumns
from gatewise.read import read

X = torch.randn(2, 4)


def module(forward, **parts):
    """An nn.Module with one Linear(4, 4) and this forward."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            for name, value in parts.items():
                setattr(self, name, value)

    Model.forward = forward
    return Model()


def flow(self, x):
    y = self.layer(x)
    if y.sum() > 0:
        return y * 2
    return y


def number(self, x):
    return self.layer(x) * float(x.sum())


def mixes(self, x):
    y = self.layer(x)
    return y - y.mean(0, keepdim=True)


def loss(self, x):
    return self.layer(x).mean()


def two(self, x, mask):
    return self.layer(x) * mask


def random(self, x):
    return self.layer(x) + torch.randn(4)


def random_like(self, x):
    return self.layer(x) + torch.randn_like(x)


def constant(self, x):
    return self.layer(torch.ones(x.shape[0], 4, dtype=x.dtype))


def unknown(self, x):
    return torch.special.i0(self.layer(x))


def branches(self, x):
    return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


def several(self, x):
    y = self.layer(x)
    return {"logits": y, "extra": F.relu(y)}


def text(self, x):
    return "hello"


def ids(self, x):
    return self.table(x.long().clamp(0, 3)).mean(1)


def counts(self, x):
    self.calls += 1
    return self.layer(x) + self.calls


def counter():
    model = module(counts)
    model.register_buffer("calls", torch.zeros(()))
    return model


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), module(unknown))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


MODULES = {
    "flow": (flow, r"depends on the data \(test_reading_errors.py:\d+: if y.sum\(\) > 0:\)"
                   r".*write the choice as torch.where"),
    "number": (number, r"depends on the data \(test_reading_errors.py:\d+: return self.layer"),
    "mixes": (mixes, "the module mixes rows: .* Look for an operation over the axis of rows"),
    "loss": (loss, r"gives shape \(\) for 3 rows, not one answer a row: read the module without"),
    "two": (two, r"forward takes 2 inputs \(x, mask\), .*: wrap it in a module whose forward"),
    "random": (random, r"node 'randn' \(aten.randn.default\): it draws random numbers"),
    "random_like": (random_like, r"node 'randn_like' .*: it draws random numbers.*take it out"),
    "constant": (constant, "the output 'linear' does not depend on the input"),
    "unknown": (unknown, r"node 'special_i0' \(aten.special_i0.default\): .* not in the table "
                         r"\(`gatewise ops` prints it\): replace the layer"),
    "branches": (branches, "node 'cond'.*control flow that depends on the data: read its branches"),
    "several": (several, r"returns 2 outputs \('logits', 'extra'\) and none was chosen: pass out"),
    "text": (text, "returns a str, and Gatewise reads modules that return a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    forward, words = MODULES[name]
    with pytest.raises(UnsupportedLayer, match=words):
        read(module(forward), X)


def test_the_path_of_an_unknown_operator():
    with pytest.raises(UnsupportedLayer, match=r"node 'block.1.special_i0' \(aten.special_i0.def"):
        read(Encoder(), X)


def test_more_modules():
    with pytest.raises(UnsupportedLayer, match=r"changes its own 'calls' whenever it is called"):
        read(counter(), X)
    with pytest.raises(UnsupportedLayer, match="int64"):
        read(module(ids, table=nn.Embedding(4, 3)), X)
    with pytest.raises(ModelError, match="lazy layer has no shape yet: call the module once"):
        read(nn.LazyLinear(3), X)
    with pytest.raises(UnsupportedLayer, match=r"returns 2 outputs .* got output='x'"):
        read(module(several), X, output="x")
    with pytest.raises(UnsupportedLayer, match="returns one output; got output='x': leave it out"):
        read(nn.Linear(4, 2), output="x")


def test_torchscript():
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.Linear(4, 2))
    with pytest.raises(ModelError, match=r"TorchScript.*: read the nn.Module it was made from"):
        read(scripted, X)


def test_a_module_that_cannot_be_copied(tmp_path):
    words = r"cannot be copied .*: take out what is not part"
    with (tmp_path / "log").open("w") as file, pytest.raises(ModelError, match=words):
        read(module(loss, log=file), X)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.zeros(2, 4, dtype=torch.long), "example is int64, .* not of token ids: if these"),
        (torch.randn(4), r"must have rows in front.*got \(4,\): for one row .* example\[None\]"),
        (torch.randn(2, 5), r"does not take the example, rows of shape \(5,\): Runtime.*4x4"),
        ((X, X), "example= holds 2 tensors.*: wrap the module"),
        ("abc", "must be an array of numbers, rows first; got str"),
        (torch.zeros(0, 4), r"must have rows in front.*got \(0, 4\)"),
    ],
)
def test_examples(example, words):
    with pytest.raises(ModelError, match=words):
        read(nn.Linear(4, 4), example)


def test_no_example():
    with pytest.raises(ModelError, match=r"cannot be told from its layers \(Conv2d first\): pass"):
        read(nn.Conv2d(1, 2, 3))
    with pytest.raises(ModelError, match="no layer with parameters"):
        read(nn.ReLU())
    wide = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(4, 2))
    with pytest.raises(ModelError, match=r"cannot be guessed \(rows of \(4,\) do not go through"):
        read(wide)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (3, "cannot read a builtins.int: pass a torch.nn.Module, a scikit-learn estimator"),
        (nn.Linear, "got the class Linear, not a model: pass a trained instance of it"),
        (nn.Linear(2, 2).state_dict(), "cannot read|got a dict, which holds weights at most"),
        (None, "cannot read a builtins.NoneType"),
    ],
)
def test_things_that_are_no_model(model, words):
    with pytest.raises(ModelError, match=words):
        read(model)


def test_names():
    words = r"feature_names has 2 names \(2 different\), and the network has 4 inputs: give each"
    with pytest.raises(WrongColumns, match=words):
        read(nn.Linear(4, 2), feature_names=["a", "b"])
    with pytest.raises(WrongColumns, match=r"output_names has 2 names \(1 different\)"):
        read(nn.Linear(4, 2), output_names=["a", "a"])


# -- files --


def save(path: Path, what: str) -> Path:
    """A file of that kind."""
    if what == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif what == "torch":
        torch.save(CASES["mlp"].module().state_dict(), path)
    elif what == "old torch":
        state = CASES["mlp"].module().state_dict()
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(b"anything")
    return path


@pytest.mark.parametrize("what", ["pickle", "torch", "old torch"])
@pytest.mark.parametrize("suffix", ["pt", "pkl", "joblib", "ckpt", "onnx", "pt2", "data", ""])
def test_pickles_by_any_name(tmp_path, what, suffix):
    path = save(tmp_path / f"model.{suffix}", what)
    words = (
        r"'model\.?\w*' is a pickle, and opening a pickle can run any code, so it was not opened: "
        r"load it yourself if you trust it and pass the model .* or export it to ONNX"
    )
    with pytest.raises(UnsafeModel, match=words):
        read(path)


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("what", [{"a": 1}, list(range(500)), Path("x"), 3])
@pytest.mark.parametrize("suffix", ["pt2", "pt", "onnx"])
def test_old_pickles_are_called_what_they_are(tmp_path, protocol, what, suffix):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps(what, protocol))
    with pytest.raises(UnsafeModel, match=rf"'model.{suffix}' is a pickle"):
        read(path)


@pytest.mark.parametrize("text", [b".", b"I am no pickle.", b"]no", b"(" * 10, b"PK\x03\x04"])
def test_other_text_is_not_called_a_pickle(tmp_path, text):
    (tmp_path / "model.pt2").write_bytes(text)
    with pytest.raises(CorruptModel, match=r"so copy it again or export the model again with"):
        read(tmp_path / "model.pt2")


@pytest.mark.parametrize("suffix", [".pt", ".PTH", ".pkl", ".joblib", ".ckpt"])
def test_suffixes_of_pickles(tmp_path, suffix):
    with pytest.raises(UnsafeModel, match="is a pickle"):
        read(save(tmp_path / f"model{suffix}", "text"))


def test_files(tmp_path):
    with pytest.raises(ModelError, match=r"there is no file '.*none.onnx': check the path"):
        read(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"is a folder: pass the .onnx or .pt2 file itself"):
        read(str(tmp_path))
    with pytest.raises(ModelError, match=r"'m.h5' ends in '.h5', and Gatewise reads .onnx"):
        read(save(tmp_path / "m.h5", "text"))
    with pytest.raises(ModelError, match="ends in no suffix"):
        read(save(tmp_path / "m", "text"))
    with pytest.raises(ModelError, match="weights without the model that uses them"):
        read(save(tmp_path / "m.safetensors", "text"))
    with pytest.raises(
        CorruptModel,
        match=r"not a whole .pt2 file .*: it may be truncated, so copy",
    ):
        read(save(tmp_path / "m.pt2", "text"))
    with pytest.raises(CorruptModel, match=r"is empty \(0 bytes\): export or copy it again"):
        (tmp_path / "e.onnx").touch()
        read(tmp_path / "e.onnx")
