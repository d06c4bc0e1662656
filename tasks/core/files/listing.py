"""What lies in a directory: all of it, or an error.

`Path.rglob` and `Path.glob` leave out what may not be listed, `os.walk` all that cannot be: an
artifact would be sealed without its weights, and what an unreadable record names be removed. What
somebody else takes away meanwhile is not there, nor is anything in a directory that does not exist.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path


def paths_below(root: Path) -> list[Path]:
    """Return every file and directory below root, in order; what links lead to is not entered."""
    found: list[Path] = []
    for place, directories, names in os.walk(root, onerror=refuse):
        found += [Path(place, name) for name in (*directories, *names)]
    return sorted(found)


def matching(directory: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern such as `*.json` or `*/*/name`, in order."""
    first, _, rest = pattern.partition("/")
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [directory / name for name in names if fnmatchcase(name, first)]
    return [each for path in found for each in matching(path, rest)] if rest else found


def refuse(error: OSError) -> None:
    """Raise what keeps a directory from being listed: for `os.walk`, which drops it."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
