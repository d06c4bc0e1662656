"""One rung of the ladder on one machine: what it needs, and whether GPUs and host have it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.machine.gpus import Gpu
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.cpu_time import training_seconds_on_cpu
from tasks.core.planning.gpu_time import training_seconds
from tasks.core.planning.rungs import Rung, rungs
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Rates, trained_tokens
from tasks.core.planning.training import TrainingMemory, training_memory
from tasks.core.recipe import Finetune


@dataclass(frozen=True)
class RungFit:
    """One rung on this hardware: what it needs, and whether GPUs and host have it."""

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
        """Whether both the GPUs and the host have what it needs."""
        return self.gpu_fits and self.host_fits


def fit_ladder(
    shape: ModelShape,
    finetune: Finetune,
    hardware: Hardware,
    *,
    training_tokens: int | None = None,
    conversation_tokens: float | None = None,
    rates: Rates | None = None,
) -> tuple[RungFit, ...]:
    """Return every rung of the ladder below these settings, judged against this hardware."""
    gpu = smallest_gpu(hardware.gpus, finetune)
    fits = []
    for number, rung in enumerate(rungs(finetune), start=1):
        memory = training_memory(shape, rung.settings)
        seconds = None
        if finetune.device == "cpu" and hardware.cpu_speed is not None:
            tokens = trained_tokens(finetune, training_tokens, conversation_tokens)
            seconds = training_seconds_on_cpu(shape, rung.settings, hardware.cpu_speed, tokens)
        elif gpu is not None and gpu.speed is not None:
            seconds = training_seconds(
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
    """Return the smallest of the GPUs that training would use, or None when there are too few."""
    if finetune.device == "cpu" or finetune.processes > len(gpus):
        return None
    return min(gpus[: finetune.processes], key=lambda gpu: gpu.memory_bytes)
