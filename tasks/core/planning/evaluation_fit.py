"""Evaluation on a CPU: the type that the models are measured in, how long it takes, what slows it.

The type is the one that `evaluation.loading` chooses: the CPU's own, or the stored one where only
that fits into memory. What does not fit even so is read from the disk again and again.
"""

import math
from dataclasses import dataclass

from tasks.core.machine.cpu import compute_dtype
from tasks.core.machine.hardware import USABLE_MEMORY_SHARE, Hardware
from tasks.core.planning.cpu_advice import evaluation_warning
from tasks.core.planning.cpu_time import ANSWERS_AT_ONCE, Evaluation, evaluation_seconds_on_cpu
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Rates, Sizes, measured_models, stored_dtype
from tasks.core.recipe import Dtype, Recipe

_PROMPT_TOKENS = 64


@dataclass(frozen=True)
class EvaluationFit:
    """How the recipe's models are measured on this CPU; no seconds where it was not measured."""

    dtype: Dtype
    seconds: float | None
    warnings: tuple[str, ...]


def fit_evaluation(
    recipe: Recipe, shape: ModelShape, hardware: Hardware, sizes: Sizes, rates: Rates
) -> EvaluationFit | None:
    """Return how the evaluation goes on this CPU, None for one on a GPU."""
    settings = recipe.evaluate
    if settings.device != "cpu":
        return None
    stored = stored_dtype(recipe, sizes)
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
        slow = evaluation_warning(dtype, shape.weight_bytes("float32"), hardware)
    return EvaluationFit(dtype, seconds, (slow,) if slow else ())
