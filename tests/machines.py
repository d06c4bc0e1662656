"""Speeds of machines for tests, as `tasks.core.machine.probe` measures them."""

from pathlib import Path

from tasks.core.machine import speed
from tasks.core.machine.cpu import read_cpu
from tasks.core.machine.speed import CpuSpeed, TypeSpeed
from tasks.core.recipe import Dtype


def _speed(capability: str, **types: tuple[float, float, float]) -> CpuSpeed:
    speeds: dict[Dtype, TypeSpeed] = {
        dtype: TypeSpeed(
            forward_flops_per_s=forward * 1e9,
            backward_flops_per_s=backward * 1e9,
            read_bytes_per_s=read * 1e9,
        )
        for dtype, (forward, backward, read) in types.items()
    }
    return CpuSpeed(types=speeds, busy=False, threads=2, capability=capability, torch="2.13.0")


AVX2 = _speed(
    "AVX2",
    float32=(152.0, 178.0, 21.0),
    bfloat16=(9.5, 2.35, 9.7),
    float16=(11.7, 2.6, 11.9),
)
"""Two cores of an AMD EPYC (Zen 3), quiet: 16-bit products do not use the second core."""

NATIVE = _speed(
    "AVX512",
    float32=(200.0, 200.0, 25.0),
    bfloat16=(900.0, 900.0, 25.0),
    float16=(900.0, 900.0, 25.0),
)
"""A CPU with units for 16 bits; made up, in the ratios of AMX."""


def record_speed(home: Path) -> None:
    """Have this machine measured already, as it is after the first plan of a home."""
    record = speed._cpu_record(home, read_cpu())
    record.parent.mkdir(parents=True)
    record.write_text(AVX2.model_dump_json())
