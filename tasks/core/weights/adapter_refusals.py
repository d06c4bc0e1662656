"""The LoRA features that fuse does not support: why, and what to do instead.

A feature that is not listed is refused all the same, by its name: fusing without it would give a
model that nobody trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import AdapterMismatch

if TYPE_CHECKING:
    from tasks.core.weights.adapter_config import LoraConfig

WITH_PEFT = "Fuse it with PEFT's merge_and_unload."
ELSEWHERE = f"{WITH_PEFT[:-1]}, or train a plain LoRA adapter."
CONVERT = (
    "Fuse it, with init_lora_weights set to true, into the changed base if that was saved; or save "
    "it as a plain LoRA adapter: PEFT's save_pretrained with path_initial_model_for_weight_"
    "conversion, given the adapter as it was before training."
)
_SERVE = "Serve the model with the adapter beside it, or train a plain LoRA adapter."

_DESCRIPTIVE = frozenset(
    (
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    )
)
"""Fields that select or describe the training and do not affect fusing."""

_FUSED_STARTS = ("gaussian", "eva", "orthogonal", "mica", "pissa", "olora")
"""Initializations, besides true and false, whose base is known: either the model itself, or what
PiSSA and OLoRA leave of it, which they compute from its weights alone."""


@dataclass(frozen=True)
class FuseRefusal:
    """Why a feature is not fused, and what to do instead."""

    cause: str
    remedy: str = ELSEWHERE


_FEATURES = {
    "lora_bias": FuseRefusal("B has biases, which the model's layers may not have"),
    "trainable_token_indices": FuseRefusal("single rows of the embedding were trained"),
    "layer_replication": FuseRefusal("the adapter is for more layers than the model has"),
    "use_qalora": FuseRefusal("A is for groups of inputs of a quantized model"),
    "use_bdlora": FuseRefusal("A or B is block-diagonal"),
    "megatron_config": FuseRefusal("the layers are Megatron's, split across GPUs"),
    "kasa_config": FuseRefusal("the smallest singular values of the base were removed first"),
    "ensure_weight_tying": FuseRefusal("input and output embeddings share one update"),
    "alora_invocation_tokens": FuseRefusal(
        "the update applies only after its invocation tokens", _SERVE
    ),
    "arrow_config": FuseRefusal("a router chooses among adapters for each token", _SERVE),
    "target_parameters": FuseRefusal("PEFT supports no DoRA, PiSSA or OLoRA for parameters"),
}
_STARTS = {
    "corda": FuseRefusal("what was subtracted from the base depends on calibration data", CONVERT),
    "lora_ga": FuseRefusal("what was subtracted from the base depends on gradients", CONVERT),
    "loftq": FuseRefusal("the base was quantized first, with the remainder in A and B", CONVERT),
    "pissa_niter": FuseRefusal("what was subtracted from the base was drawn at random", CONVERT),
}
_UNKNOWN = FuseRefusal("there is no rule for fusing it")


def require_fusable(path: Path, config: "LoraConfig") -> None:
    """Raise AdapterMismatch for an adapter with features that cannot be fused."""
    others = (config.model_extra or {}).items()
    features = {name: value for name, value in others if value and name not in _DESCRIPTIVE}
    start = config.init_lora_weights
    if isinstance(start, str) and start.lower() not in _FUSED_STARTS:
        features["init_lora_weights"] = start
    if config.target_parameters and (config.use_dora or config.base_change):
        features["target_parameters"] = config.target_parameters
    if features:
        raise _refused(path, features)


def _refused(path: Path, features: Mapping[str, object]) -> AdapterMismatch:
    refused = [(name, value, _refusal(name, value)) for name, value in sorted(features.items())]
    return AdapterMismatch(
        "The adapter uses features that cannot be fused.",
        where=path,
        expected="a plain, rank-stabilized, DoRA, PiSSA or OLoRA adapter",
        found="; ".join(f"{name}={value!r}: {reason.cause}" for name, value, reason in refused),
        next_step=refused[0][2].remedy,
    )


def _refusal(feature: str, value: object) -> FuseRefusal:
    """Return why a field of adapter_config.json with this value is refused."""
    if feature != "init_lora_weights":
        return _FEATURES.get(feature, _UNKNOWN)
    start = str(value).lower()
    return next((why for name, why in _STARTS.items() if start.startswith(name)), _UNKNOWN)
