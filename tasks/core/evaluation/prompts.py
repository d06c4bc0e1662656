"""Prompts from a file, and a selection that alternates between their kinds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import BadRecord, is_text
from tasks.core.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """A prompt that every model of the chain answers; `kind` is for example `chat` or `article`."""

    id: str
    kind: str
    text: str


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a JSON array or of JSON lines.

    Raises DataError for an invalid prompt, with its position, and for any other kind of file.
    """
    return [_prompt(value, path, position) for position, value in values(path, "prompts")]


def _prompt(value: object, path: Path, position: int) -> Prompt:
    if isinstance(value, BadRecord):
        raise _wrong(path, position, value.reason)
    if not isinstance(value, dict):
        raise _wrong(path, position, f"not an object but {type(value).__name__}")
    id_, text, kind = value.get("id"), value.get("prompt"), value.get("kind", "")
    if isinstance(id_, bool) or not isinstance(id_, str | int):
        raise _wrong(path, position, "`id` is missing or not text")
    if not isinstance(text, str) or not text.strip():
        raise _wrong(path, position, "`prompt` is missing or not text")
    if not is_text(f"{id_}{kind}{text}"):
        raise _wrong(path, position, "not UTF-8")
    return Prompt(str(id_), str(kind), text)


def _wrong(path: Path, position: int, found: str) -> DataError:
    return DataError(
        "The prompts cannot be read.",
        where=f"{path}, prompt {position}",
        expected='a JSON list of {"id": ..., "kind": ..., "prompt": ...}',
        found=found,
        next_step="Correct the file; data/evaluation/prompts.json shows the form.",
    )


def choose(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return up to count prompts, one of each kind in turn, in their order within each kind."""
    kinds: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    rounds = itertools.zip_longest(*kinds.values())
    return [prompt for turn in rounds for prompt in turn if prompt is not None][:count]


def for_comparison(path: Path) -> list[str]:
    """Return the texts of a file's prompts, one of each kind in turn; none if there is no file.

    For serving, which may be on another machine than the evaluation.
    """
    prompts = read_prompts(path) if path.is_file() else []
    return [prompt.text for prompt in choose(prompts, len(prompts))]
