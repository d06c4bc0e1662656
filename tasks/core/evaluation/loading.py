"""Load a model of any size for measuring, and read the peak memory.

On a GPU the model keeps its stored type; layers that do not fit stay in host memory and are moved
in one by one. A CPU computes in the type that `machine.cpu` chooses, or in the stored type if only
that fits; layers that do not fit even then stay on the disk and are read one by one. The figures
name the type.
"""

import logging
import resource
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tasks.core.files.foreign import understood
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.machine.hardware import USABLE_MEMORY_SHARE, read_hardware
from tasks.core.planning.shape import DTYPE_BYTES, dtype_of
from tasks.core.recipe import Dtype, Evaluate
from tasks.core.weights.index import weight_files_of

_log = logging.getLogger(__name__)

_VMHWM_RESET = "5"  # proc(5), /proc/PID/clear_refs


def load_model(path: Path, settings: Evaluate, scratch: Path) -> PreTrainedModel:
    """Return the model of this directory, ready to measure.

    `scratch` is where accelerate keeps its index of layers that stay on the disk.
    """
    room_bytes = int(read_hardware(scratch).memory_available_bytes * USABLE_MEMORY_SHARE)
    if settings.device == "cuda":
        return _load(path, dtype="auto", device_map="auto", offload_folder=scratch)
    dtype = compute_dtype(dtype_of(path), read_cpu())
    if _bytes_in(dtype, path) <= room_bytes:
        return _load(path, dtype=getattr(torch, dtype))
    return _load(
        path,
        dtype="auto",
        device_map="auto",
        max_memory={"cpu": room_bytes},
        offload_folder=scratch,
    )


def reset_peak_memory(device: str) -> None:
    """Reset the peak, so that each model has its own. Needs Linux."""
    if device == "cuda":
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_VMHWM_RESET)
    except OSError as error:
        _log.debug("the peak of memory cannot be reset: %s", error)


def peak_memory_bytes(device: str) -> int:
    """Return the peak since the reset: of the GPUs, or of this process including mapped files."""
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


def _bytes_in(dtype: Dtype, path: Path) -> int:
    """Return an upper bound of the weights' size in this type, assuming 16 bits on the disk."""
    stored = sum((path / name).stat().st_size for name in weight_files_of(path).files)
    return DTYPE_BYTES[dtype] * stored // 2
