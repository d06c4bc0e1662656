"""How fast this machine computes and moves weights, measured once and recorded.

Covers the CPU's matrix products, and copies from the host's memory to the first GPU. For those the
slot decides as much as the card: eight lanes or sixteen, PCIe 3 or 5, a virtual machine's share.

A measurement takes some seconds in a process of its own (`probe`), since planning never imports
torch. Its record lies under the home directory, named by everything that decides the figures: CPU,
cores, threads, GPUs, torch's version. If other work disturbed a measurement of the CPU, its record
expires after an hour and the first undisturbed one replaces it, so that a machine that is always
busy is not measured for every plan. Other work only ever slows a product down: of two disturbed
measurements the faster figures count. A machine that cannot be measured (no torch, no time) has no
speed; that is not an error, and plans then use common rates.
"""

import hashlib
import importlib.metadata
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from tasks.core.files.durable import write_atomically
from tasks.core.home import PROJECT
from tasks.core.machine.cpu import Cpu, read_cpu
from tasks.core.process.environment import child_environment
from tasks.core.recipe import Dtype
from tasks.core.system.cores import usable_cores

_log = logging.getLogger(__name__)

Products = Literal["training", "forward"]
Probed = Literal["cpu", "link"]
M = TypeVar("M", bound=BaseModel)

VERSION = 1
_PROBE = "tasks.core.machine.probe"
_DISTURBED_FOR_S = 3600.0
_TIMEOUT_S = 120.0  # a quiet machine takes 3 s, most of that `import torch`


class TypeSpeed(BaseModel):
    """What all cores together reach in one type.

    The matrix products of a forward pass (x @ w.T) and of a backward pass (g @ w), in operations a
    second, and the weights that a single token's products read, in bytes a second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    forward_flops_per_s: PositiveFloat
    backward_flops_per_s: PositiveFloat
    read_bytes_per_s: PositiveFloat


class CpuSpeed(BaseModel):
    """The measured speed of one CPU, by type; a type that torch cannot multiply is left out.

    busy: other work took part of the cores during the measurement.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    types: Mapping[Dtype, TypeSpeed]
    busy: bool
    threads: int
    capability: str
    torch: str

    def or_faster(self, other: "CpuSpeed | None") -> "CpuSpeed":
        """Return this measurement, with each figure that is faster in the other one."""
        if other is None:
            return self
        types = {**other.types, **self.types}
        both = self.types.keys() & other.types.keys()
        types |= {dtype: _faster(self.types[dtype], other.types[dtype]) for dtype in both}
        return self.model_copy(update={"types": types})

    def slowdown(self, dtype: Dtype, products: Products) -> float | None:
        """Return how many times slower these products are in this type than in float32."""
        if dtype not in self.types or "float32" not in self.types:
            return None
        this, fp32 = self.types[dtype], self.types["float32"]
        return _relative_seconds(this, products) / _relative_seconds(fp32, products)


class LinkSpeed(BaseModel):
    """Bytes a second from the host to the first GPU: from page-locked memory, and from ordinary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pinned_bytes_per_s: PositiveFloat
    pageable_bytes_per_s: PositiveFloat


def measured_cpu_speed(home: Path) -> CpuSpeed | None:
    """Return this CPU's speed, from its record or a new measurement; None if impossible."""
    try:
        record = _cpu_record(home, read_cpu())
    except importlib.metadata.PackageNotFoundError:
        _log.info("the CPU is not measured: torch is not installed")
        return None
    before = _read_record(record, CpuSpeed)
    if before is not None and (not before.busy or _is_recent(record)):
        return before
    found = _run_probe("cpu", CpuSpeed, {"CUDA_VISIBLE_DEVICES": ""})
    if found is None:
        return before
    if found.busy:
        found = found.or_faster(before)
    _write_record(record, found)
    return found


def recorded_link(home: Path, gpus: Sequence[str]) -> LinkSpeed | None:
    """Return the recorded link of a machine whose GPUs have these ids; nothing is started."""
    record = _link_record(home, gpus)
    return None if record is None else _read_record(record, LinkSpeed)


def measured_link(home: Path, gpus: Sequence[str]) -> LinkSpeed | None:
    """Return the recorded link, or measure it now; None where that is impossible.

    Call this only while nobody else computes on the GPU: it takes half a gigabyte there, and other
    transfers would distort the result.
    """
    if (known := recorded_link(home, gpus)) is not None:
        return known
    record = _link_record(home, gpus)
    if record is None or (link := _run_probe("link", LinkSpeed, {})) is None:
        return None
    _write_record(record, link)
    return link


def _cpu_record(home: Path, cpu: Cpu) -> Path:
    """Return the file of this CPU's measurement, named by everything that decides it."""
    decides = [
        VERSION,
        cpu.model,
        cpu.units,
        usable_cores(),
        [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")],
        [os.environ.get(name) for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")],
        importlib.metadata.version("torch"),
    ]
    return _record(home, "cpu", decides)


def _link_record(home: Path, gpus: Sequence[str]) -> Path | None:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        _log.info("the link to the GPU is not measured: torch is not installed")
        return None
    return _record(home, "link", [VERSION, *gpus, torch])


def _record(home: Path, probed: Probed, decides: list[object]) -> Path:
    digest = hashlib.sha256(repr(decides).encode()).hexdigest()
    return home / "machine" / f"{probed}-{digest[:16]}.json"


def _read_record(path: Path, kind: type[M]) -> M | None:
    """Return an earlier measurement; None without one, or if its record is damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_recent(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < _DISTURBED_FOR_S
    except OSError:
        return False


def _write_record(path: Path, measured: BaseModel) -> None:
    """Record a measurement; one that cannot be written is only logged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, measured.model_dump_json(indent=1) + "\n")
    except OSError as error:
        _log.info("a measurement of this machine is not recorded: %s", error)


def _run_probe(probed: Probed, kind: type[M], env: Mapping[str, str]) -> M | None:
    """Return what the probe prints, run in a process of its own; None if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", _PROBE, probed],
            cwd=PROJECT,
            env={**child_environment(os.environ), **env},
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return kind.model_validate_json(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValidationError, IndexError) as error:
        _log.info("%s %s measured nothing: %s", _PROBE, probed, error)
        return None


def _faster(a: TypeSpeed, b: TypeSpeed) -> TypeSpeed:
    return TypeSpeed(**{name: max(figure, getattr(b, name)) for name, figure in a})


def _relative_seconds(speed: TypeSpeed, products: Products) -> float:
    forward, backward = 1 / speed.forward_flops_per_s, 1 / speed.backward_flops_per_s
    return forward + backward if products == "training" else forward
