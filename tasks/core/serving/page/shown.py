"""A conversation as gradio's chat shows it, and as the model reads it."""

from collections.abc import Sequence
from typing import Any

from tasks.core.serving.client.turns import ChatMessage

Shown = dict[str, Any]
"""A message of gradio's chat."""


def messages_of(shown: Sequence[Shown]) -> list[ChatMessage]:
    """Return the conversation that a chat shows: gradio gives a message as a list of parts."""
    return [
        ChatMessage(role=each["role"], content=_text(each["content"]))
        for each in shown
        if each["role"] in ("user", "assistant")
    ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")
