"""The way back: an edited model as a plain LLaMA, where a plain LLaMA can express the edit."""

from pathlib import Path

from pydantic import JsonValue
from transformers import LlamaConfig

from tasks.core.architecture.directory import open_model, rope_parameters_of
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.architecture.writing import WrittenDirectory, write_around
from tasks.core.errors import UsageError
from tasks.core.recipe import Edit

_OURS = ("hidden_acts", "auto_map", "model_type", "architectures", "transformers_version")


def to_plain_llama(model: Path, out: Path) -> WrittenDirectory:
    """Write an edited model as a plain LLaMA into the existing directory `out`.

    Possible when all layers have the same activation: RoPE scaling is part of a plain
    configuration. Raises UsageError when the layers differ, which one `hidden_act` cannot express,
    and when the model is plain already.
    """
    source = open_model(model)
    if not source.edited:
        raise UsageError(
            "The model is a plain LLaMA already.",
            where=model,
            found=f"model_type {source.config.model_type}",
            next_step="Use it as it is.",
        )
    different = sorted(set(source.activations))
    if len(different) > 1:
        raise UsageError(
            "A plain LLaMA has one activation for all layers and cannot express this edit.",
            where=model,
            expected="the same activation in every layer",
            found=", ".join(different),
            next_step="Keep the edited model; it loads with trust_remote_code=True.",
        )
    return write_around(source, out, _as_stock(source.config, {"hidden_act": different[0]}))


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
