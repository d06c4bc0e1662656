"""How fast this machine's CPU computes, measured for a moment and kept.

The measurement runs in a short process of its own, since planning never imports torch. It is kept
under the home directory by what decides it: CPU, cores, threads and torch's version. One that other
work disturbed is kept for an hour, and replaced by the first undisturbed one: a machine that is
always busy is not measured at every plan. Other work only ever slows a product down, so of two
disturbed measurements the faster figures count. A machine that cannot be measured (no torch, no
time) has no speed, and that is no error.
"""

import hashlib
import importlib.metadata
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
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
M = TypeVar("M", bound=BaseModel)

VERSION = 1
_PROBE = "tasks.core.machine.probe"
_DISTURBED_FOR_S = 3600.0
_PATIENCE_S = 120.0  # it takes 3 s on a quiet machine, most of that `import torch`


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
    """What was measured on one machine, by type; a type that torch cannot multiply is left out.

    busy: other work took a part of the cores meanwhile.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    types: Mapping[Dtype, TypeSpeed]
    busy: bool
    threads: int
    capability: str
    torch: str

    def or_faster(self, other: "CpuSpeed | None") -> "CpuSpeed":
        """Return this measurement with each figure of another one that is faster."""
        if other is None:
            return self
        types = {**other.types, **self.types}
        both = self.types.keys() & other.types.keys()
        types |= {dtype: _faster(self.types[dtype], other.types[dtype]) for dtype in both}
        return self.model_copy(update={"types": types})

    def slowdown(self, dtype: Dtype, products: Products) -> float | None:
        """Return how many times slower than in float32 these products are in this type."""
        if dtype not in self.types or "float32" not in self.types:
            return None
        this, fp32 = self.types[dtype], self.types["float32"]
        return _relative_seconds(this, products) / _relative_seconds(fp32, products)


def measured_speed(home: Path) -> CpuSpeed | None:
    """Return this machine's speed, from an earlier measurement or a new one; None if impossible."""
    try:
        path = _record(home, read_cpu())
    except importlib.metadata.PackageNotFoundError:
        _log.info("the CPU is not measured: torch is not installed")
        return None
    before = kept(path, CpuSpeed)
    if before is not None and (not before.busy or _is_recent(path)):
        return before
    found = ask(_PROBE, CpuSpeed, {"CUDA_VISIBLE_DEVICES": ""})
    if found is None:
        return before
    if found.busy:
        found = found.or_faster(before)
    keep(path, found)
    return found


def _record(home: Path, cpu: Cpu) -> Path:
    """Return the file of this machine's measurement, named by all that decides it."""
    decides = [
        VERSION,
        cpu.model,
        cpu.units,
        usable_cores(),
        [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")],
        [os.environ.get(name) for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")],
        importlib.metadata.version("torch"),
    ]
    digest = hashlib.sha256(repr(decides).encode()).hexdigest()
    return home / "machine" / f"cpu-{digest[:16]}.json"


def kept(path: Path, kind: type[M]) -> M | None:
    """Return an earlier measurement; None where none is there yet, or it is damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_recent(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < _DISTURBED_FOR_S
    except OSError:
        return False


def ask(probe: str, kind: type[M], env: Mapping[str, str]) -> M | None:
    """Return what a module that measures prints, run in a process of its own; None if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", probe],
            cwd=PROJECT,
            env={**child_environment(os.environ), **env},
            capture_output=True,
            timeout=_PATIENCE_S,
            check=True,
        )
        return kind.model_validate_json(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValidationError, IndexError) as error:
        _log.info("%s measured nothing: %s", probe, error)
        return None


def keep(path: Path, measured: BaseModel) -> None:
    """Keep a measurement, if the disk takes it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, measured.model_dump_json(indent=1) + "\n")
    except OSError as error:
        _log.info("a measurement of this machine is not kept: %s", error)


def _faster(a: TypeSpeed, b: TypeSpeed) -> TypeSpeed:
    return TypeSpeed(**{name: max(figure, getattr(b, name)) for name, figure in a})


def _relative_seconds(speed: TypeSpeed, products: Products) -> float:
    forward, backward = 1 / speed.forward_flops_per_s, 1 / speed.backward_flops_per_s
    return forward + backward if products == "training" else forward
