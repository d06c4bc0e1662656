"""Runs or resumes one training attempt and verifies the adapter.

Covers one attempt with the settings given; which settings to try after an out-of-memory error is
`ladder`'s decision, made from `TrainingStopped.reason`. The invariant: after success `out` holds
adapter, `training.json` and loss curve; after a failure, what the next attempt resumes from.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.conversation.examples.writer import ExampleCounts
from tasks.core.errors import LockBusy
from tasks.core.files.durable import fsync_directory, write_atomically
from tasks.core.model.template_record import record_template, recorded_template
from tasks.core.process import ChildResult, is_running
from tasks.core.recipe import Finetune
from tasks.core.training.checkpoints.directory import last_whole, remove_work, step_of
from tasks.core.training.checks import check_training
from tasks.core.training.curve import draw_loss_curve
from tasks.core.training.failures import error_of_end, kept_in_words, remove_failures
from tasks.core.training.job import (
    LoggedStep,
    TrainingJob,
    TrainingOutcome,
    ValidatedStep,
    read_training_outcome,
)
from tasks.core.training.launch.start import OWNER, launch
from tasks.core.training.launch.tools import require_gpu, require_tools
from tasks.core.training.prepare import PreparedJob, prepare_job
from tasks.core.training.request import TrainingRequest
from tasks.core.training.result import ADAPTER, TRAINING, summary_text
from tasks.core.training.verify import AdapterFacts, verify_adapter

CURVE = "loss.png"


@dataclass(frozen=True)
class TrainedAdapter:
    """A verified adapter, and how it was trained.

    `peak_memory_bytes` and `wall_s` are those of the last attempt alone. `restarted_for` names the
    settings that changed since an earlier attempt, whose steps were therefore not used.
    """

    adapter: Path
    steps: tuple[LoggedStep, ...]
    validation: tuple[ValidatedStep, ...]
    counts: ExampleCounts
    trained_tokens: int
    facts: AdapterFacts
    resumed_from_step: int | None
    restarted_for: tuple[str, ...]
    peak_memory_bytes: int
    wall_s: float

    @property
    def total_steps(self) -> int:
        """The steps of the whole training, logged or not."""
        return self.steps[-1].step if self.steps else 0

    @property
    def validation_loss(self) -> float | None:
        """The validation loss after the last step; None without one, or if it is not finite."""
        return self.validation[-1].loss if self.validation else None

    @property
    def losses(self) -> str:
        """The first and the last loss in words, and those of the validation if there was any."""
        trained = [step.loss for step in self.steps]
        validated = [each.loss for each in self.validation if each.loss is not None]
        named = [("loss", trained), ("validation loss", validated)]
        return ", ".join(f"{name} {_span(found)}" for name, found in named if found)


def run_attempt(request: TrainingRequest, settings: Finetune | None = None) -> TrainedAdapter:
    """Train the adapter into request.out and verify it.

    settings: those of the rung to train on; by default the settings as asked.

    Resumes from the last whole checkpoint that a killed attempt left in `out`, if everything that
    decides the result is unchanged. Raises MissingTool, RecipeError, DataError and NotAModel before
    anything starts, LockBusy while an orphan of an earlier attempt still trains here, DiskFull, and
    TrainingStopped for any other end without an adapter.
    """
    settings = settings or request.settings
    require_tools(settings)
    require_gpu(settings)
    index, warnings = check_training(
        request.model, settings, data=request.data, template=request.template
    )
    for warning in warnings:
        request.on_line(f"Attention: {warning}")
    _require_alone(request.job_file)
    prepared = prepare_job(index, request, settings)
    _announce(prepared, request)
    child, outcome = _run(prepared.job, request)
    facts = verify_adapter(request.adapter, index)
    _finish(prepared, outcome, request)
    resumed_from = prepared.job.resume_from
    return TrainedAdapter(
        adapter=request.out / ADAPTER,
        steps=outcome.steps,
        validation=outcome.validation,
        counts=prepared.counts,
        trained_tokens=outcome.tokens,
        facts=facts,
        resumed_from_step=step_of(resumed_from) if resumed_from else None,
        restarted_for=prepared.restarted_for,
        peak_memory_bytes=child.peak_memory_bytes if child else 0,
        wall_s=child.wall_s if child else 0.0,
    )


def _run(job: TrainingJob, request: TrainingRequest) -> tuple[ChildResult | None, TrainingOutcome]:
    """Run the job, unless an earlier attempt finished it and was killed right afterwards."""
    if (outcome := read_training_outcome(job.outcome)) is not None:
        return None, outcome
    job.outcome.unlink(missing_ok=True)
    remove_failures(job.outcome)
    shutil.rmtree(job.adapter, ignore_errors=True)
    try:
        child = launch(
            job,
            request.job_file,
            on_progress=request.on_progress,
            on_line=request.on_line,
            log=request.log,
        )
    except BaseException as stop:
        stop.add_note(f"Training keeps {kept_in_words(last_whole(job.checkpoints))}.")
        raise
    # The outcome file decides: the launcher's code can be 0 without one, or not 0 with it.
    if (outcome := read_training_outcome(job.outcome)) is None:
        raise error_of_end(job, child)
    return child, outcome


def _finish(prepared: PreparedJob, outcome: TrainingOutcome, request: TrainingRequest) -> None:
    """Write what stays beside the adapter, and remove the work."""
    out, settings = request.out, prepared.job.settings
    draw_loss_curve(outcome.steps, out / CURVE, outcome.validation, method=settings.method)
    write_atomically(out / TRAINING, summary_text(outcome, prepared.counts, settings))
    record_template(request.adapter, request.template)
    remove_work(request.work)
    fsync_directory(out)


def _span(losses: Sequence[float]) -> str:
    first, last = f"{losses[0]:.4f}", f"{losses[-1]:.4f}"
    return first if len(losses) == 1 else f"{first} to {last}"


def _announce(prepared: PreparedJob, request: TrainingRequest) -> None:
    """Report where the training starts, and a change of the model's template."""
    if prepared.restarted_for:
        changed = ", ".join(prepared.restarted_for)
        request.on_line(f"Training starts over: {changed} changed since the last attempt.")
    elif prepared.job.resume_from is not None:
        request.on_line(f"Training resumes from step {step_of(prepared.job.resume_from)}.")
    before, now = recorded_template(request.model), request.template
    if before not in (None, now):
        request.on_line(
            f"The model was trained with the template {before}; from here on it is {now}."
        )


def _require_alone(job_file: Path) -> None:
    if is_running(OWNER, str(job_file)):
        raise LockBusy(
            "A training of an earlier attempt is still running in this directory.",
            where=job_file.parent,
            next_step="It ends within seconds if the command that started it was killed; otherwise "
            "wait until that command is done. Then try again.",
        )
