"""From tokens to text as it can be sent: whole characters, and nothing of a stop string.

Covers one answer at a time. What may still become something else is held back: the first bytes of
a character, the beginning of a stop string.
"""

from collections.abc import Sequence
from typing import Protocol

_NO_CHARACTER = "\ufffd"
"""What a decoder makes of bytes that are no character, or not yet."""


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
    """Return the text of the tokens, without the special ones and with every space as it is."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Detokenizer:
    """Gives the text of a growing list of tokens in whole characters.

    A token is decoded together with the ones before it, because some tokenizers drop the space at
    the beginning of a text; the window is that of vLLM and text-generation-inference.
    """

    def __init__(self, tokenizer: TextDecoder) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._read = 0  # how many tokens of the window have been given out
        self._given = ""  # their text

    def add(self, token: int) -> str:
        """Return what the token adds; "" while it ends within a character."""
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
        """Return what was held back at the end of an answer, without half a character."""
        text = decoded(self._tokenizer, self._window)
        return text[len(self._given) :].rstrip(_NO_CHARACTER)


class StopStrings:
    """Finds stop strings in a text that comes in pieces, wherever the pieces are cut."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return what can be sent now, and whether a stop string was found behind it."""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        sent = len(text) - self._may_begin(text)
        self._held = text[sent:]
        return text[:sent], False

    def rest(self) -> str:
        """Return what was held back at the end of an answer."""
        return self._held

    def _may_begin(self, text: str) -> int:
        """Return the length of the longest end of text that begins a stop string."""
        lengths = (
            length
            for stop in self._stops
            for length in range(min(len(stop) - 1, len(text)), 0, -1)
            if text.endswith(stop[:length])
        )
        return max(lengths, default=0)
