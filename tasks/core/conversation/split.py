"""Training and validation, divided by what a record says.

The invariant: where a conversation belongs depends on its own turns only, so that adding, removing
or reordering records never moves another one, and a copy never stands on both sides.
"""

from tasks.core import keys
from tasks.core.conversation.records import Conversation


def is_validation(conversation: Conversation, validation_share: float) -> bool:
    """Return whether the conversation is one of the share (0 to 1) that is not trained on."""
    content = [conversation.system, *([turn.speaker, turn.text] for turn in conversation.turns)]
    return int(keys.digest(content)[:16], 16) / 2**64 < validation_share
