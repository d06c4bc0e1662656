"""Sizing the key-value cache of continuous batching.

Never less than one full context. On top of that, what the concurrent requests need at their usual
length, but no more than a share of the memory that is free now, because another model may start
beside this one. It is allocated at once (SmolLM2 with 32 requests: 2 GB); requests that do not fit
wait.
"""

from dataclasses import dataclass
from typing import Any

import psutil
import torch

from tasks.core.machine.hardware import cgroup_memory_limit

PAGE_TOKENS = 64
_USUAL_TOKENS = 1024  # prompt and answer
_BATCH_TOKENS = 512
_CPU_SHARE = 0.25
_CUDA_SHARE = 0.5


@dataclass(frozen=True)
class CacheRoom:
    """Blocks of PAGE_TOKENS tokens each, and the most tokens that are processed in one step."""

    blocks: int
    batch_tokens: int


def cache_room(model: Any, *, context_tokens: int, requests: int) -> CacheRoom:
    """Return the cache size for a loaded model with so many concurrent requests."""
    whole = -(-context_tokens // PAGE_TOKENS)
    affordable = int(_free_bytes(model.device) / (PAGE_TOKENS * _bytes_a_token(model)))
    usual = min(whole, _USUAL_TOKENS // PAGE_TOKENS)
    blocks = max(whole, min(whole + usual * requests, affordable))
    return CacheRoom(blocks=blocks, batch_tokens=_BATCH_TOKENS)


def _bytes_a_token(model: Any) -> int:
    """Return the bytes per cached token: keys, values, and its column of the mask."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = 2 * config.num_hidden_layers * heads * size + _BATCH_TOKENS
    return int(numbers * model.dtype.itemsize)


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * _CUDA_SHARE
    limit = cgroup_memory_limit()
    free = psutil.virtual_memory().available
    return (free if limit is None else min(free, limit)) * _CPU_SHARE
