"""The held-out part of reviewed answers: neither these conversations nor their answers are learned.

The opening question alone decides the side of a conversation, whatever the system message. The same
question can come later in a conversation on the other side, so the invariant is: no answer to a
question on which the model is measured is trained on, neither as good nor as bad.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tasks.core.conversation.examples.split import is_validation
from tasks.core.conversation.records import Conversation, Turn

QuestionAnswer = tuple[str, str]
"""A question and its answer, by which an answer is recognised in another conversation."""


def is_held_out(turns: Sequence[Turn], share: float) -> bool:
    """Return whether conversations that begin like this belong to the held-out share."""
    return is_validation(Conversation("", tuple(turns[:1])), share)


def answers_in(conversations: Iterable[Conversation]) -> frozenset[QuestionAnswer]:
    """Return every question with its answer in these conversations."""
    return frozenset(said for each in conversations for said in said_in(each.turns))


def said_in(turns: Sequence[Turn], *further: str) -> set[QuestionAnswer]:
    """Return every question with its answer; `further` are answers to the last turn."""
    found = {
        (question.text, answer.text)
        for question, answer in pairwise(turns)
        if answer.speaker == "gpt"
    }
    return found | {(turns[-1].text, answer) for answer in further}
