"""onnx's own reference evaluator, with those operators put right that onnx_operators.py has."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from gatewise.read.onnx.operators import OPERATORS, Array, same_ends


class Evaluator:
    """A model ready to run; `run` raises whatever the operators raise."""

    def __init__(self, model: Any) -> None:
        from onnx.reference import ReferenceEvaluator

        self.reference = ReferenceEvaluator(model, new_ops=list(_corrected()))

    def run(self, inputs: Mapping[str, Array], **more: Any) -> Any:
        """The outputs, as a list; with intermediate=True every value, by name."""
        with np.errstate(all="ignore"):
            return self.reference.run(None, dict(inputs), **more)


@functools.cache
def _corrected() -> tuple[type, ...]:
    """Classes named as the operators are: made here, so that onnx is imported late."""
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_max_pool import MaxPool
    from onnx.reference.ops.op_resize import Resize

    def pool(self: Any, x: Array, **settings: Any) -> Any:
        if settings.get("auto_pad", "NOTSET").startswith("SAME"):
            ends = same_ends(x.shape[2:], **settings)
            settings |= {"auto_pad": "NOTSET", "pads": [e[0] for e in ends] + [e[1] for e in ends]}
        return MaxPool._run(self, x, **settings)  # type: ignore[no-untyped-call]

    def resize(self: Any, x: Array, *inputs: Any, **settings: Any) -> Any:
        if self.run_params["opsets"][""] == 10:
            return (OPERATORS["Upsample"](10, x, *inputs, mode=settings["mode"]).astype(x.dtype),)
        if settings.get("axes"):
            settings["axes"] = [a % x.ndim for a in settings["axes"]]
        return Resize._run(self, x, *inputs, **settings)

    made = [type(name, (OpRun,), {"_run": _method(name)}) for name in OPERATORS]
    extended = [("MaxPool", MaxPool, pool), ("Resize", Resize, resize)]
    return (*made, *(type(name, (base,), {"_run": run}) for name, base, run in extended))


def _method(name: str) -> Any:
    def run(self: Any, *inputs: Any, **settings: Any) -> tuple[Array, ...]:
        opset = self.run_params["opsets"][""]
        known = _defaults(name, opset)
        given = {a.name for a in self.onnx_node.attribute}
        settings = known | {k: v for k, v in settings.items() if k in given}
        y = OPERATORS[name](opset, *inputs, **settings)
        return (y.astype(inputs[0].dtype),)

    return run


@functools.cache
def _defaults(name: str, opset: int) -> dict[str, Any]:
    """ONNX's defaults at that opset (the reference itself takes those of the newest)."""
    import onnx

    attributes = onnx.defs.get_schema(name, opset).attributes
    defaults = {k: v.default_value for k, v in attributes.items() if v.default_value.name}
    found = {k: onnx.helper.get_attribute_value(v) for k, v in defaults.items()}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}
