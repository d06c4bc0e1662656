"""Runs or resumes one training attempt and verifies the adapter.

Covers one attempt with the settings given; which settings to try after an out-of-memory error is
`ladder`'s question, and `TrainingStopped.reason` its answer. The invariant: `out` holds adapter,
`training.json` and loss curve after success, after a failure what the next attempt goes on from.
"""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.core.conversation.examples.writer import ExampleCounts
from tasks.core.errors import DiskFull, LockBusy, TrainingFailed
from tasks.core.files.durable import fsync_directory, write_atomically
from tasks.core.model.template_record import record_template, recorded_template
from tasks.core.process import ChildResult, is_running
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Finetune
from tasks.core.training.checkpoints import last_whole, remove_work, step_of
from tasks.core.training.checks import check_training
from tasks.core.training.curve import draw_loss_curve
from tasks.core.training.failures import reason_of_end
from tasks.core.training.job import (
    OPERATING,
    LoggedStep,
    Outcome,
    Reason,
    TrainingJob,
    ValidatedStep,
    failure_file,
    read_failures,
    read_outcome,
)
from tasks.core.training.launch import OWNER, launch, require_devices, require_tools
from tasks.core.training.prepare import Prepared, prepare
from tasks.core.training.result import ADAPTER, TRAINING, WORK
from tasks.core.training.verify import AdapterFacts, verify_adapter

_log = logging.getLogger(__name__)

CURVE = "loss.png"

_ADVICE = {
    Reason.DEVICE_OUT_OF_MEMORY: "Halve finetune.micro_batch_size and double "
    "gradient_accumulation_steps; then gradient_checkpointing, offload, ZeRO-3.",
    Reason.HOST_OUT_OF_MEMORY: "Halve finetune.micro_batch_size and double "
    "gradient_accumulation_steps, turn offload off, or give the machine more memory.",
    Reason.NOT_FINITE: "Lower finetune.learning_rate, or take bfloat16 or float32.",
    Reason.STOPPED: "Run again: training resumes from where it was.",
    Reason.KILLED: "Run again: training resumes from its last whole checkpoint.",
    Reason.LOST_PEER: "Run again: training resumes from its last whole checkpoint.",
    Reason.ERROR: "The lines above say why.",
}


@dataclass(frozen=True)
class FinetuneResult:
    """A true adapter, and how it came about.

    `peak_memory_bytes` and `wall_s` are those of the last attempt alone. `restarted_for` names the
    settings that had changed since an earlier attempt, whose steps were therefore not used.
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


class TrainingStopped(TrainingFailed):
    """The training processes ended without an adapter; `reason` says what of."""

    def __init__(
        self, reason: Reason, child: ChildResult, said: str, checkpoint: Path | None
    ) -> None:
        super().__init__(
            f"The training ended without an adapter: {reason.value}.",
            where=child.log,
            expected="an outcome file",
            found="\n    ".join([f"{child.cause.value}, code {child.returncode}", said]),
            next_step=f"{_ADVICE[reason]} Kept: {_kept(checkpoint)}.",
        )
        self.reason = reason
        self.checkpoint = checkpoint


def finetune(
    model: Path,
    settings: Finetune,
    *,
    data: Path,
    template: str,
    out: Path,
    grouped_as: Finetune | None = None,
    on_progress: OnProgress = silent,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> FinetuneResult:
    """Train an adapter for model on data into the existing directory out, and prove it.

    grouped_as: the settings that were asked for, where these are of a lower rung of the ladder;
    conversations stay grouped by length as there.

    Goes on from the last whole checkpoint that a killed attempt left in out, if all that decides
    the result is unchanged. `on_progress` counts steps; `on_line` gets what the training says, the
    file `log` everything that its processes print. Raises MissingTool, RecipeError, DataError and
    NotAModel before anything is started, LockBusy while an orphan of an earlier attempt still
    trains here, DiskFull, and TrainingStopped otherwise.
    """
    require_tools(settings)
    require_devices(settings)
    say = on_line or _log.info
    index, warnings = check_training(model, settings, data=data, template=template)
    for warning in warnings:
        say(f"Attention: {warning}")
    work, adapter = out.resolve() / WORK, out.resolve() / ADAPTER
    job_file = work / "job.json"
    _require_alone(job_file)
    prepared = prepare(
        index,
        settings,
        data=data,
        template=template,
        work=work,
        adapter=adapter,
        grouped_as=grouped_as,
    )
    _say_where_it_begins(prepared, say)
    if (before := recorded_template(model)) not in (None, template):
        say(f"The model was trained with the template {before}; from here on it is {template}.")
    child, outcome = _attempt(prepared.job, job_file, on_progress, say, log)
    facts = verify_adapter(adapter, index)
    draw_loss_curve(outcome.steps, out / CURVE, outcome.validation, method=settings.method)
    write_atomically(out / TRAINING, _summary(prepared, outcome))
    record_template(adapter, template)
    remove_work(work)
    fsync_directory(out)
    resumed_from = prepared.job.resume_from
    return FinetuneResult(
        adapter=out / ADAPTER,
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


def _attempt(
    job: TrainingJob,
    job_file: Path,
    on_progress: OnProgress,
    on_line: Callable[[str], None],
    log: Path | None,
) -> tuple[ChildResult | None, Outcome]:
    """Run the job unless an earlier attempt finished it and was killed just after."""
    if (outcome := read_outcome(job.outcome)) is not None:
        return None, outcome
    job.outcome.unlink(missing_ok=True)
    for failure in read_failures(job.outcome):
        failure_file(job.outcome, failure.rank).unlink()
    shutil.rmtree(job.adapter, ignore_errors=True)
    try:
        child = launch(job, job_file, on_progress=on_progress, on_line=on_line, log=log)
    except BaseException as stop:
        stop.add_note(f"Training keeps {_kept(last_whole(job.checkpoints))}.")
        raise
    # The truth: the launcher's code can be 0 without an outcome, or not 0 with it.
    if (outcome := read_outcome(job.outcome)) is not None:
        return child, outcome
    failures = read_failures(job.outcome)
    reason = reason_of_end(child, failures)
    own = [failure.error for failure in failures if failure.reason is reason]
    said = "\n    ".join(own[:1] or child.tail[-15:])
    if reason is Reason.DISK_FULL:
        raise DiskFull(
            "The disk is full.",
            where=job.checkpoints,
            found=said,
            next_step="Free some space, or lower finetune.save_total_limit; then run again: "
            "training resumes from its last whole checkpoint.",
        )
    raise TrainingStopped(reason, child, said, last_whole(job.checkpoints))


def _span(losses: Sequence[float]) -> str:
    first, last = f"{losses[0]:.4f}", f"{losses[-1]:.4f}"
    return first if len(losses) == 1 else f"{first} to {last}"


def _kept(checkpoint: Path | None) -> str:
    return f"step {step_of(checkpoint)}" if checkpoint else "no step: no checkpoint was due"


def _say_where_it_begins(prepared: Prepared, say: Callable[[str], None]) -> None:
    if prepared.restarted_for:
        changed = ", ".join(prepared.restarted_for)
        say(f"Training starts over: {changed} changed since the last attempt.")
    elif prepared.job.resume_from is not None:
        say(f"Training resumes from step {step_of(prepared.job.resume_from)}.")


def _require_alone(job_file: Path) -> None:
    if is_running(OWNER, str(job_file)):
        raise LockBusy(
            "A training of an earlier attempt is still running in this directory.",
            where=job_file.parent,
            next_step="It ends within seconds if the command that started it was killed; otherwise "
            "wait until that command is done. Then try again.",
        )


def _summary(prepared: Prepared, outcome: Outcome) -> str:
    """Return what stays beside the adapter: the same for any undisturbed or resumed training."""
    return json.dumps(
        {
            "steps": [step.model_dump() for step in outcome.steps],
            "validation": [each.model_dump(exclude_defaults=True) for each in outcome.validation],
            "validation_tokens": outcome.validation_tokens,
            "trained_tokens": outcome.tokens,
            "data": asdict(prepared.counts),
            "settings": prepared.job.settings.model_dump(mode="json", exclude={"data", *OPERATING}),
        },
        indent=1,
    )
