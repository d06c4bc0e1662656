"""The data sources of a recipe as files: a file, a directory, or what was fetched for a source.

The invariant: the same sources give the same files in the same order, and their digest changes with
anything in them that decides what is trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core import keys
from tasks.core.conversation.preferences import Method
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.json_values import unreadable
from tasks.core.errors import DataError
from tasks.core.files.digests import sha256_of_state
from tasks.core.files.given import require_at_rest
from tasks.core.files.listing import matching
from tasks.core.recipe.data import DataSource

REVIEWED_CONVERSATIONS = "conversations.jsonl"
"""The file of a reviewed set with the conversations to train on."""
REVIEWED_PREFERENCES = "preferences.jsonl"
"""The file of a reviewed set with pairs: a better answer and the one that was served."""
FETCHED_FILES = "files"
"""The directory of an artifact with the files fetched from a data set."""
_PATTERNS = ("*.json", "*.jsonl")


def local_files(
    sources: Sequence[DataSource],
    brought: Mapping[str, Path] | None = None,
    method: Method = "sft",
) -> tuple[DataFile, ...]:
    """Return the files of a recipe's sources.

    brought: the local directories of data sets from the Hub and of collected conversations, by
    `str(source)`; `dpo` takes the preference pairs of the latter. Raises DataError for a source
    that does not exist or holds no file, and if all sources together have none. A reviewed set
    without an accepted answer is not an error beside another source.
    """
    found = [each for source in sources for each in _files_of_source(source, brought or {}, method)]
    if sources and not found:
        lacking = "no collected conversation was accepted yet"
        if method == "dpo":
            lacking = "no accepted answer was edited, or preferred to another, yet"
        raise DataError(
            f"There is nothing to learn from: {lacking}.",
            where=", ".join(map(str, sources)),
            next_step="Review some, or add another source to finetune.data.",
        )
    return tuple(found)


def is_local(source: DataSource) -> bool:
    """Return whether the source is a local path, so that nothing has to be fetched for it."""
    return source.repo is None and source.collected is None


def files_in(directory: Path) -> list[Path]:
    """Return the JSON and JSON-lines files of a directory, sorted by name.

    Raises DataError if there is none.
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
    place = source.directory or brought[str(source)] / (FETCHED_FILES if source.repo else "")
    collected = REVIEWED_PREFERENCES if method == "dpo" else REVIEWED_CONVERSATIONS
    paths = [place / collected] if source.collected else files_in(place)
    for path in paths:
        if source.collected and not path.stat().st_size:
            continue
        name = str(path) if source.directory else str(source)
        yield DataFile(path, name, source.format, source.weight)


def names_of_sources(sources: Sequence[DataSource]) -> list[str]:
    """Return the names of the files; a source that has to be fetched counts as one."""
    return [
        name
        for each in sources
        for name in (
            [file.name for file in _files_of_source(each, {})] if is_local(each) else [str(each)]
        )
    ]


def digest_of_files(files: Sequence[DataFile]) -> str:
    """Return a digest of everything in the files that decides what is trained on.

    For a single plain file it is the SHA-256 of its bytes. Raises DataError if a file cannot be
    read.
    """
    return _digest([[_sha256(each), each.format, each.weight] for each in files])


def digest_of_sources(sources: Sequence[DataSource], brought: Mapping[str, str]) -> str:
    """Return the same digest for sources; brought are the digests of artifacts, by `str(source)`.

    No file of an artifact is read: it may not be on this machine until a stage needs it.
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
