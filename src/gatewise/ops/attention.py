"""Attention: a Product, a scale, a Smooth and a Product again."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.ops.arithmetic import add, function, times
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import broadcast, named, only
from gatewise.ops.products import matmul, sum_of_products
from gatewise.ops.table import Entry


def attention(
    b: Builder,
    q: Operand,
    k: Operand,
    v: Operand,
    attn_mask: Operand = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Ref:
    """softmax(q kᵀ scale + mask) v: Product, Affine, Smooth, Product."""
    only(b, "dropout_p", float(dropout_p), 0.0)
    only(b, "enable_gqa", enable_gqa, False)
    shapes = [tuple(t.shape) for t in (q, k) if isinstance(t, Ref | Tensor)]
    (*_, rows, width), (*_, columns, _) = shapes
    scores = sum_of_products(b, "...qd,...kd->...qk", (q, k))
    scores = times(b, scores, 1 / math.sqrt(width) if scale is None else scale)
    mask = torch.ones(rows, columns, dtype=torch.bool).tril() if is_causal else attn_mask
    return matmul(b, softmax_masked(b, scores, mask), v)


def masked_softmax(mask: Tensor, x: Tensor) -> Tensor:
    """softmax(x + mask) over the last axis, for a mask of 0 and -inf."""
    return torch.softmax(x + mask, -1)


plain_softmax = partial(torch.softmax, dim=-1)


def softmax_masked(b: Builder, scores: Ref, mask: Operand) -> Ref:
    """softmax over the last axis; its Lipschitz constant is that of Softmax."""
    if isinstance(mask, Ref):
        scores, mask = add(b, scores, mask), None
    if mask is None:
        return b.add(Smooth(plain_softmax, (), 0.5, scores.shape[-1]), scores)
    kept = torch.as_tensor(mask)
    if kept.dtype == torch.bool:
        kept = torch.zeros(kept.shape).masked_fill(~kept, -torch.inf)
    if bool((kept == -torch.inf).all(-1).any()):
        raise b.refuse("its mask hides every key from some query, whose answer is then undefined")
    hidden, finite = kept == -torch.inf, kept.double().masked_fill(kept == -torch.inf, 0)
    # what is added rounds, so it is an Affine node; hiding a key rounds nothing
    scores = add(b, scores, finite) if bool(finite.any()) else broadcast(b, scores, kept.shape)
    mask = torch.zeros_like(finite).masked_fill(hidden, -torch.inf)
    return b.add(Smooth(masked_softmax, (mask,), 0.5, scores.shape[-1]), scores)


# -- the rows of the table --


def _attend(x: Tensor) -> Tensor:
    q, k, v = x.split(2, -1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attend_masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.tensor([[True, False, True], [True, True, False]])
    return F.scaled_dot_product_attention(q, k, v, mask, scale=0.3)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "Attention",
        "Product",
        "y = softmax(q kᵀ s + mask) v",
        named("scaled_dot_product_attention", attention),
        {},
        (
            function(_attend, (5, 3, 6)),
            function(_attend_masked, (5, 2, 4), (5, 3, 4), (5, 3, 2)),
        ),
    ),
)
