"""A copy of the user's module that can be run and traced; the module itself stays as it is."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.read.torch.numbers import pin_eps, require_materialised

FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel and the like; scripted ones are refused."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "the module is TorchScript, which torch.export cannot trace: read the nn.Module it "
            "was made from, or export it to ONNX"
        )
    inner = getattr(module, "_orig_mod", None)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def frozen_copy(module: nn.Module, dtype: torch.dtype, hooks: bool = False) -> nn.Module:
    """A deep copy on the CPU, in eval mode, without gradients, in `dtype`.

    hooks: whether the user's own forward hooks stay on it; torch's own (weight norm, pruning)
    are folded into the weights either way.
    """
    _require_initialised(module)
    require_materialised(module)
    try:
        twin = copy.deepcopy(module, _memo(module, hooks))
    except Exception as error:
        raise ModelError(
            f"the module cannot be copied ({type(error).__name__}: {error}), and Gatewise works "
            f"on a copy so as not to change yours: take out what is not part of the model (files, "
            f"locks, loggers)"
        ) from error
    with torch.no_grad():
        _fold_hooks(twin)
    pin_eps(twin)
    twin = twin.cpu().eval().requires_grad_(False).to(dtype)
    _convert_attributes(twin, dtype)
    return twin


def foreign_hooks(module: nn.Module) -> list[str]:
    """Paths of the modules with forward hooks that are not torch's own."""
    return [
        path or type(module).__name__
        for path, m in module.named_modules()
        if any(not _is_torchs(h) for name in FORWARD_HOOKS for h in getattr(m, name).values())
    ]


def _require_initialised(module: nn.Module) -> None:
    for path, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ModelError(
                f"parameter '{path}' of a lazy layer has no shape yet: call the module once on a "
                f"row before reading it"
            )


def _memo(module: nn.Module, hooks: bool) -> dict[int, Any]:
    """What deepcopy is to use instead of copying: no user hooks, and detached tensors.

    (A tensor that autograd made cannot be deep-copied; a hook's closure would be shared.)
    """
    memo: dict[int, Any] = {}
    for m in module.modules():
        for name in FORWARD_HOOKS:
            kept = getattr(m, name)
            memo[id(kept)] = OrderedDict((k, h) for k, h in kept.items() if hooks or _is_torchs(h))
        for name in BACKWARD_HOOKS:
            memo[id(getattr(m, name))] = OrderedDict()
        for value in vars(m).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _is_torchs(hook: Any) -> bool:
    """A hook through which torch itself computes a weight."""
    owner = getattr(hook, "__self__", hook)
    return type(owner).__module__.startswith("torch.nn.utils") and hasattr(owner, "remove")


def _fold_hooks(twin: nn.Module) -> None:
    """Weight norm, spectral norm and pruning made permanent in the copy's weights."""
    for m in list(twin.modules()):
        for key, hook in list(m._forward_pre_hooks.items()):
            if _is_torchs(hook):
                m.eval()
                del m._forward_pre_hooks[key]
                hook.remove(m)  # type: ignore[attr-defined]


def _convert_attributes(twin: nn.Module, dtype: torch.dtype) -> None:
    """Tensors kept as plain attributes, which Module.to does not see."""
    for m in twin.modules():
        for name, value in list(vars(m).items()):
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(m, name, value.detach().to("cpu", dtype))
