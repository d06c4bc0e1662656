"""The conversation files that a command is given: files, directories, Hub data sets."""

from contextlib import ExitStack
from pathlib import Path

from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.data_sources import files_in
from tasks.core.files.given import at_rest
from tasks.core.home import home
from tasks.core.hub.download.dataset_files import fetch_conversations
from tasks.core.recipe.data import DataFormat
from tasks.core.recipe.file import given_path


def data_files(
    text: str, name: str | None, format: DataFormat, streams: ExitStack
) -> list[DataFile]:
    """Return the files; the content of a stream is kept until `streams` is closed."""
    path = _local_file(text, name)
    if path.is_dir():
        return [DataFile(each, str(each), format) for each in files_in(path)]
    return [DataFile(streams.enter_context(at_rest(path)), str(path), format)]


def _local_file(text: str, name: str | None) -> Path:
    """Return the path of a file, downloaded first if it is in a data set."""
    path = given_path(Path(text))
    if path.exists() or text.endswith((".json", ".jsonl")) or "/" not in text:
        return path
    repo, _, revision = text.partition("@")
    return fetch_conversations(repo, revision or "main", home() / "datasets", name)
