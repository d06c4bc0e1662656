"""The command that names every bad record of some files, as it can be typed."""

import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from tasks.core.conversation.data_files import DataFile
from tasks.core.conversation.data_sources import files_in

_SHOWN_PATHS = 10


def check_command(files: Sequence[DataFile]) -> str:
    """Return what names every record of files that were looked at, a command for each format.

    A directory of which all files are meant stands for them; of more than ten paths the first ten
    are named. What was brought here, from the Hub for example, is named by where it lies.
    """
    commands = []
    for format, some in groupby(files, lambda each: each.read_as):
        paths = list(_paths([each.path for each in some]))
        named = "" if format == "fastchat" else f" --format {format}"
        commands.append(f"`kawan-usaha data check {shlex.join(paths[:_SHOWN_PATHS])}{named}`")
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
