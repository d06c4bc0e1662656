"""The files between the caller and the training processes: the job, and its outcome.

Plain data without torch; why a job has no outcome is in `failures`. The invariant: an outcome file
exists only if the adapter beside it is whole.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.files.durable import write_atomically
from tasks.core.recipe import Finetune

OPERATING = {
    "save_steps",
    "save_interval_s",
    "save_total_limit",
    "logging_steps",
    "report_to",
    "hostfile",
}
"""Settings of how a training is run and watched: they change no bit of the adapter."""


class TrainingFile(BaseModel):
    """A record between the caller and the training processes, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1))


class TrainingJob(TrainingFile):
    """Everything that a training process is told. All processes see these absolute paths."""

    model: Path
    examples: Path
    validation_examples: Path | None
    settings: Finetune
    group_size: int | None
    """Conversations of similar length in one group, by the settings as asked for: a lower rung
    keeps the groups. None for a random order."""
    total_steps: int
    validation_interval: int | None
    """Steps between two validations, None without a validation share."""
    pad_token_id: int
    checkpoints: Path
    resume_from: Path | None
    adapter: Path
    outcome: Path


class LoggedStep(TrainingFile):
    """The mean loss per learned token, or pair, of the steps since the last logged one, in nats.

    learning_rate: the rate of this step.
    """

    step: int
    loss: float
    learning_rate: float


class ValidatedStep(TrainingFile):
    """The mean loss per learned token, or pair, of the validation share after a step, in nats.

    None if it is not finite. For pairs: the mean margin (`preference_loss.PairLosses`), and the
    share of pairs whose chosen answer is preferred.
    """

    step: int
    loss: float | None
    margin: float | None = None
    preferred: float | None = None


class TrainingOutcome(TrainingFile):
    """The result of a training that took all of its steps.

    validation_tokens: the learned tokens of one validation.
    """

    steps: tuple[LoggedStep, ...]
    tokens: int
    validation: tuple[ValidatedStep, ...]
    validation_tokens: int


def read_training_outcome(path: Path) -> TrainingOutcome | None:
    """Return the outcome of a training; None without one.

    The outcome of another version of this program, with other fields, counts as none.
    """
    try:
        return TrainingOutcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def division_of(settings: Finetune) -> str:
    """Return how the training state is divided between devices, host and disk, as one line."""
    on_disk = settings.offload != "none" and settings.offload_directory is not None
    return (
        f"ZeRO-{settings.zero_stage}, {settings.processes} processes, "
        f"offload {settings.offload}{' to disk' if on_disk else ''}, "
        f"quantization {settings.quantization}"
    )
