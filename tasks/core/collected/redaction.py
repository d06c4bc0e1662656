"""Texts as they may be kept: without what points at a person.

The invariant: whatever is written below a deployment's `collected` has been through `redacted`.
Not found, and so kept: street addresses, and names that came without an introduction.
"""

from collections.abc import Sequence
from typing import Final

from tasks.core.collected.names import names_given, without_names
from tasks.core.collected.records import Message
from tasks.core.conversation.personal_data.find import personal_spans
from tasks.core.conversation.personal_data.spans import PersonalDataKind

NAME: Final = "[nama]"
PLACEHOLDERS: Final[dict[PersonalDataKind, str]] = {
    "phone": "[telepon]",
    "email": "[email]",
    "card": "[kartu]",
    "nik": "[NIK]",
    "npwp": "[NPWP]",
}


def names_in(messages: Sequence[Message], *more: str) -> frozenset[str]:
    """Return the names that a person gave in the own turns of a conversation, or in more texts."""
    return names_given([*(each.content for each in messages if each.role == "user"), *more])


def redacted(text: str, names: frozenset[str]) -> str:
    """Return the text with a placeholder for all personal data, and for these names."""
    parts, done = [], 0
    for found in personal_spans(text):
        parts += [without_names(text[done : found.start], names, NAME), PLACEHOLDERS[found.kind]]
        done = found.end
    return "".join([*parts, without_names(text[done:], names, NAME)])


def redacted_messages(messages: Sequence[Message], names: frozenset[str]) -> tuple[Message, ...]:
    """Return the conversation with a placeholder for all personal data, and for these names."""
    return tuple(
        Message(role=each.role, content=redacted(each.content, names)) for each in messages
    )
