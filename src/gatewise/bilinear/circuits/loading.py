"""A transformer from named arrays and settings: a state dict, or a .npz with a .json beside it.

Names: embed.weight, positions.weight, blocks.i.attn.{q,k,v,o}_proj.weight (two scores: q1, q2, k1
and k2), blocks.i.mlp.{w_m,w_n,w_proj}.weight or .{V,W,P}.weight (of both, the first is what a gate
acts on), blocks.i.norm_{attn,mlp}.scale, final_norm.scale, unembed.weight; a linear map's bias is
its .bias. Heads are stacked: q, k and v are (heads w, d), o is (d, heads w). Settings: n_layers,
d_head, rope_base (None: no rotary positions), norm_type; where not given, n_heads is 1, attention
"bilinear" (the product of two scores) and gate "bilinear"; gate "swish" is z sigmoid(beta z), beta
1 where not given.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.bilinear.circuits.parts import (
    ATTENTIONS,
    MLP,
    Attention,
    Norm,
    TransformerLayer,
    attention,
    floats,
    mlp,
    norm,
    plain,
)
from gatewise.bilinear.circuits.transformer import Transformer
from gatewise.errors import CorruptModel, DataError, ModelError, UnsafeModel, UnsupportedLayer
from gatewise.numeric import whole_number

SETTINGS = ("n_layers", "d_head", "rope_base", "norm_type")
DEFAULTS = {"n_heads": 1, "attention": "bilinear", "gate": "bilinear", "beta": 1.0}
GATES = ("bilinear", "swish")


def load_transformer(path: str | Path, config: str | Path | None = None) -> Transformer:
    """The transformer in NAME.npz with the settings in NAME.config.json, or in `config`."""
    path = Path(path)
    beside = path.with_name(re.sub(r"\.npz$", "", path.name, flags=re.I) + ".config.json")
    return from_state(_arrays(path), _settings(beside if config is None else Path(config)))


def _arrays(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                raise CorruptModel(f"'{path}' is one array: a .npz of named arrays is needed")
            return {name: held[name] for name in held.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise UnsafeModel(f"'{path}' holds pickled objects: it is not opened") from None
        raise CorruptModel(f"'{path}' is not a .npz of arrays: {error}") from None
    except MemoryError as error:
        raise CorruptModel(f"'{path}' says it holds more than there is memory: {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise CorruptModel(f"'{path}' is not a .npz of arrays: {error}") from None


def _settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelError(
            f"there is no file '{path}' with the model's settings: save it there, or give config="
        )
    try:
        held = json.loads(path.read_text())
    except (ValueError, RecursionError):
        raise CorruptModel(f"'{path}' is not JSON") from None
    held = held.get("model", held) if isinstance(held, dict) else {}
    if not isinstance(held, dict):
        raise CorruptModel(f"'{path}' holds no settings of a model")
    return held


def from_state(arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Transformer:
    """The transformer of a state dict; every array is used, or it is refused.

    Of a trained models.BilinearTransformer: from_state(net.state_dict(), net.settings). settings
    may hold token_names.
    """
    for what, held in (("arrays", arrays), ("settings", settings)):
        if not isinstance(held, Mapping):
            raise DataError(f"{what} are given by name, got {type(held).__name__}")
    settings = _checked(settings)
    left = dict(arrays)
    kind = str(settings["norm_type"])
    layers = [_block(left, i, kind, settings) for i in range(settings["n_layers"])]
    model = Transformer.from_arrays(
        _taken(left, "embed.weight"),
        _taken(left, "unembed.weight"),
        layers,
        positions=left.pop("positions.weight", None),
        final_norm=_norm(left, "final_norm", kind),
        unembedding_bias=left.pop("unembed.bias", None),
        token_names=settings["token_names"],
    )
    if left:
        raise ModelError(f"'{min(left)}' is not part of a bilinear transformer as read here")
    return model


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what is not said filled in; whole sizes, real numbers and known names."""
    missing = [name for name in SETTINGS if name not in settings]
    if missing:
        raise ModelError(f"the settings do not say {', '.join(missing)}")
    said = DEFAULTS | {"token_names": ()} | dict(settings)
    for name in ("n_layers", "n_heads", "d_head"):
        said[name] = whole_number(said[name], name)
    if said["attention"] not in ATTENTIONS:
        raise UnsupportedLayer(
            f"attention must be one of {', '.join(ATTENTIONS)}, got {said['attention']!r}"
        )
    if said["gate"] not in GATES:
        raise UnsupportedLayer(f"gate must be one of {', '.join(GATES)}, got {said['gate']!r}")
    said["beta"] = _number(said["beta"], "beta", 0.0)
    if said["rope_base"] is not None:
        said["rope_base"] = _number(said["rope_base"], "rope_base", 1.0)
    names = said["token_names"]
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise DataError(f"token_names must be a list of strings, got {names!r:.80}")
    return said


def _number(value: Any, name: str, least: float) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not (real and least <= float(value) < float("inf")):
        raise DataError(f"{name} must be a number from {least:g}, got {value!r}")
    return float(value)


def _block(
    left: dict[str, Any], i: int, kind: str, settings: Mapping[str, Any]
) -> TransformerLayer:
    heads = _heads(left, f"blocks.{i}.attn", settings)
    norms = [_norm(left, f"blocks.{i}.norm_{part}", kind) for part in ("attn", "mlp")]
    return TransformerLayer(heads, _mlp(left, f"blocks.{i}.mlp", settings), *norms)


def _heads(left: dict[str, Any], where: str, settings: Mapping[str, Any]) -> Attention:
    """The stacked heads apart: Q, K (factors, heads, w, d), V (heads, w, d), O (heads, d, w)."""
    kind, H = settings["attention"], settings["n_heads"]
    which = ("",) if kind == "softmax" else ("1", "2")

    def rows(side: str, end: str) -> Any:
        names = [f"{where}.{side}{i}_proj" for i in (which if side in "qk" else ("",))]
        found = [_linear(left, name, end) for name in names]
        if any(array is None for array in found):
            return None
        apart = [_apart(name, array, H) for name, array in zip(names, found, strict=True)]
        return np.stack(apart) if side in "qk" else apart[0]

    Q, K, V = (rows(side, "weight") for side in "qkv")
    if Q.shape[2] != settings["d_head"]:
        raise ModelError(f"d_head is {settings['d_head']}, '{where}' has queries of {Q.shape[2]}")
    O = floats(f"{where}.o_proj", _taken(left, f"{where}.o_proj.weight"), -1, -1)  # noqa: E741
    return attention(
        Q,
        K,
        V,
        _apart(f"{where}.o_proj", O.T, H).swapaxes(1, 2),
        kind,
        q_bias=rows("q", "bias"),
        k_bias=rows("k", "bias"),
        v_bias=rows("v", "bias"),
        bias=left.pop(f"{where}.o_proj.bias", None),
        rotary_base=settings["rope_base"],
    )


def _apart(name: str, array: Any, heads: int) -> Any:
    """(heads w, ..) as (heads, w, ..)."""
    if array.ndim < 1 or heads < 1 or len(array) % heads:
        raise ModelError(f"'{name}' of shape {array.shape} does not hold {heads} heads")
    return array.reshape(heads, -1, *array.shape[1:])


def _linear(left: dict[str, Any], name: str, end: str) -> Any:
    """A weight, which must be there, or a bias, which need not."""
    if end == "bias" and f"{name}.bias" not in left:
        return None
    return np.asarray(plain(_taken(left, f"{name}.{end}")))


def _mlp(left: dict[str, Any], where: str, settings: Mapping[str, Any]) -> MLP:
    """z sigmoid(beta z) = silu(beta z) / beta, and z / 2 at beta = 0: scales of W and P."""
    names = ("V", "W", "P") if f"{where}.V.weight" in left else ("w_m", "w_n", "w_proj")
    W, V, P = (_linear(left, f"{where}.{name}", "weight") for name in names)
    w, v, bias = (_linear(left, f"{where}.{name}", "bias") for name in names)
    gate, beta = settings["gate"], settings["beta"]
    curved = gate == "swish" and beta > 0
    if gate == "swish":
        s = beta if curved else 0.5
        W, w = W * s, None if w is None else w * s
        P = P / beta if curved else P
    return mlp(W, V, P, w_bias=w, v_bias=v, bias=bias, activation="silu" if curved else None)


def _norm(left: dict[str, Any], name: str, kind: str) -> Norm:
    scale = left.pop(f"{name}.scale", None)
    if kind == "channel" and scale is None:
        raise ModelError(f"the file has no array '{name}.scale', which norm 'channel' needs")
    return norm(kind, scale)


def _taken(left: dict[str, Any], name: str) -> Any:
    if name not in left:
        raise ModelError(f"the file has no array '{name}'")
    return left.pop(name)
