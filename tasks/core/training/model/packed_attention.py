"""Attention within each conversation of a packed row, without the work between them.

With a mask, every token's scores with the whole row are computed and most of them discarded: six in
seven for a row of 2048 tokens with conversations of 300. Here each conversation is a causal
attention of its own. The invariant: the output equals that of masked attention, except for the
order of sums.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface, LlamaForCausalLM, PreTrainedModel

from tasks.core.training.model.cpu_attention import causal_attention
from tasks.core.training.model.learned_head import takes_positions

ATTENTION = "kawan_usaha_packed"
Laid = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Query, key and value with all rows laid end to end: (tokens, heads, width)."""
_KERNEL_SINCE = (8, 0)
"""The lowest CUDA compute capability of FlashAttention, on which torch's varlen_attn is built."""


def attend_within(model: PreTrainedModel) -> None:
    """Make a LLaMA that reads packed rows attend within conversations, where that is faster.

    Otherwise it keeps its own attention, which builds the mask: with a forward pass of its own, or
    on a GPU or in a type that torch's varlen kernel does not support.
    """
    is_llama = isinstance(model, LlamaForCausalLM) and takes_positions(model)
    if is_llama and _is_faster(model):
        AttentionInterface.register(ATTENTION, packed_attention)
        model.set_attn_implementation(ATTENTION)


def attends_within(model: PreTrainedModel) -> bool:
    """Return whether the model's attention needs to know where conversations begin."""
    return bool(model.config._attn_implementation == ATTENTION)


def bounds_of(position_ids: torch.Tensor) -> dict[str, Any]:
    """Return where conversations begin and end in rows (B, T) that are laid end to end.

    The names are those of transformers' attention functions for packed rows
    (`FlashAttentionKwargs`): `cu_seq_lens_q` is (conversations + 1,), int32.
    """
    continues = torch.zeros_like(position_ids, dtype=torch.bool)
    continues[:, 1:] = position_ids.diff() == 1
    starts = (~continues).flatten().nonzero().flatten()
    bounds = torch.cat([starts, starts.new_tensor([position_ids.numel()])]).int()
    return {"cu_seq_lens_q": bounds, "max_length_q": int(bounds.diff().max())}


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention's output (B, T, heads, width), as transformers' functions do.

    query (B, heads, T, width); key and value (B, key heads, T, width).
    """
    rows, _heads, tokens, _width = query.shape
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))
    if query.is_cuda:
        out = _by_kernel((q, k, v), cu_seq_lens_q, max_length_q, scaling)
    else:
        out = _one_by_one((q, k, v), cu_seq_lens_q, dropout, scaling)
    return out.reshape(rows, tokens, *out.shape[1:]), None


def _one_by_one(
    laid: Laid, bounds: torch.Tensor, dropout: float, scaling: float | None
) -> torch.Tensor:
    lengths = bounds.diff().tolist()
    queries, keys, values = (torch.split(x.transpose(0, 1)[None], lengths, dim=2) for x in laid)
    outs = [
        causal_attention(q, k, v, dropout=dropout, scale=scaling)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(outs, dim=2)[0].transpose(0, 1)


def _by_kernel(
    laid: Laid, bounds: torch.Tensor, longest: int, scaling: float | None
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = laid
    causal = (-1, 0)
    out = varlen_attn(
        q, k, v, bounds, bounds, longest, longest,
        scale=scaling, window_size=causal, enable_gqa=True,
    )  # fmt: skip
    return cast("torch.Tensor", out)


def _is_faster(model: PreTrainedModel) -> bool:
    if model.device.type != "cuda":
        return model.device.type == "cpu"
    dropout = getattr(model.config, "attention_dropout", 0.0)
    knows = torch.cuda.get_device_capability(model.device) >= _KERNEL_SINCE
    return knows and model.dtype in (torch.float16, torch.bfloat16) and not dropout
