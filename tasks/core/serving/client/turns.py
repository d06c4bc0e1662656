"""The turns of a conversation, and which of them go when it is longer than the model can read.

The invariant: a system message is never left out, and neither is the last question.
"""

from collections.abc import Sequence
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic wants it before Python 3.12


class ChatMessage(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def without_oldest(messages: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """Return messages without the oldest question and its answer; None where only one is left."""
    questions = [place for place, each in enumerate(messages) if each["role"] == "user"]
    if len(questions) < 2:
        return None
    second = questions[1]
    kept = [each for each in messages[:second] if each["role"] == "system"]
    return [*kept, *messages[second:]]


def room_question(
    model: str, messages: Sequence[ChatMessage], answer_tokens: int
) -> dict[str, Any]:
    """Return the body that asks /v1/token_check if such an answer fits behind these messages.

    The template's own tokens are not counted, so the answer is right but for a few of them.
    """
    text = "\n".join(message["content"] for message in messages)
    return {"prompts": [{"model": model, "prompt": text, "max_tokens": answer_tokens}]}


def has_room(checked: object) -> bool:
    """Return what the server answers to `room_question`; True where it knows no such question."""
    match checked:
        case {"prompts": [{"fits": bool(fits)}]}:
            return fits
    return True
