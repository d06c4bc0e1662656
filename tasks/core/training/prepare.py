"""From a model, a data file and settings to a job that can be started, or started again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.conversation.examples import ExampleCounts, ExampleFile, write_examples
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.screening import Rules, kept_conversations
from tasks.core.conversation.split import split
from tasks.core.errors import NotAModel
from tasks.core.files import sha256_of
from tasks.core.keys import to_jsonable
from tasks.core.recipe import Finetune
from tasks.core.training.batching import row_count
from tasks.core.training.checkpoints import adopt, last_whole, prune
from tasks.core.training.job import TrainingJob, global_batch_size, total_steps
from tasks.core.weights.index import ModelIndex

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
    "save_total_limit",
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
) -> Prepared:
    """Tokenize the data into work and return the job, to go on from the last whole checkpoint.

    Checkpoints of another training are removed. Raises DataError, RecipeError and NotAModel for
    data, a template or a tokenizer that cannot be used.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(model.directory)
    encoder = Encoder(tokenizer, template, settings.max_length_tokens)
    sides = split(kept_conversations(data, Rules.of(settings), encoder), settings.validation_share)
    examples, validation = work / "examples.safetensors", work / "validation.safetensors"
    counts = write_examples(examples, sides.training, encoder)
    if sides.validation:
        write_examples(validation, sides.validation, encoder)
    steps = total_steps(settings, row_count(settings, ExampleFile(examples)))
    outcome, checkpoints = work / "outcome.json", work / "checkpoints"
    restarted_for = adopt(checkpoints, _identity(model, settings, steps, examples))
    if restarted_for:
        outcome.unlink(missing_ok=True)
    prune(checkpoints, settings.save_total_limit)
    job = TrainingJob(
        model=model.directory.resolve(),
        examples=examples,
        validation_examples=validation if sides.validation else None,
        settings=settings,
        total_steps=steps,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
        checkpoints=checkpoints,
        resume_from=last_whole(checkpoints),
        adapter=adapter,
        outcome=outcome,
    )
    return Prepared(job, counts, restarted_for)


def _identity(
    model: ModelIndex, settings: Finetune, steps: int, examples: Path
) -> Mapping[str, JsonValue]:
    """Return all that decides the bits of the adapter, by names that a user knows."""
    own = settings.model_dump(mode="json", exclude=FREE | {"lora"})
    lora = settings.lora.model_dump(mode="json")
    return {
        **{name: to_jsonable(value) for name, value in own.items()},
        **{f"lora.{name}": to_jsonable(value) for name, value in lora.items()},
        "model": [model.fingerprint(), sha256_of(model.directory / "config.json")],
        "data": sha256_of(examples),
        "steps": steps,
        "global_batch_size": global_batch_size(settings),
    }


def _tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=True, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise NotAModel(
            "The model's tokenizer cannot be loaded.",
            where=directory,
            found=str(error).splitlines()[0],
            next_step="Copy the tokenizer's files from the base model.",
        ) from error
    return tokenizer
