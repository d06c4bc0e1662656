"""Where a record stands among those of several files that are read as one."""

from bisect import bisect_right
from collections.abc import Sequence

from tasks.core.conversation.data_files import DataFile


class Positions:
    """Where the records of several files stand, once all are counted through."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files
        self._starts: list[int] = []

    def begin(self, file: int, before: int) -> None:
        """Say that this file begins behind so many positions of the others."""
        while len(self._starts) <= file:
            self._starts.append(before)

    def start(self, file: int) -> int:
        """Return how many positions come before those of a file."""
        return self._starts[file]

    def file_of(self, position: int) -> int:
        """Return in which file a position lies."""
        return bisect_right(self._starts, position - 1) - 1

    def of(self, position: int) -> tuple[int, str | None]:
        """Return a record's position in its file, and the file's name where there are several."""
        file = self.file_of(position)
        name = self._files[file].name if len(self._files) > 1 else None
        return position - self._starts[file], name
