"""A path -> Network: told by what the file holds, then by its suffix; pickles are never opened."""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from pathlib import Path

from gatewise.errors import CorruptModel, ModelError, UnsafeModel, UnsupportedLayer
from gatewise.ir.network import Network

HEAD, STEPS = 1 << 16, 64  # bytes and steps by which an old pickle is told
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin", ".sav", ".dill", ".mar"}


def read_file(path: str | os.PathLike[str], output: int | str | None = None) -> Network:
    """The Network of an .onnx or .pt2 file."""
    path = Path(path)
    _require_file(path)
    suffix = path.suffix.lower()
    archive = _members(path)
    if _is_pickle(path, archive):
        raise _unsafe(path)
    if suffix == ".pt2" or any(name.endswith("/archive_format") for name in archive):
        return _pt2(path, output)
    if suffix == ".onnx":
        return _onnx(path, output)
    if suffix in PICKLES:
        raise _unsafe(path)
    raise ModelError(f"'{path.name}' ends in {_quoted(suffix)}, {_advice(suffix)}")


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder: pass the .onnx or .pt2 file itself")
    if not path.exists():
        raise ModelError(f"there is no file '{path}': check the path (from {Path.cwd()})")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ModelError(f"'{path}' cannot be opened: {error.strerror}") from error
    if empty:
        raise CorruptModel(f"'{path.name}' is empty (0 bytes): export or copy it again")


def _members(path: Path) -> list[str]:
    """The names in a zip file, none where it is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _is_pickle(path: Path, members: list[str]) -> bool:
    """Starts as a pickle does, or is a torch.save archive."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    begins = head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}
    return begins or any(name.endswith("data.pkl") for name in members) or _is_old_pickle(head)


def _is_old_pickle(head: bytes) -> bool:
    """Does it read as a pickle of protocol 0 or 1, up to its end or for many steps?

    Those have no mark at their start. Steps are only listed, none is taken.
    """
    steps = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in what looks like text
            for code, _, _ in pickletools.genops(head):
                steps += 1
                if code.name == "STOP" or steps == STEPS:
                    return steps > 1
    except ValueError:  # what genops raises for anything that is no pickle
        return False
    return False


def _unsafe(path: Path) -> UnsafeModel:
    from gatewise.read.torch.pt2 import pickled

    return UnsafeModel(pickled(path.name))


def _pt2(path: Path, output: int | str | None) -> Network:
    from gatewise.read.torch.pt2 import read_pt2

    if isinstance(output, str):
        raise UnsupportedLayer(
            f"outputs of a .pt2 file are picked by position, got output={output!r}: pass an int"
        )
    return read_pt2(path, output)


def _onnx(path: Path, output: int | str | None) -> Network:
    from gatewise.read.onnx import read_onnx

    if isinstance(output, int):
        raise UnsupportedLayer(
            f"outputs of an ONNX file are picked by name, got output={output}: pass a str"
        )
    return read_onnx(path, output=output)


def _quoted(suffix: str) -> str:
    return f"'{suffix}'" if suffix else "no suffix"


def _advice(suffix: str) -> str:
    if suffix == ".safetensors":
        return (
            "which holds weights without the model that uses them: load them into your module "
            "and pass that to gatewise.read"
        )
    return "and Gatewise reads .onnx and .pt2: export the model to one of these"
