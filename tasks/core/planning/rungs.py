"""The rungs that training steps down after an out-of-memory error, as data, and which of them fit.

Each rung keeps what the ones above it changed, and `global_batch_size` (micro batch *
accumulation * processes) is the same on every one, so that a run can resume from its checkpoint a
rung lower. `training.ladder` steps down them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.core.machine.gpus import Gpu
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.batch import trained_tokens
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.times import (
    Rates,
    training_seconds_on_cpu,
    training_seconds_on_gpus,
)
from tasks.core.planning.training_memory import TrainingMemory, training_memory
from tasks.core.recipe import Finetune


@dataclass(frozen=True)
class Rung:
    """One set of complete settings for the same training, and what it means to the user."""

    name: str
    settings: Finetune
    changes: str
    saves: str
    costs: str


def rungs_of(finetune: Finetune) -> list[Rung]:
    """Return the rungs, from the settings as asked to those that need the least memory.

    Rungs that would change nothing are left out: a recipe that asks for ZeRO-3 and gradient
    checkpointing has few. With several processes ZeRO-3 is tried before its offload, which is
    slower and needs host memory. On the CPU nothing is offloaded or quantized, because the host's
    memory is the device's. A recipe that asks for 4 bits keeps them: several GPUs can divide
    bitsandbytes' weights, but those are not offloaded.
    """
    first = Rung("as asked", finetune, "nothing", "nothing", "nothing")
    rungs = [first, *_smaller_micro_batches(finetune)]
    for step in _STEPS:
        rung = step(rungs[-1].settings)
        if rung is not None and rung.settings != rungs[-1].settings:
            rungs.append(rung)
    return rungs


def _smaller_micro_batches(finetune: Finetune) -> Iterator[Rung]:
    """Yield one rung for each halving; an odd micro batch falls to its largest divisor."""
    micro, accumulation = finetune.micro_batch_size, finetune.gradient_accumulation_steps
    rows = "pair(s)" if finetune.method == "dpo" else "conversation(s)"
    while micro > 1:
        factor = next(n for n in range(2, micro + 1) if micro % n == 0)
        micro, accumulation = micro // factor, accumulation * factor
        settings = finetune.model_copy(
            update={"micro_batch_size": micro, "gradient_accumulation_steps": accumulation}
        )
        yield Rung(
            f"micro batch {micro}",
            settings,
            f"{micro} {rows} per device at a time, {accumulation} micro batches per step",
            f"activations and logits, to 1/{factor} of the rung before",
            "more and smaller matrix products: slower where the GPU was not fully used",
        )


def _checkpointing(now: Finetune) -> Rung:
    return Rung(
        "gradient checkpointing",
        now.model_copy(update={"gradient_checkpointing": True}),
        "each layer keeps only its input and recomputes the rest",
        "nearly all activations",
        "about a third more time",
    )


def _optimizer_offload(now: Finetune) -> Rung | None:
    if not _can_offload(now) or now.offload != "none":
        return None
    return Rung(
        "optimizer offload",
        now.model_copy(update={"offload": "optimizer", "zero_stage": max(2, now.zero_stage)}),
        "optimizer states and the update itself move to the host",
        "optimizer states: little with LoRA, where they are small",
        "host memory, and a copy of the gradients in each step",
    )


def _zero3(now: Finetune) -> Rung | None:
    if now.processes == 1 or now.offload == "all" or now.quantization == "4bit":
        return None
    return Rung(
        "ZeRO-3",
        now.model_copy(update={"zero_stage": 3}),
        "each process holds its share of the weights",
        "all weights but one share per process",
        "every layer is gathered from the other processes twice per micro batch",
    )


def _parameter_offload(now: Finetune) -> Rung | None:
    if not _can_offload(now):
        return None
    return Rung(
        "ZeRO-3 with parameter offload",
        now.model_copy(update={"zero_stage": 3, "offload": "all"}),
        "the weights stay in host memory and are copied to the GPU layer by layer",
        "all weights on the GPU but those of the layers in use",
        "the whole model in host memory; every micro batch moves it over PCIe twice",
    )


def _four_bit(now: Finetune) -> Rung | None:
    if not _can_offload(now):  # 4-bit already, or no GPU to compute it on
        return None
    return Rung(
        "4-bit",
        now.model_copy(
            update={"quantization": "4bit", "zero_stage": 2, "offload": "none"},
        ),
        "frozen weights in NF4 on every GPU (QLoRA), no offload",
        "three quarters of the weights, and the host memory of the rung before",
        "weights rounded to 4 bits, about a third more time, a whole 4-bit copy on each GPU",
    )


def _four_bit_divided(now: Finetune) -> Rung | None:
    if now.quantization != "4bit" or now.processes == 1:
        return None
    return Rung(
        "4-bit under ZeRO-3",
        now.model_copy(update={"zero_stage": 3}),
        "each process holds its share of the 4-bit weights",
        "all 4-bit weights but one share per process, once the training runs",
        "each layer is gathered twice per micro batch; each GPU holds all of it while it loads",
    )


def _pageable(now: Finetune) -> Rung | None:
    if now.offload != "all" or now.device == "cpu" or now.offload_directory is not None:
        return None
    return Rung(
        "pageable offload",
        now.model_copy(update={"pin_memory": False}),
        "offloaded weights are kept in pageable host memory",
        "host memory: page-locked pieces are rounded up to powers of two",
        "copies between host and GPU at a fraction of their speed: a fifth on an H100",
    )


_STEPS = (
    _checkpointing,
    _optimizer_offload,
    _zero3,
    _parameter_offload,
    _pageable,
    _four_bit,
    _four_bit_divided,
)


def _can_offload(now: Finetune) -> bool:
    return now.device == "cuda" and now.quantization == "none"


@dataclass(frozen=True)
class RungFit:
    """One rung on one machine: what it needs, and whether GPUs and host have it."""

    number: int
    rung: Rung
    memory: TrainingMemory
    gpu_bytes: int
    host_bytes: int
    gpu_fits: bool
    host_fits: bool
    seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether both the GPUs and the host have what the rung needs."""
        return self.gpu_fits and self.host_fits


def fit_rungs(
    shape: ModelShape,
    finetune: Finetune,
    hardware: Hardware,
    *,
    training_tokens: int | None = None,
    conversation_tokens: float | None = None,
    rates: Rates | None = None,
) -> tuple[RungFit, ...]:
    """Return every rung of these settings, compared with this hardware."""
    gpu = smallest_gpu(hardware.gpus, finetune)
    fits = []
    for number, rung in enumerate(rungs_of(finetune), start=1):
        memory = training_memory(shape, rung.settings)
        seconds = None
        if finetune.device == "cpu" and hardware.cpu_speed is not None:
            tokens = trained_tokens(finetune, training_tokens, conversation_tokens)
            seconds = training_seconds_on_cpu(shape, rung.settings, hardware.cpu_speed, tokens)
        elif gpu is not None and gpu.speed is not None:
            seconds = training_seconds_on_gpus(
                shape,
                rung.settings,
                speed=gpu.speed,
                training_tokens=training_tokens,
                rates=(rates or Rates()).over(hardware.link),
            )
        on_gpu = finetune.device == "cuda"
        fits.append(
            RungFit(
                number=number,
                rung=rung,
                memory=memory,
                gpu_bytes=memory.gpu_bytes,
                host_bytes=memory.host_bytes,
                gpu_fits=not on_gpu or (gpu is not None and memory.gpu_bytes <= gpu.memory_bytes),
                host_fits=memory.host_bytes <= hardware.memory_bytes,
                seconds=seconds,
            )
        )
    return tuple(fits)


def smallest_gpu(gpus: Sequence[Gpu], finetune: Finetune) -> Gpu | None:
    """Return the smallest of the GPUs that training would use; None if there are too few."""
    if finetune.device == "cpu" or finetune.processes > len(gpus):
        return None
    return min(gpus[: finetune.processes], key=lambda gpu: gpu.memory_bytes)
