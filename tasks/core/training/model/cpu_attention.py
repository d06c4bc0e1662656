"""Causal attention in 16 bits, computed by matrix products over whole blocks of rows.

A CPU that multiplies bfloat16 natively does so several times as fast as float32, but torch 2.13's
own kernel splits the products into pieces too small for it. Here the query heads that share a key
head are one product per block, as FlashAttention 2 orders it (arXiv:2307.08691), and the backward
pass computes the probabilities anew, so memory grows with the tokens, not with their square. The
invariant: the values are those of transformers' `eager_attention_forward`, except for the order of
sums and the type of each row's maximum.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "kawan_usaha_causal"
BLOCK = 96
"""Query rows per block: the fastest of 64 to 256 at every length from 256 to 2048 tokens."""

Tensors = tuple[torch.Tensor, ...]


def attend_causally(model: PreTrainedModel) -> None:
    """Make a model on the CPU use `causal_attention` for rows without a mask."""
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return the output (B, T, heads, width), as transformers' attention functions do."""
    if attention_mask is None:
        out = causal_attention(query, key, value, scale=scaling, dropout=dropout)
        return out.transpose(1, 2), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )


def causal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Return the output (B, heads, T, width) of causal attention; by torch's own kernel in fp32.

    query (B, heads, T, width); key and value (B, key heads, T, width); scale: of the scores, by
    default 1 / sqrt(width); dropout: of the probabilities.
    """
    if query.dtype == torch.float32 or dropout:
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=True
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    out: torch.Tensor = _CausalAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return out


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        q, k, v = _by_key_head(query, key), key.flatten(0, 1), value.flatten(0, 1)
        out = torch.empty_like(q)
        for rows, seen in _blocks(q.shape[2]):
            probabilities = _probabilities(q[:, :, rows], k[:, seen], scale)
            out[:, :, rows] = torch.bmm(probabilities, v[:, seen]).view_as(q[:, :, rows])
        return out.reshape(query.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = cast("Tensors", ctx.saved_tensors)
        q, k, v = _by_key_head(query, key), key.flatten(0, 1), value.flatten(0, 1)
        by_head = _by_key_head(grad, key)
        grad_q = torch.empty_like(q)
        # A block adds to the gradients of all tokens before it, so these are summed in fp32.
        grad_k, grad_v = (torch.zeros_like(each, dtype=torch.float32) for each in (k, v))
        for rows, seen in _blocks(q.shape[2]):
            q_rows, grad_rows = q[:, :, rows].flatten(1, 2), by_head[:, :, rows].flatten(1, 2)
            probabilities = _probabilities(q[:, :, rows], k[:, seen], ctx.scale)
            grad_v[:, seen] += torch.bmm(probabilities.mT, grad_rows)
            grad_scores = torch.ops.aten._softmax_backward_data(
                torch.bmm(grad_rows, v[:, seen].mT), probabilities, -1, probabilities.dtype
            ).mul_(ctx.scale)
            grad_k[:, seen] += torch.bmm(grad_scores.mT, q_rows)
            grad_q[:, :, rows] = torch.bmm(grad_scores, k[:, seen]).view_as(q[:, :, rows])
        return (
            grad_q.reshape(query.shape),
            grad_k.to(key.dtype).view_as(key),
            grad_v.to(value.dtype).view_as(value),
            None,
        )


def _by_key_head(x: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return x (B, heads, T, width) as (B * key heads, heads per key head, T, width)."""
    batch, heads, tokens, width = x.shape
    key_heads = key.shape[1]
    return x.reshape(batch * key_heads, heads // key_heads, tokens, width)


def _blocks(tokens: int) -> Iterator[tuple[slice, slice]]:
    """Return, for each block, its query rows, and the key rows up to its last one."""
    for start in range(0, tokens, BLOCK):
        stop = min(start + BLOCK, tokens)
        yield slice(start, stop), slice(0, stop)


def _probabilities(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the attention of the last query rows: (key heads, heads per key head * rows, keys).

    q (key heads, heads per key head, rows, width); k (key heads, keys, width).
    """
    rows = q.shape[2]
    scores = torch.bmm(q.flatten(1, 2), k.mT).mul_(scale)
    future = torch.ones(rows, rows, dtype=torch.bool, device=q.device).triu_(1)
    scores.view(len(q), -1, rows, k.shape[1])[..., -rows:].masked_fill_(future, float("-inf"))
    return scores.softmax(-1)
