"""Decoding tokens to text that can be sent: complete characters, and no part of a stop string.

Covers one answer at a time. What is still ambiguous is held back: the first bytes of a character,
the beginning of a stop string.
"""

from collections.abc import Sequence
from typing import Protocol

_NO_CHARACTER = "\ufffd"
"""What a decoder returns for bytes that are not a complete character."""


class TextDecoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(
        self,
        token_ids: list[int],
        *,
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> str:
        """Return the text of the tokens."""


def decoded(tokenizer: TextDecoder, ids: list[int]) -> str:
    """Return the text of the tokens, without special tokens, with spaces unchanged."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Detokenizer:
    """Decodes a growing list of tokens to complete characters.

    A token is decoded together with those before it, because some tokenizers drop a leading space;
    the window is that of vLLM and text-generation-inference.
    """

    def __init__(self, tokenizer: TextDecoder) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._read = 0  # how many tokens of the window have been returned
        self._given = ""  # their text

    def add(self, token: int) -> str:
        """Return the text that the token adds; "" if it ends within a character."""
        self._window.append(token)
        text = decoded(self._tokenizer, self._window)
        if text.endswith(_NO_CHARACTER) or len(text) <= len(self._given):
            return ""
        new = text[len(self._given) :]
        self._window = self._window[self._read :]
        self._read = len(self._window)
        self._given = decoded(self._tokenizer, self._window)
        return new

    def rest(self) -> str:
        """Return the text held back at the end of an answer, without an incomplete character."""
        text = decoded(self._tokenizer, self._window)
        return text[len(self._given) :].rstrip(_NO_CHARACTER)


class StopStrings:
    """Finds stop strings in a text that comes in pieces, even across pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return what can be sent now, and whether a stop string follows it."""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        sent = len(text) - self._may_begin(text)
        self._held = text[sent:]
        return text[:sent], False

    def rest(self) -> str:
        """Return the text held back at the end of an answer."""
        return self._held

    def _may_begin(self, text: str) -> int:
        """Return the length of the longest suffix of text that begins a stop string."""
        lengths = (
            length
            for stop in self._stops
            for length in range(min(len(stop) - 1, len(text)), 0, -1)
            if text.endswith(stop[:length])
        )
        return max(lengths, default=0)
