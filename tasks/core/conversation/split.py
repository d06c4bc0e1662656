"""Training and validation, divided by what a record says, and how often it is learned.

The invariant: what becomes of a conversation depends on its own turns only, so that adding,
removing or reordering records never moves another one, and a copy never stands on both sides.
"""

from tasks.core import keys
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation


def is_validation(conversation: Conversation, validation_share: float) -> bool:
    """Return whether the conversation is one of the share (0 to 1) that is not trained on."""
    return _fraction(_digest(conversation)[:16]) < validation_share


def copies(conversation: Conversation, weight: float) -> int:
    """Return how often an epoch learns a conversation of a source with this weight.

    The whole part of the weight, and once more for as many as its fraction says. Which these are is
    told by other digits of the digest than the side, so that neither depends on the other.
    """
    whole = int(weight)
    if whole == weight:
        return whole
    return whole + (_fraction(_digest(conversation)[16:32]) < weight - whole)


def _digest(conversation: Conversation) -> str:
    """Return the digest of what a conversation says, of a preference before its answers.

    So all answers that were given to the same question stand on one side.
    """
    pair = isinstance(conversation, Preference)
    turns = conversation.turns[:-1] if pair else conversation.turns
    content = [conversation.system, *([turn.speaker, turn.text] for turn in turns)]
    return keys.digest(content)


def _fraction(digits: str) -> float:
    return int(digits, 16) / float(1 << 4 * len(digits))
