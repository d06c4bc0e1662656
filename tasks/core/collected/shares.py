"""How much of today's file is whose: read once a day, then counted along.

What another process deletes meanwhile still counts, until the day ends.
"""

from collections import Counter
from datetime import date
from pathlib import Path

from tasks.core.collected.lines import head_of, raw_lines
from tasks.core.collected.place import day_file


class Shares:
    """The bytes of each person in a day's file. For one thread, under the lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._day: date | None = None
        self._bytes: Counter[str] = Counter()

    def of(self, person: str, today: date) -> int:
        """Return how many bytes of a person stand in today's file. Raises OSError."""
        if self._day != today:
            found: Counter[str] = Counter()
            for place, line in raw_lines(day_file(self._directory, today)):
                if (head := head_of(line)) is not None:
                    found[head.person] += place.size_bytes
            self._day, self._bytes = today, found
        return self._bytes[person]

    def add(self, person: str, size_bytes: int) -> None:
        """Count what was added to the file of the day that `of` was asked for."""
        self._bytes[person] += size_bytes

    def less(self, person: str) -> None:
        """Count that nothing of a person is there any longer."""
        self._bytes.pop(person, None)
