"""The tensors that a configuration of the LLaMA family promises, by name and shape.

For LLaMA, our edited LLaMA, Mistral and Qwen2, which differ only in their biases. Written after
transformers' modeling_llama.py and modeling_qwen2.py (5.23); a test compares it with the modules.
"""

from collections.abc import Mapping

from tasks.core.errors import NotAModel
from tasks.core.model.config import OUR_MODEL_TYPE, has_foreign_code, ties_embeddings

Shape = tuple[int, ...]

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
RECOMPUTED = "rotary_emb.inv_freq"
"""A buffer in checkpoints from before transformers 4.32; every model computes it itself."""

_LLAMA = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": _LLAMA,
    OUR_MODEL_TYPE: _LLAMA,
    "mistral": {**_LLAMA, "intermediate_size": 14_336, "num_key_value_heads": 8},
    "qwen2": {
        **_LLAMA,
        "vocab_size": 151_936,
        "intermediate_size": 22_016,
        "num_key_value_heads": 32,
    },
}
"""The defaults of each model_type's configuration class for numbers missing in config.json."""


def promised_tensors(config: Mapping[str, object]) -> dict[str, Shape] | None:
    """Return the shape of each tensor that the model needs; None for an unknown class.

    The head of a model with tied embeddings is not among them. Raises NotAModel for a value that is
    not a positive integer.
    """
    defaults = _DEFAULTS.get(str(config.get("model_type")))
    if defaults is None or has_foreign_code(config):
        return None
    numbers = {name: _number({**defaults, **config}, name) for name in _LLAMA}
    vocab, hidden = numbers["vocab_size"], numbers["hidden_size"]
    tensors = {EMBEDDING: (vocab, hidden), "model.norm.weight": (hidden,)}
    if not ties_embeddings(config):
        tensors[HEAD] = (vocab, hidden)
    layer = _layer({**defaults, **config}, **numbers)
    for number in range(numbers["num_hidden_layers"]):
        tensors |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    return tensors


def _layer(
    config: Mapping[str, object],
    *,
    hidden_size: int,
    intermediate_size: int,
    num_attention_heads: int,
    **_: int,
) -> dict[str, Shape]:
    qwen2 = config.get("model_type") == "qwen2"
    hidden, intermediate, heads = hidden_size, intermediate_size, num_attention_heads
    head_dim = _number(config, "head_dim", max(hidden // heads, 1))
    width, kv_width = heads * head_dim, _number(config, "num_key_value_heads", heads) * head_dim
    linear = {
        "self_attn.q_proj": (width, hidden),
        "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden),
        "self_attn.o_proj": (hidden, width),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }
    attention_bias = bool(config.get("attention_bias"))
    biased = {
        *(name for name in linear if "self_attn" in name and attention_bias and not qwen2),
        *(name for name in linear if qwen2 and name.endswith(("q_proj", "k_proj", "v_proj"))),
        *(name for name in linear if "mlp" in name and config.get("mlp_bias")),
    }
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        **{f"{name}.weight": shape for name, shape in linear.items()},
        **{f"{name}.bias": linear[name][:1] for name in sorted(biased)},
    }


def _number(config: Mapping[str, object], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise NotAModel(
            "config.json has an invalid value.",
            where=f"config.json: {name}",
            expected="a positive whole number",
            found=repr(value),
            next_step="Use the config.json from the source of the weights.",
        )
    return value
