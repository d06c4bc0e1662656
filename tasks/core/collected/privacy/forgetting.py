"""Deletion of everything of one person: answers, ratings, corrections, and reviews of them.

Artifacts of the store with their answers are removed by `stale_artifacts`; weights trained on them
stay. The invariant: once `forget` returns, no file of the directory holds a line of that person.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tasks.core.collected.storage.directory import REVIEWS_FILE, day_files
from tasks.core.collected.storage.rewriting import rewrite
from tasks.core.collected.storage.search import mentions
from tasks.core.files.temporary import remove_abandoned

_IS_ANSWER = re.compile(rb'"kind":\s*"answer"')


def forget(directory: Path, person: str) -> int:
    """Delete everything of a person (`person.person_of`); return the number of answers deleted.

    The caller holds the lock. After a kill between two files the next call deletes the rest. Raises
    OSError.
    """
    theirs = person.encode()  # found even in a line edited by hand
    deleted = 0

    def stays(line: bytes) -> bool:
        nonlocal deleted
        if theirs not in line:
            return True
        deleted += _IS_ANSWER.search(line) is not None
        return False

    # What a killed rewrite left may hold lines of this person.
    remove_abandoned(directory)
    for path in _files(directory):
        _without(path, theirs, stays)
    return deleted


def _files(directory: Path) -> list[Path]:
    return [directory / REVIEWS_FILE, *day_files(directory)]


def _without(path: Path, theirs: bytes, stays: Callable[[bytes], bool]) -> None:
    if mentions(path, theirs):
        rewrite(path, stays)
