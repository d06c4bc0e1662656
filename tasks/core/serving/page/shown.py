"""Converting a conversation from gradio's chat to messages for the model."""

from collections.abc import Sequence
from typing import Any

from tasks.core.serving.client.turns import ChatMessage

Shown = dict[str, Any]
"""A message of gradio's chat."""


def messages_of(shown: Sequence[Shown]) -> list[ChatMessage]:
    """Return the messages of a chat, each of which gradio represents as a list of parts."""
    return [
        ChatMessage(role=each["role"], content=_text(each["content"]))
        for each in shown
        if each["role"] in ("user", "assistant")
    ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")
