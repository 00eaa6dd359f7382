"""THE TABLE: one Entry a layer. Reading, patterns, maps, docs and law tests all follow from it.

An adapter is called as `adapter(builder, *args, **kwargs)` with the source op's own arguments, in
its own order (an aten schema's, or an ONNX operator's inputs then attributes by name). Computed
values come as `Ref`, constants as tensors or Python numbers; it returns a Ref, or a tuple of them.
Axes in a source's arguments count within `Ref.shape`, which keeps the source's leading 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gatewise.ir.kinds import Shape
from gatewise.ops.builder import Ref

Adapter = Callable[..., Ref | tuple[Ref, ...]]


@dataclass(frozen=True)
class TorchExample:
    """`make()` gives a module or function of tensors of `shapes` (rows in front): a law test."""

    make: Callable[[], Callable[..., Any]]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class OnnxExample:
    """One ONNX node: a tuple of ints is a computed operand of that shape, a list a constant."""

    op: str
    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17


@dataclass(frozen=True)
class Entry:
    """One layer: its name, the kind of node it becomes, what it is called in torch and ONNX.

    torch: aten name without overload ("conv2d", "relu_") or with one ("add.Tensor") -> adapter;
    onnx: operator type -> adapter; doc: the equation, one line; examples: for the law tests.
    """

    name: str
    kind: Literal["Affine", "Gate", "Product", "Smooth"]
    doc: str
    torch: Mapping[str, Adapter] = field(default_factory=dict)
    onnx: Mapping[str, Adapter] = field(default_factory=dict)
    examples: tuple[TorchExample | OnnxExample, ...] = ()


def torch_names(entries: tuple[Entry, ...]) -> dict[str, tuple[Entry, Adapter]]:
    """aten name -> its entry and adapter."""
    return {name: (e, adapter) for e in entries for name, adapter in e.torch.items()}


def onnx_names(entries: tuple[Entry, ...]) -> dict[str, tuple[Entry, Adapter]]:
    """ONNX operator type -> its entry and adapter."""
    return {name: (e, adapter) for e in entries for name, adapter in e.onnx.items()}
