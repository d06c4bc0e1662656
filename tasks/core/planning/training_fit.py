"""Which rung training can start on, why not a higher one, and what would help.

Covers the comparison of each rung's need with the smallest GPU and the host's memory. Not covered:
whether the data is good, and whether the settings learn anything. Each remedy is computed for the
machine at hand: what it names does fit.
"""

from dataclasses import dataclass
from typing import Literal

from tasks.core.machine.gpus import Gpu, known_card, known_cards
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.batch import global_batch_size
from tasks.core.planning.rungs import RungFit, fit_rungs, smallest_gpu
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.times import Rates, slower_than_float32
from tasks.core.recipe import Finetune
from tasks.core.units import GIB, about, readable

LONG_S = 24 * 3600.0
SHORTEST_CONVERSATION_TOKENS = 512

FitVerdict = Literal["fits", "fits from a lower rung", "does not fit"]
CLOSE = 0.95


@dataclass(frozen=True)
class TrainingFit:
    """Every rung on this hardware, and the verdict in words."""

    verdict: FitVerdict
    reason: str
    rungs: tuple[RungFit, ...]
    first_fitting: int | None
    global_batch_size: int
    replicated: str | None
    remedies: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def shown(self) -> RungFit:
        """The first rung that fits; rung 1 if none does."""
        return self.rungs[(self.first_fitting or 1) - 1]


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
    rungs = fit_rungs(
        shape,
        finetune,
        hardware,
        training_tokens=training_tokens,
        conversation_tokens=conversation_tokens,
        rates=rates,
    )
    first = next((fit for fit in rungs if fit.fits), None)
    verdict: FitVerdict = "does not fit"
    if first is not None:
        verdict = "fits" if first.number == 1 else "fits from a lower rung"
    return TrainingFit(
        verdict=verdict,
        reason=_reason(rungs, first, finetune, hardware),
        rungs=rungs,
        first_fitting=first.number if first else None,
        global_batch_size=global_batch_size(finetune),
        replicated=_why_not_replicated(shape, finetune, hardware),
        remedies=_remedies(shape, finetune, hardware, rungs, first),
        warnings=_warnings(finetune, hardware, first or rungs[0]),
    )


def _reason(
    rungs: tuple[RungFit, ...], first: RungFit | None, finetune: Finetune, hardware: Hardware
) -> str:
    smallest = smallest_gpu(hardware.gpus, finetune)
    if finetune.device == "cuda" and smallest is None:
        have = len(hardware.gpus) or "none"
        return f"{finetune.processes} process(es) need one GPU each; this machine has {have}."
    if first is None:
        return f"No rung fits: {_lack(rungs[-1], smallest, hardware)}."
    where = "as asked" if first.number == 1 else f"from rung {first.number} on ({first.rung.name})"
    need = f"{readable(first.host_bytes)} of {readable(hardware.memory_bytes)} host memory"
    close = first.host_bytes > CLOSE * hardware.memory_bytes
    if smallest is not None:
        need = f"{readable(first.gpu_bytes)} of {readable(smallest.memory_bytes)} per GPU, {need}"
        close = close or first.gpu_bytes > CLOSE * smallest.memory_bytes
    text = f"Fits {where}: {need}."
    if first.number > 1:
        text += f" Rung 1 does not: {_lack(rungs[0], smallest, hardware)}."
    return text + (" This is close: less than 5% is left." if close else "")


def _lack(fit: RungFit, gpu: Gpu | None, hardware: Hardware) -> str:
    lacks = []
    if gpu is not None and not fit.gpu_fits:
        lacks.append(f"{readable(fit.gpu_bytes)} per GPU ({readable(gpu.memory_bytes)} available)")
    if not fit.host_fits:
        there = readable(hardware.memory_bytes)
        lacks.append(f"{readable(fit.host_bytes)} of host memory ({there} available)")
    return f"{fit.rung.name!r} needs {' and '.join(lacks)}"


def _why_not_replicated(shape: ModelShape, finetune: Finetune, hardware: Hardware) -> str | None:
    """Return why training without ZeRO-3 cannot work here; None if it can."""
    weights = shape.weight_bytes(finetune.precision)
    smallest = min(hardware.gpus, key=lambda gpu: gpu.memory_bytes, default=None)
    if finetune.device == "cpu" or smallest is None or weights <= smallest.memory_bytes:
        return None
    room = readable(smallest.memory_bytes)
    return (
        f"Without ZeRO-3 every GPU holds a whole copy of the weights: {readable(weights)} in "
        f"{finetune.precision}, more than the {room} of {smallest.name}, "
        "whatever the batch size. This is how the original fine-tune (13B with LoRA on two 24 GB "
        "cards) ran out of memory."
    )


def _remedies(
    shape: ModelShape,
    finetune: Finetune,
    hardware: Hardware,
    rungs: tuple[RungFit, ...],
    first: RungFit | None,
) -> tuple[str, ...]:
    """Return what to change; nothing if rung 1 fits. first: the first rung that fits."""
    if first is not None and first.number == 1:
        return ()
    return tuple(
        advice
        for advice in (
            _more_processes(shape, finetune, hardware, first),
            None if first else _larger_gpu(rungs, finetune),
            None if first else _more_host(rungs, hardware),
            None if first else _shorter(shape, finetune, hardware),
        )
        if advice
    )


def _more_processes(
    shape: ModelShape, finetune: Finetune, hardware: Hardware, first: RungFit | None
) -> str | None:
    """Return how to use the GPUs that the recipe leaves idle, if a higher rung then fits."""
    count, samples = len(hardware.gpus), global_batch_size(finetune)
    a_round = count * finetune.micro_batch_size
    if finetune.device == "cpu" or count <= finetune.processes or samples % a_round:
        return None
    accumulation = samples // a_round
    wider = finetune.model_copy(
        update={"processes": count, "gradient_accumulation_steps": accumulation, "zero_stage": 3}
    )
    fits = fit_rungs(shape, wider, hardware)
    better = next((fit for fit in fits if fit.fits), None)
    if better is None or (first is not None and better.number >= first.number):
        return None
    return (
        f"Use all {count} GPUs: finetune.processes: {count}, zero_stage: 3, "
        f"gradient_accumulation_steps: {accumulation} (the same global batch of {samples}) fits "
        f"on rung {better.number} ({better.rung.name}) with {readable(better.gpu_bytes)} per GPU."
    )


def _larger_gpu(rungs: tuple[RungFit, ...], finetune: Finetune) -> str | None:
    """Return the smallest card on which a rung fits whose host memory is available."""
    needs = [fit.gpu_bytes for fit in rungs if fit.host_fits]
    if finetune.device == "cpu" or not needs:
        return None
    need = min(needs)
    cards = (card for name in known_cards() if (card := known_card(name)))
    enough = [card for card in cards if card.memory_bytes >= need]
    such = f", such as {min(enough, key=lambda card: card.memory_bytes).name}" if enough else ""
    return f"GPUs of at least {-(-need // GIB)} GiB, {finetune.processes} of them{such}."


def _more_host(rungs: tuple[RungFit, ...], hardware: Hardware) -> str | None:
    needs = [fit.host_bytes for fit in rungs if fit.gpu_fits and not fit.host_fits]
    if not needs:
        return None
    return f"{readable(min(needs))} of host memory instead of {readable(hardware.memory_bytes)}."


def _shorter(shape: ModelShape, finetune: Finetune, hardware: Hardware) -> str | None:
    half = finetune.max_length_tokens // 2
    if half < SHORTEST_CONVERSATION_TOKENS:
        return None
    shorter = finetune.model_copy(update={"max_length_tokens": half})
    if not any(fit.fits for fit in fit_rungs(shape, shorter, hardware)):
        return None
    return f"finetune.max_length_tokens: {half}, which truncates longer conversations."


def _warnings(finetune: Finetune, hardware: Hardware, fit: RungFit) -> tuple[str, ...]:
    long = _duration_warning(finetune, fit.seconds)
    if finetune.device == "cpu":
        precision = _precision_warning(finetune, hardware)
    else:
        precision = _without_bfloat16(finetune, hardware)
    return tuple(text for text in (precision, long) if text)


def _precision_warning(finetune: Finetune, hardware: Hardware) -> str | None:
    """Return what training in 16 bits costs on this CPU; None if it costs nothing."""
    slower = slower_than_float32(finetune.precision, "training", hardware)
    if slower is None:
        return None
    return (
        f"finetune.precision: {finetune.precision} is {slower} "
        "Write `finetune.precision: float32` in the recipe."
    )


def _without_bfloat16(finetune: Finetune, hardware: Hardware) -> str | None:
    old = sorted({gpu.name for gpu in hardware.gpus if not gpu.bfloat16})
    if finetune.precision != "bfloat16" or not old:
        return None
    return f"{', '.join(old)} has no bfloat16: set finetune.precision: float16."


def _duration_warning(finetune: Finetune, seconds: float | None) -> str | None:
    """Return how long the training takes; None for less than a day."""
    if seconds is None or seconds < LONG_S:
        return None
    shorter = "finetune.max_steps, epochs and max_length_tokens make it shorter."
    if finetune.device == "cpu":
        shorter += " `kawan-usaha plan RECIPE --gpus 1xL4`, with `device: cuda`, plans for a GPU."
    return f"The fine-tune takes {about(seconds)}. {shorter}"
