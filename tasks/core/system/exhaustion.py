"""Recognizing exceptions that mean that memory ran out, and which memory.

The counterpart of `process.oom`, which detects processes that the kernel killed.
"""

import re
from typing import Literal

Memory = Literal["host", "device"]

# torch raises plain RuntimeErrors for most of these, so their texts decide.
_HOST = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory"
    r"|failed to map segment from shared object$"  # a library that an import loads
)
_DEVICE = re.compile(r"CUDA out of memory|CUDA error: out of memory")


def exhausted_memory(error: BaseException) -> Memory | None:
    """Return the memory that ran out, None for any other error."""
    text = str(error)
    if isinstance(error, MemoryError) or _HOST.search(text):
        return "host"
    if type(error).__name__ == "OutOfMemoryError" or _DEVICE.search(text):
        return "device"
    return None
