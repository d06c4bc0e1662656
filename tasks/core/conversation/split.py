"""Training and validation, divided by what a record says.

The invariant: where a conversation belongs depends on its own turns only, so that adding, removing
or reordering records never moves another one, and a copy never stands on both sides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core import keys
from tasks.core.conversation.records import Conversation


@dataclass(frozen=True)
class Split:
    """Conversations to learn from, and conversations to measure with."""

    training: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]


def is_validation(conversation: Conversation, validation_share: float) -> bool:
    """Return whether the conversation is one of the share (0 to 1) that is not trained on."""
    content = [conversation.system, *([turn.speaker, turn.text] for turn in conversation.turns)]
    return int(keys.digest(content)[:16], 16) / 2**64 < validation_share


def split(conversations: Iterable[Conversation], validation_share: float) -> Split:
    """Return the conversations on their sides, in their order."""
    training: list[Conversation] = []
    validation: list[Conversation] = []
    for conversation in conversations:
        side = validation if is_validation(conversation, validation_share) else training
        side.append(conversation)
    return Split(tuple(training), tuple(validation))
