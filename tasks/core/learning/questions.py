"""The questions of held-out conversations, as prompts for two models to compare."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import Conversation, parse_record
from tasks.core.learning.topics import Topics

MAX_LETTERS = 4000
"""A longer question is a pasted text, and may not fit into the model's context."""
_MARKS = re.compile(r"<[^\s<>]+>|\[/?INST\]")
"""Anything that may be a special token: a prompt with one is refused."""


def questions_in(path: Path, topics: Topics) -> list[JsonValue]:
    """Return the first question of each conversation in a file, as a prompt with its topic as kind.

    Prompts are chosen from each kind in turn, so that every topic is answered. Raises DataError.
    """
    return list(_questions(path, topics))


def _questions(path: Path, topics: Topics) -> Iterator[JsonValue]:
    for position, value in values(path):
        record = parse_record(value, position)
        if not isinstance(record, Conversation) or record.system is not None:
            continue
        text = record.turns[0].text
        if text.strip() and len(text) <= MAX_LETTERS and not _MARKS.search(text):
            yield {"id": f"{position}-{record.id}", "kind": topics.of([text]), "prompt": text}
