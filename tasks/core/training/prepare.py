"""Makes the job of an attempt: examples, number of steps, and the checkpoint to resume from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.examples.file import ExampleFile, rows_of
from tasks.core.conversation.examples.writer import ExampleCounts
from tasks.core.conversation.prepared import PreparedExamples, prepare_examples, read_prepared
from tasks.core.conversation.tokenizer.model_limits import require_rows
from tasks.core.files.digests import sha256_of
from tasks.core.files.durable import make_directory, take_back
from tasks.core.keys import to_jsonable
from tasks.core.model.config import read_config
from tasks.core.planning.batch import global_batch_size, total_steps
from tasks.core.recipe import Finetune
from tasks.core.store.manifest import manifest_of
from tasks.core.training.batching.choice import group_size, row_count
from tasks.core.training.checkpoints.directory import (
    CHECKPOINTS,
    adopt,
    can_resume,
    last_whole,
    prune_checkpoints,
)
from tasks.core.training.checkpoints.no_code import require_no_code
from tasks.core.training.job import TrainingJob, division_of
from tasks.core.training.request import TrainingRequest
from tasks.core.training.trainer.schedule import SCHEDULE
from tasks.core.training.trainer.validation import validation_interval
from tasks.core.weights.index import ModelIndex

ORDER = "the longest first"
"""The name of the order of rows: change it with every change of the order."""
FREE = {
    "data",  # the tokens decide, not the name
    "language",  # the same: the records that were kept decide
    "same_speaker",
    "max_dropped_share",
    "epochs",  # the number of steps decides
    "max_steps",
    "micro_batch_size",  # the global batch decides
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "device",
    "save_steps",
    "save_interval_s",
    "save_total_limit",
    "zero_stage",  # a state that was divided otherwise is restored whole
    "offload",
    "offload_directory",
    "quantization",
    "pin_memory",
    "hostfile",
    "logging_steps",
    "report_to",
}
"""Settings that may change between two attempts of one training."""


@dataclass(frozen=True)
class PreparedJob:
    """A job, the counts of its data, and the settings that changed since an earlier attempt."""

    job: TrainingJob
    counts: ExampleCounts
    restarted_for: tuple[str, ...]


def prepare_job(model: ModelIndex, request: TrainingRequest, settings: Finetune) -> PreparedJob:
    """Tokenize the data into the work and return the job, resuming from the last whole checkpoint.

    settings: those of the rung to train on. Conversations are grouped by the settings as asked, so
    that a lower rung sees the same groups.

    Prepared examples are used as they are, and those that an earlier attempt prepared from the same
    file are used again. Checkpoints of another training are removed. Raises DataError, RecipeError
    and NotAModel for data, a template or a tokenizer that cannot be used, and what
    `require_no_code` raises.
    """
    make_directory(request.work)
    prepared = _examples(model, request, settings)
    require_rows(read_config(model.directory), prepared.largest_id, where=request.data)
    rows = row_count(settings, rows_of(prepared.examples, settings.method))
    steps, group = total_steps(settings, rows), group_size(request.settings)
    outcome, checkpoints = request.work / "outcome.json", request.work / CHECKPOINTS
    identity = _identity(model, settings, steps, prepared.sha256, group)
    resume_from, restarted_for = _resumable(checkpoints, identity, outcome, settings)
    job = TrainingJob(
        model=model.directory.resolve(),
        examples=prepared.examples.resolve(),
        validation_examples=prepared.validation and prepared.validation.resolve(),
        settings=settings,
        group_size=group,
        total_steps=steps,
        validation_interval=_validation_interval(settings, prepared, steps, rows),
        pad_token_id=prepared.pad_token_id,
        checkpoints=checkpoints,
        resume_from=resume_from,
        adapter=request.adapter,
        outcome=outcome,
    )
    return PreparedJob(job, prepared.counts, restarted_for)


def _examples(model: ModelIndex, request: TrainingRequest, settings: Finetune) -> PreparedExamples:
    data, template = request.data, request.template
    if data.is_dir():
        return read_prepared(data, settings, template)
    return prepare_examples(model.directory, data, settings, template, out=request.work)


def _resumable(
    checkpoints: Path, identity: Mapping[str, JsonValue], outcome: Path, settings: Finetune
) -> tuple[Path | None, tuple[str, ...]]:
    """Return the checkpoint to resume from, and the settings that forbid it if any do.

    Checkpoints that cannot be resumed from are removed, with the outcome beside them.
    """
    restarted_for = adopt(checkpoints, identity, outcome)
    last = last_whole(checkpoints)
    if last and not can_resume(last, division_of(settings)):
        take_back(outcome)
        prune_checkpoints(checkpoints, keep=0)
        restarted_for = ("zero_stage",)
    prune_checkpoints(checkpoints, settings.save_total_limit)
    last = last_whole(checkpoints)
    if last is not None:
        require_no_code(last)
    return last, restarted_for


def _validation_interval(
    settings: Finetune, prepared: PreparedExamples, steps: int, rows: int
) -> int | None:
    if prepared.validation is None:
        return None
    epochs = steps * global_batch_size(settings) / rows
    tokens = sum(ExampleFile(prepared.validation).lengths)
    return validation_interval(steps, epochs * prepared.counts.tokens, tokens)


def _identity(
    model: ModelIndex, settings: Finetune, steps: int, examples: str, group: int | None
) -> Mapping[str, JsonValue]:
    """Return everything that decides the bits of the adapter, by names that a user knows."""
    own = settings.model_dump(mode="json", exclude=FREE | {"lora"})
    lora = settings.lora.model_dump(mode="json")
    return {
        **{name: to_jsonable(value) for name, value in own.items()},
        **{f"lora.{name}": to_jsonable(value) for name, value in lora.items()},
        "model": [_state_of(model), sha256_of(model.directory / "config.json")],
        "data": examples,
        "steps": steps,
        "global_batch_size": global_batch_size(settings),
        "group_size": group,
        "order": ORDER,
        "schedule": SCHEDULE,
    }


def _state_of(model: ModelIndex) -> str:
    """Return what changes with the weights; for an artifact it is the same on every machine."""
    manifest = manifest_of(model.directory)
    return model.identity() if manifest is None else manifest.content_digest
