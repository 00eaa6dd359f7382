"""A network as bytes that another process opens without running code: JSON and safetensors.

Rules travel as the names of functions of Gatewise or of torch's mathematics, tensors as they lie
in memory. What has no such name (a closure, a user's own function) is refused, never pickled.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from gatewise.errors import CorruptModel, GatewiseError, ModelError, UnsafeModel
from gatewise.ir.network import Network, fingerprint
from gatewise.tables.words import one_line

VERSION = 1
ROOMS = ("ir", "ops", "linear", "bilinear", "dual.distilling")  # where rules are made, no files
OURS = tuple(f"gatewise.{room}." for room in ROOMS)
MATHEMATICS: dict[str, Any] = {
    "torch": torch._C._VariableFunctions,
    "torch._C._nn": torch._C._nn,
    "torch._C._linalg": getattr(torch._C, "_linalg"),  # noqa: B009 - it has no stub
    "torch.nn.functional": torch.nn.functional,
}
BARRED = {"from_file"}  # the one among them that opens files


def packed(network: Network) -> bytes:
    """The nodes, the weights and the names of inputs and outputs; not the head, not `prepare`."""
    network = bare(network)
    held: dict[str, Tensor] = {}
    nodes = []
    for node in network.nodes:
        try:
            nodes.append(_said(node, held))
        except TypeError as why:
            raise ModelError(
                f"node '{node.name}' ({node.layer}) cannot be sent to another process: {why}. "
                "Only functions of Gatewise and torch travel, by name"
            ) from None
    told = {
        "version": VERSION,
        "fingerprint": fingerprint(network),
        "nodes": nodes,
        **{name: _said(getattr(network, name), held) for name in FIELDS},
    }
    return safetensors.save(held, {"gatewise": json.dumps(told)})


NOT_OURS = (
    SafetensorError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
FIELDS = ("input_shape", "output", "dtype", "feature_names", "output_names", "task", "classes")


def bare(network: Network) -> Network:
    """What computes the outputs, on the CPU."""
    return dataclasses.replace(network.to(device="cpu"), head=(), notes=(), prepare=None)


def unpacked(data: bytes) -> Network:
    """The network in `packed` bytes; its fingerprint is compared with the one that was sent."""
    try:
        told = json.loads(_metadata(data)["gatewise"])
        _require_version(told["version"])
        held = safetensors.load(data)
        fields = {name: _meant(told[name], held) for name in FIELDS}
        network = Network(nodes=tuple(_meant(node, held) for node in told["nodes"]), **fields)
        same = fingerprint(network) == told["fingerprint"]
    except GatewiseError:
        raise
    except NOT_OURS as why:
        raise CorruptModel(f"these bytes are no packed network ({one_line(why)})") from None
    if not same:
        raise CorruptModel("the network arrived changed: its fingerprint is not the one sent")
    return network


def _require_version(version: Any) -> None:
    if version != VERSION:
        raise CorruptModel(
            f"the network was packed in format {version}, this Gatewise reads {VERSION}: install "
            "one version of Gatewise on all machines"
        )


def _metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself: its header's length, then the header as JSON."""
    size = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return found


# -- values to JSON --


def _said(value: Any, held: dict[str, Tensor]) -> Any:
    """The value as JSON; its tensors go to `held`."""
    say = functools.partial(_said, held=held)
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, Tensor):
        return {"tensor": _hold(value, held)}
    if isinstance(value, tuple | list):
        return {"list" if isinstance(value, list) else "tuple": [say(v) for v in value]}
    if isinstance(value, functools.partial):
        settings = [[name, say(v)] for name, v in value.keywords.items()]
        return {"partial": [say(value.func), [say(v) for v in value.args], settings]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [[f.name, say(getattr(value, f.name))] for f in dataclasses.fields(value)]
        return {"made": [_named(type(value)), fields]}
    owner = getattr(value, "__self__", None)
    if dataclasses.is_dataclass(owner):
        return {"method": [say(owner), value.__name__]}
    return {"named": _named(value)}


def _hold(tensor: Tensor, held: dict[str, Tensor]) -> list[Any]:
    """Key, shape and strides: sums are rounded as the numbers lie, so they lie the same there."""
    tensor = tensor.detach()
    shape, strides = list(tensor.shape), list(tensor.stride())
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if tensor.numel() == 0 or span > tensor.numel():  # a slice of more: its numbers alone
        tensor = tensor.contiguous()
        strides, span = list(tensor.stride()), tensor.numel()
    key = str(len(held))
    held[key] = tensor.as_strided((span,), (1,)).clone()
    return [key, shape, strides]


def _named(thing: Any) -> str:
    """module:name, of which `_found` finds the thing again."""
    name = getattr(thing, "__qualname__", "").rpartition(".")[2]
    module = str(getattr(thing, "__module__", ""))
    for place in (module, *MATHEMATICS):
        try:
            if _found(f"{place}:{name}") is thing:
                return f"{place}:{name}"
        except UnsafeModel:
            continue
    raise TypeError(f"it holds {thing!r}")


# -- and back --


def _meant(said: Any, held: dict[str, Tensor]) -> Any:
    """The value that `_said` wrote down."""
    if not isinstance(said, dict):
        return said
    ((kind, value),) = said.items()
    return MEANT[kind](value, functools.partial(_meant, held=held), held)


Mean = Callable[[Any], Any]


def _tensor(value: Any, mean: Mean, held: dict[str, Tensor]) -> Tensor:
    key, shape, strides = value
    return held[key].as_strided(shape, strides)


def _dtype(value: Any, mean: Mean, held: dict[str, Tensor]) -> torch.dtype:
    found = getattr(torch, value)
    if not isinstance(found, torch.dtype):  # torch.load, say
        raise UnsafeModel(f"a packed network names the dtype '{value}', which is none")
    return found


def _partial(value: Any, mean: Mean, held: dict[str, Tensor]) -> Any:
    function, args, settings = value
    return functools.partial(mean(function), *map(mean, args), **{n: mean(v) for n, v in settings})


def _made(value: Any, mean: Mean, held: dict[str, Tensor]) -> Any:
    kind = _found(value[0])
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UnsafeModel(f"a packed network names '{value[0]}', which is no part of a network")
    return kind(**{name: mean(v) for name, v in value[1]})


def _method(value: Any, mean: Mean, held: dict[str, Tensor]) -> Any:
    owner, name = mean(value[0]), value[1]
    if name.startswith("_"):
        raise UnsafeModel(f"a packed network names the method '{name}', which is hidden")
    return getattr(owner, name)


MEANT: dict[str, Callable[[Any, Mean, dict[str, Tensor]], Any]] = {
    "float": lambda v, mean, held: float.fromhex(v),
    "dtype": _dtype,
    "tuple": lambda v, mean, held: tuple(map(mean, v)),
    "list": lambda v, mean, held: list(map(mean, v)),
    "named": lambda v, mean, held: _found(v),
    "tensor": _tensor,
    "partial": _partial,
    "made": _made,
    "method": _method,
}


def _found(said: str) -> Any:
    """The thing of that name: in the module that defines it, of ours, or torch's mathematics."""
    module, _, name = said.partition(":")
    if f"{module}.".startswith(OURS):
        thing = getattr(_module(module), name, None)
        if callable(thing) and getattr(thing, "__module__", None) == module:
            return thing
    elif module in MATHEMATICS and name not in BARRED and not name.startswith("_"):
        thing = getattr(MATHEMATICS[module], name, None)
        if callable(thing):
            return thing
    raise UnsafeModel(f"a packed network names '{said}', which is no function of a network")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None
