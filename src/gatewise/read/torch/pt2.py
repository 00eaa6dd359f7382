"""A .pt2 file -> Network, by a small reader of our own: nothing in the file is ever executed.

torch.export.load is not used, because it runs code that a file can hold. In torch 2.13:
- data/sample_inputs/*.pt, and the older data/weights/*.pt and data/constants/*.pt, go through
  torch.load(weights_only=True) and, where that fails, through torch.load(weights_only=False);
- a weight or constant marked `use_pickle` goes through torch.load(weights_only=False), an
  opaque object through pickle.loads, a custom object through torch's C++ unpickler;
- a symbolic size goes through sympy.sympify, which is Python's eval, and shape guards are exec'd;
- an operator's name is looked up with getattr from the torch module on, so it can reach any
  function torch has imported; a tree of inputs may name a module to import;
- data/aotinductor/ holds shared libraries that are opened.
Here: JSON and raw bytes are read, sample inputs are not opened, pickled weights are refused,
sizes are read from their hints, and operators are aten's, from a list, or a few of Python's own.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket

from gatewise.errors import CorruptModel, ModelError, UnsafeModel, UnsupportedLayer
from gatewise.ir.kinds import Shape
from gatewise.ir.network import Network
from gatewise.read.head import set_aside_head
from gatewise.read.torch import check_program
from gatewise.read.torch.harmless import EXPANDED, PYTHON, require_harmless
from gatewise.read.torch.numbers import with_eps
from gatewise.read.torch.program import Call, Program, Var, distinct, exact, one_input
from gatewise.read.torch.program import path_from as stack_path
from gatewise.read.torch.signature import pick
from gatewise.read.torch.walk import build

SCHEMA = 8  # of torch.export's JSON, the major number
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
ATEN = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)")
FUNCTIONS: dict[str, Any] = {f"_operator.{f.__name__}": f for f in PYTHON}
PLAIN = {"as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings"}
MISFITS: tuple[type[Exception], ...] = (KeyError, IndexError, TypeError, AttributeError)
MISFITS += (StopIteration, OverflowError, RecursionError, json.JSONDecodeError, UnicodeDecodeError)
EXPORT_AGAIN = "export the model again with torch.export.save"


def read_pt2(path: str | Path, output: int | None = None) -> Network:
    """The Network of a file written by torch.export.save."""
    path = Path(path)
    program = exact(load_program(path, output))
    return check_program(set_aside_head(build(program)), program, f"'{path.name}'")


def load_program(path: Path, output: int | None = None) -> Program:
    """The file's Program, of operators that are known to be harmless."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.name).program(output)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error) as error:
        raise CorruptModel(
            f"'{path.name}' is not a whole .pt2 file ({error}): it may be truncated, so copy it "
            f"again or {EXPORT_AGAIN}"
        ) from error
    except MISFITS as error:
        raise CorruptModel(
            f"'{path.name}' is a .pt2 file whose contents do not fit together "
            f"({type(error).__name__}: {error}): {EXPORT_AGAIN}"
        ) from error


class _Archive:
    """The parts of an open .pt2 file."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.archive, self.name = archive, name
        self.buffers: dict[str, bytearray] = {}
        self.expanded = 0
        names = archive.namelist()
        self.root = names[0].partition("/")[0] if names else ""
        self.parts = {n.partition("/")[2] for n in names}

    def program(self, output: int | None) -> Program:
        model = self.json(self._model())
        major = model["schema_version"]["major"]
        if major != SCHEMA:
            raise ModelError(
                f"'{self.name}' has version {major} of torch.export's format, and Gatewise reads "
                f"version {SCHEMA}: {EXPORT_AGAIN} of the installed torch ({torch.__version__})"
            )
        module = model["graph_module"]
        return _Graph(module["graph"], module["signature"], self._tensors()).program(output)

    def _model(self) -> str:
        """The one exported program there is."""
        models = sorted(p for p in self.parts if re.fullmatch(r"models/[^/]+\.json", p))
        if len(models) == 1:
            return models[0]
        if any(p.startswith("data/aotinductor/") for p in self.parts):
            raise UnsafeModel(
                f"'{self.name}' holds compiled code (AOTInductor) and no exported program: "
                f"it cannot be read without running it, so {EXPORT_AGAIN}"
            )
        if "archive_format" not in self.parts and any(p.endswith("data.pkl") for p in self.parts):
            raise UnsafeModel(pickled(self.name))
        raise ModelError(
            f"'{self.name}' holds {len(models)} exported programs, and Gatewise reads files of "
            f"one: {EXPORT_AGAIN}"
        )

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters, buffers and constants by their names in the module, from raw bytes."""
        if self.read("byteorder") not in {b"little", None}:
            raise ModelError(f"'{self.name}' was written on a big-endian machine: export it here")
        found: dict[str, Tensor] = {}
        model = self._model().removeprefix("models/").removesuffix(".json")
        for kind in ("weights", "constants"):
            folder = f"data/{kind}/"
            if f"{folder}{model}.pt" in self.parts:
                raise UnsafeModel(
                    f"'{self.name}' holds its {kind} as a pickle, the format of torch before 2.9, "
                    f"which can run code when opened: {EXPORT_AGAIN} of a newer torch"
                )
            config = self.json(f"{folder}{model}_{kind}_config.json")["config"]
            for name, payload in config.items():
                found[name] = self._tensor(folder, name, payload)
        return found

    def _tensor(self, folder: str, name: str, payload: dict[str, Any]) -> Tensor:
        meta = payload.get("tensor_meta")
        if payload.get("use_pickle") or meta is None:
            raise UnsafeModel(
                f"'{self.name}' holds '{name}' as a pickle, which can run code when opened: "
                f"load the model yourself and pass the module to gatewise.read, or export it "
                f"with plain tensors"
            )
        if meta["dtype"] not in DTYPES or meta["layout"] != 7:
            raise UnsupportedLayer(f"'{self.name}': '{name}' is not a dense tensor of numbers")
        return self._strided(folder + payload["path_name"], name, meta)

    def _strided(self, part: str, name: str, meta: dict[str, Any]) -> Tensor:
        """The tensor in the raw bytes; torch checks that it lies within them."""
        dtype = DTYPES[meta["dtype"]]
        size, stride = _ints(meta["sizes"]), _ints(meta["strides"])
        raw = self.buffers.setdefault(part, bytearray(self.read(part) or b""))  # tied: one buffer
        self._require_stored(name, size, len(raw) // dtype.itemsize)
        try:
            if math.prod(size) == 0:
                return torch.zeros(size, dtype=dtype)
            flat = torch.frombuffer(raw, dtype=dtype)
            return flat.as_strided(size, stride, int(meta["storage_offset"]["as_int"]))
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise CorruptModel(
                f"'{self.name}': the {len(raw)} bytes of '{name}' do not hold a tensor of shape "
                f"{tuple(size)}: {EXPORT_AGAIN}"
            ) from error

    def _require_stored(self, name: str, size: list[int], stored: int) -> None:
        """Strides of 0 let a few bytes stand for any number of numbers: allowed up to a limit."""
        self.expanded += max(0, math.prod(size) - stored)
        if self.expanded > EXPANDED:
            raise CorruptModel(
                f"'{self.name}': '{name}' has shape {tuple(size)}, for which the file stores "
                f"{stored} numbers: make it contiguous, and {EXPORT_AGAIN}"
            )

    def json(self, part: str) -> Any:
        data = self.read(part)
        if data is None:
            raise CorruptModel(f"'{self.name}' has no part '{part}': {EXPORT_AGAIN}")
        return json.loads(data)

    def read(self, part: str) -> bytes | None:
        """A part's bytes; torch stores them uncompressed, so none can be larger than the file."""
        if part not in self.parts:
            return None
        info = self.archive.getinfo(f"{self.root}/{part}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise CorruptModel(
                f"'{self.name}': part '{part}' is compressed, which torch never does: "
                f"{EXPORT_AGAIN}"
            )
        if info.flag_bits & 1:
            raise CorruptModel(f"'{self.name}' is encrypted: decrypt it first, or {EXPORT_AGAIN}")
        return self.archive.read(info)


class _Graph:
    """The JSON of a graph, read into a Program."""

    def __init__(
        self, graph: dict[str, Any], signature: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.graph, self.tensors = graph, tensors
        self.signature = signature
        self.constants: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        self.trained: set[str] = set()

    def program(self, output: int | None) -> Program:
        name, shape = one_input(self._inputs())
        outputs = [
            s["user_output"]["arg"] for s in self.signature["output_specs"] if "user_output" in s
        ]
        chosen = outputs[pick(list(range(len(outputs))), output)]
        result = self.argument(chosen)
        if not isinstance(result, Var):
            raise UnsupportedLayer("the output is a fixed number, not computed from the input")
        calls = [call for node in self.graph["nodes"] for call in self._calls(node)]
        batch = None if shape[0] < 0 else shape[0]
        program = Program(
            distinct(calls),
            self.constants,
            name,
            (1, *shape[1:]),
            result.name,
            self.labels,
            frozenset(self.trained),
            batch,
            trusted=False,
        )
        require_harmless(program)
        return with_eps(program, DTYPES[self.graph["tensor_values"][name]["dtype"]])

    def _inputs(self) -> list[tuple[str, Shape]]:
        """The user's inputs; parameters, buffers and constants are put in their place."""
        inputs: list[tuple[str, Shape]] = []
        for spec in self.signature["input_specs"]:
            kind, body = next(iter(spec.items()))
            if kind == "user_input":
                name = body["arg"]["as_tensor"]["name"]
                inputs.append((name, _rows(self.graph["tensor_values"][name])))
            elif kind in {"parameter", "buffer", "tensor_constant"}:
                target = body.get(f"{kind}_name") or body["tensor_constant_name"]
                self.constants[body["arg"]["name"]] = self.tensors[target]
                self.labels[body["arg"]["name"]] = target
                self.trained |= {body["arg"]["name"]} if kind == "parameter" else set()
            elif kind == "constant_input":
                value = next(iter(body["value"].values()))
                self.constants[body["name"]] = None if "as_none" in body["value"] else value
            else:
                raise UnsupportedLayer(f"the file's model takes a {kind}, which is no tensor")
        return inputs

    def _calls(self, node: dict[str, Any]) -> list[Call]:
        """The call of a node and, where it gives several values, one that takes each out."""
        path = _path(node)
        args = tuple(self.argument(i["arg"]) for i in node["inputs"] if i["kind"] != 2)
        kwargs = {i["name"]: self.argument(i["arg"]) for i in node["inputs"] if i["kind"] == 2}
        outputs = [self.argument(o) for o in node["outputs"]]
        target = _target(node["target"])
        if len(outputs) == 1 and isinstance(outputs[0], Var):
            return [Call(outputs[0].name, target, args, kwargs, path)]
        whole = f"{node['name']}|all"
        several = outputs[0] if len(outputs) == 1 else outputs
        taken = [
            Call(v.name, FUNCTIONS["_operator.getitem"], (Var(whole), k), {}, path + "|item")
            for k, v in enumerate(several or ())
            if isinstance(v, Var)
        ]
        return [Call(whole, target, args, kwargs, path), *taken]

    def argument(self, arg: dict[str, Any]) -> Any:
        """The value of a tagged argument."""
        kind, value = [(k, v) for k, v in arg.items() if v is not None][0]  # noqa: RUF015 - see MISFITS
        if kind in PLAIN:
            return value
        if kind in {"as_float", "as_floats"}:
            return float(value) if kind == "as_float" else [float(v) for v in value]
        if kind == "as_none":
            return None
        if kind in {"as_tensor", "as_name"}:
            return Var(value["name"] if kind == "as_tensor" else value)
        if kind == "as_tensors":
            return [Var(v["name"]) for v in value]
        if kind in {"as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"}:
            return self.argument(value)
        if kind in {"as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"}:
            return [self.argument(v) for v in value]
        return _enumerated(kind, value)


def _enumerated(kind: str, value: Any) -> Any:
    """Types, layouts, formats and devices."""
    if kind == "as_scalar_type" and value in DTYPES:
        return DTYPES[value]
    if kind == "as_memory_format" and value in MEMORY:
        return MEMORY[value]
    if kind == "as_layout" and value == 7:
        return torch.strided
    if kind == "as_device":
        return torch.device("cpu")
    if kind == "as_graph":
        raise UnsupportedLayer(
            "the file's model has control flow that depends on the data (a graph within a graph): "
            "read its branches as models of their own"
        )
    raise UnsupportedLayer(f"the file's model has an argument of kind {kind[3:]}, {value!r:.60}")


def _target(name: str) -> Any:
    """Python's arithmetic or an operator of aten, by name; anything else stays a name.

    Looking one up runs nothing; `require_harmless` decides which may be called.
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    found = ATEN.fullmatch(name)
    if found is None:
        return name
    op, overload = found.groups()
    packet = getattr(torch.ops.aten, op, None)
    known = isinstance(packet, OpOverloadPacket) and overload in packet.overloads()
    return getattr(packet, overload) if known else name


def _path(node: dict[str, Any]) -> str:
    """As program.path_of, from the text in the file: 'key,path,type;key,path,type'."""
    text = node.get("metadata", {}).get("nn_module_stack", "")
    parts = [entry.split(",") for entry in text.split(";") if entry]
    stack = [(p[0], (p[1], p[2])) for p in parts if len(p) == 3]
    return stack_path(stack, str(node["name"]))


def _rows(meta: dict[str, Any]) -> Shape:
    """The input's shape, -1 where any size will do (whatever the expression: it is not read)."""
    dtype = DTYPES.get(meta["dtype"])
    if dtype is None or not dtype.is_floating_point:
        raise UnsupportedLayer(
            "the file's model takes integers (token ids), and Gatewise reads models of real "
            "numbers: export the part behind the embedding"
        )
    shape = tuple(int(s["as_int"]) if s.get("as_int") is not None else -1 for s in meta["sizes"])
    if not shape or -1 in shape[1:]:
        raise UnsupportedLayer(
            f"the file's model takes an input of shape {shape} (-1: of any size), and Gatewise "
            f"needs a fixed size behind the axis of rows: export it with fixed sizes there"
        )
    return shape


def _ints(sizes: list[dict[str, int]]) -> list[int]:
    return [int(s["as_int"]) for s in sizes]


def pickled(name: str) -> str:
    """Why a pickle is not opened, and what to do instead."""
    return (
        f"'{name}' is a pickle, and opening a pickle can run any code, so it was not opened: load "
        f"it yourself if you trust it and pass the model to gatewise.read, or export it to ONNX "
        f"or with torch.export.save to .pt2"
    )
