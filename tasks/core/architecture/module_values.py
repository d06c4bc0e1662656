"""What the modules of a model in this process compute: activations and rotary frequencies.

Read-only. Works on stock LLaMA and on our own class, in any precision, also on the meta device. A
process that has loaded an edited model can ask the model itself, without this package: see
`promise`.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.architecture.edits.activations import values_of


def act_fns_of(model: nn.Module) -> list[nn.Module]:
    """Return the activation module of each layer of a LLaMA, with or without a head."""
    decoder: Any = getattr(model, "model", model)
    return [layer.mlp.act_fn for layer in decoder.layers]


def act_values_of(model: nn.Module) -> Tensor:
    """Return what each layer's activation computes, (layers, points), fp32 on the CPU."""
    return torch.stack([values_of(act_fn) for act_fn in act_fns_of(model)])


def inverse_frequencies(model: nn.Module, position: int) -> Tensor:
    """Return inv_freq (head_dim / 2) as a forward pass at this position uses it, fp32, CPU.

    On the meta device: as its class will compute it.
    """
    decoder: Any = getattr(model, "model", model)
    return frequencies_at(decoder.rotary_emb, position)


def frequencies_at(rotary: Any, position: int) -> Tensor:
    """Return inv_freq of a rotary embedding at this position; see `inverse_frequencies`."""
    if rotary.inv_freq.is_meta:
        rotary = type(rotary)(rotary.config)
    probe = copy.deepcopy(rotary)  # the forward pass of a dynamic RoPE changes its own buffers
    device = probe.inv_freq.device
    probe(torch.zeros(1, device=device), torch.tensor([[position]], device=device))
    inv_freq: Tensor = probe.inv_freq
    return inv_freq.float().cpu()
