"""Tokens as coloured text: what is learned, what is only read, what is cut off."""

from collections.abc import Iterable
from itertools import groupby

from rich.text import Text

from tasks.core.conversation.examples.labels import TokenText

_STYLES = {"learned": ("bold green", "green underline"), "masked": ("dim",), "truncated": ("red",)}


def tokens_in_colour(tokens: Iterable[TokenText], *, marks: bool) -> Text:
    """Return the text, with every other learned token underlined, so that each can be told.

    With `marks`, brackets stand around what is learned, for places without colour.
    """
    shown = Text()
    for state, group in groupby(tokens, key=lambda token: token.state):
        before, after = ("⟦", "⟧") if marks and state == "learned" else ("", "")
        shown.append(before)
        styles, texts = _STYLES[state], [token.text for token in group]
        for number, text in enumerate(texts if len(styles) > 1 else ["".join(texts)]):
            shown.append(text, styles[number % len(styles)])
        shown.append(after)
    return shown
