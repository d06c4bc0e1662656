"""Measure the link to the first GPU: `python -m tasks.core.machine.link_probe` prints a LinkSpeed.

The same piece of memory is copied several times, and the shortest time counts. It is larger than
any cache of a CPU, as the weights of a layer are.
"""

import sys
import time

import torch

from tasks.core.machine.link import LinkSpeed

_BYTES = 256 << 20
_TIMES = 8  # the first is a warm-up


def measure(device: torch.device) -> LinkSpeed:
    """Return the speed of copies to this device."""
    there = torch.empty(_BYTES, dtype=torch.uint8, device=device)
    # Written once, or the kernel would give all pages of ordinary memory one page of zeros.
    ordinary = torch.ones(_BYTES, dtype=torch.uint8)
    return LinkSpeed(
        pinned_bytes_per_s=_BYTES / _shortest_s(ordinary.pin_memory(), there),
        pageable_bytes_per_s=_BYTES / _shortest_s(ordinary, there),
    )


def _shortest_s(here: torch.Tensor, there: torch.Tensor) -> float:
    times = []
    for _ in range(_TIMES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        there.copy_(here)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


if __name__ == "__main__":
    sys.stdout.write(measure(torch.device("cuda", 0)).model_dump_json() + "\n")
