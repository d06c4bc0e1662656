"""Turning a client's messages into the token ids of the prompt, the same way for every engine.

FastChat's template makes the text, the model's tokenizer the ids. The invariant: the ids are those
that FastChat's own server would compute for the same messages, none is ever truncated, and there is
room for the answer after them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.core.conversation.template.render import get_template, stop_strings
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode, refused

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUICK_CHARACTERS = 2000  # takes about a millisecond; longer texts must not delay the streams


@dataclass(frozen=True)
class PromptTurn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


class Prompts:
    """Makes prompts for one model directory with one template."""

    def __init__(self, model: Path, template: str, context_tokens: int) -> None:
        self._template = get_template(template)
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(model)
        self.context_tokens = context_tokens
        self.vocabulary = len(self._tokenizer)
        self.stop = stop_strings(self._template)
        self.stop_token_ids = tuple(self._template.stop_token_ids or ())

    def text(self, turns: Sequence[PromptTurn]) -> str:
        """Return the text of the prompt, up to where the answer begins.

        System messages are joined at the start, where FastChat would keep only the last one. Raises
        ApiError if the template does not support them.
        """
        template = self._template.copy()
        system = "\n".join(turn.text for turn in turns if turn.role == "system")
        if any(turn.role == "system" for turn in turns):
            template.set_system_message(system)
        for turn in turns:
            if turn.role != "system":
                template.append_message(template.roles[turn.role == "assistant"], turn.text)
        template.append_message(template.roles[1], None)
        prompt: str = template.get_prompt()
        if system not in prompt:
            raise refused("messages", "This model's template has no place for a system message.")
        return prompt

    async def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, with the special tokens at its start."""
        if len(text) <= _QUICK_CHARACTERS:
            return self.ids_now(text)
        return await asyncio.to_thread(self.ids_now, text)

    def ids_now(self, text: str) -> list[int]:
        """Return the same in this thread; slow for a long text."""
        ids: list[int] = self._tokenizer(text, verbose=False).input_ids
        return ids

    def check_ids(self, ids: Sequence[int], param: str) -> list[int]:
        """Return the ids of a client. Raises ApiError for one outside the vocabulary."""
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise refused(
                    param, f"{param}: {token} is no token id; there are {self.vocabulary}."
                )
        return list(ids)

    def answer_tokens(self, prompt_tokens: int, wanted: int) -> int:
        """Return how many tokens an answer may have. Raises ApiError if there is no room.

        The text of the error is FastChat's, because clients shorten the conversation on it.
        """
        room = min(wanted, self.context_tokens - prompt_tokens)
        if room <= 0:
            raise self.overflow(prompt_tokens)
        return room

    def overflow(self, tokens: int) -> ApiError:
        """Return the error for a text of so many tokens."""
        return ApiError(
            FastChatCode.CONTEXT_OVERFLOW,
            f"This model's maximum context length is {self.context_tokens} tokens. However, your "
            f"messages resulted in {tokens} tokens. Please reduce the length of the messages.",
        )
