"""Positions of records in several files that are read as one, and in each file by itself."""

from bisect import bisect_right
from collections.abc import Sequence

from tasks.core.conversation.reading.data_files import DataFile


class Positions:
    """Translates positions among all records into a file and a position in it."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files
        self._starts: list[int] = []

    def begin(self, file: int, before: int) -> None:
        """Record how many positions the files before this one have."""
        while len(self._starts) <= file:
            self._starts.append(before)

    def start(self, file: int) -> int:
        """Return how many positions come before those of a file."""
        return self._starts[file]

    def file_of(self, position: int) -> int:
        """Return the index of the file that a position belongs to."""
        return bisect_right(self._starts, position - 1) - 1

    def of(self, position: int) -> tuple[int, str | None]:
        """Return a record's position in its file, and the file's name if there are several."""
        file = self.file_of(position)
        name = self._files[file].name if len(self._files) > 1 else None
        return position - self._starts[file], name
