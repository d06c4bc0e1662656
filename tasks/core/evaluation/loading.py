"""A model in memory for measuring, however large, and what its peak was.

A GPU takes the model as it is stored; what does not fit goes to the host and is brought in layer by
layer. A CPU computes in float32, where half precision is slow, unless only the stored type fits;
what does not fit even so stays on the disk and is read layer by layer. The figures say the type.
"""

import ctypes
import logging
import resource
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tasks.core.foreign import understood
from tasks.core.planning.hardware import read_hardware
from tasks.core.recipe import Evaluate
from tasks.core.weights.index import weight_files_of

_log = logging.getLogger(__name__)

_CPU_SHARE = 0.8  # of the free memory; the rest is for activations and distributions
_VMHWM_RESET = "5"  # proc(5), /proc/PID/clear_refs


def load_model(path: Path, settings: Evaluate, scratch: Path) -> PreTrainedModel:
    """Return the model of this directory, ready to measure.

    `scratch` is where accelerate keeps its index of layers that stay on the disk.
    """
    room_bytes = int(read_hardware(scratch).memory_available_bytes * _CPU_SHARE)
    if settings.device == "cuda":
        return _load(path, dtype="auto", device_map="auto", offload_folder=scratch)
    if _float32_bytes(path) <= room_bytes:
        return _load(path, dtype=torch.float32)
    return _load(
        path,
        dtype="auto",
        device_map="auto",
        max_memory={"cpu": room_bytes},
        offload_folder=scratch,
    )


def reset_peak_memory(device: str) -> None:
    """Forget the peak so far, so that each model has its own. It needs Linux."""
    if device == "cuda":
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_VMHWM_RESET)
    except OSError as error:
        _log.debug("the peak of memory cannot be reset: %s", error)


def return_freed_memory() -> None:
    """Give back to the system what a model took: glibc keeps it, 0.4 GB after one of 135M."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and needs none
    if trim is not None:
        trim(0)


def peak_memory_bytes(device: str) -> int:
    """Return the peak since the reset: of the GPUs, or of this process, mapped files included."""
    if device == "cuda":
        return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _load(path: Path, **options: object) -> PreTrainedModel:
    with understood("the model", path):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path, trust_remote_code=True, **options
        )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _float32_bytes(path: Path) -> int:
    """Return an upper bound of the weights' size in float32: as if they were stored in 16 bits."""
    return 2 * sum((path / name).stat().st_size for name in weight_files_of(path).files)
