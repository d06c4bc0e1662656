"""Removing lines from a file of collected answers, by replacing the file atomically."""

from collections.abc import Callable
from pathlib import Path

from tasks.core.collected.storage.lines import MAX_LINE_BYTES, raw_lines
from tasks.core.files.durable import named_when_whole


def rewrite(path: Path, stays: Callable[[bytes], bool]) -> int:
    """Remove the lines for which `stays` is false; return their number. The caller holds the lock.

    Lines too long to be read are removed as well; a file without lines is deleted. The replacement
    is atomic. Raises OSError, also on a full disk: the new file briefly exists beside the old one.
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
