"""Something computed of each piece of some files, in their order, by as many processes as help."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.core.conversation.chunks import CHUNK_BYTES, Chunk, chunks
from tasks.core.conversation.json_values import unreadable
from tasks.core.conversation.layout import layout_of
from tasks.core.process.crew import computed
from tasks.core.progress import OnProgress, silent
from tasks.core.system.cores import usable_cores


class OfPiece(Protocol):
    """What was found in a piece."""

    @property
    def file(self) -> int:
        """The number of the file that it belongs to."""

    @property
    def broken(self) -> bool:
        """Whether nothing behind it counts, up to the end of its file."""

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
    paths: Sequence[Path],
    *,
    processes: int | None = None,
    on_progress: OnProgress = silent,
) -> Iterator[Found]:
    """Yield function(piece) for each piece of each file, up to one that is broken.

    `on_progress` counts the bytes of all files. By default there is a process for each core that
    may be used, up to a limit, once the files are large enough. Raises DataError when a file cannot
    be read or as a whole is something else, and what `computed` raises.
    """
    broken = set[int]()
    try:
        sizes_bytes = [path.stat().st_size for path in paths]
        before = [0, *accumulate(sizes_bytes)]
        if processes is None:
            processes = min(usable_cores(), _MOST) if before[-1] >= _ENOUGH_BYTES else 1
        pieces = _pieces(paths, broken)
        with closing(computed(function, pieces, processes=processes)) as all_found:
            for found in all_found:
                if found.file in broken:  # it was under way before that was known
                    continue
                if found.broken:
                    broken.add(found.file)
                yield found
                on_progress(before[found.file] + found.done_bytes, before[-1])
    except OSError as error:
        named = next((each for each in paths if str(each) == error.filename), paths[0])
        raise unreadable(named, "conversations", error) from error


def _pieces(paths: Sequence[Path], broken: set[int]) -> Iterator[Chunk]:
    """Yield the pieces of each file that is not known to be broken."""
    for number, path in enumerate(paths):
        for piece in chunks(path, layout_of(path, "conversations")):
            if number in broken:
                break
            yield replace(piece, file=number)
