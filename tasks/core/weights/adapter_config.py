"""adapter_config.json of a PEFT LoRA adapter: the fields that decide how it is fused.

Any other feature that the file turns on is refused by its name, known here or not: fusing without
it would give a model that nobody trained. Written after peft/tuners/lora/config.py (0.21.2).
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import AdapterMismatch

FILE = "adapter_config.json"

_DESCRIPTIVE = frozenset(
    (
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    )
)
"""Fields that chose or describe the training, and say nothing about how to fuse."""

_NEUTRAL_INITS = (True, False, "gaussian", "eva", "orthogonal")
"""Initializations that leave the base's weights alone. The others (pissa, olora, corda, loftq)
train against a changed base: fused into the plain one, the adapter would be wrong."""

_ELSEWHERE = "Fuse it with PEFT's merge_and_unload, or train a plain LoRA adapter."
_Rank = Annotated[int, Field(ge=1)]


class LoraConfig(BaseModel):
    """The fields that decide how to fuse; pydantic keeps the rest in model_extra."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Literal["LORA"]
    r: _Rank
    lora_alpha: float
    rank_pattern: dict[str, _Rank] = Field(default_factory=dict)
    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    init_lora_weights: bool | str = True

    def rank(self, module: str) -> int:
        """Return r of a module."""
        return int(_by_pattern(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        """Return the factor of B @ A of a module: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        rank = self.rank(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_lora_config(directory: Path) -> LoraConfig:
    """Return the configuration. Raises AdapterMismatch when it is not one that can be fused."""
    path = directory / FILE
    try:
        config = LoraConfig.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise AdapterMismatch(
            f"The directory has no {FILE}.",
            where=directory,
            next_step="Give the directory that PEFT's save_pretrained wrote.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterMismatch(
            "The adapter is not a LoRA adapter as it can be fused here.",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            expected=first["msg"],
            found=first["input"],
            next_step=_ELSEWHERE,
        ) from error
    except (ValueError, RecursionError) as error:
        raise AdapterMismatch(
            f"{FILE} is not valid JSON.", where=path, found=error, next_step=_ELSEWHERE
        ) from error
    _require_supported(path, config)
    return config


def _require_supported(path: Path, config: LoraConfig) -> None:
    others = (config.model_extra or {}).items()
    features = {name: value for name, value in others if value and name not in _DESCRIPTIVE}
    if config.init_lora_weights not in _NEUTRAL_INITS:
        features["init_lora_weights"] = config.init_lora_weights
    if features:
        raise AdapterMismatch(
            "The adapter uses what cannot be fused here.",
            where=path,
            found=", ".join(f"{name}={value!r}" for name, value in sorted(features.items())),
            next_step=_ELSEWHERE,
        )


def _by_pattern(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches, as peft.utils.other.get_pattern_key."""
    matching = (value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, default)
