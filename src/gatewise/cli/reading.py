"""The model that a command is given."""

from __future__ import annotations

from pathlib import Path

import gatewise as gw
from gatewise.cli.wording import in_options
from gatewise.errors import ModelError


def read(model: Path, output: str | None) -> gw.Network:
    """The network; a .pt2 file's outputs have positions, an ONNX file's have names."""
    by_position = output is not None and model.suffix.lower() == ".pt2" and output.isdecimal()
    try:
        return gw.read(model, output=int(output or 0) if by_position else output)
    except ModelError as error:
        raise ModelError(in_options(str(error), {"output": "--model-output"})) from None
