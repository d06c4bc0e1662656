"""What is held out is not trained on: neither the conversation, nor an answer that stands in it.

The side of a conversation is told by its opening question alone, whatever the system message. Yet
the same question can come later in a conversation of the other side; the invariant is that no
answer to a question that the model is measured by is learned, or learned to be avoided.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tasks.core.conversation.examples.split import is_validation
from tasks.core.conversation.records import Conversation, Turn

Said = tuple[str, str]
"""A question and the answer to it, by which an answer is known again in another conversation."""


def is_held_out(turns: Sequence[Turn], share: float) -> bool:
    """Return whether conversations that begin like this are among the share that is held out."""
    return is_validation(Conversation("", tuple(turns[:1])), share)


def answers_in(conversations: Iterable[Conversation]) -> frozenset[Said]:
    """Return what is said in these conversations."""
    return frozenset(said for each in conversations for said in said_in(each.turns))


def said_in(turns: Sequence[Turn], *further: str) -> set[Said]:
    """Return each question with its answer; `further` are answers to the last of the turns."""
    found = {
        (question.text, answer.text)
        for question, answer in pairwise(turns)
        if answer.speaker == "gpt"
    }
    return found | {(turns[-1].text, answer) for answer in further}
