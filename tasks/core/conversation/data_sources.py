"""The sources of a recipe as files: themselves, those of a directory, or what was brought here.

The invariant: the same sources give the same files in the same order, and their digest changes with
whatever of them decides what is learned.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core import keys
from tasks.core.conversation.data_files import DataFile
from tasks.core.conversation.json_values import unreadable
from tasks.core.conversation.preferences import Method
from tasks.core.errors import DataError
from tasks.core.files.digests import sha256_of_state
from tasks.core.files.given import require_at_rest
from tasks.core.files.listing import matching
from tasks.core.recipe.data import DataSource

CONVERSATIONS = "conversations.jsonl"
"""The file of reviewed conversations that are trained on."""
PREFERENCES = "preferences.jsonl"
"""The file of what reviewers preferred to the answers that were served."""
FILES = "files"
"""The directory in which an artifact has what was fetched of a data set."""
_PATTERNS = ("*.json", "*.jsonl")


def local_files(
    sources: Sequence[DataSource],
    brought: Mapping[str, Path] | None = None,
    method: Method = "sft",
) -> tuple[DataFile, ...]:
    """Return the files of a recipe's sources.

    brought: the directories in which data sets of the Hub and collected conversations lie here, by
    `str(source)`; of the latter `dpo` takes the preferences. Raises DataError for a source that is
    not there or holds no file, and where all together have none: a review that has accepted nothing
    yet is no fault beside another source.
    """
    found = [each for source in sources for each in _files_of_source(source, brought or {}, method)]
    if sources and not found:
        lacking = "no collected conversation was accepted yet"
        if method == "dpo":
            lacking = "no accepted answer was edited, or preferred to another, yet"
        raise DataError(
            f"There is nothing to learn from: {lacking}.",
            where=", ".join(map(str, sources)),
            next_step="Review some, or name another source beside in finetune.data.",
        )
    return tuple(found)


def is_local(source: DataSource) -> bool:
    """Return whether the source lies here already, or nowhere: it need not be brought."""
    return source.repo is None and source.collected is None


def files_in(directory: Path) -> list[Path]:
    """Return the files of conversations in a directory, in the order of their names.

    Raises DataError where there is none.
    """
    try:
        directory.stat()
        found = {path for pattern in _PATTERNS for path in matching(directory, pattern)}
    except OSError as error:
        raise unreadable(directory, "conversations", error) from error
    files = sorted(path for path in found if not path.name.startswith(".") and not path.is_dir())
    if not files:
        raise DataError(
            "There is no file of conversations in this directory.",
            where=directory,
            expected=f"files that are called {' or '.join(_PATTERNS)}",
            next_step="Check the path, or name a file.",
        )
    return files


def _files_of_source(
    source: DataSource, brought: Mapping[str, Path], method: Method = "sft"
) -> Iterator[DataFile]:
    if source.file is not None:
        if source.file.is_dir():
            raise DataError(
                "This source is a directory, and a path alone names a file.",
                where=source.file,
                next_step=f"Write {{directory: {source.file}}} in finetune.data.",
            )
        yield DataFile(source.file, str(source.file), source.format, source.weight)
        return
    place = source.directory or brought[str(source)] / (FILES if source.repo else "")
    collected = PREFERENCES if method == "dpo" else CONVERSATIONS
    paths = [place / collected] if source.collected else files_in(place)
    for path in paths:
        if source.collected and not path.stat().st_size:
            continue
        name = str(path) if source.directory else str(source)
        yield DataFile(path, name, source.format, source.weight)


def names_of_sources(sources: Sequence[DataSource]) -> list[str]:
    """Return what the files are called, of those that do not lie here as well."""
    return [
        name
        for each in sources
        for name in (
            [file.name for file in _files_of_source(each, {})] if is_local(each) else [str(each)]
        )
    ]


def digest_of(files: Sequence[DataFile]) -> str:
    """Return what changes with whatever of the files decides what is learned.

    For one file alone it is the SHA-256 of its bytes. Raises DataError where one cannot be read.
    """
    return _digest([[_sha256(each), each.format, each.weight] for each in files])


def digest_of_sources(sources: Sequence[DataSource], brought: Mapping[str, str]) -> str:
    """Return the same of sources; brought are the digests of what was brought, by `str(source)`.

    So no file of an artifact is read, which may lie elsewhere until a stage needs it.
    """
    parts: list[list[JsonValue]] = []
    for source in sources:
        digests = (
            map(_sha256, _files_of_source(source, {}))
            if is_local(source)
            else [brought[str(source)]]
        )
        parts += [[each, source.format, source.weight] for each in digests]
    return _digest(parts)


def _digest(parts: Sequence[list[JsonValue]]) -> str:
    plain = len(parts) == 1 and parts[0][1:] == ["auto", 1.0]
    return str(parts[0][0]) if plain else keys.digest(parts)


def _sha256(file: DataFile) -> str:
    try:
        require_at_rest(file.path)
        return sha256_of_state(file.path)
    except OSError as error:
        raise unreadable(file.path, "conversations", error) from error
