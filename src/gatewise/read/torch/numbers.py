"""The numbers a Program holds: that they are there and finite, and the eps of their own type."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.read.torch.program import Call, Program

META = "is on the meta device, which holds no numbers: materialise the module and load its weights"


def require_numbers(program: Program) -> None:
    """Refuse parameters without numbers or that are not finite, and buffers with NaN, by name.

    (A buffer may hold infinity: masks do.)
    """
    needed = {name for call in program.needed for name in call.reads}
    for name in needed & program.constants.keys():
        value, trained = program.constants[name], name in program.trained
        if not isinstance(value, Tensor):
            continue
        what = f"the {'parameter' if trained else 'constant'} '{program.labels.get(name, name)}'"
        if value.is_meta:
            raise ModelError(f"{what} {META}")
        if _broken(value, trained):
            held = "NaN or infinity" if trained else "NaN"
            raise ModelError(f"{what} holds {held}: check how the model was trained")


def _broken(value: Tensor, trained: bool) -> bool:
    if not value.is_floating_point() or value.layout != torch.strided or value.is_quantized:
        return False
    return not bool(value.isfinite().all()) if trained else bool(value.isnan().any())


def require_materialised(module: nn.Module) -> None:
    """Refuse a module some of which is on the meta device."""
    named = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        if tensor.is_meta:
            raise ModelError(f"'{name}' {META}")


# -- rms_norm without eps: that of the type it is computed in (float32's for the halves) --


def eps_of(dtype: torch.dtype) -> float:
    """The eps that torch's rms_norm takes by itself."""
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


def float_type(module: nn.Module) -> torch.dtype:
    """The type the module computes in, as its first parameter or buffer tells."""
    found = (t.dtype for t in [*module.parameters(), *module.buffers()] if t.is_floating_point())
    return next(found, torch.get_default_dtype())


def pin_eps(twin: nn.Module) -> None:
    """RMSNorm modules told the eps they have now, before they are cast to another type."""
    for m in twin.modules():
        if isinstance(m, nn.RMSNorm) and m.eps is None:
            m.eps = eps_of(float_type(m if m.elementwise_affine else twin))


def with_eps(program: Program, dtype: torch.dtype) -> Program:
    """The program, computed in dtype, with the eps of rms_norm said."""
    if not any(_silent(call) for call in program.calls):
        return program
    calls = tuple(_said(call, eps_of(dtype)) if _silent(call) else call for call in program.calls)
    return dataclasses.replace(program, calls=calls)


def eps_is_of(program: Program, dtype: torch.dtype) -> bool:
    """Does some rms_norm have just the eps of dtype?"""
    eps = eps_of(dtype)
    return any(c.op == "rms_norm" and c.kwargs.get("eps") == eps for c in program.calls)


def _silent(call: Call) -> bool:
    return call.op == "rms_norm" and call.kwargs.get("eps", _fourth(call.args)) is None


def _fourth(args: tuple[Any, ...]) -> Any:
    return args[3] if len(args) > 3 else None


def _said(call: Call, eps: float) -> Call:
    return dataclasses.replace(call, args=call.args[:3], kwargs={**call.kwargs, "eps": eps})
