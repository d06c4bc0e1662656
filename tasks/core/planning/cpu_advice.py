"""What a user must know before anything starts: types that a CPU has no units for, and long times.

Each text says what it costs, measured where that is possible, and what to write instead.
"""

from tasks.core.machine.hardware import Hardware
from tasks.core.machine.speed import Products
from tasks.core.recipe import Dtype, Finetune
from tasks.core.units import about, readable

LONG_S = 24 * 3600.0
_SLOWER = 1.2  # what is less is not worth a warning, nor certain


def precision_warning(finetune: Finetune, hardware: Hardware) -> str | None:
    """Return what training in 16 bits costs on this CPU, None where it is no loss."""
    slower = _slower(finetune.precision, "training", hardware)
    if slower is None:
        return None
    return (
        f"finetune.precision: {finetune.precision} is {slower} "
        "Write `finetune.precision: float32` in the recipe."
    )


def evaluation_warning(dtype: Dtype, needed_bytes: int, hardware: Hardware) -> str | None:
    """Return what evaluating in the stored type costs where float32 does not fit into memory.

    needed_bytes is what float32 needs.
    """
    slower = _slower(dtype, "forward", hardware)
    if slower is None:
        return None
    return (
        f"evaluate: a model in float32 needs {readable(needed_bytes)} of memory, where "
        f"{readable(hardware.memory_available_bytes)} are free, so it is measured in {dtype}. That "
        f"is {slower} Give it more memory, or set `evaluate.device: cuda`."
    )


def duration_warning(finetune: Finetune, seconds: float | None) -> str | None:
    """Return how long the training is, None for less than a day."""
    if seconds is None or seconds < LONG_S:
        return None
    shorter = "finetune.max_steps, epochs and max_length_tokens make it shorter."
    if finetune.device == "cpu":
        shorter += " `kawan-usaha plan RECIPE --gpus 1xL4`, with `device: cuda`, tells of a GPU."
    return f"The fine-tune takes {about(seconds)}. {shorter}"


def _slower(dtype: Dtype, products: Products, hardware: Hardware) -> str | None:
    """Return how much slower than float32 this type is here, a sentence's end; None if it is not.

    Nothing is said of the CPU of another machine, which is planned for by its GPUs alone.
    """
    if dtype == "float32" or hardware.gpus_named:
        return None
    here = f"than float32 on this CPU ({hardware.cpu})"
    factor = hardware.cpu_speed.slowdown(dtype, products) if hardware.cpu_speed else None
    if factor is None:
        unknown = dtype not in hardware.cpu.native
        return f"up to fifty times slower {here}; not measured." if unknown else None
    times = f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"
    return f"about {times} times slower {here}, as measured." if factor > _SLOWER else None
