"""The conversations of a file that is meant to be flawless."""

from pathlib import Path

from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import Conversation


def load_conversations(path: Path) -> tuple[Conversation, ...]:
    """Return all conversations of a file; a bad record is a failure."""
    records = [record for _, record in scan(path)]
    good = tuple(record for record in records if isinstance(record, Conversation))
    assert len(good) == len(records), [each for each in records if each not in good]
    return good
