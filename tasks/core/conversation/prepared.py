"""Conversations as examples, once for all trainings that ask for the same: an artifact's content.

A directory holds the examples to train on, those to validate with, and what they were made from.
What decides its bytes is the data, the tokenizer, the template, the length and the rules: a
store's key is made of these (`identity`). The invariant: a training takes a directory only if it
was made as its own settings say.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from tasks.core.conversation.data_files import Data, files_of
from tasks.core.conversation.data_sources import digest_of
from tasks.core.conversation.examples import ExampleCounts, ExampleWriters
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.screening import Rules, screen
from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.conversation.tokenizer_identity import tokenizer_digest
from tasks.core.errors import DataError
from tasks.core.files.durable import take_back, write_atomically
from tasks.core.progress import OnProgress, silent
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
    largest_id: int
    sha256: str
    data: str
    tokenizer: str


@dataclass(frozen=True)
class PreparedExamples:
    """Example files, memory-mapped when they are read, and what they came to.

    `largest_id` is that of both files, `sha256` that of the examples to train on.
    """

    examples: Path
    validation: Path | None
    counts: ExampleCounts
    pad_token_id: int
    largest_id: int
    sha256: str


class _Source:
    """What examples are made from, beside the settings."""

    def __init__(self, data: Data, tokenizer: str) -> None:
        self._files, self.tokenizer = files_of(data), tokenizer
        self.sha256 = digest_of(self._files)

    def made(self, directory: Path, settings: Finetune, template: str) -> bool:
        """Return whether the examples in a directory are those that would be made of this."""
        try:
            found = _Description.model_validate_json((directory / DESCRIPTION).read_bytes())
        except (OSError, ValidationError):
            return False
        same_source = (found.data, found.tokenizer) == (self.sha256, self.tokenizer)
        same = same_source and found.identity == identity(settings, template)
        return same and (directory / EXAMPLES).is_file()

    def require_unchanged(self) -> None:
        """Raise DataError if a file is no longer what it was."""
        if digest_of(self._files) != self.sha256:
            raise DataError(
                "The file was changed while it was read.",
                where=", ".join(each.name for each in self._files),
                next_step="Run again when nothing writes into the file.",
            )


def identity(settings: Finetune, template: str) -> dict[str, JsonValue]:
    """Return what of a recipe decides the examples, beside the data and the tokenizer."""
    deciding = DECIDING | {"method"}  # which a recipe by sft does not name
    return {**settings.model_dump(mode="json", include=deciding), "template": template}


def prepare_examples(
    model: Path,
    data: Data,
    settings: Finetune,
    template: str,
    *,
    out: Path,
    on_progress: OnProgress = silent,
) -> PreparedExamples:
    """Write the examples of conversation files into the existing directory out.

    The tokenizer is that of the model's directory; its weights are not read. Each conversation
    stands on the side that its own words decide, and on that to train on as often as the weight of
    its file says. What `out` holds already of the same data, for
    the same tokenizer and settings, is taken as it is. `on_progress` counts the bytes of the data.
    Raises DataError, RecipeError and NotAModel for what cannot be used.
    """
    tokenizer = load_tokenizer(model)
    source = _Source(data, tokenizer_digest(tokenizer))
    if source.made(out, settings, template):
        return read_prepared(out, settings, template)
    take_back(out / DESCRIPTION)
    encoder = Encoder(tokenizer, template, settings.max_length_tokens)
    share = settings.validation_share
    sides = 2 if settings.method == "dpo" else 1
    places = out / EXAMPLES, out / VALIDATION
    with ExampleWriters(*places, share, examples_a_record=sides) as both:
        screening = screen(
            data, Rules.of(settings), encoder=encoder, examples=both, on_progress=on_progress
        )
        screening.require_acceptable()
        (out / VALIDATION).unlink(missing_ok=True)
        _require_something_to_learn(screening.name, settings, both)
        counts = both.training.finish()
        if both.validation.counts.examples:
            both.validation.finish()
        source.require_unchanged()
    pad_token_id = next(
        i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None
    )
    description = _Description(
        identity=identity(settings, template),
        counts=counts,
        pad_token_id=pad_token_id,
        largest_id=max(both.training.largest_id, both.validation.largest_id),
        sha256=both.training.sha256,
        data=source.sha256,
        tokenizer=source.tokenizer,
    )
    write_atomically(out / DESCRIPTION, description.model_dump_json(indent=1))
    return read_prepared(out, settings, template)


def _require_something_to_learn(where: str, settings: Finetune, both: ExampleWriters) -> None:
    """Raise DataError when all conversations fell to the share that is not learned."""
    share, validation = settings.validation_share, both.validation.counts
    if both.training.given or not validation.examples:
        return
    raise DataError(
        "Nothing is left to learn: every conversation is kept for validation.",
        where=where,
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
        description.largest_id,
        description.sha256,
    )
