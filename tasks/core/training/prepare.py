"""From a model, a data file and settings to a job that can be started, or started again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.examples.file import ExampleFile, rows_of
from tasks.core.conversation.examples.writer import ExampleCounts
from tasks.core.conversation.prepared import PreparedExamples, prepare_examples, read_prepared
from tasks.core.conversation.tokenizer.model_limits import require_rows
from tasks.core.files.durable import make_directory, sha256_of, take_back
from tasks.core.keys import to_jsonable
from tasks.core.model.config import read_config
from tasks.core.recipe import Finetune
from tasks.core.store.manifest import manifest_of
from tasks.core.training.batching import row_count
from tasks.core.training.checkpoints import CHECKPOINTS, adopt, can_go_on, last_whole, prune
from tasks.core.training.job import (
    TrainingJob,
    division_of,
    global_batch_size,
    group_size,
    total_steps,
)
from tasks.core.training.no_code import require_no_code
from tasks.core.training.schedule import SCHEDULE
from tasks.core.training.validation import validation_interval
from tasks.core.weights.index import ModelIndex

ORDER = "the longest first"
"""Which rows a step learns from: to be renamed with every change of the order."""
FREE = {
    "data",  # its tokens count, not its name
    "language",  # the same: what was kept counts
    "same_speaker",
    "max_dropped_share",
    "epochs",  # the number of steps counts
    "max_steps",
    "micro_batch_size",  # the global batch counts
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "device",
    "save_steps",
    "save_interval_s",
    "save_total_limit",
    "zero_stage",  # the states of another division are taken over whole
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
class Prepared:
    """A job, what its data came to, and which settings had changed since an earlier attempt."""

    job: TrainingJob
    counts: ExampleCounts
    restarted_for: tuple[str, ...]


def prepare(
    model: ModelIndex,
    settings: Finetune,
    *,
    data: Path,
    template: str,
    work: Path,
    adapter: Path,
    grouped_as: Finetune | None = None,
) -> Prepared:
    """Tokenize the data into work and return the job, to go on from the last whole checkpoint.

    grouped_as: the settings whose micro batch decides which conversations stand together; these
    ones where it is None.
    data is a conversation file, or a directory of prepared examples, which is used as it is. What
    an earlier attempt has left in work of the same file is not made again. Checkpoints of another
    training are removed. Raises DataError, RecipeError and NotAModel for
    data, a template or a tokenizer that cannot be used, and what `require_no_code` does.
    """
    make_directory(work)
    if data.is_dir():
        prepared = read_prepared(data, settings, template)
    else:
        prepared = prepare_examples(model.directory, data, settings, template, out=work)
    examples = rows_of(prepared.examples, settings.method)
    require_rows(read_config(model.directory), prepared.largest_id, where=data)
    rows = row_count(settings, examples)
    steps = total_steps(settings, rows)
    outcome, checkpoints = work / "outcome.json", work / CHECKPOINTS
    group = group_size(grouped_as or settings)
    identity = _identity(model, settings, steps, prepared.sha256, group)
    restarted_for = adopt(checkpoints, identity, outcome)
    last = last_whole(checkpoints)
    if last and not can_go_on(last, division_of(settings)):
        take_back(outcome)
        prune(checkpoints, keep=0)
        restarted_for = ("zero_stage",)
    prune(checkpoints, settings.save_total_limit)
    last = last_whole(checkpoints)
    if last is not None:
        require_no_code(last)
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
        resume_from=last,
        adapter=adapter,
        outcome=outcome,
    )
    return Prepared(job, prepared.counts, restarted_for)


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
    """Return all that decides the bits of the adapter, by names that a user knows."""
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
    """Return what changes when the weights do: of an artifact the same on every machine."""
    manifest = manifest_of(model.directory)
    return model.fingerprint() if manifest is None else manifest.content_digest
