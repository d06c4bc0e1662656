"""The files between the caller and the training processes: the job, and what became of it.

Plain data without torch. The invariant: an outcome file exists only if the adapter beside it is
whole.
"""

import enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.files.durable import write_atomically
from tasks.core.files.listing import matching
from tasks.core.recipe import Finetune

OPERATING = {
    "save_steps",
    "save_interval_s",
    "save_total_limit",
    "logging_steps",
    "report_to",
    "hostfile",
}
"""Settings that change how a training is run and watched, and no bit of the adapter."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1))


class TrainingJob(_File):
    """All that a training process is told. Paths are absolute, on a disk that all processes see."""

    model: Path
    examples: Path
    validation_examples: Path | None
    settings: Finetune
    group_size: int | None
    """Conversations of like length that stand together, as was asked for: a lower rung of the
    ladder keeps them. None in a random order."""
    total_steps: int
    validation_interval: int | None
    """Steps between two validations, None without a validation share."""
    pad_token_id: int
    checkpoints: Path
    resume_from: Path | None
    adapter: Path
    outcome: Path


class LoggedStep(_File):
    """The mean loss a learned token, or a pair, of the steps since the last logged one, in nats.

    learning_rate: the one that this step was taken with.
    """

    step: int
    loss: float
    learning_rate: float


class ValidatedStep(_File):
    """The mean loss a learned token, or a pair, of the validation share after a step, in nats.

    None where it is not a finite number. Of pairs there are the mean margin
    (`preference_loss.PairLosses`), and the share of those whose chosen answer is preferred.
    """

    step: int
    loss: float | None
    margin: float | None = None
    preferred: float | None = None


class Outcome(_File):
    """What a training that took all of its steps has to say.

    validation_tokens: the learned ones of one validation.
    """

    steps: tuple[LoggedStep, ...]
    tokens: int
    validation: tuple[ValidatedStep, ...]
    validation_tokens: int


def read_outcome(path: Path) -> Outcome | None:
    """Return what a training has left, None where it left nothing.

    What another version of this program wrote is nothing, too: its fields are others.
    """
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class Reason(enum.Enum):
    """Why a training ended without an adapter: one value per remedy."""

    DEVICE_OUT_OF_MEMORY = "the device ran out of memory"
    HOST_OUT_OF_MEMORY = "the machine ran out of memory"
    DISK_FULL = "the disk is full"
    NOT_FINITE = "the loss is not a finite number"
    STOPPED = "it was asked to end"
    KILLED = "something else killed it"
    LOST_PEER = "a process lost the others"
    ERROR = "a training process failed"


class Failure(_File):
    """What one training process says of its own end."""

    rank: int
    reason: Reason
    error: str


def failure_file(outcome: Path, rank: int) -> Path:
    """Return where the process of this rank writes its failure."""
    return outcome.with_name(f"failure-{rank}.json")


def read_failures(outcome: Path) -> tuple[Failure, ...]:
    """Return what the processes of a job wrote before they failed, by rank."""
    found = matching(outcome.parent, failure_file(outcome, 0).name.replace("0", "*"))
    return tuple(filter(None, map(_failure, found)))


def _failure(path: Path) -> Failure | None:
    """Return what a process wrote; None for half of it, as a full disk leaves."""
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def division_of(settings: Finetune) -> str:
    """Return how the states are divided between devices, host and disk, as one line of text."""
    on_disk = settings.offload != "none" and settings.offload_directory is not None
    return (
        f"ZeRO-{settings.zero_stage}, {settings.processes} processes, "
        f"offload {settings.offload}{' to disk' if on_disk else ''}, "
        f"quantization {settings.quantization}"
    )


def group_size(settings: Finetune) -> int | None:
    """Return how many conversations of like length stand together, None in a random order.

    It decides which conversations are left after a checkpoint.
    """
    grouped = settings.batching == "group"
    return settings.micro_batch_size * settings.processes if grouped else None
