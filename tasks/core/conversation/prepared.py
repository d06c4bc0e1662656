"""Prepared examples: the content of an artifact that every training run with equal inputs shares.

A directory holds the examples for training, those for validation, and a description of what they
were made from. Data, tokenizer, template, length and rules decide its bytes, and so its key in the
store (`identity`). The invariant: training uses a directory only if it was made for its settings.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.examples.writer import ExampleCounts, ExampleWriters
from tasks.core.conversation.reading.data_files import Data, files_of
from tasks.core.conversation.reading.data_sources import digest_of_files
from tasks.core.conversation.tokenizer.identity import tokenizer_digest
from tasks.core.conversation.tokenizer.load import load_tokenizer
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
    """The example files of a directory, with their counts.

    `largest_id` is that of both files, `sha256` that of the training examples.
    """

    examples: Path
    validation: Path | None
    counts: ExampleCounts
    pad_token_id: int
    largest_id: int
    sha256: str


class _Source:
    """The data and the tokenizer that examples are made from."""

    def __init__(self, data: Data, tokenizer: str) -> None:
        self._files, self.tokenizer = files_of(data), tokenizer
        self.sha256 = digest_of_files(self._files)

    def made(self, directory: Path, settings: Finetune, template: str) -> bool:
        """Return whether the directory holds the examples that would be made from this source."""
        try:
            found = _Description.model_validate_json((directory / DESCRIPTION).read_bytes())
        except (OSError, ValidationError):
            return False
        same_source = (found.data, found.tokenizer) == (self.sha256, self.tokenizer)
        same = same_source and found.identity == identity(settings, template)
        return same and (directory / EXAMPLES).is_file()

    def require_unchanged(self) -> None:
        """Raise DataError if a file has changed since."""
        if digest_of_files(self._files) != self.sha256:
            raise DataError(
                "The file was changed while it was read.",
                where=", ".join(each.name for each in self._files),
                next_step="Run again when nothing writes into the file.",
            )


def identity(settings: Finetune, template: str) -> dict[str, JsonValue]:
    """Return the part of a recipe that decides the examples, apart from data and tokenizer."""
    deciding = DECIDING | {"method"}  # which is not dumped for sft
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
    """Tokenize conversation files into the existing directory out, unless it holds the result.

    Only the tokenizer of the model's directory is read, not its weights. `on_progress` counts the
    bytes of the data. Raises DataError, RecipeError and NotAModel for inputs that cannot be used.
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
    """Raise DataError if every record fell into the validation share."""
    share, validation = settings.validation_share, both.validation.counts
    if both.training.given or not validation.examples:
        return
    one, all_of_them = ("pair", "pairs")
    if settings.method == "sft":
        one, all_of_them = ("conversation", "conversations")
    raise DataError(
        f"Nothing is left to learn: every {one} is kept for validation.",
        where=where,
        expected=f"{all_of_them} on both sides",
        found=f"finetune.validation_share: {share:g}, and all {validation.examples} usable "
        f"{all_of_them} fall to it",
        next_step=f"Lower finetune.validation_share, to 0.1 for example, or bring more "
        f"{all_of_them}.",
    )


def read_prepared(directory: Path, settings: Finetune, template: str) -> PreparedExamples:
    """Return the examples of a directory that was made for these settings.

    Raises DataError if it was made for others, or holds no examples.
    """
    file = directory / DESCRIPTION
    try:
        description = _Description.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            "This directory holds no prepared examples.",
            where=directory,
            expected=DESCRIPTION,
            next_step="Name a conversation file, or a directory that `prepare` has written.",
        ) from error
    wanted, found = identity(settings, template), description.identity
    differing = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
    if differing:
        raise DataError(
            "The examples were prepared for other settings.",
            where=directory,
            expected=", ".join(f"{name}: {wanted.get(name)}" for name in differing),
            found=", ".join(f"{name}: {found.get(name)}" for name in differing),
            next_step="Prepare them again.",
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
