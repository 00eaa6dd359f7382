"""Networks written where others can run them: `gw.write.write_onnx(network, path)`, a torch module.

The room beside `read`: it knows layers, and refuses by name what it cannot write. Each name is
imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.write.files import Written, onnx_model, write_onnx
    from gatewise.write.modules import NetworkModule, torch_module

WHERE = {
    "NetworkModule": "modules",
    "Written": "files",
    "onnx_model": "files",
    "torch_module": "modules",
    "write_onnx": "files",
}

__all__ = ["NetworkModule", "Written", "onnx_model", "torch_module", "write_onnx"]

__getattr__, __dir__ = door(__name__, WHERE)
