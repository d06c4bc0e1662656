"""The `data check` command that reports every bad record of some files, ready to be typed."""

import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.data_sources import files_in

_MAX_PATHS = 10


def check_command(files: Sequence[DataFile], options: Sequence[str] = ()) -> str:
    """Return the command for files whose formats are known, one command for each format.

    A directory of which all files are meant stands for them; of more than ten paths the first ten
    are named. Fetched files are named by their local paths. `options` make the check apply the same
    rules as the caller.
    """
    commands = []
    for format, some in groupby(files, lambda each: each.read_as):
        paths = list(_paths([each.path for each in some]))[:_MAX_PATHS]
        named = [] if format == "fastchat" else ["--format", format]
        words = shlex.join([*paths, *named, *options])
        commands.append(f"`kawan-usaha data check {words}`")
    return " and ".join(commands)


def _paths(files: Sequence[Path]) -> Iterator[str]:
    """Yield each path once, in order, and a directory in place of its files."""
    given, said = set(files), set[Path]()
    for path in files:
        beside = [each for each in given if each.parent == path.parent]
        whole = len(beside) > 1 and set(files_in(path.parent)) == set(beside)
        named = path.parent if whole else path
        if named not in said:
            said.add(named)
            yield str(named)
