"""Which rung of a ladder can work at all, and which lower one needs less of what ran out."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import NotAModel, RecipeError
from tasks.core.machine.devices import MemoryKind
from tasks.core.machine.hardware import read_gpus
from tasks.core.planning.rungs import Rung, smallest_gpu
from tasks.core.planning.shape import shape_of
from tasks.core.planning.training_memory import TrainingMemory, training_memory
from tasks.core.units import readable

_log = logging.getLogger(__name__)


def first_possible(rungs: Sequence[Rung], model: Path) -> int:
    """Return the number of the first rung whose weights alone fit a GPU.

    1 where no rung's do, or where nothing is known. Trying the rungs above it would only cost the
    loading of the model on each of them.
    """
    settings = rungs[0].settings
    if settings.device == "cpu" or settings.hostfile is not None:
        return 1
    gpu, needs = smallest_gpu(read_gpus()[0], settings), _needs(rungs, model)
    if gpu is None or needs is None:
        return 1
    weights = [sum(term.bytes for term in need.gpu if term.name == "weights") for need in needs]
    first = next((number for number, held in enumerate(weights, 1) if held <= gpu.memory_bytes), 1)
    if first > 1:
        _log.info(
            "Starting on rung %d, %s: above it, %s of weights do not fit into a GPU of %s.",
            first,
            rungs[first - 1].name,
            readable(weights[0]),
            readable(gpu.memory_bytes),
        )
    return first


def next_rung(rungs: Sequence[Rung], number: int, memory: MemoryKind, model: Path) -> int | None:
    """Return the number of the next rung that needs less of this memory; None without one."""
    below = range(number + 1, len(rungs) + 1)
    needs = _needs(rungs, model)
    if needs is None:
        return next(iter(below), None)
    short = [need.gpu_bytes if memory == "device" else need.host_bytes for need in needs]
    return next((lower for lower in below if short[lower - 1] < short[number - 1]), None)


def gpu_bytes_of(rung: Rung, model: Path) -> int | None:
    """Return what the rung needs on each GPU; None for a model that cannot be planned."""
    needs = _needs([rung], model)
    return None if needs is None else needs[0].gpu_bytes


def _needs(rungs: Sequence[Rung], model: Path) -> list[TrainingMemory] | None:
    """Return what each rung needs; None for a model that cannot be planned."""
    try:
        shape = shape_of(model)
        return [training_memory(shape, rung.settings) for rung in rungs]
    except (NotAModel, RecipeError):
        return None
