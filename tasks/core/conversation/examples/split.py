"""The split into training and validation, and how often an epoch trains on a conversation.

The invariant: both depend on the conversation's own turns only, so that adding, removing or
reordering records never moves another record, and copies always stay on the same side.
"""

from tasks.core import keys
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation


def is_validation(conversation: Conversation, validation_share: float) -> bool:
    """Return whether the conversation belongs to the share (0 to 1) that is not trained on."""
    return _fraction(_digest(conversation)[:16]) < validation_share


def copies_per_epoch(conversation: Conversation, weight: float) -> int:
    """Return how often an epoch trains on a conversation of a source with this weight.

    The integer part of the weight, and once more for a share of conversations given by its
    fraction. Other digits of the digest than for the split decide which, so that the two are
    independent.
    """
    whole = int(weight)
    if whole == weight:
        return whole
    return whole + (_fraction(_digest(conversation)[16:32]) < weight - whole)


def _digest(conversation: Conversation) -> str:
    """Return the digest of a conversation's texts; of a preference pair, up to the question.

    So all answers to the same question stay on one side.
    """
    pair = isinstance(conversation, Preference)
    turns = conversation.turns[:-1] if pair else conversation.turns
    content = [conversation.system, *([turn.speaker, turn.text] for turn in turns)]
    return keys.digest(content)


def _fraction(digits: str) -> float:
    return int(digits, 16) / float(1 << 4 * len(digits))
