"""What a loaded configuration says about positions: RoPE's parameters, and the context's length."""

from typing import Any

from transformers import LlamaConfig

from tasks.core.model import config as model_config


def rope_of(config: LlamaConfig) -> dict[str, Any]:
    """Return the RoPE parameters in transformers' form (`rope_type`, `rope_theta`, `factor`, …)."""
    return dict(config.rope_parameters or {})


def scaled_rope(config: LlamaConfig, rope_type: str, factor: float) -> dict[str, Any]:
    """Return this configuration's RoPE parameters with a scaling of transformers' definition."""
    positions = config.max_position_embeddings
    return model_config.scaled_rope(rope_of(config), rope_type, factor, positions)


def context_tokens(config: LlamaConfig) -> int:
    """Return how many tokens a model of this configuration can attend to."""
    positions = int(config.max_position_embeddings)
    plain = {"max_position_embeddings": positions, "rope_parameters": rope_of(config)}
    return model_config.context_tokens(plain) or positions
