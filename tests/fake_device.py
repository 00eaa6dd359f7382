"""A device that is not there: tensors on it compute on the CPU, and obey the rules of CUDA.

torch's Python backend (PrivateUse1) gives the device; its tensors hold their numbers in a CPU
tensor. What CUDA refuses is refused here: tensors of two devices in one operation (only numbers
of no axes may come from the CPU, and only entry by entry; indices may, into a tensor on the
device), a CPU generator for numbers drawn there, products of integer matrices, and the drivers of
`lstsq` that CUDA lacks. Every copy back to the host is noted with the function that asked for it.
Registered once, for the whole process: import it in a process of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

SOURCE = str(Path(__file__).parents[1] / "src" / "gatewise")
MATRIX = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "convolution", "addbmm", "vdot"}
TRANSFERS = {"copy_", "_copy_from", "_copy_from_and_resize", "_to_copy"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
SCALARS = {"masked_fill", "masked_fill_", "where", "fill_", "clamp", "clamp_"} | INDEXED

_setup_privateuseone_for_python_backend("fake")
DEVICE = torch.device("fake:0")
# a module that changes its type gets new parameters: torch cannot write into these
torch.__future__.set_overwrite_module_params_on_conversion(True)


class Mixed(Exception):
    """What CUDA would refuse."""


class There(torch.Tensor):
    """A tensor on the device; `here` holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, layout=here.layout, device=DEVICE,
        )  # fmt: skip
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return run(op, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **_):
        raise TypeError("can't convert fake:0 device type tensor to numpy. Use Tensor.cpu()")

    def __array__(self, dtype=None):
        return self.numpy()


class Log:
    """Copies to the host: how many by which function of the package, and of how many bytes."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.copies, self.bytes, self.scalars = Counter(), Counter(), Counter()

    def copied(self, here):
        who = caller()
        self.copies[who] += 1
        self.bytes[who] += here.numel() * here.element_size()


LOG = Log()


def caller() -> str:
    """file:function of the package that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(SOURCE):
            return f"{name[len(SOURCE) + 1 :]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "tests"


def run(op, args, kwargs):
    """One operation: checked, computed on the CPU, and put back on the device."""
    name = op.name().split("::")[1].split(".")[0]
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = any(isinstance(t, There) for t in given)
    wanted = kwargs.get("device")
    if name in ("_copy_from", "_copy_from_and_resize"):
        return _copied(*args[:2])
    if name == "copy_":
        _copied(args[1], args[0])
        return args[0]
    if name not in TRANSFERS and there:
        _check(op, name, args, kwargs, given)
    if wanted is not None:
        there = wanted.type == DEVICE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
        _check_generator(kwargs.get("generator"), there)
        if not there and name == "_to_copy":
            LOG.copied(_here(args[0]))
    elif there:
        _check_generator(kwargs.get("generator"), True)
    if name == "_local_scalar_dense":
        LOG.scalars[caller()] += 1
    op = torch.zeros if name == "_efficientzerotensor" else op  # zeros that hold no numbers
    out = op(*tree_map(_here, args), **tree_map(_here, kwargs))
    mine = {id(t.here): t for t in given if isinstance(t, There)}
    if any(t.shape != t.here.shape for t in mine.values()):
        raise NotImplementedError(f"{op} changed the shape of a tensor: register it below")
    return tree_map(lambda t: mine.get(id(t)) if id(t) in mine else _wrapped(t, there), out)


def _here(t):
    return t.here if isinstance(t, There) else t


def _wrapped(t, there):
    return There(t) if there and isinstance(t, torch.Tensor) and not isinstance(t, There) else t


def _copied(source, target):
    if isinstance(source, There) and not isinstance(target, There):
        LOG.copied(source.here)
    _here(target).copy_(_here(source))
    return target


def _check(op, name, args, kwargs, given):
    strangers = [t for t in given if not isinstance(t, There)]
    if name in INDEXED and isinstance(args[0], There):
        indices = {id(t) for t in args[1] if t is not None}
        strangers = [t for t in strangers if id(t) not in indices]
    alone = name in SCALARS or torch.Tag.pointwise in op.tags
    bad = [t for t in strangers if t.ndim or not alone]
    if bad:
        shapes = [f"{tuple(t.shape)} on {t.device}" for t in given]
        raise Mixed(f"{op} at {caller()}: tensors of two devices, {', '.join(shapes)}")
    if name in MATRIX and not (given[0].is_floating_point() or given[0].is_complex()):
        raise Mixed(f"{op} at {caller()}: CUDA multiplies no {given[0].dtype} matrices")
    if kwargs.get("driver") not in (None, "gels"):
        raise Mixed(f"{op} at {caller()}: CUDA has no driver {kwargs['driver']}")


def _check_generator(generator, there):
    if generator is not None and there and generator.device.type == "cpu":
        raise Mixed(f"at {caller()}: a CPU generator for numbers on the device")


_library = torch.library.Library("aten", "IMPL")
for _name in (
    "empty.memory_format", "empty_strided", "_copy_from", "_copy_from_and_resize", "view",
    "_local_scalar_dense", "_to_copy", "as_strided", "fill_.Scalar", "resize_", "triu_indices",
    "tril_indices", "eye", "eye.m", "arange", "arange.start", "arange.start_step", "linspace",
    "randperm", "randperm.generator", "_efficientzerotensor",
):  # fmt: skip
    _packet, _, _overload = _name.partition(".")
    _op = getattr(getattr(torch.ops.aten, _packet), _overload or "default")
    _library.impl(_name, lambda *a, _op=_op, **k: run(_op, a, k), "PrivateUse1")
