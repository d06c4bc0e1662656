"""Everything of one person, deleted: answers, ratings, corrections, and what the team wrote.

What was trained on is in the weights, and accepted answers are in artifacts of the store: those are
for who makes the artifacts. The invariant: once `forget` returns, no file of the directory holds a
line of that person.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tasks.core.collected.finding import mentions
from tasks.core.collected.place import REVIEWS, day_files
from tasks.core.collected.rewriting import rewrite
from tasks.core.files.temporary import remove_abandoned

_IS_ANSWER = re.compile(rb'"kind":\s*"answer"')


def forget(directory: Path, person: str) -> int:
    """Delete what is kept of a person (`person.person_of`); return how many answers there were.

    The caller holds the lock. A kill between two files leaves the rest for the next call. Raises
    OSError.
    """
    theirs = person.encode()  # however somebody may have written the line anew
    deleted = 0

    def stays(line: bytes) -> bool:
        nonlocal deleted
        if theirs not in line:
            return True
        deleted += _IS_ANSWER.search(line) is not None
        return False

    # What a killed rewriting left holds other people's lines, perhaps this one's.
    remove_abandoned(directory)
    for path in _files(directory):
        _without(path, theirs, stays)
    return deleted


def _files(directory: Path) -> list[Path]:
    return [directory / REVIEWS, *day_files(directory)]


def _without(path: Path, theirs: bytes, stays: Callable[[bytes], bool]) -> None:
    if mentions(path, theirs):
        rewrite(path, stays)
