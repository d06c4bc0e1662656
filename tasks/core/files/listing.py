"""Listing a directory completely, or raising an error.

`Path.rglob`, `Path.glob` and `os.walk` silently skip what cannot be listed: an artifact would be
sealed without its weights, and files that an unreadable record names would be removed. Files that
somebody removes meanwhile are left out, and a directory that does not exist counts as empty.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path


def paths_below(root: Path) -> list[Path]:
    """Return every file and directory below root, sorted; links are not followed."""
    found: list[Path] = []
    for place, directories, names in os.walk(root, onerror=refuse):
        found += [Path(place, name) for name in (*directories, *names)]
    return sorted(found)


def matching(directory: Path, pattern: str) -> list[Path]:
    """Return the paths that match a pattern such as `*.json` or `*/*/name`, sorted."""
    first, _, rest = pattern.partition("/")
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [directory / name for name in names if fnmatchcase(name, first)]
    return [each for path in found for each in matching(path, rest)] if rest else found


def refuse(error: OSError) -> None:
    """Raise an error that `os.walk` would ignore, unless the directory is gone."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
