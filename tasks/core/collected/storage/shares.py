"""How many bytes of today's file each person takes: read once per day, then counted.

Lines that another process deletes still count until the day ends.
"""

from collections import Counter
from datetime import date
from pathlib import Path

from tasks.core.collected.storage.directory import day_file
from tasks.core.collected.storage.lines import head_of, raw_lines


class Shares:
    """The bytes of each person in a day's file. For a single thread, under the lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._day: date | None = None
        self._bytes: Counter[str] = Counter()

    def of(self, person: str, today: date) -> int:
        """Return how many bytes of a person are in today's file. Raises OSError."""
        if self._day != today:
            found: Counter[str] = Counter()
            for place, line in raw_lines(day_file(self._directory, today)):
                if (head := head_of(line)) is not None:
                    found[head.person] += place.size_bytes
            self._day, self._bytes = today, found
        return self._bytes[person]

    def add(self, person: str, size_bytes: int) -> None:
        """Count bytes added to the file of the day last passed to `of`."""
        self._bytes[person] += size_bytes

    def less(self, person: str) -> None:
        """Forget the count of a person whose lines were deleted."""
        self._bytes.pop(person, None)
