"""Whether a stream takes colours: one answer for errors, bars and the live view."""

import os
from typing import TextIO


def takes_colours(stream: TextIO) -> bool:
    """Return whether the stream is a terminal, with neither NO_COLOR nor TERM=dumb set.

    Empty, NO_COLOR counts as not set: https://no-color.org
    """
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain
