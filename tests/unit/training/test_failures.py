import errno
import signal

import pytest
import torch

from tasks.core.process import Cause, ChildResult
from tasks.core.training.failures import NotFinite, reason_of, reason_of_end
from tasks.core.training.job import Failure, Reason


def ended(cause: Cause, returncode: int) -> ChildResult:
    return ChildResult(returncode, cause, tail=(), peak_memory_bytes=0, wall_s=0.0)


def said(*reasons: Reason) -> list[Failure]:
    return [Failure(rank=i, reason=reason, error="") for i, reason in enumerate(reasons)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFinite("step 3"), Reason.NOT_FINITE),
        (MemoryError(), Reason.HOST_OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), Reason.DEVICE_OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), Reason.DISK_FULL),
        (RuntimeError("PytorchStreamWriter: No space left on device"), Reason.DISK_FULL),
        (RuntimeError("[gloo/transport] Connection closed by peer"), Reason.LOST_PEER),
        (ValueError("something else"), Reason.ERROR),
    ],
)
def test_an_exception_is_told_by_its_kind_or_text(error: Exception, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_torchs_own_allocation_failure_is_the_hosts_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    assert reason_of(caught.value) is Reason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("child", "failures", "reason"),
    [
        # The kernel killed one process; the other only lost it.
        (ended(Cause.OUT_OF_MEMORY, 1), said(Reason.LOST_PEER), Reason.HOST_OUT_OF_MEMORY),
        (ended(Cause.ERROR, 1), said(Reason.LOST_PEER, Reason.DISK_FULL), Reason.DISK_FULL),
        (ended(Cause.ERROR, 1), said(Reason.ERROR, Reason.LOST_PEER), Reason.ERROR),
        (ended(Cause.ERROR, 1), said(Reason.LOST_PEER), Reason.LOST_PEER),
        (ended(Cause.SIGNAL, -signal.SIGKILL), [], Reason.KILLED),
        (ended(Cause.ERROR, 247), said(Reason.LOST_PEER), Reason.KILLED),
        (ended(Cause.FINISHED, 0), [], Reason.KILLED),
        (ended(Cause.ERROR, 1), [], Reason.ERROR),
    ],
)
def test_the_end_is_told_by_the_kernel_then_by_who_failed_first(
    child: ChildResult, failures: list[Failure], reason: Reason
) -> None:
    assert reason_of_end(child, failures) is reason
