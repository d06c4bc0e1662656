"""Redaction of texts: personal data is replaced by placeholders.

The invariant: every text written below a deployment's `collected` was passed through `redacted`.
Street addresses and names without an introduction are not found, and so are kept.
"""

from collections.abc import Sequence
from typing import Final

from tasks.core.collected.privacy.names import names_given, without_names
from tasks.core.collected.storage.records import CollectedMessage
from tasks.core.conversation.personal_data.find import personal_spans
from tasks.core.conversation.personal_data.spans import PersonalDataKind

NAME_PLACEHOLDER: Final = "[nama]"
PLACEHOLDERS: Final[dict[PersonalDataKind, str]] = {
    "phone": "[telepon]",
    "email": "[email]",
    "card": "[kartu]",
    "nik": "[NIK]",
    "npwp": "[NPWP]",
}


def names_in(messages: Sequence[CollectedMessage], *more: str) -> frozenset[str]:
    """Return the names that the user gives in a conversation, or in further texts."""
    return names_given([*(each.content for each in messages if each.role == "user"), *more])


def redacted(text: str, names: frozenset[str]) -> str:
    """Return the text with placeholders for all personal data and for these names."""
    parts, done = [], 0
    for found in personal_spans(text):
        parts += [
            without_names(text[done : found.start], names, NAME_PLACEHOLDER),
            PLACEHOLDERS[found.kind],
        ]
        done = found.end
    return "".join([*parts, without_names(text[done:], names, NAME_PLACEHOLDER)])


def redacted_messages(
    messages: Sequence[CollectedMessage], names: frozenset[str]
) -> tuple[CollectedMessage, ...]:
    """Return the conversation with placeholders for all personal data and for these names."""
    return tuple(
        CollectedMessage(role=each.role, content=redacted(each.content, names)) for each in messages
    )
