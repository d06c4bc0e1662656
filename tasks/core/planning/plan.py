"""The plan of a whole recipe on one machine: what fits, what does not, and what would.

Covers every stage's disk, network, host memory and rough time, every rung of the training, serving,
and what is slow on this machine's CPU. A plan is a value: a flow decides what to do with it, and a
run may be started against it.

The invariant: a stage "fits" only if every need that was computed for it, allowances included, is
within what the machine has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import TypeAdapter

from tasks.core.machine.hardware import Hardware
from tasks.core.planning.evaluation_fit import EvaluationFit, fit_evaluation
from tasks.core.planning.serving import ServingFit, fit_serving
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Sizes, StageNeed, disk_use, models_dtype, stage_needs
from tasks.core.planning.times import Rates
from tasks.core.planning.training_fit import FitVerdict, TrainingFit, fit_training
from tasks.core.recipe import Keep, Recipe
from tasks.core.units import readable

_ORDER: tuple[FitVerdict, ...] = ("fits", "fits from a lower rung", "does not fit")
_GPU_SHARE = 0.9  # of a card's memory, which transformers' device_map="auto" fills with weights


@dataclass(frozen=True)
class StagePlan:
    """One stage: what it needs, and the verdict in words."""

    need: StageNeed
    verdict: FitVerdict
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a recipe takes on a machine.

    seconds: all stages together, None if the time of any is unknown. warnings: what a user must
    read before the run starts. disk_bytes: the peak with `keep: all`, disk_bytes_released: the peak
    with `keep: released`; the verdicts use the recipe's own choice.
    """

    recipe: str
    verdict: FitVerdict
    shape: ModelShape
    total_params: int
    hardware: Hardware
    stages: tuple[StagePlan, ...]
    keep: Keep
    disk_bytes: int
    disk_bytes_released: int
    download_bytes: int
    upload_bytes: int
    seconds: float | None
    warnings: tuple[str, ...]
    training: TrainingFit | None
    serving: ServingFit | None
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON types, sizes in bytes."""
        return cast("dict[str, Any]", TypeAdapter(Plan).dump_python(self, mode="json"))


def plan_recipe(
    recipe: Recipe,
    hardware: Hardware,
    shape: ModelShape,
    *,
    sizes: Sizes | None = None,
    rates: Rates | None = None,
) -> Plan:
    """Return what the recipe needs with a model of this shape, and whether the hardware has it.

    sizes: what the Hub and the data say, as far as they were asked. Raises RecipeError if LoRA
    targets modules that the shape does not have.
    """
    sizes, rates = sizes or Sizes(), rates or Rates()
    training = serving = None
    if recipe.finetune:
        training = fit_training(
            shape,
            recipe.finetune,
            hardware,
            training_tokens=sizes.training_tokens,
            conversation_tokens=sizes.conversation_tokens,
            rates=rates,
        )
    if recipe.deploy:
        scaling = recipe.edit.rope_scaling if recipe.edit else None
        factor = scaling.factor if scaling else 1.0
        serving = fit_serving(
            shape,
            recipe.deploy,
            hardware,
            context_factor=factor,
            stored=models_dtype(recipe, sizes),
        )
    evaluation = fit_evaluation(recipe, shape, hardware, sizes, rates)
    stages: list[StagePlan] = []
    needs = stage_needs(recipe, shape, sizes, rates)
    disk = disk_use(recipe, needs, shape, sizes)
    for need in needs:
        disk_bytes = (disk.all if recipe.keep == "all" else disk.released)[need.name]
        known = _with_hardware(need, shape, hardware, training=training, evaluation=evaluation)
        stages.append(_judge(known, disk_bytes, hardware, training, serving))
    return Plan(
        recipe=recipe.name,
        verdict=max((stage.verdict for stage in stages), key=_ORDER.index),
        shape=shape,
        total_params=shape.total_params,
        hardware=hardware,
        stages=tuple(stages),
        keep=recipe.keep,
        disk_bytes=disk.all_bytes,
        disk_bytes_released=disk.released_bytes,
        download_bytes=sum(stage.need.download_bytes for stage in stages),
        upload_bytes=sum(stage.need.upload_bytes for stage in stages),
        seconds=_all_seconds(stages),
        warnings=(
            *(training.warnings if training else ()),
            *(evaluation.warnings if evaluation else ()),
        ),
        training=training,
        serving=serving,
        assumptions=_assumptions(recipe, sizes, rates, hardware),
    )


def _all_seconds(stages: Sequence[StagePlan]) -> float | None:
    known = [stage.need.seconds for stage in stages if stage.need.seconds is not None]
    return sum(known) if len(known) == len(stages) else None


def _with_hardware(
    need: StageNeed,
    shape: ModelShape,
    hardware: Hardware,
    *,
    training: TrainingFit | None,
    evaluation: EvaluationFit | None,
) -> StageNeed:
    """Return the need with the figures that depend on GPUs and CPU filled in."""
    if need.name == "finetune" and training is not None:
        shown = training.shown
        return replace(need, host_bytes=shown.host_bytes, seconds=shown.seconds)
    if need.name == "evaluate" and evaluation is not None:
        return replace(need, seconds=evaluation.seconds)
    if need.name == "evaluate":
        on_gpus = int(_GPU_SHARE * sum(gpu.memory_bytes for gpu in hardware.gpus))
        spilled = max(0, shape.weight_bytes("float16") - on_gpus)
        return replace(need, host_bytes=need.host_bytes + spilled)
    return need


def _judge(
    need: StageNeed,
    disk_so_far: int,
    hardware: Hardware,
    training: TrainingFit | None,
    serving: ServingFit | None,
) -> StagePlan:
    if disk_so_far > hardware.disk_free_bytes:
        free, wanted = readable(hardware.disk_free_bytes), readable(disk_so_far)
        reason = f"Disk: {wanted} needed up to here, {free} free."
        return StagePlan(need, "does not fit", reason)
    if need.name == "finetune" and training is not None:
        return StagePlan(need, training.verdict, training.reason)
    if need.name == "deploy" and serving is not None:
        return StagePlan(need, serving.verdict, serving.reason)
    if need.host_bytes > hardware.memory_bytes:
        has, wanted = readable(hardware.memory_bytes), readable(need.host_bytes)
        reason = f"Host memory: {wanted} needed, {has} available."
        return StagePlan(need, "does not fit", reason)
    return StagePlan(need, "fits", need.note)


def _assumptions(recipe: Recipe, sizes: Sizes, rates: Rates, hardware: Hardware) -> tuple[str, ...]:
    kept = {
        "all": "every stage's result is kept",
        "released": "inputs are freed once no later stage needs them",
    }
    lines = [
        f"Times: {rates.network_bytes_per_s / 1e6:g} MB/s network, "
        f"{rates.disk_bytes_per_s / 1e6:g} MB/s disk, {rates.link_bytes_per_s / 1e9:g} GB/s "
        "to the host and between GPUs without NVLink; right within a factor of two.",
        f"Disk: the store is empty, and {kept[recipe.keep]}.",
    ]
    if sizes.base_bytes is None:
        lines.append("Download: sizes by formula for 16-bit weights; the Hub was not asked.")
    if sizes.training_tokens is not None:
        lines.append(f"Training: about {sizes.training_tokens:,} tokens per epoch.")
    if hardware.gpus_named:
        lines.append("GPUs as named; memory, disk and cores are those of this machine.")
    elif (speed := hardware.cpu_speed) is not None and "float32" in speed.types:
        reached = speed.types["float32"].forward_flops_per_s / 1e9
        busy = ", with part of the cores taken by other work or a limit" if speed.busy else ""
        lines.append(
            f"CPU: {hardware.cpu}, measured: {reached:.0f} GFLOP/s in float32, "
            f"{speed.threads} threads{busy}."
        )
    if hardware.gpu_note:
        lines.append(f"GPUs: {hardware.gpu_note}.")
    return tuple(lines)
