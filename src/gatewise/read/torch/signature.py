"""What a torch module takes and what it returns: an example of the one, a choice of the other."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError, UnsupportedLayer

ROWS = 3  # traced with: neither 0 nor 1, which torch takes for constants


# -- the example --


def sample(copy: nn.Module, example: Any, dtype: torch.dtype) -> Tensor:
    """ROWS rows like the example's first, or of the first layer's width."""
    _require_one_input(copy)
    if example is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(ROWS, _width(copy), generator=generator, dtype=dtype)
    x = _as_tensor(example)
    if x.ndim < 2 or not x.numel():
        raise ModelError(
            f"example= must have rows in front, shape (rows, features, ...); got {tuple(x.shape)}: "
            f"for one row pass it as a table of one, example[None]"
        )
    return x[:1].to("cpu", dtype).expand(ROWS, *x.shape[1:]).clone()


def _as_tensor(example: Any) -> Tensor:
    """The example as a tensor of real numbers."""
    if isinstance(example, tuple | list) and example and isinstance(example[0], Tensor):
        if len(example) > 1:
            raise UnsupportedLayer(
                f"example= holds {len(example)} tensors, and Gatewise reads modules of one input: "
                f"wrap the module in one whose forward takes one tensor and cuts it into these"
            )
        example = example[0]
    example = example.to_numpy() if hasattr(example, "to_numpy") else example
    try:
        x = torch.as_tensor(example).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"example= must be an array of numbers, rows first; got {type(example).__name__}"
        ) from error
    if not x.is_floating_point():
        raise UnsupportedLayer(
            f"the example is {str(x.dtype).removeprefix('torch.')}, and Gatewise reads modules of "
            f"real numbers, not of token ids: if these are numbers, pass them as floats "
            f"(example.float() or .astype(float))"
        )
    return x


def _require_one_input(copy: nn.Module) -> None:
    """Several inputs that must be given are refused by name."""
    try:
        parameters = inspect.signature(copy.forward).parameters.values()
    except (TypeError, ValueError):
        return
    starred = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    needed = [p.name for p in parameters if p.kind not in starred and p.default is p.empty]
    if len(needed) > 1:
        raise UnsupportedLayer(
            f"the module's forward takes {len(needed)} inputs ({', '.join(needed)}), and Gatewise "
            f"reads modules of one: wrap it in a module whose forward takes one tensor"
        )


def _width(copy: nn.Module) -> int:
    """The number of features the first layer with parameters takes, where it tells."""
    first = next((m for m in copy.modules() if list(m.parameters(recurse=False))), None)
    if isinstance(first, nn.Linear):
        return first.in_features
    if isinstance(first, nn.BatchNorm1d):
        return first.num_features
    if isinstance(first, nn.LayerNorm) and len(first.normalized_shape) == 1:
        return first.normalized_shape[0]
    kind = "no layer with parameters" if first is None else f"{type(first).__name__} first"
    raise ModelError(
        f"the shape of the module's input cannot be told from its layers ({kind}): pass example=, "
        f"one row or a few of its input"
    )


# -- outputs --


def output_keys(result: Any) -> list[Any]:
    """What picks each output: keys of a dict, positions of a tuple; one entry for a tensor."""
    if isinstance(result, Tensor):
        return [None]
    if isinstance(result, dict):
        return list(result)
    if isinstance(result, tuple | list):
        return list(range(len(result)))
    raise UnsupportedLayer(
        f"the module returns a {type(result).__name__}, and Gatewise reads modules that return "
        f"a tensor: wrap it in one that does"
    )


def pick(keys: list[Any], output: int | str | None) -> int:
    """The position of the chosen output."""
    if len(keys) == 1 and output in (None, keys[0]):
        return 0
    if output in keys:
        return keys.index(output)
    listed = ", ".join(repr(k) for k in keys)
    given = "none was chosen" if output is None else f"got output={output!r}"
    raise UnsupportedLayer(
        f"the model returns {len(keys)} outputs ({listed}) and {given}: pass output= with one of "
        f"these"
        if keys != [None]
        else f"the model returns one output; got output={output!r}: leave it out"
    )


def leaf(result: Any, index: int) -> Any:
    """The chosen one of what the module returned."""
    if isinstance(result, Tensor):
        return result
    return list(result.values())[index] if isinstance(result, dict) else result[index]


def require_rows(value: Any, rows: int) -> None:
    """Refuse an output that is not one answer a row."""
    if isinstance(value, Tensor) and value.ndim and len(value) == rows:
        return
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise UnsupportedLayer(
        f"the module gives {got} for {rows} rows, not one answer a row: read the module without "
        f"what joins the rows (a loss, a mean over the batch)"
    )
