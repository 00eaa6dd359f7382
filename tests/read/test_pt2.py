""".pt2 files: read by our own reader, with nothing in them executed."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from cases import CASES
from gatewise.errors import CorruptModel, ModelError, UnsafeModel, UnsupportedLayer
from gatewise.read import read
from gatewise.read.torch.pt2 import DTYPES, SCHEMA

MODEL = "models/model.json"


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "executed"))


def export(module: nn.Module, x: torch.Tensor, path: Path, rows: int | None = None) -> Path:
    dims = None if rows else ({0: torch.export.Dim("rows")},)
    x = x[:rows] if rows else x
    torch.export.save(torch.export.export(module.eval(), (x,), dynamic_shapes=dims), path)
    return path


def rewrite(path: Path, changes: dict[str, bytes | None], compress: int = 0) -> Path:
    """The archive with parts replaced, added, or (None) left out."""
    with zipfile.ZipFile(path) as old:
        root = old.namelist()[0].partition("/")[0]
        parts = {n: old.read(n) for n in old.namelist()}
    for name, data in changes.items():
        parts.pop(f"{root}/{name}", None)
        if data is not None:
            parts[f"{root}/{name}"] = data
    changed = path.with_name("changed.pt2")
    with zipfile.ZipFile(changed, "w", compress) as new:
        for name, data in parts.items():
            new.writestr(name, data)
    return changed


def part(path: Path, name: str) -> dict:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        return json.loads(archive.read(f"{root}/{name}"))


@pytest.fixture
def mlp(tmp_path) -> Path:
    case = CASES["mlp"]
    return export(case.module(), case.rows(3), tmp_path / "mlp.pt2")


@pytest.fixture(params=sorted(set(CASES) - {"in_place"}))
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("rows", [None, 1])
def test_every_case(case, tmp_path, rows):
    module, x = case.module().eval(), case.rows(20)
    network = read(export(module, case.rows(3), tmp_path / "m.pt2", rows))
    expected = torch.cat([module(row[None]) for row in x]).detach().flatten(1)
    torch.testing.assert_close(network.predict(x).float(), expected, rtol=1e-4, atol=1e-5)
    assert any(n.startswith("checked against 'm.pt2' on 24 random rows") for n in network.notes)
    names = [n.name for n in read(module, case.rows(3)).nodes]
    assert [n.name for n in network.nodes] == names


def test_a_fixed_number_of_rows_is_read_where_it_is_not_written_in(tmp_path):
    case = CASES["mlp"]
    network = read(export(case.module(), case.rows(3), tmp_path / "m.pt2", rows=3))
    assert "exported for exactly 3 rows at a time; read for any number of them" in network.notes
    case = CASES["pooled_view"]
    path = export(case.module(), case.rows(3), tmp_path / "n.pt2", rows=3)
    with pytest.raises(UnsupportedLayer, match="exported for exactly 3 rows, and that number may"):
        read(path)


def test_outputs_are_picked_by_position(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 6)

        def forward(self, x):
            return self.layer(x).chunk(2, dim=1)

    module, x = Two(), torch.randn(3, 4)
    path = export(module, x, tmp_path / "m.pt2")
    torch.testing.assert_close(read(path, output=1)(x).float(), module(x)[1].detach())
    with pytest.raises(UnsupportedLayer, match=r"returns 2 outputs \(0, 1\) and none was chosen"):
        read(path)
    with pytest.raises(UnsupportedLayer, match="picked by position, got output='a': pass an int"):
        read(path, output="a")


def test_the_archive_is_known_by_its_contents(mlp):
    assert read(mlp.rename(mlp.with_name("model.pt"))).outputs == 3


def test_numbers_of_the_format_are_torchs():
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE

    assert SCHEMA_VERSION[0] == SCHEMA
    assert {k: _SERIALIZE_TO_TORCH_DTYPE[k] for k in DTYPES} == DTYPES


def test_in_place_through_a_view_is_refused(tmp_path):
    case = CASES["in_place"]
    with pytest.raises(UnsupportedLayer, match="changes a value in place and then reads it under"):
        read(export(case.module(), case.rows(3), tmp_path / "m.pt2"))


# -- nothing is executed --


def bombs(target: Path) -> list[bytes]:
    zipped = io.BytesIO()
    torch.save({"a": Bomb(target)}, zipped)
    return [pickle.dumps(Bomb(target)), zipped.getvalue()]


def test_the_bomb_goes_off(tmp_path):
    """Proof that the tests below could fail."""
    for k, data in enumerate(bombs(tmp_path / "out")):
        (tmp_path / "out").unlink(missing_ok=True)
        pickle.loads(data) if k == 0 else torch.load(io.BytesIO(data), weights_only=False)
        assert (tmp_path / "out").exists()


def test_torchs_own_loader_would_have_executed_the_sample_inputs(mlp, tmp_path):
    """Why torch.export.load is not used."""
    out = tmp_path / "out"
    bad = rewrite(mlp, {"data/sample_inputs/model.pt": bombs(out)[1]})
    with contextlib.suppress(Exception):  # whatever it says, the harm is done by then
        torch.export.load(bad)
    assert out.exists()


@pytest.mark.parametrize("which", [0, 1])
def test_sample_inputs_are_not_opened(mlp, tmp_path, which):
    out = tmp_path / "out"
    bad = rewrite(mlp, {"data/sample_inputs/model.pt": bombs(out)[which]})
    assert read(bad).outputs == 3
    assert not out.exists()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_tensors_are_refused(mlp, tmp_path, kind, which):
    out, bomb = tmp_path / "out", bombs(tmp_path / "out")[which]
    config = part(mlp, "data/weights/model_weights_config.json")
    payload = {**config["config"]["0.weight"], "path_name": "bomb", "use_pickle": True}
    config["config"]["0.weight"] = payload
    changes = {
        f"data/{kind}/bomb": bomb,
        f"data/{kind}/model_{kind}_config.json": json.dumps(config).encode(),
    }
    with pytest.raises(UnsafeModel, match=r"holds '0.weight' as a pickle"):
        read(rewrite(mlp, changes))
    legacy = rewrite(mlp, {f"data/{kind}/model.pt": bomb})
    with pytest.raises(UnsafeModel, match=f"holds its {kind} as a pickle"):
        read(legacy)
    assert not out.exists()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ["custom_obj_0", "opaque_obj_0"])
def test_custom_objects_are_refused(mlp, tmp_path, which, name):
    out = tmp_path / "out"
    entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"thing": entry}}).encode()
    changes = {
        f"data/constants/{name}": bombs(out)[which],
        "data/constants/model_constants_config.json": config,
    }
    with pytest.raises(UnsafeModel, match="holds 'thing' as a pickle"):
        read(rewrite(mlp, changes))
    assert not out.exists()


def test_expressions_are_not_evaluated(mlp, tmp_path):
    """A symbolic size is Python source to torch.export.load."""
    out = tmp_path / "out"
    code = f"__import__('pathlib').Path({str(out)!r}).write_text('executed')"
    model = part(mlp, MODEL)
    sizes = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = code
    model["guards_code"] = [code]
    assert read(rewrite(mlp, {MODEL: json.dumps(model).encode()})).outputs == 3
    assert not out.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.serialization.pickle.loads", "torch.os.system", "torch.ops.aten.from_file.default",
        "_operator.attrgetter", "_operator.methodcaller", "math.__loader__.load_module",
        "torch.ops.aten.__class__.mro", "torch.ops.prim.device.default", "#ns:op", "nonsense",
    ],
)  # fmt: skip
@pytest.mark.parametrize("constant", [True, False])
def test_operators_off_the_list_are_refused(mlp, target, constant):
    model = part(mlp, MODEL)
    node = model["graph_module"]["graph"]["nodes"][-1]
    node["target"] = target
    if constant:
        node["inputs"] = [{"name": "x", "arg": {"as_string": "/tmp/nowhere"}, "kind": 1}]
    with pytest.raises(UnsupportedLayer, match="operator is not in the table"):
        read(rewrite(mlp, {MODEL: json.dumps(model).encode()}))


def test_an_unknown_operator_beside_the_output_is_refused_too(mlp):
    """It could change what the output is computed from."""
    model = part(mlp, MODEL)
    extra = dict(model["graph_module"]["graph"]["nodes"][0], target="torch.ops.other.op_.default")
    extra["outputs"], extra["name"] = [{"as_tensor": {"name": "spare"}}], "spare"
    model["graph_module"]["graph"]["nodes"].insert(1, extra)
    with pytest.raises(UnsupportedLayer, match="operator is not in the table"):
        read(rewrite(mlp, {MODEL: json.dumps(model).encode()}))


# -- damaged files --


def test_a_truncated_file(mlp):
    data = mlp.read_bytes()
    for size in (1, 100, len(data) // 2, len(data) - 10):
        mlp.write_bytes(data[:size])
        with pytest.raises(CorruptModel, match=r"not a whole .pt2 file"):
            read(mlp)
    mlp.write_bytes(b"")
    with pytest.raises(CorruptModel, match="empty"):
        read(mlp)


def test_flipped_bytes_are_found(mlp):
    with zipfile.ZipFile(mlp) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("weight_0"))
    data = bytearray(mlp.read_bytes())
    where = data.index(mlp.stem.encode() + b"/data/weights/weight_0") + 200
    assert info.header_offset < where
    for k in range(where, where + 40):
        data[k] ^= 0xFF
    mlp.write_bytes(data)
    with pytest.raises(CorruptModel):
        read(mlp)


@pytest.mark.parametrize(
    "changes",
    [
        {MODEL: b"{"},
        {MODEL: b"[]"},
        {MODEL: b'{"schema_version": {"major": 8}}'},
        {"data/weights/weight_0": b"\0" * 8},
        {"data/weights/weight_0": None},
        {"data/weights/model_weights_config.json": None},
        {"data/weights/model_weights_config.json": b'{"config": {}}'},
    ],
)
def test_parts_that_do_not_fit(mlp, changes):
    with pytest.raises(CorruptModel):
        read(rewrite(mlp, changes))


def test_a_compressed_part_is_refused(mlp):
    with pytest.raises(CorruptModel, match="compressed, which torch never does"):
        read(rewrite(mlp, {}, zipfile.ZIP_DEFLATED))


def test_another_version_and_no_model(mlp):
    model = part(mlp, MODEL)
    model["schema_version"]["major"] = 99
    with pytest.raises(ModelError, match=r"version 99 of torch.export's format"):
        read(rewrite(mlp, {MODEL: json.dumps(model).encode()}))
    with pytest.raises(ModelError, match="holds 0 exported programs"):
        read(rewrite(mlp, {MODEL: None}))
    with pytest.raises(UnsafeModel, match="compiled code"):
        read(rewrite(mlp, {MODEL: None, "data/aotinductor/model/x.so": b"\x7fELF"}))


# -- hostile files --


def tensors_of(mlp: Path, **meta) -> Path:
    """The file with the first weight's sizes, strides or offset changed."""
    name = "data/weights/model_weights_config.json"
    config = part(mlp, name)
    config["config"]["0.weight"]["tensor_meta"].update(meta)
    return rewrite(mlp, {name: json.dumps(config).encode()})


def ints(*sizes: int) -> list[dict]:
    return [{"as_int": n} for n in sizes]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((100_000, 100_000), "for which the file stores 40 numbers: make it contiguous"),
        ((1 << 25,), "make it contiguous"),
        ((1 << 62, 1 << 62), "make it contiguous"),
        ((-1, -(1 << 30)), "make it contiguous"),
        ((0, 1 << 70), "do not hold a tensor of shape"),
        ((-1, -3), "do not hold a tensor of shape"),
    ],
)
def test_a_few_bytes_do_not_stand_for_a_giant_tensor(mlp, sizes, words):
    with pytest.raises(CorruptModel, match=f"'0.weight'.*{words}"):
        read(tensors_of(mlp, sizes=ints(*sizes), strides=ints(*(0 for _ in sizes))))


def test_many_expanded_tensors_do_not_add_up(mlp):
    name = "data/weights/model_weights_config.json"
    config = part(mlp, name)
    wide = {"sizes": ints(1 << 12, 1 << 11), "strides": ints(0, 0)}
    for payload in config["config"].values():
        payload["tensor_meta"].update(wide)
    with pytest.raises(CorruptModel, match="make it contiguous"):
        read(rewrite(mlp, {name: json.dumps(config).encode()}))


class Expanded(nn.Module):
    """A buffer that stores one number and stands for four."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("one", torch.tensor([2.0]).expand(4))

    def forward(self, x):
        return self.layer(x) * self.one


@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_a_broadcast_tensor_is_read(tmp_path):
    module, x = Expanded(), torch.randn(3, 4)
    network = read(export(module, x, tmp_path / "m.pt2"))
    torch.testing.assert_close(network(x).float(), module(x).detach())


def test_constants_are_not_made_giant_by_the_graph(tmp_path):
    class Grows(nn.Module):
        def forward(self, x):
            return x * torch.zeros(1, 4, dtype=x.dtype).expand(2, 4).sum()

    path = export(Grows(), torch.randn(3, 4), tmp_path / "m.pt2")
    model = part(path, MODEL)
    for node in model["graph_module"]["graph"]["nodes"]:
        if node["target"].endswith(("zeros.default", "expand.default")):
            sizes = next(i for i in node["inputs"] if i["name"] == "size")
            sizes["arg"] = {"as_ints": [1_000_000, 1_000_000]}
            break
    with pytest.raises(UnsupportedLayer, match="makes 1000000000000 numbers of"):
        read(rewrite(path, {MODEL: json.dumps(model).encode()}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parameter_that_is_not_finite_is_named(tmp_path, value):
    module = nn.Linear(4, 2)
    module.weight.data[0, 0] = value
    with pytest.raises(ModelError, match="the parameter 'weight' holds NaN or infinity"):
        read(export(module, torch.randn(3, 4), tmp_path / "m.pt2"))


def test_json_nested_without_end(mlp):
    with pytest.raises(CorruptModel, match="contents do not fit together"):
        read(rewrite(mlp, {MODEL: b"[" * 200_000}))


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b'{"schema_version": {"major": 1e999}}'])
def test_text_that_is_no_json_of_ours(mlp, data):
    with pytest.raises(ModelError):
        read(rewrite(mlp, {MODEL: data}))


def test_an_argument_without_a_value(mlp):
    model = part(mlp, MODEL)
    model["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {}
    with pytest.raises(CorruptModel, match="do not fit together"):
        read(rewrite(mlp, {MODEL: json.dumps(model).encode()}))
    model["graph_module"]["signature"]["input_specs"][0] = {}
    with pytest.raises(CorruptModel, match="do not fit together"):
        read(rewrite(mlp, {MODEL: json.dumps(model).encode()}))


def test_an_encrypted_file(mlp):
    data = bytearray(mlp.read_bytes())
    with zipfile.ZipFile(mlp) as archive:
        offsets = [i.header_offset for i in archive.infolist()]
    where = data.index(b"PK\x01\x02")
    while where >= 0:
        data[where + 8] |= 1
        where = data.find(b"PK\x01\x02", where + 4)
    for offset in offsets:
        data[offset + 6] |= 1
    mlp.write_bytes(data)
    with pytest.raises(CorruptModel, match="is encrypted: decrypt it first, or export"):
        read(mlp)
