"""Which rung of the ladder training can begin on, why not a higher one, and what would help.

Covers the comparison of each rung's need with the smallest GPU and the host's memory. Whether the
data is good, and whether the settings learn anything, is not its business.
"""

from dataclasses import dataclass
from typing import Literal

from tasks.core.machine.gpus import Gpu
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.cpu_advice import duration_warning, precision_warning
from tasks.core.planning.rung_fit import RungFit, fit_ladder, smallest_gpu
from tasks.core.planning.rungs import global_batch_size
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Rates
from tasks.core.planning.training_advice import (
    training_remedies,
    why_not_replicated,
)
from tasks.core.recipe import Finetune
from tasks.core.units import readable

Verdict = Literal["fits", "fits from a lower rung", "does not fit"]
CLOSE = 0.95


@dataclass(frozen=True)
class TrainingFit:
    """The whole ladder on this hardware, and the verdict in words."""

    verdict: Verdict
    reason: str
    rungs: tuple[RungFit, ...]
    first_fitting: int | None
    global_batch_size: int
    replicated: str | None
    remedies: tuple[str, ...]
    warnings: tuple[str, ...]


def fit_training(
    shape: ModelShape,
    finetune: Finetune,
    hardware: Hardware,
    *,
    training_tokens: int | None = None,
    conversation_tokens: float | None = None,
    rates: Rates | None = None,
) -> TrainingFit:
    """Return the verdict on LoRA training of this shape with these settings on this machine.

    Raises RecipeError when LoRA targets a module that the shape does not have.
    """
    ladder = fit_ladder(
        shape,
        finetune,
        hardware,
        training_tokens=training_tokens,
        conversation_tokens=conversation_tokens,
        rates=rates,
    )
    first = next((fit for fit in ladder if fit.fits), None)
    verdict: Verdict = "does not fit"
    if first is not None:
        verdict = "fits" if first.number == 1 else "fits from a lower rung"
    return TrainingFit(
        verdict=verdict,
        reason=_reason(ladder, first, finetune, hardware),
        rungs=ladder,
        first_fitting=first.number if first else None,
        global_batch_size=global_batch_size(finetune),
        replicated=why_not_replicated(shape, finetune, hardware),
        remedies=training_remedies(shape, finetune, hardware, ladder, first),
        warnings=_warnings(finetune, hardware, first or ladder[0]),
    )


def _reason(
    ladder: tuple[RungFit, ...], first: RungFit | None, finetune: Finetune, hardware: Hardware
) -> str:
    smallest = smallest_gpu(hardware.gpus, finetune)
    if finetune.device == "cuda" and smallest is None:
        have = len(hardware.gpus) or "no"
        return f"{finetune.processes} process(es) need a GPU each; there is {have}."
    if first is None:
        return f"No rung fits: {_lack(ladder[-1], smallest, hardware)}."
    where = "as asked" if first.number == 1 else f"from rung {first.number} on ({first.rung.name})"
    need = f"{readable(first.host_bytes)} of {readable(hardware.memory_bytes)} host memory"
    close = first.host_bytes > CLOSE * hardware.memory_bytes
    if smallest is not None:
        need = f"{readable(first.gpu_bytes)} of {readable(smallest.memory_bytes)} a GPU, {need}"
        close = close or first.gpu_bytes > CLOSE * smallest.memory_bytes
    text = f"Fits {where}: {need}."
    if first.number > 1:
        text += f" Rung 1 does not: {_lack(ladder[0], smallest, hardware)}."
    return text + (" This is close: less than 5% is left." if close else "")


def _lack(fit: RungFit, gpu: Gpu | None, hardware: Hardware) -> str:
    lacks = []
    if gpu is not None and not fit.gpu_fits:
        lacks.append(f"{readable(fit.gpu_bytes)} a GPU, which has {readable(gpu.memory_bytes)}")
    if not fit.host_fits:
        there = readable(hardware.memory_bytes)
        lacks.append(f"{readable(fit.host_bytes)} of host memory, where {there} is")
    return f"{fit.rung.name!r} needs {' and '.join(lacks)}"


def _warnings(finetune: Finetune, hardware: Hardware, fit: RungFit) -> tuple[str, ...]:
    long = duration_warning(finetune, fit.seconds)
    if finetune.device == "cpu":
        precision = precision_warning(finetune, hardware)
    else:
        precision = _without_bfloat16(finetune, hardware)
    return tuple(text for text in (precision, long) if text)


def _without_bfloat16(finetune: Finetune, hardware: Hardware) -> str | None:
    old = sorted({gpu.name for gpu in hardware.gpus if not gpu.bfloat16})
    if finetune.precision != "bfloat16" or not old:
        return None
    return f"{', '.join(old)} has no bfloat16: set finetune.precision: float16."
