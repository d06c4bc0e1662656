"""A file of collected answers without some of its lines, put in its place at once."""

from collections.abc import Callable
from pathlib import Path

from tasks.core.collected.lines import MAX_LINE_BYTES, raw_lines
from tasks.core.files.durable import named_when_whole


def rewrite(path: Path, stays: Callable[[bytes], bool]) -> int:
    """Keep the lines that stay, and return how many went. The caller holds the lock.

    A line that is too long to be read goes as well. The file is the old one or the new one,
    whatever happens; where all lines go, it is removed. Raises OSError, also on a full disk: the
    new file lies beside the old one for a moment.
    """
    gone = kept = 0
    with named_when_whole(path, mode=0o600) as file:
        for place, line in raw_lines(path):
            if place.size_bytes <= MAX_LINE_BYTES and stays(line):
                file.write(line)
                kept += 1
            else:
                gone += 1
    if not kept:
        path.unlink()
    return gone
