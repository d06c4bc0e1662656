"""What a configuration says about positions: RoPE's parameters, and the length of the context."""

from typing import Any

from transformers import LlamaConfig


def rope_of(config: LlamaConfig) -> dict[str, Any]:
    """Return the RoPE parameters in transformers' form (`rope_type`, `rope_theta`, `factor`, …)."""
    return dict(config.rope_parameters or {})


def scaled_rope(config: LlamaConfig, rope_type: str, factor: float) -> dict[str, Any]:
    """Return this configuration's RoPE parameters with a scaling of transformers' definition."""
    parameters = {**rope_of(config), "rope_type": rope_type, "factor": factor}
    if rope_type == "yarn":
        parameters["original_max_position_embeddings"] = config.max_position_embeddings
    return parameters


def context_tokens(config: LlamaConfig) -> int:
    """Return how many tokens a model of this configuration can attend to.

    A scaling stretches the trained length by its factor. That length is
    `original_max_position_embeddings` for the kinds that have it (yarn, llama3), whose
    `max_position_embeddings` may be the stretched one; for the others it is
    `max_position_embeddings`, which dynamic scaling computes with and engines multiply.
    """
    rope = rope_of(config)
    trained = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    return max(int(trained * rope.get("factor", 1.0)), int(config.max_position_embeddings))
