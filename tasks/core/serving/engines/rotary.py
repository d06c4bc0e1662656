"""Rotary frequencies in full precision, whatever the weights are stored in.

FastChat ends loading in 8 bits on CUDA with `model.half()` (fastchat/model/compression.py), which
also rounds the inverse frequencies of the rotary embedding to fp16. At position 2047 of a 13B LLaMA
that is a phase error of about half a radian: the model is served with another position encoding
than it was trained with. transformers itself keeps them in float32 when it loads in fp16.
"""

import torch
from torch import nn


def restore_rotary_precision(model: nn.Module) -> int:
    """Recompute rounded inverse frequencies in float32; return how many modules had them."""
    restored = 0
    for module in model.modules():
        inv_freq = getattr(module, "inv_freq", None)
        if isinstance(inv_freq, torch.Tensor) and inv_freq.dtype != torch.float32:
            fresh = type(module)(module.config).to(inv_freq.device)
            module.inv_freq = fresh.inv_freq
            module.original_inv_freq = fresh.original_inv_freq
            restored += 1
    return restored
