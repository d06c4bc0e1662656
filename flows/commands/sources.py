"""What a command may be given as a model: a directory, or a Hub repository with its revision."""

from pathlib import Path

from flows.commands.output import bytes_bar
from tasks.core.errors import UsageError
from tasks.core.recipe import Source

MODEL_HELP = "A model directory, or a Hub repository as owner/name or owner/name@revision."


def source_of(text: str) -> Source:
    """Return the source that the text means. Raises UsageError when it can mean none."""
    if Path(text).is_dir():
        return Source(directory=Path(text))
    repo, _, revision = text.partition("@")
    try:
        return Source(repo=repo, revision=revision or "main")
    except ValueError as error:
        raise UsageError(
            "This is neither a directory nor the name of a Hub repository.",
            where=text,
            expected=MODEL_HELP,
            next_step="Check the path.",
        ) from error


def local_model(text: str) -> Path:
    """Return the directory itself, or where the repository lies in the store after its download."""
    from tasks.core.home import home
    from tasks.core.hub.sources import fetch
    from tasks.core.store import Store

    source = source_of(text)
    if source.directory is not None:
        return source.directory
    with bytes_bar(f"download {text}") as report:
        return fetch(source, Store(home()), report).artifact.path
