"""Conversations as examples, once for all trainings that ask for the same: an artifact's content.

A directory holds the examples to train on, those to validate with, and what they were made from.
What decides its bytes is the data file, the tokenizer, the template, the length and the rules: a
store's key is made of these (`identity`). The invariant: a training takes a directory only if it
was made as its own settings say.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from tasks.core.conversation.examples import ExampleCounts, ExampleWriter
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.screening import Rules, screen
from tasks.core.conversation.split import is_validation
from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.errors import DataError
from tasks.core.files import write_atomically
from tasks.core.progress import Report, silent
from tasks.core.recipe import Finetune

EXAMPLES = "examples.safetensors"
VALIDATION = "validation.safetensors"
DESCRIPTION = "prepared.json"

DECIDING = {
    "language",
    "same_speaker",
    "max_dropped_share",
    "max_length_tokens",
    "validation_share",
}


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: dict[str, JsonValue]
    counts: ExampleCounts
    pad_token_id: int


@dataclass(frozen=True)
class PreparedExamples:
    """Example files, memory-mapped when they are read, and what they came to."""

    examples: Path
    validation: Path | None
    counts: ExampleCounts
    pad_token_id: int


def identity(settings: Finetune, template: str) -> dict[str, JsonValue]:
    """Return what of a recipe decides the examples, beside the data file and the tokenizer."""
    return {**settings.model_dump(mode="json", include=DECIDING), "template": template}


def prepare_examples(
    model: Path,
    data: Path,
    settings: Finetune,
    template: str,
    *,
    out: Path,
    report: Report = silent,
) -> PreparedExamples:
    """Write the examples of a conversation file into the existing directory out.

    The tokenizer is that of the model's directory; its weights are not read. Each conversation
    stands on the side that its own words decide. `report` counts the bytes of the data. Raises
    DataError, RecipeError and NotAModel for data, a template or a tokenizer that cannot be used.
    """
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, template, settings.max_length_tokens)
    screening = screen(data, Rules.of(settings), encoder=encoder, report=report)
    screening.require_acceptable()
    with ExampleWriter(out / EXAMPLES) as training, ExampleWriter(out / VALIDATION) as validation:
        for _, conversation in screening.conversations():
            apart = is_validation(conversation, settings.validation_share)
            (validation if apart else training).add(encoder.encode(conversation))
        (out / VALIDATION).unlink(missing_ok=True)
        _require_something_to_learn(data, settings, training.counts, validation.counts)
        counts = training.finish()
        if validation.counts.examples:
            validation.finish()
    pad_token_id = next(
        i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None
    )
    description = _Description(
        identity=identity(settings, template), counts=counts, pad_token_id=pad_token_id
    )
    write_atomically(out / DESCRIPTION, description.model_dump_json(indent=1))
    return read_prepared(out, settings, template)


def _require_something_to_learn(
    data: Path, settings: Finetune, training: ExampleCounts, validation: ExampleCounts
) -> None:
    """Raise DataError when all conversations fell to the share that is not learned."""
    share = settings.validation_share
    if training.examples or not validation.examples:
        return
    raise DataError(
        "Nothing is left to learn: every conversation is kept for validation.",
        where=data,
        expected="conversations on both sides",
        found=f"finetune.validation_share: {share:g}, and all {validation.examples} usable "
        "conversations fall to it",
        next_step="Lower finetune.validation_share, to 0.1 for example, or bring more "
        "conversations.",
    )


def read_prepared(directory: Path, settings: Finetune, template: str) -> PreparedExamples:
    """Return the examples of a directory that was made for these settings.

    Raises DataError when it was made for others, or is none.
    """
    file = directory / DESCRIPTION
    try:
        description = _Description.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            "This directory holds no prepared examples.",
            where=directory,
            expected=DESCRIPTION,
            next_step="Name a conversation file, or a directory that `prepare` has made.",
        ) from error
    wanted, found = identity(settings, template), description.identity
    differing = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
    if differing:
        raise DataError(
            "The examples were prepared for other settings.",
            where=directory,
            expected=", ".join(f"{name}: {wanted.get(name)}" for name in differing),
            found=", ".join(f"{name}: {found.get(name)}" for name in differing),
            next_step="Prepare them anew.",
        )
    validation = directory / VALIDATION
    return PreparedExamples(
        directory / EXAMPLES,
        validation if validation.exists() else None,
        description.counts,
        description.pad_token_id,
    )
