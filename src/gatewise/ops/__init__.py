"""The table of layers (`TABLE`), and the Builder its entries add nodes to."""

from gatewise.ops import (
    affine,
    arithmetic,
    attention,
    conv,
    gates,
    identity,
    moments,
    norm,
    normalise,
    pad,
    parts,
    pool,
    products,
    reduce,
    resize,
    select,
    shape,
    smooth,
    softmax,
    steps,
    winners,
)
from gatewise.ops.builder import Builder, Operand, Ref, constant
from gatewise.ops.table import Entry, OnnxExample, TorchExample, onnx_names, torch_names

# Where two rows share a name (Scale and Mul), the later one has it and hands on to the earlier.
TABLE: tuple[Entry, ...] = (
    *affine.ENTRIES,
    *arithmetic.ENTRIES,
    *reduce.ENTRIES,
    *conv.ENTRIES,
    *norm.ENTRIES,
    *pool.ENTRIES,
    *shape.ENTRIES,
    *identity.ENTRIES,
    *parts.ENTRIES,
    *select.ENTRIES,
    *pad.ENTRIES,
    *resize.ENTRIES,
    *gates.ENTRIES,
    *steps.ENTRIES,
    *winners.ENTRIES,
    *products.ENTRIES,
    *smooth.ENTRIES,
    *softmax.ENTRIES,
    *moments.ENTRIES,
    *normalise.ENTRIES,
    *attention.ENTRIES,
)
TORCH = torch_names(TABLE)
ONNX = onnx_names(TABLE)

__all__ = [
    "ONNX",
    "TABLE",
    "TORCH",
    "Builder",
    "Entry",
    "OnnxExample",
    "Operand",
    "Ref",
    "TorchExample",
    "constant",
]
