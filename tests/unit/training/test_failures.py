import errno
import signal
from pathlib import Path

import pytest
import torch

from tasks.core.process import Cause, ChildResult
from tasks.core.training.failures import (
    Failure,
    NotFinite,
    StopReason,
    read_failures,
    reason_of,
    reason_of_end,
)


def ended(cause: Cause, returncode: int) -> ChildResult:
    return ChildResult(returncode, cause, tail=(), peak_memory_bytes=0, wall_s=0.0)


def said(*reasons: StopReason) -> list[Failure]:
    return [Failure(rank=i, reason=reason, error="") for i, reason in enumerate(reasons)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFinite("step 3"), StopReason.NOT_FINITE),
        (MemoryError(), StopReason.HOST_OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), StopReason.DEVICE_OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), StopReason.DISK_FULL),
        (RuntimeError("PytorchStreamWriter: No space left on device"), StopReason.DISK_FULL),
        (RuntimeError("[gloo/transport] Connection closed by peer"), StopReason.LOST_PEER),
        (ValueError("something else"), StopReason.ERROR),
    ],
)
def test_an_exception_is_told_by_its_kind_or_text(error: Exception, reason: StopReason) -> None:
    assert reason_of(error) is reason


def test_torchs_own_allocation_failure_is_the_hosts_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    assert reason_of(caught.value) is StopReason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("child", "failures", "reason"),
    [
        # The kernel killed one process; the other only lost it.
        (ended(Cause.OUT_OF_MEMORY, 1), said(StopReason.LOST_PEER), StopReason.HOST_OUT_OF_MEMORY),
        (
            ended(Cause.ERROR, 1),
            said(StopReason.LOST_PEER, StopReason.DISK_FULL),
            StopReason.DISK_FULL,
        ),
        (ended(Cause.ERROR, 1), said(StopReason.ERROR, StopReason.LOST_PEER), StopReason.ERROR),
        (ended(Cause.ERROR, 1), said(StopReason.LOST_PEER), StopReason.LOST_PEER),
        (ended(Cause.SIGNAL, -signal.SIGKILL), [], StopReason.KILLED),
        (ended(Cause.ERROR, 247), said(StopReason.LOST_PEER), StopReason.KILLED),
        (ended(Cause.FINISHED, 0), [], StopReason.KILLED),
        (ended(Cause.ERROR, 1), [], StopReason.ERROR),
    ],
)
def test_the_end_is_told_by_the_kernel_then_by_who_failed_first(
    child: ChildResult, failures: list[Failure], reason: StopReason
) -> None:
    assert reason_of_end(child, failures) is reason


def test_failures_are_read_back_by_rank(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    assert read_failures(outcome) == ()
    for rank in (10, 2):
        failure = Failure(rank=rank, reason=StopReason.LOST_PEER, error=f"of {rank}")
        failure.write_beside(outcome)
    assert [failure.error for failure in read_failures(outcome)] == ["of 2", "of 10"]
