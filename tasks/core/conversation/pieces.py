"""Something computed of each piece of a file, in their order, by as many processes as help."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.core.conversation.chunks import CHUNK_BYTES, Chunk, chunks
from tasks.core.conversation.json_values import unreadable
from tasks.core.conversation.layout import layout_of
from tasks.core.cores import usable_cores
from tasks.core.process.crew import computed
from tasks.core.progress import Report, silent


class OfPiece(Protocol):
    """What was found in a piece."""

    @property
    def broken(self) -> bool:
        """Whether nothing behind it counts."""

    @property
    def done_bytes(self) -> int:
        """How much of the file is done with it."""


Found = TypeVar("Found", bound=OfPiece)

_ENOUGH_BYTES = 16 * CHUNK_BYTES
"""Below this a file is read in the time that other processes take to start."""
_MOST = 16
"""Processes. Their results are put together at about twenty times the pace of one."""


def computed_pieces(
    function: Callable[[Chunk], Found],
    path: Path,
    *,
    processes: int | None = None,
    report: Report = silent,
) -> Iterator[Found]:
    """Yield function(piece) for each piece, up to one that is broken.

    `report` counts the bytes. By default there is a process for each core that may be used, up
    to a limit, once the file is large enough. Raises DataError when the file cannot be read or as
    a whole is something else, and what `computed` raises.
    """
    try:
        size_bytes = path.stat().st_size
        if processes is None:
            processes = min(usable_cores(), _MOST) if size_bytes >= _ENOUGH_BYTES else 1
        pieces = chunks(path, layout_of(path, "conversations"))
        with closing(computed(function, pieces, processes=processes)) as all_found:
            for found in all_found:
                yield found
                report(found.done_bytes, size_bytes)
                if found.broken:
                    return
    except OSError as error:
        raise unreadable(path, "conversations", error) from error
