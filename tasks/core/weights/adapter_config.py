"""adapter_config.json of a PEFT LoRA adapter: the fields that decide how it is fused.

Any other feature that the file turns on is refused by its name, known here or not (`unfused`):
fusing without it would give a model that nobody trained. Written after peft/tuners/lora/config.py
(0.21.2).
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import AdapterMismatch
from tasks.core.files.foreign import read_json_object
from tasks.core.weights.companions import ADAPTER_CONFIG
from tasks.core.weights.unfused import ELSEWHERE, why
from tasks.core.weights.update import BaseChange

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
"""Fields that chose or describe the training, and say nothing about how to fuse."""

_ENDLESS = re.compile(r"(?<!\\)\)[*+{]|\{\d*,?\d{4,}")
"""What takes the time or the memory of the matching beyond bounds: a loop over what has loops."""
_MATCH_S = 60.0

_FUSED_STARTS = ("gaussian", "eva", "orthogonal", "mica", "pissa", "olora")
"""Initializations, besides true and false, whose base is known: the model's, or what PiSSA and
OLoRA leave of it, which they compute from its weights alone."""

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
        """What was taken off the base's weights before the training, where it can be told."""
        changes: dict[str, BaseChange] = {"pissa": "pissa", "olora": "olora"}
        return changes.get(str(self.init_lora_weights).lower())

    @property
    def saved_whole(self) -> tuple[str, ...]:
        """The modules that were trained whole."""
        return self.modules_to_save or ()

    @property
    def layer_patterns(self) -> tuple[str, ...]:
        """The names that a row of layers may have; any, where the file names none."""
        given = self.layers_pattern or (r"[^.]*",)
        return (given,) if isinstance(given, str) else given

    def saves_whole(self, module: str) -> bool:
        """Return whether the module is, or is part of, one that was trained whole."""
        return any(self.is_saved_as(name, module) for name in self.saved_whole)

    @staticmethod
    def is_saved_as(name: str, module: str) -> bool:
        """Return whether a name of modules_to_save means the module, as PEFT matches it."""
        return _match(_whole(name), module) is not None

    def targets(self, module: str) -> bool:
        """Return whether the adapter must have an update for this module.

        As peft.tuners.tuners_utils.check_target_module_exists. "all-linear" depends on classes and
        targets nothing here; PEFT writes the names that it found in its place.
        """
        if self._excludes(module) or self.target_modules in (None, "all-linear"):
            return False
        if isinstance(self.target_modules, str):
            return _match(rf"(?:{self.target_modules})\Z", module) is not None
        return _ends_with(module, self.target_modules or ()) and self._in_its_layers(module)

    def targets_parameter(self, name: str) -> bool:
        """Return whether the adapter must have an update for this parameter of a module."""
        return _ends_with(name, self.target_parameters or ())

    def _excludes(self, module: str) -> bool:
        if isinstance(self.exclude_modules, str) and self.exclude_modules:
            excluded = _match(rf"(?:{self.exclude_modules})\Z", module) is not None
        else:
            excluded = _ends_with(module, self.exclude_modules or ())
        return excluded or self.saves_whole(module)

    def _in_its_layers(self, module: str) -> bool:
        layers = self.layers_to_transform
        if layers is None or layers == ():
            return True
        for pattern in self.layer_patterns:
            if found := _match(_in_layer(pattern), module):
                number = int(found[1])
                return number == layers if isinstance(layers, int) else number in layers
        return False

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
    path = directory / ADAPTER_CONFIG
    try:
        document = read_json_object(path, error=AdapterMismatch)
        config = LoraConfig.model_validate(document)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_adapter(directory) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterMismatch(
            "The adapter is not a LoRA adapter as it can be fused here.",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            expected=first["msg"],
            found=first["input"],
            next_step=ELSEWHERE,
        ) from error
    _require_patterns(path, config)
    _require_supported(path, config)
    return config


def _no_adapter(directory: Path) -> AdapterMismatch:
    if directory.is_file():
        return AdapterMismatch(
            "The adapter is a file; an adapter is a directory with its configuration.",
            where=directory,
            expected=f"a directory with {ADAPTER_CONFIG} and its weights",
            next_step=f"Give the directory that holds it: {directory.parent}",
        )
    return AdapterMismatch(
        f"The directory has no {ADAPTER_CONFIG}."
        if directory.is_dir()
        else "There is no such directory.",
        where=directory,
        next_step="Give the directory that PEFT's save_pretrained wrote.",
    )


def _require_patterns(path: Path, config: LoraConfig) -> None:
    """Raise AdapterMismatch for a name pattern that is no regular expression, as PEFT uses it."""
    patterns = [
        *(("rank_pattern", key, _pattern(key)) for key in config.rank_pattern),
        *(("alpha_pattern", key, _pattern(key)) for key in config.alpha_pattern),
        *(("modules_to_save", key, _whole(key)) for key in config.saved_whole),
        *(("layers_pattern", key, _in_layer(key)) for key in config.layer_patterns),
    ]
    if isinstance(config.target_modules, str):
        patterns.append(("target_modules", config.target_modules, config.target_modules))
    if isinstance(config.exclude_modules, str):
        patterns.append(("exclude_modules", config.exclude_modules, config.exclude_modules))
    for name, written, pattern in patterns:
        if _ENDLESS.search(written):
            raise AdapterMismatch(
                f"A name in {name} is a pattern that may take for ever.",
                where=f"{path}: {name}",
                expected="no repeated groups, and no repetitions by the thousand",
                found=repr(written[:200]),
                next_step=f"Write it more simply in {ADAPTER_CONFIG}.",
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise AdapterMismatch(
                f"A name in {name} is no regular expression, as PEFT reads it.",
                where=f"{path}: {name}",
                expected="a module's name, or a regular expression",
                found=f"{written!r}: {error}",
                next_step=f"Correct {name} in {ADAPTER_CONFIG}.",
            ) from error


def _require_supported(path: Path, config: LoraConfig) -> None:
    others = (config.model_extra or {}).items()
    features = {name: value for name, value in others if value and name not in _DESCRIPTIVE}
    start = config.init_lora_weights
    if isinstance(start, str) and start.lower() not in _FUSED_STARTS:
        features["init_lora_weights"] = start
    if config.target_parameters and (config.use_dora or config.base_change):
        features["target_parameters"] = config.target_parameters
    if features:
        refused = [(name, value, why(name, value)) for name, value in sorted(features.items())]
        raise AdapterMismatch(
            "The adapter uses what cannot be fused here.",
            where=path,
            expected="a plain, rank-stabilized, DoRA, PiSSA or OLoRA adapter",
            found="; ".join(f"{name}={value!r}: {reason.cause}" for name, value, reason in refused),
            next_step=refused[0][2].remedy,
        )


def _match(pattern: str, module: str) -> "regex.Match[str] | None":
    """Return what `re.match` does, within a time that no honest pattern comes near.

    Raises AdapterMismatch beyond it: twenty `.*` in a row take years for one name.
    """
    try:
        return regex.match(pattern, module, timeout=_MATCH_S)
    except TimeoutError as error:
        raise AdapterMismatch(
            "A name in the adapter's configuration takes too long to be compared.",
            where=module,
            expected="a module's name, or a simple regular expression",
            found=repr(pattern[:200]),
            next_step=f"Write it more simply in {ADAPTER_CONFIG}.",
        ) from error


def _whole(name: str) -> str:
    return rf"(^|.*\.){name}($|\..*)"


def _in_layer(pattern: str) -> str:
    return rf"(?:^|.*?\.)(?:{pattern})\.(\d+)\."


def _pattern(key: str) -> str:
    return rf"(.*\.)?({key})$"


def _by_pattern(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches, as peft.utils.other.get_pattern_key."""
    matching = (value for key, value in pattern.items() if _match(_pattern(key), module))
    return next(matching, default)


def _ends_with(name: str, endings: Sequence[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)
