"""Measure this machine for a moment: `python -m tasks.core.machine.probe cpu` prints a CpuSpeed.

With `link` in place of `cpu` it prints a LinkSpeed, that of the first GPU. Each product and each
copy is repeated and the shortest time counts, so that other work on the machine disturbs little;
if it still disturbs a measurement of the CPU, the result says so. The products have the shapes of
a language model's: some tokens against a square weight, and one token against a weight that fits
into no cache. The copied memory is larger than any cache of a CPU, as the weights of a layer are.
"""

import sys
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch.nn.functional import linear

from tasks.core.machine.speed import CpuSpeed, LinkSpeed, TypeSpeed
from tasks.core.recipe import Dtype
from tasks.core.system.cores import usable_cores

_WIDTH = 1024
_TOKENS = 128
_BIG_ROWS, _BIG_WIDTH = 8192, 4096  # 134 MB in float32
_MOMENT_S = 0.1
_AT_LEAST = 2  # the first time is a warm-up
_UNDISTURBED = 0.8  # of the cores' time; products in float32 use all of it
_COPIED_BYTES = 256 << 20
_COPIES = 8  # the first is a warm-up


def measure_cpu() -> CpuSpeed:
    """Return the speed of every type that torch multiplies on this CPU.

    It uses no more threads than can run at once: torch does not see a container's CPU quota.
    """
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    types = {}
    for dtype in get_args(Dtype):
        try:
            types[dtype] = _type_speed(getattr(torch, dtype))
        except RuntimeError:  # "addmm_impl_cpu_" not implemented for 'Half', in some builds
            continue
    return CpuSpeed(
        types=types,
        busy=_share_of_the_cores() < _UNDISTURBED,
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        torch=torch.__version__,
    )


@torch.inference_mode()
def _type_speed(dtype: torch.dtype) -> TypeSpeed:
    # Not zeros, whose products could be shortened; normal numbers, since subnormal ones are slow.
    x = torch.rand(_TOKENS, _WIDTH).to(dtype)
    w = torch.rand(_WIDTH, _WIDTH).to(dtype)
    operations = 2 * _TOKENS * _WIDTH * _WIDTH
    token = torch.ones(1, _BIG_WIDTH, dtype=dtype)
    big = torch.ones(_BIG_ROWS, _BIG_WIDTH, dtype=dtype)
    return TypeSpeed(
        forward_flops_per_s=operations / _shortest_s(lambda: linear(x, w)),
        backward_flops_per_s=operations / _shortest_s(lambda: x @ w),
        read_bytes_per_s=big.nbytes / _shortest_s(lambda: linear(token, big)),
    )


def _shortest_s(product: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < _AT_LEAST or sum(times) < _MOMENT_S:
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _share_of_the_cores() -> float:
    """Return the share of the cores' time that this process gets when it could use all of it."""
    x, w = torch.rand(_TOKENS, _WIDTH), torch.rand(_WIDTH, _WIDTH)
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < _MOMENT_S:
        linear(x, w)
    used = time.process_time() - cpu
    return used / (time.perf_counter() - wall) / torch.get_num_threads()


def measure_link(device: torch.device) -> LinkSpeed:
    """Return the speed of copies to this device."""
    there = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=device)
    # Written once, or the kernel would map all pages of ordinary memory to one page of zeros.
    ordinary = torch.ones(_COPIED_BYTES, dtype=torch.uint8)
    return LinkSpeed(
        pinned_bytes_per_s=_COPIED_BYTES / _shortest_copy_s(ordinary.pin_memory(), there),
        pageable_bytes_per_s=_COPIED_BYTES / _shortest_copy_s(ordinary, there),
    )


def _shortest_copy_s(here: torch.Tensor, there: torch.Tensor) -> float:
    times = []
    for _ in range(_COPIES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        there.copy_(here)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    """Print what the command line names, as one line of JSON."""
    of_link = sys.argv[-1] == "link"
    measured = measure_link(torch.device("cuda", 0)) if of_link else measure_cpu()
    sys.stdout.write(measured.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
