"""The edited module alone, on an input scaled so that its edit is visible.

On a prompt a module gets whatever the weights before it produce. Near 0, SiLU and GELU are the same
function in floating point; where all attention scores round to the same number, so are two
rotations. So the module also runs on random states, scaled until its gate, or its scores, spread
widely, and in float32 whatever its stored type: 16 bits cannot resolve what tiny weights produce.
The invariant: the same weights get the same input.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.architecture.proof.observation import Sublayer

PROBE_TOKENS = 16
GATE_SPREAD = 4.0  # standard deviation: some values lie beyond 10, where gelu_10 leaves gelu
SCORE_SPREAD = 2.0


def probe_module(place: Sublayer, layer: Any, rotary: nn.Module, end: int) -> Tensor:
    """Return the output of this part of a layer on the probe, (1, tokens, hidden) float32.

    rotary is the model's rotary embedding; end is one more than the last position of the probe.
    """
    with torch.inference_mode():
        if place == "mlp":
            return _mlp(_in_float32(layer.mlp))
        return _attention(_in_float32(layer.self_attn), copy.deepcopy(rotary), end)


def _mlp(mlp: Any) -> Tensor:
    states = _random_states(mlp.gate_proj.in_features)
    output: Tensor = mlp(states * _factor(GATE_SPREAD, _rms(mlp.gate_proj(states))))
    return output


def _attention(attention: Any, rotary: nn.Module, end: int) -> Tensor:
    states = _random_states(attention.q_proj.in_features)
    scores = _rms(attention.q_proj(states)) * _rms(attention.k_proj(states))
    states = states * math.sqrt(_factor(SCORE_SPREAD, scores * math.sqrt(attention.head_dim)))
    positions = torch.arange(end - PROBE_TOKENS, end).unsqueeze(0)
    output: Tensor = attention(
        hidden_states=states,
        position_embeddings=rotary(states, positions),
        attention_mask=None,
    )[0]
    return output


def _in_float32(module: nn.Module) -> nn.Module:
    """Return the module itself if it is in float32, else a converted copy."""
    if all(weight.dtype == torch.float32 for weight in module.parameters()):
        return module
    return copy.deepcopy(module).float()


def _random_states(hidden: int) -> Tensor:
    """Return standard normal states, (1, tokens, hidden) float32."""
    return torch.randn((1, PROBE_TOKENS, hidden), generator=torch.Generator().manual_seed(0))


def _factor(wanted: float, found: float) -> float:
    """Return the factor from the found spread to the wanted one; 1 where there is none."""
    return wanted / found if 0 < found < math.inf else 1.0


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
