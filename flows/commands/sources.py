"""What a command may be given as a model: a directory, or a Hub repository with its revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows.commands.output import bytes_bar
from tasks.core.errors import UsageError
from tasks.core.recipe import Source

if TYPE_CHECKING:
    from tasks.core.store import Store

TEMPLATE = typer.Option(
    help="FastChat's conversation template; by default the one that the model was trained with, "
    "if it records one, else vicuna_v1.1.",
    show_default=False,
)
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


@contextmanager
def local_model(text: str) -> Iterator[Path]:
    """Yield the directory itself, or where the repository lies in the store after its download.

    During the block `kawan-usaha store prune` takes nothing away.
    """
    from tasks.core.home import home
    from tasks.core.hub.sources import fetch
    from tasks.core.hub.upstream import Upstream

    source = source_of(text)
    if source.directory is not None:
        with in_use(source.directory):
            yield source.directory
        return
    store = _store(home())
    with store.in_use():
        with bytes_bar(f"download {text}") as report:
            path = fetch(Upstream(source, store), store, report).artifact.path
        yield path


@contextmanager
def in_use(*paths: Path) -> Iterator[None]:
    """Keep `kawan-usaha store prune` away during the block if a path lies in the store."""
    from tasks.core.home import home

    store = _store(home())
    if any(path.resolve().is_relative_to(store.root.resolve()) for path in paths):
        with store.in_use():
            yield
    else:
        yield


def _store(home: Path) -> "Store":
    from tasks.core.store import Store, configured_remote

    return Store(home, say=partial(typer.echo, err=True), remote=configured_remote())
