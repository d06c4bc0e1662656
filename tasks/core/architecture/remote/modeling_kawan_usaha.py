"""A LLaMA model whose layers may differ in their activation function.

This file travels inside the model directory and depends on torch and transformers alone. The
classes are LLaMA's own, with each layer's `mlp.act_fn` taken from `config.hidden_acts`: weights,
their names, attention interface, parallel plans and generation are inherited and not touched.
`kawan_usaha_report` says what the modules at hand really compute, so that any process that has
loaded this model can prove that the edit is alive.
"""

# mypy: allow-untyped-calls
import copy
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import (
    LlamaForCausalLM,
    LlamaModel,
    LlamaRotaryEmbedding,
)

from .configuration_kawan_usaha import KawanUsahaConfig

# Where activation functions can be told apart by eye: gelu(-1) is -0.1587, silu(-1) is -0.2689.
REPORT_POINTS = (-3.0, -1.0, -0.5, 0.5, 1.0, 3.0)


class KawanUsahaModel(LlamaModel):
    """LLaMA's decoder with the activation of each layer read from the configuration."""

    config: KawanUsahaConfig

    def __init__(self, config: KawanUsahaConfig) -> None:
        super().__init__(config)
        layers: Any = self.layers
        for layer, name in zip(layers, config.activations(), strict=True):
            layer.mlp.act_fn = ACT2FN[name]

    def kawan_usaha_report(self) -> dict[str, Any]:
        """Return what this model, as it is loaded here, computes; plain JSON types only.

        - activations: for each layer the name of the function that its module computes on a fixed
          vector; None when it is none of those that the configuration names
        - modules, values: for each layer the module's class and its values at `points`
        - rope: the parameters; rope_alive: whether the inverse frequencies at the far end of the
          context follow them; inv_freq_ends: the first and the last of them; inv_freq_dtype
        - alive: the activations are those of the configuration, and RoPE is

        Nothing is changed, and no weight is read: it costs milliseconds at any size and works in
        any precision, on any device, under quantization and adapters.
        """
        layers: Any = self.layers
        act_fns = [layer.mlp.act_fn for layer in layers]
        declared = self.config.activations()
        activations = [
            _name_of(act_fn, name, self.config)
            for act_fn, name in zip(act_fns, declared, strict=True)
        ]
        points = torch.tensor(REPORT_POINTS)
        rope = _rope_report(self.rotary_emb, self.config)
        return {
            "model_type": self.config.model_type,
            "model_class": type(self).__name__,
            "activations": activations,
            "modules": [type(act_fn).__name__ for act_fn in act_fns],
            "points": points.tolist(),
            "values": [_values(act_fn, points).tolist() for act_fn in act_fns],
            **rope,
            "alive": activations == declared and rope["rope_alive"],
        }


class KawanUsahaForCausalLM(LlamaForCausalLM):
    """LLaMA for text generation with the activation of each layer read from the configuration."""

    config: KawanUsahaConfig

    def __init__(self, config: KawanUsahaConfig) -> None:
        # Past LlamaForCausalLM.__init__, which would allocate a stock decoder first.
        super(LlamaForCausalLM, self).__init__(config)
        self.model = KawanUsahaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def kawan_usaha_report(self) -> dict[str, Any]:
        """Return what this model, as it is loaded here, computes; see KawanUsahaModel."""
        return {**self.model.kawan_usaha_report(), "model_class": type(self).__name__}


def _name_of(act_fn: nn.Module, declared: str, config: KawanUsahaConfig) -> str | None:
    """Return the name of what act_fn computes, the declared one first; None if it has no name."""
    x = torch.linspace(-12, 12, 193)  # beyond 10: gelu_10 is gelu up to there
    y = _values(act_fn, x)
    known = dict.fromkeys([declared, config.hidden_act, *config.activations()])
    # One function differs by 2e-6 between devices, gelu_new from gelu by 4e-4.
    same = (name for name in known if torch.allclose(y, ACT2FN[name](x), atol=1e-5))
    return next(same, None)


def _values(act_fn: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return act_fn(x) as fp32 on the CPU, also where a hook moves what passes."""
    with torch.no_grad():
        y: torch.Tensor = act_fn(x)
    return y.float().cpu()


def _rope_report(rotary: LlamaRotaryEmbedding, config: KawanUsahaConfig) -> dict[str, Any]:
    parameters = dict(config.rope_parameters or {})
    # Dynamic scaling shows only beyond the trained length, so look at the far end.
    position = int(config.max_position_embeddings * parameters.get("factor", 1.0)) - 1
    observed = _inverse_frequencies(rotary, position)
    expected = _inverse_frequencies(LlamaRotaryEmbedding(config), position)
    # `model.half()` rounds the frequencies too; they still tell one scaling from another.
    rtol = 1e-5 if rotary.inv_freq.dtype == torch.float32 else 1e-2
    return {
        "rope": parameters,
        "rope_alive": torch.allclose(observed, expected, rtol=rtol, atol=0.0),
        "inv_freq_ends": [observed[0].item(), observed[-1].item()],
        "inv_freq_dtype": str(rotary.inv_freq.dtype).removeprefix("torch."),
    }


def _inverse_frequencies(rotary: LlamaRotaryEmbedding, position: int) -> torch.Tensor:
    """Return inv_freq (head_dim / 2) as a forward pass at this position uses it, fp32, CPU."""
    if rotary.inv_freq.is_meta:  # no numbers yet: ask the class that will make them
        rotary = type(rotary)(rotary.config)
    probe = copy.deepcopy(rotary)  # the forward pass of a dynamic RoPE changes its own buffers
    device = probe.inv_freq.device
    probe(torch.zeros(1, device=device), torch.tensor([[position]], device=device))
    inv_freq: torch.Tensor = probe.inv_freq
    return inv_freq.float().cpu()
