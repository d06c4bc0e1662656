"""Why a training ended without an adapter, from what its processes and the kernel say of it."""

import re
from collections.abc import Sequence

from tasks.core.errors import DiskFull
from tasks.core.process import Cause, ChildResult
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory
from tasks.core.training.job import Failure, Reason

_OUT_OF_MEMORY = {"host": Reason.HOST_OUT_OF_MEMORY, "device": Reason.DEVICE_OUT_OF_MEMORY}
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|NCCL|ProcessGroup|Gloo|gloo")


class NotFinite(Exception):
    """The loss is NaN or infinite."""


def reason_of(error: BaseException) -> Reason:
    """Return the reason that an exception in a training process stands for.

    torch raises plain RuntimeErrors for most of these, so their texts decide.
    """
    text = str(error)
    if isinstance(error, NotFinite):
        return Reason.NOT_FINITE
    if memory := exhausted_memory(error):
        return _OUT_OF_MEMORY[memory]
    if isinstance(system_error(error), DiskFull) or _DISK.search(text):
        return Reason.DISK_FULL
    return Reason.LOST_PEER if _PEER.search(text) else Reason.ERROR


def reason_of_end(child: ChildResult, failures: Sequence[Failure]) -> Reason:
    """Return why all processes ended.

    The kernel's word comes first, then that of the process that did not merely lose the others.
    A process that wrote nothing was killed; DeepSpeed's launcher passes the signal on as the code
    256 - signal, and hides the end of its own helper behind code 0.
    """
    if child.cause is Cause.OUT_OF_MEMORY:
        return Reason.HOST_OUT_OF_MEMORY
    said = [failure.reason for failure in failures]
    own = [reason for reason in said if reason is not Reason.LOST_PEER]
    if own:
        return own[0]
    if child.cause is Cause.SIGNAL or child.returncode in (0, 137, 143, 247, 241):
        return Reason.KILLED
    return said[0] if said else Reason.ERROR
