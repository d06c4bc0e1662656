"""Prompts from a file, and a choice of them in which every kind has its turn."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """A question that every model of the chain answers; `kind` is `chat` or `article`, say."""

    id: str
    kind: str
    text: str


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file. Raises DataError when it is not a list of prompts."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            Prompt(str(entry["id"]), str(entry.get("kind", "")), str(entry["prompt"]))
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "The prompts cannot be read.",
            where=path,
            expected='a JSON list of {"id": ..., "kind": ..., "prompt": ...}',
            found=f"{type(error).__name__}: {error}",
            next_step="Correct the file; data/evaluation/prompts.json shows the form.",
        ) from error


def choose(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return up to count prompts, one of each kind in turn, each kind in its own order."""
    kinds: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    rounds = itertools.zip_longest(*kinds.values())
    return [prompt for turn in rounds for prompt in turn if prompt is not None][:count]
