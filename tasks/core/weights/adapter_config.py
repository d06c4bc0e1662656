"""adapter_config.json of a PEFT LoRA adapter: the fields that decide how it is fused.

Any other feature that the file turns on is refused by name (`adapter_refusals`). Written after
peft/tuners/lora/config.py (0.21.2).
"""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import AdapterMismatch
from tasks.core.files.foreign import read_json_object
from tasks.core.weights.adapter_patterns import (
    ending_with,
    has_ending,
    in_layer,
    match,
    require_pattern,
    value_for,
    within,
)
from tasks.core.weights.adapter_refusals import ELSEWHERE, require_fusable
from tasks.core.weights.adapter_tensors import BaseChange
from tasks.core.weights.companion_kinds import ADAPTER_CONFIG

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
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] | None = None
    layers_to_transform: int | tuple[int, ...] | None = None
    layers_pattern: str | tuple[str, ...] | None = None
    use_dora: bool = False
    target_parameters: tuple[str, ...] | None = None

    @property
    def base_change(self) -> BaseChange | None:
        """What was subtracted from the base's weights before the training, where that is known."""
        changes: dict[str, BaseChange] = {"pissa": "pissa", "olora": "olora"}
        return changes.get(str(self.init_lora_weights).lower())

    @property
    def saved_whole(self) -> tuple[str, ...]:
        """The modules that were trained whole."""
        return self.modules_to_save or ()

    @property
    def layer_patterns(self) -> tuple[str, ...]:
        """The names that a list of layers may have; any name, if the file gives none."""
        given = self.layers_pattern or (r"[^.]*",)
        return (given,) if isinstance(given, str) else given

    def saves_whole(self, module: str) -> bool:
        """Return whether the module was trained whole, or is part of one that was."""
        return any(self.is_saved_as(name, module) for name in self.saved_whole)

    @staticmethod
    def is_saved_as(name: str, module: str) -> bool:
        """Return whether a name in modules_to_save covers the module, as PEFT matches it."""
        return match(within(name), module) is not None

    def targets(self, module: str) -> bool:
        """Return whether the adapter must have an update for this module.

        As peft.tuners.tuners_utils.check_target_module_exists. "all-linear" depends on classes and
        targets nothing here; PEFT saves the names that it resolved it to instead.
        """
        if self._excludes(module) or self.target_modules in (None, "all-linear"):
            return False
        if isinstance(self.target_modules, str):
            return match(rf"(?:{self.target_modules})\Z", module) is not None
        return has_ending(module, self.target_modules or ()) and self._in_its_layers(module)

    def targets_parameter(self, name: str) -> bool:
        """Return whether the adapter must have an update for this parameter of a module."""
        return has_ending(name, self.target_parameters or ())

    def _excludes(self, module: str) -> bool:
        if isinstance(self.exclude_modules, str) and self.exclude_modules:
            excluded = match(rf"(?:{self.exclude_modules})\Z", module) is not None
        else:
            excluded = has_ending(module, self.exclude_modules or ())
        return excluded or self.saves_whole(module)

    def _in_its_layers(self, module: str) -> bool:
        layers = self.layers_to_transform
        if layers is None or layers == ():
            return True
        for pattern in self.layer_patterns:
            if found := match(in_layer(pattern), module):
                number = int(found[1])
                return number == layers if isinstance(layers, int) else number in layers
        return False

    def rank(self, module: str) -> int:
        """Return r of a module."""
        return int(value_for(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        """Return the factor of B @ A of a module: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        rank = self.rank(module)
        alpha = value_for(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_lora_config(directory: Path) -> LoraConfig:
    """Return the configuration. Raises AdapterMismatch for an adapter that cannot be fused."""
    path = directory / ADAPTER_CONFIG
    try:
        document = read_json_object(path, error=AdapterMismatch)
        config = LoraConfig.model_validate(document)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_adapter(directory) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterMismatch(
            "adapter_config.json does not describe a LoRA adapter that can be fused.",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            expected=first["msg"],
            found=first["input"],
            next_step=ELSEWHERE,
        ) from error
    _require_patterns(path, config)
    require_fusable(path, config)
    return config


def _no_adapter(directory: Path) -> AdapterMismatch:
    if directory.is_file():
        return AdapterMismatch(
            "The adapter is a file; expected the directory that contains it.",
            where=directory,
            expected=f"a directory with {ADAPTER_CONFIG} and its weights",
            next_step=f"Use the directory that holds it: {directory.parent}",
        )
    return AdapterMismatch(
        f"The directory has no {ADAPTER_CONFIG}."
        if directory.is_dir()
        else "There is no such directory.",
        where=directory,
        next_step="Use the directory that PEFT's save_pretrained wrote.",
    )


def _require_patterns(path: Path, config: LoraConfig) -> None:
    """Raise AdapterMismatch for a name pattern that cannot be matched as PEFT matches it."""
    patterns = [
        *(("rank_pattern", key, ending_with(key)) for key in config.rank_pattern),
        *(("alpha_pattern", key, ending_with(key)) for key in config.alpha_pattern),
        *(("modules_to_save", key, within(key)) for key in config.saved_whole),
        *(("layers_pattern", key, in_layer(key)) for key in config.layer_patterns),
    ]
    if isinstance(config.target_modules, str):
        patterns.append(("target_modules", config.target_modules, config.target_modules))
    if isinstance(config.exclude_modules, str):
        patterns.append(("exclude_modules", config.exclude_modules, config.exclude_modules))
    for field, written, pattern in patterns:
        require_pattern(path, field, written, pattern)
