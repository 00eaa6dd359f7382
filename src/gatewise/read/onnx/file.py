"""Bytes to an ONNX model and nothing else: no pickle is opened, no file outside its folder read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatewise.errors import CorruptModel, ModelError, UnsafeModel, UnsupportedLayer, missing

EXPORT = (
    "Save the model as ONNX (torch.onnx.export), or pass the module itself, or a .pt2 file of "
    "torch.export.save, to gatewise.read"
)
ARCHIVES = {  # first bytes -> what such a file is
    b"PK\x03\x04": "a zip archive (as torch.save writes), which may hold pickles",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
}
TOO_LARGE_TO_CHECK = 2_000_000_000  # bytes: a protobuf of 2 GiB cannot be handed to the checker


def load_model(source: str | Path | bytes) -> tuple[Any, str]:
    """(ModelProto with every tensor inside it, what to call the source in a message)."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise missing("onnx", "onnx", "reading an ONNX file") from error
    path = None if isinstance(source, bytes) else Path(source)
    name = "the ONNX model" if path is None else f"'{path.name}'"
    data = source if isinstance(source, bytes) else _read(Path(source))
    refuse_archives(data, name)
    model = _parse(data, name)
    for tensor in all_tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            _load_tensor(tensor, path, name)
    return inline_functions(model, name), name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"there is no file '{path}'; give the path of an ONNX file") from error
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}") from error


def refuse_archives(data: bytes, name: str) -> None:
    """UnsafeModel for a pickle or an archive, told from its first bytes alone."""
    pickled = data[:1] == b"\x80" and data[1:2] in {b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"}
    if pickled:
        raise UnsafeModel(
            f"{name} is a pickle, which can run any code when opened, so it was not opened. "
            f"{EXPORT}"
        )
    for magic, what in ARCHIVES.items():
        if data.startswith(magic):
            raise UnsafeModel(f"{name} is {what}, not ONNX: it was not opened. {EXPORT}")


def _parse(data: bytes, name: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not data:
        raise CorruptModel(f"{name} is empty: export or download it again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise CorruptModel(
            f"{name} is truncated or is not an ONNX file ({len(data)} bytes do not parse): "
            f"export or download it again"
        ) from error
    for part in ("ir_version", "graph", "opset_import"):
        if not (len(model.opset_import) if part == "opset_import" else model.HasField(part)):
            raise CorruptModel(
                f"{name} has no {part}: it is truncated or is not an ONNX file; "
                f"export or download it again"
            )
    if not all(isinstance(text, str) for text in _texts(model)):
        raise CorruptModel(f"{name} holds names that are not text: export or download it again")
    return model


def _texts(message: Any) -> Iterator[Any]:
    """Every text in a message: bytes, where protobuf could not decode it."""
    for kind, value in message.ListFields():
        values = value if kind.is_repeated else [value]
        if kind.type == kind.TYPE_STRING:
            yield from values
        elif kind.type == kind.TYPE_MESSAGE:
            for inner in values:
                yield from _texts(inner)


def check_model(model: Any, name: str) -> None:
    """onnx.checker's opinion: CorruptModel with its first line where it objects."""
    import onnx

    for output in model.graph.output:
        if output.type.HasField("tensor_type"):  # a missing shape is the checker's only complaint
            output.type.tensor_type.shape.SetInParent()  # that onnxruntime does not share
    if sum(len(tensor.raw_data) for tensor in all_tensors(model)) > TOO_LARGE_TO_CHECK:
        return
    try:
        onnx.checker.check_model(model)
    # Broad: C++ that reads a file of unknown make, and pybind names its errors as it likes.
    except Exception as error:
        if "is deprecated in domain_version" in str(error):
            return  # still defined (GroupNormalization of opset 18), and run by onnxruntime
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = "; ".join(lines[:2]).rstrip(".") or type(error).__name__
        raise CorruptModel(f"{name} is not a valid ONNX model: {told}. Export it again") from error


def inline_functions(model: Any, name: str) -> Any:
    """Model-local functions written out where they are called."""
    if not model.functions:
        return model
    called = ", ".join(f"{f.domain}.{f.name}" for f in model.functions)
    try:
        import onnx.inliner

        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # broad: C++ on a file of unknown make, as in `check_model`
        raise UnsupportedLayer(
            f"{name} has model-local functions ({called}) that onnx.inliner cannot write out: "
            f"{error}. Export the model without functions"
        ) from error


# -- external data --


def all_tensors(model: Any) -> Iterator[Any]:
    """Every TensorProto: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [*attribute.sparse_tensors, attribute.sparse_tensor]
        yield from (t for s in sparse for t in (s.values, s.indices))
        for graph in (*attribute.graphs, attribute.g):
            yield from _graph_tensors(graph)


def _load_tensor(tensor: Any, path: Path | None, name: str) -> None:
    """Read one tensor's bytes from its file, which must lie in the model's own folder."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    what = f"tensor '{tensor.name}' of {name} lies in the external file '{location}'"
    if path is None:
        raise CorruptModel(f"{what}, but the model came as bytes: give the path of the model")
    file = _inside(path.parent, location, what)
    needed = _byte_count(tensor, what)
    start = _number(entries.get("offset", "0"), what)
    length = _number(entries.get("length", str(needed)), what)
    if length != needed:
        raise CorruptModel(f"{what} with {length} bytes, where its shape needs {needed}")
    try:
        with file.open("rb") as stream:
            fits = start + needed <= file.stat().st_size  # before anything is asked for
            data = stream.read(needed) if fits and stream.seek(start) == start else b""
    except OSError as error:
        raise CorruptModel(
            f"{what}, which cannot be read ({error.strerror}): put the file beside the model"
        ) from error
    if len(data) != needed:
        raise CorruptModel(f"{what}, which is too short for it: download it again")
    tensor.raw_data = data
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _inside(folder: Path, location: str, what: str) -> Path:
    """folder / location; UnsafeModel unless it is in the folder, symbolic links followed."""
    path = Path(location)
    windows = "\\" in location or location[1:2] == ":"
    escapes = windows or path.is_absolute() or ".." in path.parts or "\0" in location
    if not location or escapes:
        raise UnsafeModel(f"{what}, which is no path inside the model's folder: it was not opened")
    try:
        file = (folder / path).resolve()
        inside = file.is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links
        raise UnsafeModel(f"{what}, whose path cannot be resolved: {error}") from error
    if not inside:
        raise UnsafeModel(f"{what}, a link out of the model's folder: it was not opened")
    if not file.is_file():
        raise CorruptModel(f"{what}, which is missing: put the file beside the model")
    return file


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise CorruptModel(f"{what} at offset or length {text[:20]!r}, which is no number of bytes")
    return int(text)


def _byte_count(tensor: Any, what: str) -> int:
    import onnx

    try:
        size = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModel(f"{what} with the unknown data type {tensor.data_type}") from error
    if min(tensor.dims, default=1) < 0:
        raise CorruptModel(f"{what} with the negative shape {list(tensor.dims)}")
    return int(math.prod(tensor.dims)) * size
