"""The plain LLaMA that an edited model was made from, as a configuration."""

from pydantic import JsonValue
from transformers import LlamaConfig

from tasks.core.architecture.directory import rope_parameters_of
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.recipe import Edit

_OURS = ("hidden_acts", "auto_map", "model_type", "architectures", "transformers_version")


def unedited_config(config: LlamaConfig, edit: Edit) -> LlamaConfig:
    """Return the plain configuration of the model that this edit was made on.

    hidden_act still names its activation. An edit scales only a RoPE that was not scaled.
    """
    return _unscaled(config) if edit.rope_scaling else _as_stock(config, {})


def unedited_twin(config: LlamaConfig) -> LlamaConfig:
    """Return the plain configuration that an edited model's own configuration leads back to.

    For a model whose edit is not known: its activations become the original one again. A scaled
    RoPE, which stock LLaMA has too, is kept unless nothing else can have been edited.
    """
    acts = config.activations() if isinstance(config, KawanUsahaConfig) else []
    if any(act != config.hidden_act for act in acts):
        return _as_stock(config, {})
    return _unscaled(config)


def _unscaled(config: LlamaConfig) -> LlamaConfig:
    theta = rope_parameters_of(config).get("rope_theta", LlamaConfig.default_theta)
    return _as_stock(config, {"rope_parameters": {"rope_type": "default", "rope_theta": theta}})


def _as_stock(config: LlamaConfig, changes: dict[str, JsonValue]) -> LlamaConfig:
    members = {name: value for name, value in config.to_dict().items() if name not in _OURS}
    return LlamaConfig(**{**members, "architectures": ["LlamaForCausalLM"], **changes})
