"""Evaluation on a CPU: the computing type, how long it takes, and what slows it down.

The type is the one that `evaluation.loading` chooses: the CPU's own, or the stored one where only
that fits into memory. Weights that do not fit even then are read from the disk again for each pass.
"""

import math
from dataclasses import dataclass

from tasks.core.machine.cpu import compute_dtype
from tasks.core.machine.hardware import USABLE_MEMORY_SHARE, Hardware
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Sizes, measured_models, models_dtype
from tasks.core.planning.times import (
    ANSWERS_AT_ONCE,
    Evaluation,
    Rates,
    evaluation_seconds_on_cpu,
    slower_than_float32,
)
from tasks.core.recipe import Dtype, Recipe
from tasks.core.units import readable

_PROMPT_TOKENS = 64


@dataclass(frozen=True)
class EvaluationFit:
    """How the recipe's models are evaluated on this CPU; no seconds where its speed is unknown."""

    dtype: Dtype
    seconds: float | None
    warnings: tuple[str, ...]


def fit_evaluation(
    recipe: Recipe, shape: ModelShape, hardware: Hardware, sizes: Sizes, rates: Rates
) -> EvaluationFit | None:
    """Return how this CPU evaluates the models, None for an evaluation on a GPU."""
    settings = recipe.evaluate
    if settings.device != "cpu":
        return None
    stored = models_dtype(recipe, sizes)
    wanted = compute_dtype(stored, hardware.cpu)
    room_bytes = int(hardware.memory_available_bytes * USABLE_MEMORY_SHARE)
    dtype = wanted if shape.weight_bytes(wanted) <= room_bytes else stored
    work = Evaluation(
        models=measured_models(recipe),
        conversations=sizes.held_out_conversations,
        held_out_tokens=sizes.held_out_tokens,
        answer_steps=math.ceil(settings.max_prompts / ANSWERS_AT_ONCE) * settings.max_new_tokens,
        prompt_tokens=settings.max_prompts * _PROMPT_TOKENS,
        dtype=dtype,
        spilled_bytes=max(0, shape.weight_bytes(dtype) - room_bytes),
    )
    seconds = None
    if hardware.cpu_speed is not None:
        seconds = evaluation_seconds_on_cpu(
            shape, work, hardware.cpu_speed, disk_bytes_per_s=rates.disk_bytes_per_s
        )
    slow = None
    if dtype != wanted:
        slow = _warning(dtype, shape.weight_bytes("float32"), hardware)
    return EvaluationFit(dtype, seconds, (slow,) if slow else ())


def _warning(dtype: Dtype, needed_bytes: int, hardware: Hardware) -> str | None:
    """Return what evaluating in the stored type costs where float32 does not fit into memory.

    needed_bytes: what float32 would need.
    """
    slower = slower_than_float32(dtype, "forward", hardware)
    if slower is None:
        return None
    return (
        f"evaluate: a model in float32 needs {readable(needed_bytes)} of memory, where "
        f"{readable(hardware.memory_available_bytes)} are free, so it is measured in {dtype}. That "
        f"is {slower} Give it more memory, or set `evaluate.device: cuda`."
    )
