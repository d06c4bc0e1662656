"""A function applied to each chunk of some files, in order, by as many processes as help."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.core.conversation.reading.chunks import RECORD_CHUNK_BYTES, Chunk, chunks
from tasks.core.conversation.reading.json_values import unreadable
from tasks.core.conversation.reading.layout import layout_of
from tasks.core.process.crew import computed
from tasks.core.progress import OnProgress, silent
from tasks.core.system.cores import usable_cores


class ChunkResult(Protocol):
    """The result for one chunk."""

    @property
    def file(self) -> int:
        """The index of the file that the chunk belongs to."""

    @property
    def broken(self) -> bool:
        """Whether the rest of its file must be ignored."""

    @property
    def done_bytes(self) -> int:
        """How much of the file is read after the chunk."""


Result = TypeVar("Result", bound=ChunkResult)

_ENOUGH_BYTES = 16 * RECORD_CHUNK_BYTES
"""Below this size a file is read in the time that processes take to start."""
_MAX_PROCESSES = 16
"""Results are merged about twenty times as fast as one process makes them."""


def map_chunks(
    function: Callable[[Chunk], Result],
    paths: Sequence[Path],
    *,
    processes: int | None = None,
    on_progress: OnProgress = silent,
) -> Iterator[Result]:
    """Yield function(chunk) for each chunk of each file, in order, up to a broken one.

    `on_progress` counts the bytes of all files. By default large files get one process per usable
    core, up to a limit, and small ones none. Raises DataError if a file cannot be read or is
    neither an array nor lines, and whatever `computed` raises.
    """
    broken = set[int]()
    try:
        sizes_bytes = [path.stat().st_size for path in paths]
        before = [0, *accumulate(sizes_bytes)]
        if processes is None:
            processes = min(usable_cores(), _MAX_PROCESSES) if before[-1] >= _ENOUGH_BYTES else 1
        chunks_of_all = _chunks(paths, broken)
        with closing(computed(function, chunks_of_all, processes=processes)) as results:
            for result in results:
                if result.file in broken:  # it was in progress when that became known
                    continue
                if result.broken:
                    broken.add(result.file)
                yield result
                on_progress(before[result.file] + result.done_bytes, before[-1])
    except OSError as error:
        named = next((each for each in paths if str(each) == error.filename), paths[0])
        raise unreadable(named, "conversations", error) from error


def _chunks(paths: Sequence[Path], broken: set[int]) -> Iterator[Chunk]:
    """Yield the chunks of each file that is not known to be broken."""
    for number, path in enumerate(paths):
        for chunk in chunks(path, layout_of(path, "conversations")):
            if number in broken:
                break
            yield replace(chunk, file=number)
