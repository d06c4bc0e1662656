"""The messages of a conversation, shortened when it is longer than the model's context.

The invariant: system messages and the last question are never left out.
"""

from collections.abc import Sequence
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic wants it before Python 3.12


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def without_oldest(messages: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """Return messages without the oldest question and its answer; None if only one is left."""
    questions = [place for place, each in enumerate(messages) if each["role"] == "user"]
    if len(questions) < 2:
        return None
    second = questions[1]
    kept = [each for each in messages[:second] if each["role"] == "system"]
    return [*kept, *messages[second:]]


def room_question(
    model: str, messages: Sequence[ChatMessage], answer_tokens: int
) -> dict[str, Any]:
    """Return the body that asks /v1/token_check whether such an answer fits after these messages.

    The template's own tokens are not counted, so the result may be off by a few tokens.
    """
    text = "\n".join(message["content"] for message in messages)
    return {"prompts": [{"model": model, "prompt": text, "max_tokens": answer_tokens}]}


def has_room(checked: object) -> bool:
    """Return the server's answer to `room_question`; True if it does not support it."""
    match checked:
        case {"prompts": [{"fits": bool(fits)}]}:
            return fits
    return True
