"""The questions of held-out conversations, as prompts that two models answer side by side."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import Conversation, parse_record
from tasks.core.learning.topics import Topics

MAX_LETTERS = 4000
"""A longer one is a text that was pasted, and may not fit into the model's context."""
_MARKS = re.compile(r"<[^\s<>]+>|\[/?INST\]")
"""What may be the text of a special token, with which no prompt is answered."""


def questions_in(path: Path, topics: Topics) -> list[JsonValue]:
    """Return the first question of each conversation of a file, as a prompt of its topic.

    Each kind has its turn when some are chosen, so that every topic is among the answers. Raises
    DataError.
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
