"""Why a training ended without an adapter: from its processes' reports and the kernel's.

A training process writes a failure file before it ends; the caller weighs those files against what
the kernel says of the processes, and raises the error that names the remedy. Plain data without
torch.
"""

import enum
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tasks.core.errors import DiskFull, TrainingFailed
from tasks.core.files.listing import matching
from tasks.core.process import Cause, ChildResult
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory
from tasks.core.training.checkpoints.directory import last_whole, step_of
from tasks.core.training.job import TrainingFile, TrainingJob

_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|NCCL|ProcessGroup|Gloo|gloo")
_FILE = "failure-{}.json"


class StopReason(enum.Enum):
    """Why a training ended without an adapter: one value per remedy."""

    DEVICE_OUT_OF_MEMORY = "the device ran out of memory"
    HOST_OUT_OF_MEMORY = "the machine ran out of memory"
    DISK_FULL = "the disk is full"
    NOT_FINITE = "the loss is not a finite number"
    STOPPED = "it was asked to end"
    KILLED = "something else killed it"
    LOST_PEER = "a process lost the others"
    ERROR = "a training process failed"


_OUT_OF_MEMORY = {"host": StopReason.HOST_OUT_OF_MEMORY, "device": StopReason.DEVICE_OUT_OF_MEMORY}
_REMEDIES = {
    StopReason.DEVICE_OUT_OF_MEMORY: "Halve finetune.micro_batch_size and double "
    "gradient_accumulation_steps; then gradient_checkpointing, offload, ZeRO-3.",
    StopReason.HOST_OUT_OF_MEMORY: "Halve finetune.micro_batch_size and double "
    "gradient_accumulation_steps, turn offload off, or give the machine more memory.",
    StopReason.NOT_FINITE: "Lower finetune.learning_rate, or use bfloat16 or float32.",
    StopReason.STOPPED: "Run again: training resumes at the step where it stopped.",
    StopReason.KILLED: "Run again: training resumes from its last whole checkpoint.",
    StopReason.LOST_PEER: "Run again: training resumes from its last whole checkpoint.",
    StopReason.ERROR: "The lines above say why.",
}


class NotFinite(Exception):
    """The loss is NaN or infinite."""


class Failure(TrainingFile):
    """Why one training process ended, in its own words."""

    rank: int
    reason: StopReason
    error: str

    def write_beside(self, outcome: Path) -> None:
        """Write the failure file of this process."""
        self.write(outcome.with_name(_FILE.format(self.rank)))


def read_failures(outcome: Path) -> tuple[Failure, ...]:
    """Return what the processes of a job wrote before they ended, by rank."""
    found = filter(None, map(_failure, matching(outcome.parent, _FILE.format("*"))))
    return tuple(sorted(found, key=lambda failure: failure.rank))


def remove_failures(outcome: Path) -> None:
    """Remove the failure files of an earlier attempt."""
    for file in matching(outcome.parent, _FILE.format("*")):
        file.unlink()


def _failure(path: Path) -> Failure | None:
    """Return the failure in a file; None for a torn one, as a full disk leaves."""
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def reason_of(error: BaseException) -> StopReason:
    """Return the reason that an exception in a training process stands for.

    torch raises plain RuntimeErrors for most of these, so their texts decide.
    """
    text = str(error)
    if isinstance(error, NotFinite):
        return StopReason.NOT_FINITE
    if memory := exhausted_memory(error):
        return _OUT_OF_MEMORY[memory]
    if isinstance(system_error(error), DiskFull) or _DISK.search(text):
        return StopReason.DISK_FULL
    return StopReason.LOST_PEER if _PEER.search(text) else StopReason.ERROR


def reason_of_end(child: ChildResult, failures: Sequence[Failure]) -> StopReason:
    """Return why all processes ended.

    The kernel's verdict counts first, then the failure of a process that did not merely lose its
    peers. A process that wrote nothing was killed; DeepSpeed's launcher passes the signal on as the
    code 256 - signal, and hides the end of its own helper behind code 0.
    """
    if child.cause is Cause.OUT_OF_MEMORY:
        return StopReason.HOST_OUT_OF_MEMORY
    said = [failure.reason for failure in failures]
    own = [reason for reason in said if reason is not StopReason.LOST_PEER]
    if own:
        return own[0]
    if child.cause is Cause.SIGNAL or child.returncode in (0, 137, 143, 247, 241):
        return StopReason.KILLED
    return said[0] if said else StopReason.ERROR


class TrainingStopped(TrainingFailed):
    """The training processes ended without an adapter, for `reason`."""

    def __init__(
        self, reason: StopReason, child: ChildResult, said: str, checkpoint: Path | None
    ) -> None:
        super().__init__(
            f"The training ended without an adapter: {reason.value}.",
            where=child.log,
            expected="an outcome file",
            found="\n    ".join([f"{child.cause.value}, code {child.returncode}", said]),
            next_step=f"{_REMEDIES[reason]} Kept: {kept_in_words(checkpoint)}.",
        )
        self.reason = reason
        self.checkpoint = checkpoint


def error_of_end(job: TrainingJob, child: ChildResult) -> DiskFull | TrainingStopped:
    """Return the error of a job whose processes ended without an outcome."""
    failures = read_failures(job.outcome)
    reason = reason_of_end(child, failures)
    own = [failure.error for failure in failures if failure.reason is reason]
    said = "\n    ".join(own[:1] or child.tail[-15:])
    if reason is not StopReason.DISK_FULL:
        return TrainingStopped(reason, child, said, last_whole(job.checkpoints))
    return DiskFull(
        "The disk is full.",
        where=job.checkpoints,
        found=said,
        next_step="Free some space, or lower finetune.save_total_limit; then run again: "
        "training resumes from its last whole checkpoint.",
    )


def kept_in_words(checkpoint: Path | None) -> str:
    """Return the step that a checkpoint keeps, in words."""
    return f"step {step_of(checkpoint)}" if checkpoint else "no step: no checkpoint was due"
