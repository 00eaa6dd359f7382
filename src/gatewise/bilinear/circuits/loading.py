"""A bilinear transformer from a file of arrays (.npz) and the settings beside it (.json).

Names as in a torch state dict: embed.weight, blocks.i.attn.{q1,q2,k1,k2,v,o}_proj.weight,
blocks.i.mlp.{w_m,w_n,w_proj}.weight, blocks.i.norm_{attn,mlp}.scale, final_norm.scale,
unembed.weight. One head a layer, its pattern the product of two scores, rotary positions.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.bilinear.circuits.parts import Norm, TransformerLayer, attention, mlp, norm
from gatewise.bilinear.circuits.transformer import Transformer
from gatewise.errors import CorruptModel, ModelError, UnsafeModel

SETTINGS = ("n_layers", "d_head", "rope_base", "norm_type")


def load_transformer(path: str | Path, config: str | Path | None = None) -> Transformer:
    """The transformer in NAME.npz with the settings in NAME.config.json, or in `config`."""
    path = Path(path)
    beside = path.with_name(path.name.removesuffix(".npz") + ".config.json")
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
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CorruptModel(f"'{path}' is not a .npz of arrays: {error}") from None


def _settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelError(f"there is no file '{path}' with the model's settings: give config=")
    try:
        held = json.loads(path.read_text())
    except ValueError:
        raise CorruptModel(f"'{path}' is not JSON") from None
    held = held.get("model", held) if isinstance(held, dict) else {}
    if not isinstance(held, dict):
        raise CorruptModel(f"'{path}' holds no settings of a model")
    return held


def from_state(arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Transformer:
    """The transformer of a state dict; every array is used, or the file is refused."""
    missing = [name for name in SETTINGS if name not in settings]
    if missing:
        raise ModelError(f"the settings do not say {', '.join(missing)}")
    left = dict(arrays)
    kind = str(settings["norm_type"])
    layers = [_block(left, i, kind, settings) for i in range(int(settings["n_layers"]))]
    model = Transformer.from_arrays(
        _taken(left, "embed.weight"),
        _taken(left, "unembed.weight"),
        layers,
        final_norm=_norm(left, "final_norm", kind),
    )
    if left:
        raise ModelError(f"'{min(left)}' is not part of a bilinear transformer as read here")
    return model


def _block(
    left: dict[str, Any], i: int, kind: str, settings: Mapping[str, Any]
) -> TransformerLayer:
    def weight(name: str) -> Any:
        return _taken(left, f"blocks.{i}.{name}.weight")

    q, k = ([weight(f"attn.{side}{s}_proj") for s in (1, 2)] for side in "qk")
    Q, K = (np.stack([np.asarray(a)[None] for a in side]) for side in (q, k))
    if Q.shape[2] != int(settings["d_head"]):
        raise ModelError(f"d_head is {settings['d_head']}, block {i} has queries of {Q.shape[2]}")
    heads = attention(
        Q,
        K,
        weight("attn.v_proj"),
        weight("attn.o_proj"),
        "bilinear",
        rotary_base=float(settings["rope_base"]),
    )
    inner = mlp(weight("mlp.w_m"), weight("mlp.w_n"), weight("mlp.w_proj"))
    norms = [_norm(left, f"blocks.{i}.norm_{part}", kind) for part in ("attn", "mlp")]
    return TransformerLayer(heads, inner, *norms)


def _norm(left: dict[str, Any], name: str, kind: str) -> Norm:
    scale = left.pop(f"{name}.scale", None)
    if kind == "channel" and scale is None:
        raise ModelError(f"the file has no array '{name}.scale', which norm 'channel' needs")
    return norm(kind, scale)


def _taken(left: dict[str, Any], name: str) -> Any:
    if name not in left:
        raise ModelError(f"the file has no array '{name}'")
    return left.pop(name)
