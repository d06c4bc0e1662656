"""What this machine has: memory, disk, cores, CPU and GPUs.

Covers memory (the machine's, and the limit that cgroup v1 or v2 sets for this process), free disk,
the cores that this process may use, the CPU's speed on request, and NVIDIA GPUs through
nvidia-ml-py. Not covered: GPUs of other makers, and MIG slices, which count as their whole card.
Nothing is changed or reserved.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tasks.core.files.disk_space import free_bytes
from tasks.core.machine.cpu import UNKNOWN_CPU, Cpu, read_cpu
from tasks.core.machine.gpus import Gpu, known_card
from tasks.core.machine.speed import (
    CpuSpeed,
    LinkSpeed,
    measured_cpu_speed,
    measured_link,
    recorded_link,
)
from tasks.core.system.cores import usable_cores

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_IDLE = 0.9
"""The free share of an idle GPU's memory; containers hide the processes of others."""
USABLE_MEMORY_SHARE = 0.8
"""The share of free memory that a model's weights may take; the rest is for activations."""

T = TypeVar("T")


@dataclass(frozen=True)
class Hardware:
    """A machine to plan for: this one, or one with GPUs that the user named."""

    memory_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int
    cores: int
    gpus: tuple[Gpu, ...]
    gpus_named: bool = False
    gpu_note: str | None = None
    cpu: Cpu = UNKNOWN_CPU
    cpu_speed: CpuSpeed | None = None
    link: LinkSpeed | None = None


@dataclass(frozen=True)
class GpuUse:
    """The use of one card at this moment. In a container the driver may hide others' processes."""

    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int
    pids: tuple[int, ...]


def read_hardware(home: Path) -> Hardware:
    """Return what this machine has, with the free space of the disk that holds home."""
    memory = psutil.virtual_memory()
    limit = cgroup_memory_limit()
    total = memory.total if limit is None else min(memory.total, limit)
    gpus, note = read_gpus()
    return Hardware(
        memory_bytes=total,
        memory_available_bytes=min(memory.available, total),
        disk_free_bytes=free_bytes(home),
        cores=usable_cores(),
        gpus=gpus,
        gpu_note=note,
        cpu=read_cpu(),
    )


def with_speed(hardware: Hardware, home: Path) -> Hardware:
    """Return this machine with its CPU's speed, measured once and recorded under home."""
    return replace(hardware, cpu_speed=measured_cpu_speed(home))


def with_link(hardware: Hardware, home: Path) -> Hardware:
    """Return this machine with the speed of its link to the GPU, measured once.

    While anybody computes on the first GPU, only a recorded measurement is used.
    """
    if not hardware.gpus or hardware.gpus_named:
        return hardware
    use = read_gpu_use()
    ids = [gpu.uuid for gpu in use]
    is_idle = bool(use) and not use[0].pids and use[0].free_bytes > _IDLE * use[0].memory_bytes
    return replace(hardware, link=(measured_link if is_idle else recorded_link)(home, ids))


def with_gpus(hardware: Hardware, gpus: tuple[Gpu, ...]) -> Hardware:
    """Return this machine as if it had the GPUs that the user named."""
    return replace(hardware, gpus=gpus, gpus_named=True, gpu_note=None, link=None)


def cgroup_memory_limit(*, proc: Path = _PROC, root: Path = _CGROUP_ROOT) -> int | None:
    """Return the lowest memory limit on this process, in bytes, or None without one.

    Both versions are read, for the process's own group and every group above it. Version 1 writes
    "no limit" as a number near 2**63, version 2 as "max".
    """
    limits = []
    for file in _limit_files(proc, root):
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:  # a group above is not visible from inside a container
            continue
        if text.isdigit() and int(text) < 1 << 60:
            limits.append(int(text))
    return min(limits, default=None)


def _limit_files(proc: Path, root: Path) -> Iterator[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for each in (group, *group.parents):
            yield top / each / name


def read_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """Return the NVIDIA GPUs in CUDA_VISIBLE_DEVICES, or the reason why there are none."""
    return _each_visible(_gpu)


def read_gpu_use() -> tuple[GpuUse, ...]:
    """Return who uses how much of each GPU in CUDA_VISIBLE_DEVICES, in its order."""
    return _each_visible(_gpu_use)[0]


def _each_visible(read: Callable[[Any, Any], T]) -> tuple[tuple[T, ...], str | None]:
    """Return read(NVML, handle) for each visible GPU, or the reason why there are none."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return (
            (),
            "nvidia-ml-py is not installed, so GPUs cannot be seen (pip install nvidia-ml-py)",
        )
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"no NVIDIA driver answers: {error}"
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        visible = _visible(len(handles), [_text(nvml.nvmlDeviceGetUUID(h)) for h in handles])
        found = tuple(read(nvml, handles[index]) for index in visible)
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver does not say which GPUs there are: {error}"
    finally:
        nvml.nvmlShutdown()
    return found, None if found else "the driver shows no GPU that CUDA_VISIBLE_DEVICES allows"


def _gpu_use(nvml: Any, handle: Any) -> GpuUse:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return GpuUse(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(memory.total),
        free_bytes=int(memory.free),
        pids=tuple(each.pid for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    )


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name = _text(nvml.nvmlDeviceGetName(handle))
    memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    major, _ = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    known = known_card(name)
    return Gpu(
        name,
        memory_bytes,
        known.speed if known else None,
        bfloat16=major >= 8,
    )


def _visible(count: int, uuids: list[str]) -> list[int]:
    """Return the indices in CUDA_VISIBLE_DEVICES, in its order, up to the first invalid one."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return list(range(count))
    chosen: list[int] = []
    for word in (part.strip() for part in setting.split(",")):
        by_uuid = [i for i, uuid in enumerate(uuids) if word and uuid.startswith(word)]
        index = int(word) if word.isdigit() else (by_uuid[0] if by_uuid else -1)
        if not 0 <= index < count:
            break
        chosen.append(index)
    return chosen


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # older bindings give bytes
