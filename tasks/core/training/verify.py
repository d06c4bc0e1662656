"""Checks that an adapter is complete, finite, of the right shapes, and trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from tasks.core.errors import RecipeError, TrainingFailed
from tasks.core.model.config import read_config
from tasks.core.recipe import Lora
from tasks.core.weights.adapter import read_adapter
from tasks.core.weights.index import ModelIndex

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class AdapterFacts:
    """What a verified adapter holds."""

    tensors: int
    parameters: int


def verify_adapter(directory: Path, model: ModelIndex) -> AdapterFacts:
    """Return the facts of an adapter that was trained for this model.

    Raises AdapterMismatch for a tensor that does not fit or a targeted weight without one, and
    TrainingFailed if a value is not finite, or a B matrix is still zero as before the first step.
    """
    adapter = read_adapter(directory, model, read_config(model.directory))
    b_names = {low_rank.b for low_rank in adapter.low_rank.values()}
    parameters = 0
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        names = list(file.keys())
        for name in names:
            tensor = file.get_tensor(name)
            parameters += tensor.numel()
            if not tensor.isfinite().all():
                raise _invalid(directory, f"{name} holds NaN or infinity")
            if name in b_names and not tensor.any():
                raise _invalid(directory, f"{name} is zero, as it was before the first step")
    return AdapterFacts(len(names), parameters)


def targeted(model: ModelIndex, target_modules: Iterable[str]) -> list[str]:
    """Return the names of the model's weights whose layer has one of these names."""
    endings = tuple(f".{module}.weight" for module in target_modules)
    return [name for name in model.tensors if f".{name}".endswith(endings)]


def require_targets(model: ModelIndex, lora: Lora) -> None:
    """Raise RecipeError for a target module that the model does not have."""
    if lora.target_modules == "all-linear":
        return
    for module in lora.target_modules:
        if not targeted(model, [module]):
            layers = {name.split(".")[-2] for name in model.tensors if name.count(".") > 1}
            raise RecipeError(
                "The model has no layer of this name.",
                where="finetune.lora.target_modules",
                expected=f"some of {', '.join(sorted(layers))}",
                found=module,
                next_step='Correct the name, or write "all-linear".',
            )


def _invalid(directory: Path, found: str) -> TrainingFailed:
    return TrainingFailed(
        "The adapter is not valid.",
        where=directory,
        expected="a finite, trained A and B for each targeted weight",
        found=found,
        next_step="Train more steps than the warm-up has, with a lower learning rate if the values "
        "are not finite.",
    )
