"""Marking the lines that our own programs address to a person, among what libraries print.

Unmarked lines go to the log file only. So no list of other people's messages has to be kept.
"""

import sys
from collections.abc import Callable

_MARK = "@kawan-usaha "


def say(line: str) -> None:
    """Print one line for the user, who waits for this process."""
    sys.stdout.write(f"{_MARK}{line}\n")
    sys.stdout.flush()


def said(line: str) -> str | None:
    """Return the text of a line that is addressed to a person, None for any other line."""
    return line.removeprefix(_MARK) if line.startswith(_MARK) else None


def only_said(on_line: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return a listener for all lines of a child that passes on those addressed to a person."""

    def hear(line: str) -> None:
        text = said(line)
        if text is not None and on_line is not None:
            on_line(text)

    return hear
