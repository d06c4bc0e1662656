"""The types that the CPU multiplies natively, and the type to compute in.

Covers Linux on x86 and ARM; elsewhere only float32 counts as native. Never imports torch, but asks
it where it is already loaded: a build or an environment that leaves a unit unused is as slow as a
CPU without it. How slow that is, `speed` measures.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.recipe import Dtype

_PROC = Path("/proc")
_UNITS: Mapping[str, tuple[Dtype, ...]] = {
    # x86, arch/x86/include/asm/cpufeatures.h
    "avx2": (),
    "avx512f": (),
    "avx512_bf16": ("bfloat16",),
    "amx_bf16": ("bfloat16",),
    "avx512_fp16": ("float16",),
    "amx_fp16": ("float16",),
    # ARM, arch/arm64/kernel/cpuinfo.c
    "asimd": (),
    "asimdhp": ("float16",),
    "bf16": ("bfloat16",),
}
"""The flags of /proc/cpuinfo that decide the speed of products, and the types they make native."""


@dataclass(frozen=True)
class Cpu:
    """A CPU: its name, the units that decide its speed, and the types that it multiplies natively.

    float32 is always native.
    """

    model: str = "unknown CPU"
    units: tuple[str, ...] = ()
    native: tuple[Dtype, ...] = ("float32",)

    def __str__(self) -> str:
        return f"{self.model}, {', '.join(self.units) or 'no vector units known'}"


UNKNOWN_CPU = Cpu()


def read_cpu(proc: Path = _PROC) -> Cpu:
    """Return the CPU of this machine: what the kernel reports and torch, if loaded, uses."""
    fields = _cpuinfo(proc / "cpuinfo")
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    units = tuple(name for name in _UNITS if name in flags)
    used = [name for name in units if _torch_uses(name)]
    sixteen_bit = {dtype for name in used for dtype in _UNITS[name]}
    return Cpu(
        model=fields.get("model name")
        or platform.processor()
        or platform.machine()
        or UNKNOWN_CPU.model,
        units=units,
        native=("float32", *sorted(sixteen_bit)),
    )


def compute_dtype(stored: Dtype, cpu: Cpu) -> Dtype:
    """Return the type to compute in on this CPU with weights that are stored in this type.

    The stored type where the CPU multiplies it natively, as a GPU does; float32 elsewhere, which is
    exact for 16-bit weights and up to fifty times faster.
    """
    return stored if stored in cpu.native else "float32"


def _cpuinfo(path: Path) -> dict[str, str]:
    """Return the fields of the first processor."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return {}
    first, _, _ = text.strip().partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _torch_uses(unit: str) -> bool:
    """Return False if torch is loaded and reports that it leaves this unit of an x86 CPU unused.

    ATEN_CPU_CAPABILITY or an old build can limit it to AVX2. On ARM its report says nothing of it.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not unit.startswith(("avx512", "amx")):
        return True
    return str(torch.backends.cpu.get_cpu_capability()).startswith("AVX512")
